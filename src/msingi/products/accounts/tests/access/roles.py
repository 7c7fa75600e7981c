"""Who may do what with roles."""

from typing import Any

TABLE = """
    GET    /permissions           401     403  200
    GET    /roles                 401     403  200
    POST   /roles                 401     403  201
    GET    /roles/user            401     403  200
    GET    /roles/nobodys         401     403  404
    PATCH  /roles/user            401     403  200
    DELETE /roles/user            401     403  204
"""
BODY: dict[str, Any] = {
    "POST /roles": {"name": "helper", "permissions": ["users:manage"]},
    "PATCH /roles/user": {"permissions": []},
}
