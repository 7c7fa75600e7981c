"""Who may see payments and the ledger. What providers tell proves itself, or is refused."""

TABLE = """
GET   /payment-ways?amount=100&currency=KES   200 200 200
POST  /callbacks/cards                        404 404 404
POST  /callbacks/mobile/push.x.y              404 404 404
GET   /payments                               401 403 200
GET   /payments/nothing                       401 403 404
POST  /payments/nothing/look                  401 403 404
GET   /payments/unmatched                     401 403 200
POST  /payments/unmatched/nothing/match       401 403 404
POST  /payments/paybill                       401 403 404
GET   /ledger                                 401 403 200
"""

BODY: dict[str, object] = {"POST /payments/unmatched/nothing/match": {"order": "MS-22222222"}}
