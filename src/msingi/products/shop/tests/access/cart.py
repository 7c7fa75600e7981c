"""Who may do what with a cart: everybody with their own, a guest's too; there is no other in these paths."""

from typing import Any

TABLE = """
    GET    /cart                          200  200  200
    DELETE /cart                          200  200  200
    GET    /cart/shipping-methods         200  200  200
    PUT    /cart/lines/tea-250            200  200  200
    DELETE /cart/lines/tea-250            200  200  200
    PUT    /cart/coupons/KARIBU           200  200  200
    DELETE /cart/coupons/KARIBU           200  200  200
    PUT    /cart/currency                 200  200  200
    POST   /cart/prices                   200  200  200
"""
BODY: dict[str, Any] = {
    "PUT /cart/lines/tea-250": {"quantity": 2},
    "PUT /cart/currency": {"currency": "USD"},
    "POST /cart/prices": {"prices": {"tea-250": 12000}},
}
