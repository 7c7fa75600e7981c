"""One's own API keys."""

from typing import Annotated, Any

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.errors import Problem
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.products.accounts import queries
from msingi.products.accounts.actions import api_keys
from msingi.products.accounts.key_secrets import beginning_of
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show
from msingi.products.accounts.routes.sessions import NOT_KEPT
from msingi.products.accounts.schemas.api_keys import KeyName, KeyPatch, NewKey, Scope

HERE = "/account/api-keys"
LIVES = (7, 30, 90, 180, 365)  # days
REVOKE = Question(
    "Revoke this key",
    "Programs that use it are let in no more, within a second.",
    "Revoke",
)


class Wanted(Struct):
    """The form; without a scope it is the API's rule that refuses."""

    name: KeyName
    expires_in_days: Annotated[int, Meta(ge=1, le=365)]
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=100)]


class Renamed(Struct):
    """Another name."""

    name: KeyName


@page_at("/account/api-keys")
async def show_keys_page(request: AnyRequest, actor: Given[Actor], page: Given[Paging]) -> Response[str]:
    """Those that are good, newest first."""
    return await _keys(request, actor, page)


async def _keys(request: AnyRequest, actor: Actor, page: Paging, problem: Problem | None = None) -> Response[str]:
    found = await queries.api_keys.my_keys(actor, page)
    return show("api_keys", request, problem, found=found, begins=beginning_of)


@page_at("/account/api-keys/new", step_up=True)
async def show_new_key(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """What is it for, and how long?"""
    return _new(request, actor)


@form_at("/account/api-keys/new", step_up=True, limit="20/minute")
async def make_key_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """The key, shown this once."""
    try:
        form = await pages.form_of(request, Wanted)
        asked = NewKey(name=form.name, scopes=form.scopes, expires_in_days=form.expires_in_days)
        made = await api_keys.make(asked, actor)
    except Problem as problem:
        return _new(request, actor, pages.to_show(problem))
    reply = show("new_key", request, made=made)
    reply.headers.update(NOT_KEPT)
    return reply


def _new(request: AnyRequest, actor: Actor, problem: Problem | None = None) -> Response[str]:
    return show("make_key", request, problem, scopes=queries.api_keys.my_scopes(actor), lives=LIVES)


@form_at("/account/api-keys/{key_id:str}", in_person=True)
async def rename_key_on_page(request: AnyRequest, key_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """Call one something else."""
    try:
        form = await pages.form_of(request, Renamed)
        key = await queries.api_keys.my_key(key_id, actor)
        await api_keys.rename(key, KeyPatch(name=form.name), None)
    except Problem as problem:
        return await _keys(request, actor, Paging(), pages.to_show(problem))
    return pages.gone_well(HERE)


@page_at("/account/api-keys/{key_id:str}/removal", in_person=True)
async def show_revoking(request: AnyRequest, key_id: Path[str], actor: Given[Actor]) -> Response[str]:
    """Ask before it ends."""
    key = await queries.api_keys.my_key(key_id, actor)
    return ask(REVOKE, request, HERE, about=key.name)


@form_at("/account/api-keys/{key_id:str}/removal", in_person=True)
async def revoke_key_on_page(request: AnyRequest, key_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It has ended."""
    await pages.form_of(request, Nothing)
    await api_keys.revoke(await queries.api_keys.my_key(key_id, actor), actor)
    return pages.gone_well(HERE, "key_revoked")


routes: list[ControllerRouterHandler] = [
    show_keys_page,
    show_new_key,
    make_key_on_page,
    rename_key_on_page,
    show_revoking,
    revoke_key_on_page,
]
