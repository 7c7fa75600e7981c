"""Who may open a locked door, and bring people with their passwords."""

from typing import Any

PASSWORD = "a long walk to the market"
BCRYPT = "$2b$04$g3f69FmdmtC7so7z0VCjdesTZdDNCtK75MkkccXDO2GHBSLRTVjza"
BROUGHT: dict[str, Any] = {"email": "jane@example.org", "name": "Jane", "password_hash": BCRYPT}
TABLE = """
    POST   /unlocking             202     202  202
    PUT    /unlocking             422     422  422
    POST   /users/import          401     403  201
"""
BODY: dict[str, Any] = {
    "POST /unlocking": {"email": "bob@msingi.test"},
    "PUT /unlocking": {"ticket": "nothing"},
    "POST /users/import": BROUGHT,
}
