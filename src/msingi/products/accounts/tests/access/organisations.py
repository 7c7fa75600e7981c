"""Who may do what with organisations: Ann owns the farm, Bob is in it; the house's admin looks after them all."""

from typing import Any

TABLE = """
    GET    /organisations                           401  200  200
    POST   /organisations                           401  201  201
    GET    /organisations/farm                      401  200  404
    PATCH  /organisations/farm                      401  200  404
    DELETE /organisations/farm                      401  204  404
    PUT    /organisations/farm/owner                401  200  404
    GET    /admin/organisations                     401  403  200
    GET    /admin/organisations/farm                401  403  200
    DELETE /admin/organisations/farm                401  403  204
    GET    /organisations/farm/members              401  200  404
    GET    /organisations/farm/members/bob          401  200  404
    PATCH  /organisations/farm/members/bob          401  200  404
    DELETE /organisations/farm/members/bob          401  204  404
    DELETE /organisations/farm/members/ann          401  409  404
    GET    /organisations/farm/invitations          401  200  404
    POST   /organisations/farm/invitations          401  201  404
    GET    /organisations/farm/invitations/nothing  401  404  404
    DELETE /organisations/farm/invitations/nothing  401  404  404
    POST   /invitations/preview                     422  422  422
    POST   /invitations/accept                      401  422  422
    POST   /invitations/decline                     422  422  422
"""
BODY: dict[str, Any] = {
    "POST /organisations": {"name": "Orchard"},
    "PATCH /organisations/farm": {"name": "Farm"},
    "PUT /organisations/farm/owner": {"account_id": "bob"},
    "PATCH /organisations/farm/members/bob": {"role": "admin"},
    "POST /organisations/farm/invitations": {"email": "jane@example.org"},
    "POST /invitations/preview": {"ticket": "nothing"},
    "POST /invitations/accept": {"ticket": "nothing"},
    "POST /invitations/decline": {"ticket": "nothing"},
}
