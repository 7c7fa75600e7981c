"""Everybody, for those who look after them."""

from litestar import Response
from litestar.types import ControllerRouterHandler

from msingi.kit.db import Paging
from msingi.kit.http import Given, Query, get
from msingi.products.accounts import queries
from msingi.products.accounts.pages.shell import AnyRequest, show


@get("/admin/users", permission="users:manage", include_in_schema=False, page=True)
async def show_users(request: AnyRequest, page: Given[Paging], q: Query[str] = "") -> Response[str]:
    """The list, newest first; `q` searches names and addresses."""
    return show("users", request, q=q, found=await queries.people.users({}, q, page))


routes: list[ControllerRouterHandler] = [show_users]
