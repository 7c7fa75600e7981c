"""API keys, for one's own programs."""

from typing import Any

from litestar import Request

from msingi.kit.auth import Actor, SecondFactorRequired
from msingi.kit.db import Page, Paging
from msingi.kit.errors import Stale
from msingi.kit.http import Body, Given, Path, delete, get, patch, post
from msingi.kit.replies import KitResponse
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import api_keys
from msingi.products.accounts.key_secrets import beginning_of
from msingi.products.accounts.models.api_keys import ApiKey
from msingi.products.accounts.routes.sessions import NOT_KEPT
from msingi.products.accounts.schemas.api_keys import (
    ApiKeyView,
    KeyPatch,
    KeyTokenView,
    NewKey,
    NewKeyView,
    ScopesView,
)

AnyRequest = Request[Any, Any, Any]


async def key_in_path(key_id: Path[str], actor: Given[Actor]) -> ApiKey:
    return await queries.api_keys.my_key(key_id, actor)


@get("/api-keys")
async def list_api_keys(actor: Given[Actor], page: Given[Paging]) -> Page[ApiKeyView]:
    """One's own keys that are good, newest first."""
    found = await queries.api_keys.my_keys(actor, page)
    return found.map(_shown)


def _shown(key: ApiKey) -> ApiKeyView:
    view: ApiKeyView = ApiKeyView.of(key, begins=beginning_of(key.id))
    return view


@get("/api-keys/scopes")
async def list_scopes(actor: Given[Actor]) -> ScopesView:
    """What one's keys may be for."""
    return ScopesView(scopes=queries.api_keys.my_scopes(actor))


@post(
    "/api-keys",
    step_up=True,
    limit="20/minute",
    idempotency="off",  # an answer that holds a secret is kept nowhere
    problems=[rules.api_keys.UnknownScope, rules.api_keys.TooManyKeys, SecondFactorRequired],
)
async def make_api_key(data: Body[NewKey], actor: Given[Actor]) -> KitResponse[NewKeyView]:
    """Make a key. The answer shows it, this once."""
    made = await api_keys.make(data, actor)
    view: NewKeyView = NewKeyView.of(made.key, begins=beginning_of(made.key.id), key=made.secret)
    headers = {**NOT_KEPT, "Location": f"/v1/accounts/api-keys/{made.key.id}"}
    return KitResponse(view, status_code=201, headers=headers)


@get("/api-keys/{key_id:str}")
async def show_api_key(key: Given[ApiKey]) -> ApiKeyView:
    """One of them."""
    return _shown(key)


@patch("/api-keys/{key_id:str}", in_person=True, problems=[Stale])
async def rename_api_key(key: Given[ApiKey], data: Body[KeyPatch], if_match: Given[int | None]) -> ApiKeyView:
    """Call a key something else."""
    return _shown(await api_keys.rename(key, data, if_match))


@delete("/api-keys/{key_id:str}", in_person=True)
async def revoke_api_key(key: Given[ApiKey], actor: Given[Actor]) -> None:
    """End a key."""
    await api_keys.revoke(key, actor)


# Public, since a key needs no scope for this: who shows none is told so by the action.
@post(
    "/api-keys/token",
    public=True,
    status_code=200,
    limit="60/minute",
    idempotency="off",
    problems=[rules.api_keys.KeyOnly],
)
async def swap_api_key(request: AnyRequest) -> KitResponse[KeyTokenView]:
    """Swap the key that one comes with for a short access token with the same scopes."""
    swapped = await api_keys.swap(request.user)
    scope = " ".join(sorted(request.user.scopes))
    view = KeyTokenView(access_token=swapped.token, expires_in=swapped.expires_in, scope=scope)
    return KitResponse(view, headers=NOT_KEPT)


routes = [
    list_api_keys,
    list_scopes,
    make_api_key,
    show_api_key,
    rename_api_key,
    revoke_api_key,
    swap_api_key,
]
