"""Who may do what with API keys."""

TABLE = """
    GET    /api-keys              401     200  200
    GET    /api-keys/scopes       401     200  200
    POST   /api-keys              401     201  201
    GET    /api-keys/of-nobody    401     404  404
    PATCH  /api-keys/of-nobody    401     404  404
    DELETE /api-keys/of-nobody    401     404  404
    POST   /api-keys/token        401     403  403
"""
BODY = {"POST /api-keys": {"name": "Report", "scopes": ["accounts:read"]}}
