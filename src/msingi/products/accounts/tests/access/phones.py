"""Who may prove a phone."""

from typing import Any

TABLE = """
    PUT    /me/phone               401     202  202
    POST   /me/phone/verification  401     422  422
    DELETE /me/phone               401     204  204
    POST   /sign-in/phone          202     202  202
    POST   /sign-in/phone/code     401     401  401
"""
BODY: dict[str, Any] = {
    "PUT /me/phone": {"phone": "+254712345678"},
    "POST /me/phone/verification": {"code": "000000"},
    "POST /sign-in/phone": {"phone": "+254712345678"},
    "POST /sign-in/phone/code": {"phone": "+254712345678", "code": "000000"},
}
