"""Who may do what with somebody else's ways in."""

TABLE = """
    GET    /users/bob/sessions            401  403  200
    DELETE /users/bob/sessions            401  403  204
    DELETE /users/bob/sessions/of-nobody  401  403  404
    POST   /users/bob/password-reset      401  403  204
"""
BODY: dict[str, object] = {}
