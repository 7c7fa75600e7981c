"""Who may do what with providers and connections. Whoever comes for a provider that nobody configured finds nothing."""

TABLE = """
    GET    /providers                               200     200  200
    GET    /connections                             401     200  200
    DELETE /connections/of-nobody                   401     404  404
    PUT    /me/password                             401     409  409
    GET    //sign-in/with/nobody                    404     404  404
    GET    //sign-in/with/nobody/callback           404     404  404
"""
BODY = {"PUT /me/password": {"new_password": "seven herons over the lake"}}
