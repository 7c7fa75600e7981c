"""Who may have the keys."""

TABLE = """
    GET    /.well-known/jwks.json 200     200  200
"""
BODY: dict[str, object] = {}
