"""Who may do what with sessions."""

from msingi.kit.testing import PASSWORD

TABLE = """
    POST   /sign-in               200     200  200
    POST   /refresh               401     401  401
    POST   /sign-out              401     204  204
    POST   /sign-out/everywhere   401     204  204
    GET    /csrf                  401     403  403
    GET    /sessions              401     200  200
    DELETE /sessions              401     204  204
    DELETE /sessions/of-nobody    401     404  404
"""
BODY = {
    "POST /sign-in": {"email": "bob@msingi.test", "password": PASSWORD},
    "POST /refresh": {"refresh_token": "rt1_nothing"},
}
