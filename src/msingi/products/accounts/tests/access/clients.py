"""Who may look after programs, and what one granted them."""

from typing import Any

NEW: dict[str, Any] = {
    "name": "Diary",
    "kind": "confidential",
    "redirect_uris": ["https://diary.example/back"],
    "scopes": ["openid"],
}
TABLE = """
    GET    /clients                     401     403  200
    POST   /clients                     401     403  201
    GET    /clients/of-nobody           401     403  404
    PATCH  /clients/of-nobody           401     403  404
    DELETE /clients/of-nobody           401     403  404
    POST   /clients/of-nobody/secret    401     403  404
    GET    /consents                    401     200  200
    DELETE /consents/of-nobody          401     404  404
"""
BODY: dict[str, Any] = {"POST /clients": NEW, "PATCH /clients/of-nobody": {"name": "Other"}}
