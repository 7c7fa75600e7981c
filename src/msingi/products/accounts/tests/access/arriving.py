"""Who may open the pages that letters lead to: everybody, and a form that comes from elsewhere does nothing."""

TABLE = """
    GET    //verify        200  200  200
    POST   //verify        403  403  403
    GET    //register      200  200  200
    POST   //register      403  403  403
    GET    //forgot        200  200  200
    POST   //forgot        403  403  403
    GET    //reset         200  200  200
    POST   //reset         403  403  403
    GET    //email         200  200  200
    POST   //email         403  403  403
    GET    //email/undo    200  200  200
    POST   //email/undo    403  403  403
    GET    //unlock        200  200  200
    POST   //unlock        403  403  403
"""
BODY: dict[str, object] = {}
