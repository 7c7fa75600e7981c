"""Pages for people: one's own account, and looking after others'."""

from litestar.types import ControllerRouterHandler

from msingi.kit import pages
from msingi.products.accounts.pages import profile, users

page_routes: list[ControllerRouterHandler] = [*profile.routes, *users.routes, pages.static("accounts")]
