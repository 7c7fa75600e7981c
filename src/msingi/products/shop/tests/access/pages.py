"""Who may see which of the staff's pages: a browser without a session is led to where one signs in."""

TABLE = """
    GET    //shop/admin                            303  403  200
    GET    //shop/admin/stock                      303  403  200
    GET    //shop/admin/stock/tea-250              303  403  200
    GET    //shop/admin/stock/nothing              303  403  404
    POST   //shop/admin/stock/tea-250/counts       401  403  403
    POST   //shop/admin/stock/tea-250/receipts     401  403  403
    POST   //shop/admin/stock/tea-250/moves        401  403  403
    POST   //shop/admin/stock/tea-250/threshold    401  403  403
    GET    //shop/admin/import                     303  403  200
    POST   //shop/admin/import                     401  403  403
    GET    //shop/admin/import/none                303  403  404
    POST   //shop/admin/import/none                401  403  403
    GET    //shop/admin/exports                    303  403  200
    POST   //shop/admin/exports                    401  403  403
    GET    //static/shop/shop.css                  200  200  200
"""
BODY: dict[str, object] = {}
