"""Who may take away, erase, and read the log."""

from typing import Any

TABLE = """
    POST   /me/export              401     202  202
    GET    /me/exports             401     200  200
    GET    /me/exports/nothing     401     404  404
    DELETE /me                     401     409  409
    DELETE /users/eve              401     403  204
    DELETE /users/nobody           401     403  404
    GET    /audit                  401     403  200
    GET    /me/audit               401     200  200
"""
BODY: dict[str, Any] = {}
