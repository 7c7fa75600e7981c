"""Pages for people: one's own account, and looking after others'."""

from litestar.types import ControllerRouterHandler

from msingi.kit import pages
from msingi.products.accounts.pages import (
    activity,
    all_organisations,
    api_keys,
    arriving,
    audit,
    clients,
    connections,
    data,
    limits,
    organisations,
    profile,
    programs,
    providers,
    registering,
    roles,
    security,
    sessions,
    user,
    users,
)

page_routes: list[ControllerRouterHandler] = [
    *arriving.routes,
    *registering.routes,
    *profile.routes,
    *security.routes,
    *sessions.routes,
    *connections.routes,
    *api_keys.routes,
    *organisations.routes,
    *activity.routes,
    *data.routes,
    *users.routes,
    *user.routes,
    *roles.routes,
    *all_organisations.routes,
    *audit.routes,
    *clients.routes,
    *limits.routes,
    *programs.routes,
    *providers.routes,
    pages.static("accounts"),
]
