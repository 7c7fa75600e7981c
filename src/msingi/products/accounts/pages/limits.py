"""How often one may ask, for those who may decide on it."""

from typing import Any

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.errors import Problem
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.products.accounts import queries
from msingi.products.accounts.actions import limits
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show
from msingi.products.accounts.queries.limits import LimitNow

HERE = "/admin/limits"
MANAGE = "limits:manage"
RESET = Question("Back to the default?", "The limit is again what the code or a setting says.", "Set it back")


class Wanted(Struct):
    """A limit as people write it: `30/minute`. Which version it was decided on."""

    limit: str
    version: int


@page_at("/admin/limits", permission=MANAGE)
async def show_limits(request: AnyRequest) -> Response[str]:
    """Those of all requests together, then those of routes."""
    return show("limits", request, limits=await queries.limits.all_limits(request.app))


@page_at("/admin/limits/{limit_name:str}", permission=MANAGE, step_up=True)
async def show_limit_on_page(request: AnyRequest, limit_name: Path[str]) -> Response[str]:
    """One of them."""
    return _limit(request, await queries.limits.limit(limit_name, request.app))


@form_at("/admin/limits/{limit_name:str}", permission=MANAGE, step_up=True)
async def change_limit_on_page(request: AnyRequest, limit_name: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It is something else from now on."""
    before = await queries.limits.limit(limit_name, request.app)
    form = None
    try:
        form = await pages.form_of(request, Wanted)
        await limits.put(before, form.limit.strip(), form.version, actor)
    except Problem as problem:
        return _limit(request, before, pages.to_show(problem), form.limit if form else None)
    return pages.gone_well(HERE, "limit_changed")


def _limit(
    request: AnyRequest, limit: LimitNow, problem: Problem | None = None, typed: str | None = None
) -> Response[str]:
    return show("limit", request, problem, limit=limit, typed=limit.limit if typed is None else typed)


@page_at("/admin/limits/{limit_name:str}/default", permission=MANAGE, step_up=True)
async def show_limit_reset(request: AnyRequest, limit_name: Path[str]) -> Response[str]:
    """Ask before it is set back."""
    limit = await queries.limits.limit(limit_name, request.app)
    return ask(RESET, request, HERE, about=f"{limit.name}: {limit.limit} → {limit.default}")


@form_at("/admin/limits/{limit_name:str}/default", permission=MANAGE, step_up=True)
async def reset_limit_on_page(request: AnyRequest, limit_name: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It is set back."""
    await pages.form_of(request, Nothing)
    await limits.reset(await queries.limits.limit(limit_name, request.app), actor)
    return pages.gone_well(HERE, "limit_reset")


routes: list[ControllerRouterHandler] = [
    show_limits,
    show_limit_on_page,
    change_limit_on_page,
    show_limit_reset,
    reset_limit_on_page,
]
