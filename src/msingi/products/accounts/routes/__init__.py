"""The HTTP face, a file for each noun."""

from msingi.kit import revocation_feed
from msingi.products.accounts.routes import (
    addresses,
    api_keys,
    clients,
    data,
    defence,
    factors,
    identities,
    impersonation,
    limits,
    openid,
    organisations,
    others,
    people,
    phones,
    roles,
    sessions,
    signing_keys,
    step_up,
)

routes = [
    *people.routes,
    *api_keys.routes,
    *roles.routes,
    *limits.routes,
    *impersonation.routes,
    *organisations.routes,
    *identities.routes,
    *addresses.routes,
    *phones.routes,
    *sessions.routes,
    *others.routes,
    *step_up.routes,
    *factors.routes,
    *clients.routes,
    *defence.routes,
    *data.routes,
    *revocation_feed.routes,
]
root_routes = [*signing_keys.root_routes, *openid.root_routes]
