"""Who may prove an address."""

from typing import Any

from msingi.products.accounts.tests.access.people import GOOD

TABLE = """
    POST   /verification           422     422  422
    POST   /verification/resend    202     202  202
    POST   /password-reset         202     202  202
    PUT    /password-reset         422     422  422
    POST   /me/email               401     202  202
    PUT    /me/email               422     422  422
    PUT    /me/email/restoration   422     422  422
"""
BODY: dict[str, Any] = {
    "POST /verification": {"ticket": "nothing"},
    "POST /verification/resend": {"email": "bob@msingi.test"},
    "POST /password-reset": {"email": "bob@msingi.test"},
    "PUT /password-reset": {"ticket": "nothing", "password": GOOD},
    "POST /me/email": {"email": "new@example.org"},
    "PUT /me/email": {"ticket": "nothing"},
    "PUT /me/email/restoration": {"ticket": "nothing"},
}
