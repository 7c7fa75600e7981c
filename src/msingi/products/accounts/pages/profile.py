"""One's own name and language."""

from typing import Any

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, Struct, UnsetType

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.errors import Problem
from msingi.kit.http import Given, get, post
from msingi.products.accounts import queries
from msingi.products.accounts.actions import people
from msingi.products.accounts.pages.shell import AnyRequest, gone_well, show, to_show
from msingi.products.accounts.schemas.people import Name, ProfilePatch


class Profile(Struct):
    """The form."""

    name: Name | UnsetType = UNSET


@get("/account", include_in_schema=False, page=True)
async def show_profile(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """Who one is here."""
    return await _profile(request, actor)


@post("/account", include_in_schema=False, page=True, idempotency="off")
async def save_profile(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Change it."""
    form = await pages.form_of(request, Profile)
    try:
        await people.rename(await queries.people.me(actor), ProfilePatch(name=form.name), None)
    except Problem as problem:
        return await _profile(request, actor, to_show(problem))
    return gone_well("/account")


async def _profile(request: AnyRequest, actor: Actor, problem: Problem | None = None) -> Response[str]:
    return show("profile", request, problem, account=await queries.people.me(actor))


routes: list[ControllerRouterHandler] = [show_profile, save_profile]
