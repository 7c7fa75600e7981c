"""Who may do what with coupons, taxes and shipping: whoever has `shop:pricing`, as the house's admin does."""

from typing import Any

TABLE = """
    GET    /shipping-methods              200  200  200
    GET    /admin/coupons                 401  403  200
    POST   /admin/coupons                 401  403  201
    GET    /admin/coupons/KARIBU          401  403  200
    PATCH  /admin/coupons/KARIBU          401  403  200
    DELETE /admin/coupons/KARIBU          401  403  204
    GET    /admin/tax-rates               401  403  200
    GET    /admin/tax-rates/KE/zero       401  403  200
    PUT    /admin/tax-rates/KE/zero       401  403  200
    DELETE /admin/tax-rates/KE/zero       401  403  204
    GET    /admin/shipping-methods        401  403  200
    POST   /admin/shipping-methods        401  403  201
    GET    /admin/shipping-methods/courier  401  403  200
    PATCH  /admin/shipping-methods/courier  401  403  200
    DELETE /admin/shipping-methods/courier  401  403  204
"""
BODY: dict[str, Any] = {
    "POST /admin/coupons": {"code": "JIONI", "kind": "percent", "value": 500},
    "PATCH /admin/coupons/KARIBU": {"closed": True},
    "PUT /admin/tax-rates/KE/zero": {"rate": 0, "name": "Zero-rated"},
    "POST /admin/shipping-methods": {"name": "Bus", "countries": ["KE"], "prices": {"KES": [[5000, 30000]]}},
    "PATCH /admin/shipping-methods/courier": {"position": 9},
}
