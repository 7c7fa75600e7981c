"""Who may do what with orders that are not there, and with their own: see test_orders for whose is whose."""

TABLE = """
    POST   /checkout                                    400  400  400
    GET    /orders                                      401  200  200
    GET    /orders/none                                 404  404  404
    GET    /orders/none/timeline                        404  404  404
    POST   /orders/none/payments                        400  400  400
    PUT    /orders/none/cancellation                    404  404  404
    PUT    /orders/none/allocation                      401  403  404
    POST   /orders/none/shipments                       401  403  400
    PUT    /orders/none/shipments/none/delivery         401  403  404
    POST   /orders/none/returns                         400  400  400
    PUT    /orders/none/returns/none                    401  403  404
    POST   /orders/none/refunds                         401  403  400
    PUT    /orders/none/refunds/none/approval           401  403  404
    DELETE /orders/none/refunds/none/approval           401  403  404
    POST   /questions/house.data                        401  403  403
"""
BODY = {
    "PUT /orders/none/cancellation": {"reason": "No"},
    "PUT /orders/none/shipments/none/delivery": {"code": "123456"},
    "PUT /orders/none/returns/none": {"state": "approved"},
}
