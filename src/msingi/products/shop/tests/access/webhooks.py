"""Who may have others told of what happens."""

TABLE = """
    GET    /webhooks                                     401  403  200
    POST   /webhooks                                     401  403  201
    GET    /webhooks/events                              401  403  200
    GET    /webhooks/none                                401  403  404
    PATCH  /webhooks/none                                401  403  404
    DELETE /webhooks/none                                401  403  404
    POST   /webhooks/none/secrets                        401  403  404
    POST   /webhooks/none/pings                          401  403  404
    GET    /webhooks/none/deliveries                     401  403  404
    GET    /webhooks/none/deliveries/none                401  403  404
    POST   /webhooks/none/deliveries/none/replays        401  403  404
    POST   /webhooks/none/replays                        401  403  404
"""
BODY = {
    "POST /webhooks": {"url": "https://erp.example/hooks", "events": ["order.*"]},
    "PATCH /webhooks/none": {"active": False},
    "POST /webhooks/none/secrets": {},
    "POST /webhooks/none/replays": {"since": "2026-01-31T08:00:00Z"},
}
