"""Who may act in somebody's name."""

TABLE = """
    POST   /users/bob/impersonation    401  403  201
    POST   /users/admin/impersonation  401  403  409
    POST   /users/nobody/impersonation 401  403  404
"""
BODY = {f"POST /users/{who}/impersonation": {"reason": "ticket 4711"} for who in ("bob", "admin", "nobody")}
