"""Who may see which page: a browser without a session is led to where one signs in."""

TABLE = """
    GET    //account                    303  200  200
    POST   //account                    401  403  403
    GET    //admin/users                303  403  200
    GET    //static/accounts/pages.css  200  200  200
"""
BODY: dict[str, object] = {}
