"""Providers that open one's account, and programs that one let in."""

from typing import Any
from urllib.parse import urlencode

from litestar import Response
from litestar.types import ControllerRouterHandler

from msingi.kit import csrf, pages, state
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.errors import Problem
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import consents, identities
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show

HERE = "/account/connections"
DISCONNECT = Question(
    "Remove this connection",
    "You cannot sign in with it any more. Your account there stays as it is.",
    "Remove",
)
TAKE_BACK = Question(
    "Take back what you allowed",
    "The program is signed out at once, and has to ask you again.",
    "Take it back",
)


@page_at("/account/connections", in_person=True)
async def show_connections(request: AnyRequest, actor: Given[Actor], page: Given[Paging]) -> Response[str]:
    """Both lists, and the providers that could be connected."""
    connected = await queries.identities.my_connections(actor)
    known = state.part(AccountsSettings).providers
    there = {each.provider for each in connected}
    granted = await queries.clients.my_consents(actor, page)
    return show(
        "connections",
        request,
        connected=connected,
        titles=_titles(),
        others=[each for each in known if each.name not in there],
        granted=granted,
    )


def _titles() -> dict[str, str]:
    return {each.name: each.title for each in state.part(AccountsSettings).providers}


# ---- providers


# A page with a link, since Chromium holds a form to its policy through all redirects: no form leads to a provider.
@page_at("/account/connections/new/{provider:str}", step_up=True)
async def show_connecting(request: AnyRequest, provider: Path[str]) -> Response[str]:
    """Where the way to a provider begins."""
    if provider not in _titles():
        raise rules.identities.UnknownProvider
    token = csrf.token_for(csrf.session_cookie(request.headers.get("cookie", "")) or "")
    begin = f"/sign-in/with/{provider}?{urlencode({'connect': token, 'back': HERE})}"
    return show("connecting", request, title=_titles()[provider], begin=begin)


@page_at("/account/connections/{connection_id:str}/removal", step_up=True)
async def show_disconnecting(request: AnyRequest, connection_id: Path[str], actor: Given[Actor]) -> Response[str]:
    """Ask before it goes."""
    return await _disconnecting(request, connection_id, actor)


@form_at("/account/connections/{connection_id:str}/removal", step_up=True)
async def disconnect_on_page(request: AnyRequest, connection_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It opens the account no more."""
    await pages.form_of(request, Nothing)
    try:
        await identities.disconnect(actor, connection_id)
    except rules.identities.LastWayIn as problem:
        return await _disconnecting(request, connection_id, actor, pages.to_show(problem))
    return pages.gone_well(HERE, "disconnected")


async def _disconnecting(
    request: AnyRequest, connection_id: str, actor: Actor, problem: Problem | None = None
) -> Response[str]:
    found = await queries.identities.my_connection(connection_id, actor)
    title = _titles().get(found.provider, found.provider)
    return ask(DISCONNECT, request, HERE, about=f"{title} ({found.email})" if found.email else title, problem=problem)


# ---- programs


@page_at("/account/connections/programs/{consent_id:str}/removal", in_person=True)
async def show_taking_back(request: AnyRequest, consent_id: Path[str], actor: Given[Actor]) -> Response[str]:
    """Ask before it is taken back."""
    consent = await queries.clients.my_consent(consent_id, actor)
    return ask(TAKE_BACK, request, HERE, about=consent.client_name)


@form_at("/account/connections/programs/{consent_id:str}/removal", in_person=True)
async def take_back_on_page(request: AnyRequest, consent_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """The program may do nothing any more."""
    await pages.form_of(request, Nothing)
    await consents.take_back(await queries.clients.my_consent(consent_id, actor), actor)
    return pages.gone_well(HERE, "consent_taken_back")


routes: list[ControllerRouterHandler] = [
    show_connections,
    show_connecting,
    show_disconnecting,
    disconnect_on_page,
    show_taking_back,
    take_back_on_page,
]
