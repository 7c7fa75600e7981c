"""Who sees reports, and who has sheets made."""

TABLE = """
    GET    /reports/sales                       401  403  200
    GET    /reports/products                    401  403  200
    GET    /reports/funnel                      401  403  200
    GET    /reports/stock-alerts                401  403  200
    GET    /reports/currencies                  401  403  200
    POST   /reports/rebuilding                  401  403  202
    GET    /sheets                              401  403  200
    POST   /sheets                              401  403  202
    POST   /sheets/imports                      401  403  415
    GET    /sheets/none                         401  403  404
    GET    /sheets/none/file                    401  403  404
    DELETE /sheets/none                         401  403  404
"""
BODY = {"POST /sheets": {"kind": "products"}}
