"""Who may see the pages of webhooks; where one has to prove who one is, a browser is led there: test_pages_webhooks."""

TABLE = """
    GET    //shop/admin/webhooks                          303  403  200
    GET    //shop/admin/webhooks/new                      303  403  200
    POST   //shop/admin/webhooks/new                      401  403  403
    GET    //shop/admin/webhooks/none                     303  403  404
    POST   //shop/admin/webhooks/none                     401  403  403
    POST   //shop/admin/webhooks/none/state               401  403  403
    POST   //shop/admin/webhooks/none/pings               401  403  403
    POST   //shop/admin/webhooks/none/replays             401  403  403
    GET    //shop/admin/webhooks/none/secret              303  403  404
    POST   //shop/admin/webhooks/none/secret              401  403  403
    GET    //shop/admin/webhooks/none/removal             303  403  404
    POST   //shop/admin/webhooks/none/removal             401  403  403
    GET    //shop/admin/webhooks/none/deliveries/none     303  403  404
    POST   //shop/admin/webhooks/none/deliveries/none     401  403  403
"""
BODY: dict[str, object] = {}
