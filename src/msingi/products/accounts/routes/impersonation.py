"""Acting in somebody's name."""

from typing import Any

from litestar import Request

from msingi.kit.auth import Actor
from msingi.kit.http import Body, Given, Path, post
from msingi.products.accounts import rules
from msingi.products.accounts.actions import impersonation
from msingi.products.accounts.routes.sessions import Signed, check_page, signed
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.impersonation import Impersonation


@post(
    "/users/{user_id:str}/impersonation",
    permission=rules.impersonation.PERMISSION,
    step_up=True,
    status_code=201,
    limit="20/minute",
    idempotency="off",  # an answer that holds a secret is kept nowhere
    problems=[rules.impersonation.NotInTheirName],
)
async def impersonate(
    user_id: Path[str], data: Body[Impersonation], actor: Given[Actor], request: Request[Any, Any, Any]
) -> Signed:
    """Act in somebody's name for half an hour, which they are told. Signing out of that session ends it."""
    if data.session == "cookie":
        check_page(request)
    reply = await signed(await impersonation.begin(user_id, data, actor, visitor_of(request)))
    reply.status_code = 201
    return reply


routes = [impersonate]
