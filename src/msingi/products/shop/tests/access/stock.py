"""Who may do what with stock and places."""

TABLE = """
    GET    /availability?variants=tea-250       200  200  200
    GET    /locations                           401  403  200
    POST   /locations                           401  403  201
    GET    /locations/nairobi                   401  403  200
    GET    /locations/nowhere                   401  403  404
    PATCH  /locations/nairobi                   401  403  200
    DELETE /locations/nairobi                   401  403  409
    GET    /stock                               401  403  200
    GET    /stock/tea-250                       401  403  200
    GET    /stock/tea-250/nairobi               401  403  200
    GET    /stock/tea-250/nowhere               401  403  404
    PATCH  /stock/tea-250/nairobi               401  403  200
    POST   /stock/tea-250/nairobi/receipts      401  403  400
    POST   /stock/tea-250/nairobi/counts        401  403  400
    POST   /stock/tea-250/nairobi/damages       401  403  400
    POST   /stock/tea-250/nairobi/moves         401  403  400
    GET    /movements                           401  403  200
"""
BODY = {
    "POST /locations": {"id": "kisumu", "name": "Kisumu, Oginga Odinga Street"},
    "PATCH /locations/nairobi": {"priority": 2},
    "PATCH /stock/tea-250/nairobi": {"low_at": 10},
    "POST /stock/tea-250/nairobi/receipts": {"quantity": 1},
    "POST /stock/tea-250/nairobi/counts": {"counted": 100},
    "POST /stock/tea-250/nairobi/damages": {"quantity": 1},
    "POST /stock/tea-250/nairobi/moves": {"to": "mombasa", "quantity": 1},
}
