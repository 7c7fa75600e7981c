"""Who may see the pages of orders and refunds, of orders that are not there: see test_pages_orders for the others."""

TABLE = """
    GET    //shop/admin/orders                                303  403  200
    GET    //shop/admin/orders/none                           303  403  404
    POST   //shop/admin/orders/none/shipments                 401  403  404
    POST   //shop/admin/orders/none/shipments/none            401  403  404
    POST   //shop/admin/orders/none/allocation                401  403  404
    POST   //shop/admin/orders/none/payments/none             401  403  404
    GET    //shop/admin/orders/none/cancellation              303  403  404
    POST   //shop/admin/orders/none/cancellation              401  403  404
    POST   //shop/admin/orders/none/returns                   401  403  404
    POST   //shop/admin/orders/none/returns/none              401  403  404
    POST   //shop/admin/orders/none/returns/none/arrival      401  403  404
    POST   //shop/admin/orders/none/refunds                   401  403  404
    GET    //shop/admin/refunds                               303  403  200
    GET    //shop/admin/refunds/none/none                     303  403  404
    POST   //shop/admin/refunds/none/none                     401  403  404
"""
BODY: dict[str, object] = {}
