"""Who may come to what OAuth and OpenID Connect name: programs bring credentials of their own, people a browser."""

TABLE = """
    GET    /.well-known/openid-configuration        200  200  200
    GET    /.well-known/oauth-authorization-server  200  200  200
    POST   //oauth/token                            400  400  400
    POST   //oauth/device                           400  400  400
    POST   //oauth/revoke                           400  400  400
    POST   //oauth/introspect                       400  400  400
    GET    //oauth/userinfo                         401  200  200
    POST   //oauth/userinfo                         401  200  200
    GET    //oauth/authorize                        400  400  400
    POST   //oauth/authorize                        401  403  403
    GET    //oauth/continue                         200  200  200
    GET    //oauth/logout                           303  303  303
    POST   //oauth/logout                           401  403  403
    GET    //device                                 303  303  303
    POST   //device                                 401  403  403
    POST   /questions/accounts.people               401  403  403
    GET    /revocations                             401  403  403
"""
BODY: dict[str, object] = {}
