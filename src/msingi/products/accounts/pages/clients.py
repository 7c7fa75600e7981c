"""Programs that people sign in to with their account here, for those who look after them."""

from typing import Any, Literal

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages, state
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.errors import Problem
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.kit.reading import strictly
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import clients
from msingi.products.accounts.models.clients import Client
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show
from msingi.products.accounts.routes.sessions import NOT_KEPT
from msingi.products.accounts.schemas.clients import ClientPatch, NewClient

HERE = "/admin/clients"
MANAGE = "clients:manage"
REMOVE = Question(
    "Delete this program?",
    "All its sessions and tokens end, and what people allowed it is forgotten.",
    "Delete it",
)
RENEW = Question(
    "Give this program a new secret?",
    "The one that it has now is good for another 24 hours; any older one ends at once.",
    "Make a new secret",
)


class Filled(Struct):
    """The form: of addresses one a line. `kind` and `version` say which of the two pages it comes from."""

    name: str = ""
    logo: str = ""
    kind: Literal["confidential", "public"] = "confidential"
    redirect_uris: str = ""
    post_logout_redirect_uris: str = ""
    scopes: list[str] = []
    first_party: bool = False
    service: bool = False
    device: bool = False
    version: int = 0

    def said(self) -> dict[str, Any]:
        """What goes into the API's forms."""
        found = {name: getattr(self, name) for name in ("name", "logo", "scopes", "first_party", "service", "device")}
        for name in ("redirect_uris", "post_logout_redirect_uris"):
            found[name] = getattr(self, name).split()
        return found


def _filled(client: Client) -> Filled:
    return Filled(
        name=client.name,
        logo=client.logo,
        kind=client.kind,
        redirect_uris="\n".join(client.redirect_uris),
        post_logout_redirect_uris="\n".join(client.post_logout_redirect_uris),
        scopes=client.scopes,
        first_party=client.first_party,
        service=client.service,
        device=client.device,
        version=client.version,
    )


@page_at("/admin/clients", permission=MANAGE)
async def show_clients(request: AnyRequest, page: Given[Paging]) -> Response[str]:
    """All of them, newest first."""
    return show("clients", request, found=await queries.clients.registered(page))


# ---- a new one


@page_at("/admin/clients/new", permission=MANAGE, step_up=True)
async def show_new_client(request: AnyRequest) -> Response[str]:
    """Register one."""
    return _new(request, Filled(scopes=list(rules.openid.IDENTITY[:3])))


@form_at("/admin/clients/new", permission=MANAGE, step_up=True)
async def register_client_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[str]:
    """It is known, and its secret shown this once."""
    form = Filled()
    try:
        form = await pages.form_of(request, Filled)
        made = await clients.register(strictly(NewClient, {**form.said(), "kind": form.kind}), actor)
    except Problem as problem:
        return _new(request, form, pages.to_show(problem))
    return _shown_once(request, made)


def _new(request: AnyRequest, form: Filled, problem: Problem | None = None) -> Response[str]:
    return show("new_client", request, problem, form=form, scopes=_scopes(form.scopes))


def _scopes(held: list[str]) -> list[str]:
    """What a program may be let do here, and what it was let do already."""
    products = [product.name for product in state.current().products]
    ours = [f"{name}:{way}" for name in products for way in ("read", "write")]
    return [*dict.fromkeys([*rules.openid.IDENTITY, *ours, *rules.openid.SERVING, *held])]


def _shown_once(request: AnyRequest, made: clients.Registered) -> Response[str]:
    reply = show("client_secret", request, client=made.client, secret=made.secret)
    reply.headers.update(NOT_KEPT)
    return reply


# ---- one of them


@page_at("/admin/clients/{client_id:str}", permission=MANAGE)
async def show_client_on_page(request: AnyRequest, client_id: Path[str]) -> Response[str]:
    """What is known of it."""
    return show("client", request, client=await queries.clients.client(client_id))


@page_at("/admin/clients/{client_id:str}/edit", permission=MANAGE, step_up=True)
async def show_client_edit(request: AnyRequest, client_id: Path[str]) -> Response[str]:
    """Change it."""
    client = await queries.clients.client(client_id)
    return _edit(request, client, _filled(client))


@form_at("/admin/clients/{client_id:str}/edit", permission=MANAGE, step_up=True)
async def edit_client_on_page(request: AnyRequest, client_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It is changed."""
    client = await queries.clients.client(client_id)
    form = _filled(client)
    try:
        form = await pages.form_of(request, Filled)
        await clients.change(client, strictly(ClientPatch, form.said()), actor, form.version)
    except Problem as problem:
        return _edit(request, client, form, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{client_id}")


def _edit(request: AnyRequest, client: Client, form: Filled, problem: Problem | None = None) -> Response[str]:
    return show("edit_client", request, problem, client=client, form=form, scopes=_scopes(form.scopes))


@page_at("/admin/clients/{client_id:str}/secret", permission=MANAGE, step_up=True)
async def show_client_secret(request: AnyRequest, client_id: Path[str]) -> Response[str]:
    """Ask before there is a new one."""
    return await _question(RENEW, request, client_id)


@form_at("/admin/clients/{client_id:str}/secret", permission=MANAGE, step_up=True)
async def renew_secret_on_page(request: AnyRequest, client_id: Path[str], actor: Given[Actor]) -> Response[str]:
    """It is shown this once."""
    await pages.form_of(request, Nothing)
    try:
        made = await clients.renew_secret(await queries.clients.client(client_id), actor)
    except Problem as problem:
        return await _question(RENEW, request, client_id, pages.to_show(problem))
    return _shown_once(request, made)


@page_at("/admin/clients/{client_id:str}/removal", permission=MANAGE, step_up=True)
async def show_client_removal(request: AnyRequest, client_id: Path[str]) -> Response[str]:
    """Ask before it goes."""
    return await _question(REMOVE, request, client_id)


@form_at("/admin/clients/{client_id:str}/removal", permission=MANAGE, step_up=True)
async def remove_client_on_page(request: AnyRequest, client_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It is gone."""
    await pages.form_of(request, Nothing)
    await clients.remove(await queries.clients.client(client_id), actor)
    return pages.gone_well(HERE, "client_removed")


async def _question(
    question: Question, request: AnyRequest, client_id: str, problem: Problem | None = None
) -> Response[str]:
    client = await queries.clients.client(client_id)
    return ask(question, request, f"{HERE}/{client_id}", about=client.name, problem=problem)


routes: list[ControllerRouterHandler] = [
    show_clients,
    show_new_client,
    register_client_on_page,
    show_client_on_page,
    show_client_edit,
    edit_client_on_page,
    show_client_secret,
    renew_secret_on_page,
    show_client_removal,
    remove_client_on_page,
]
