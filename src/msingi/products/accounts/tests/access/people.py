"""Who may do what with accounts."""

from typing import Any

from msingi.kit.testing import PASSWORD

GOOD = "seven herons over the lake"
NEW: dict[str, Any] = {"email": "jane@example.org", "password": GOOD, "name": "Jane"}
TABLE = """
    POST   /register              201     201  201
    GET    /me                    401     200  200
    PATCH  /me                    401     200  200
    POST   /me/password           401     200  200
    GET    /users                 401     403  200
    POST   /users                 401     403  201
    GET    /users/bob             401     403  200
    GET    /users/nobody          401     403  404
    PATCH  /users/bob             401     403  200
"""
BODY = {
    "POST /register": NEW,
    "POST /users": NEW,
    "POST /me/password": {"current_password": PASSWORD, "new_password": GOOD},
    "PATCH": {"name": "Bobby"},
}
