"""Who may do what with limits."""

TABLE = """
    GET    /limits                401     403  200
    GET    /limits/member         401     403  200
    GET    /limits/nothing        401     403  404
    PUT    /limits/member         401     403  200
    DELETE /limits/member         401     403  204
"""
BODY = {"PUT /limits/member": {"limit": "50000/minute"}}
