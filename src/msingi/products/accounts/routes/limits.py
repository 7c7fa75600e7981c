"""How often one may ask, for those who may decide on it."""

from typing import Any

from litestar import Request

from msingi.kit.auth import Actor
from msingi.kit.errors import Stale
from msingi.kit.http import Body, Given, Path, delete, get, put
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import limits
from msingi.products.accounts.queries.limits import LimitNow
from msingi.products.accounts.schemas.limits import LimitForm, LimitsView, LimitView

AnyRequest = Request[Any, Any, Any]
MANAGE = "limits:manage"


@get("/limits", permission=MANAGE)
async def list_limits(request: AnyRequest) -> LimitsView:
    """The limits of all requests together, and of the routes that have one of their own."""
    return LimitsView(items=[_shown(each) for each in await queries.limits.all_limits(request.app)])


def _shown(limit: LimitNow) -> LimitView:
    view: LimitView = LimitView.of(limit)
    return view


@get("/limits/{limit_name:str}", permission=MANAGE, problems=[rules.limits.NoSuchLimit])
async def show_limit(limit_name: Path[str], request: AnyRequest) -> LimitView:
    """One of them."""
    return _shown(await queries.limits.limit(limit_name, request.app))


@put(
    "/limits/{limit_name:str}",
    permission=MANAGE,
    step_up=True,
    problems=[rules.limits.NoSuchLimit, rules.limits.BadLimit, Stale],
)
async def change_limit(
    limit_name: Path[str], data: Body[LimitForm], actor: Given[Actor], if_match: Given[int | None], request: AnyRequest
) -> LimitView:
    """Let a limit be something else from now on."""
    await limits.put(await queries.limits.limit(limit_name, request.app), data.limit, if_match, actor)
    return _shown(await queries.limits.limit(limit_name, request.app))


@delete("/limits/{limit_name:str}", permission=MANAGE, step_up=True, problems=[rules.limits.NoSuchLimit])
async def reset_limit(limit_name: Path[str], actor: Given[Actor], request: AnyRequest) -> None:
    """Let a limit be again what the code or a setting says."""
    await limits.reset(await queries.limits.limit(limit_name, request.app), actor)


routes = [list_limits, show_limit, change_limit, reset_limit]
