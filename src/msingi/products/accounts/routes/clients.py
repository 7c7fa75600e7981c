"""Programs that people sign in to with their account here: for who looks after them; and what one granted them."""

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging
from msingi.kit.errors import InvalidFields, Stale
from msingi.kit.http import Body, Given, Path, delete, get, patch, post
from msingi.kit.replies import KitResponse
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import clients, consents
from msingi.products.accounts.models.clients import Client, Consent
from msingi.products.accounts.schemas.clients import ClientPatch, ClientView, ConsentView, NewClient, NewClientView

NOT_KEPT = {"Cache-Control": "no-store"}
MANAGE = "clients:manage"


async def client_in_path(client_id: Path[str]) -> Client:
    return await queries.clients.client(client_id)


def _shown(client: Client) -> ClientView:
    view: ClientView = ClientView.of(client)
    return view


def _shown_once(made: clients.Registered, status: int) -> KitResponse[NewClientView]:
    view: NewClientView = NewClientView.of(made.client, client_secret=made.secret)
    headers = {**NOT_KEPT, "Location": f"/v1/accounts/clients/{made.client.id}"} if status == 201 else NOT_KEPT
    return KitResponse(view, status_code=status, headers=headers)


@get("/clients", permission=MANAGE)
async def list_clients(page: Given[Paging]) -> Page[ClientView]:
    """All programs that are registered, newest first."""
    return (await queries.clients.registered(page)).map(_shown)


@post(
    "/clients",
    permission=MANAGE,
    step_up=True,
    idempotency="off",
    problems=[InvalidFields, rules.roles.AboveYou],
)
async def register_client(data: Body[NewClient], actor: Given[Actor]) -> KitResponse[NewClientView]:
    """Register a program. The answer holds the secret of a confidential one: nobody can read it a second time."""
    return _shown_once(await clients.register(data, actor), 201)


@get("/clients/{client_id:str}", permission=MANAGE)
async def show_client(client: Given[Client]) -> ClientView:
    """One program."""
    return _shown(client)


@patch(
    "/clients/{client_id:str}", permission=MANAGE, step_up=True, problems=[InvalidFields, rules.roles.AboveYou, Stale]
)
async def edit_client(
    client: Given[Client], data: Body[ClientPatch], actor: Given[Actor], if_match: Given[int | None]
) -> ClientView:
    """Change what a program may do, or where people are sent back to."""
    return _shown(await clients.change(client, data, actor, if_match))


@delete("/clients/{client_id:str}", permission=MANAGE, step_up=True, problems=[rules.roles.AboveYou])
async def remove_client(client: Given[Client], actor: Given[Actor]) -> None:
    """Forget a program: all its sessions and tokens end."""
    await clients.remove(client, actor)


@post(
    "/clients/{client_id:str}/secret",
    status_code=200,
    permission=MANAGE,
    step_up=True,
    idempotency="off",
    problems=[rules.clients.PublicClient, rules.roles.AboveYou, Stale],
)
async def renew_client_secret(client: Given[Client], actor: Given[Actor]) -> KitResponse[NewClientView]:
    """A new secret; the one before is good for another 24 hours."""
    return _shown_once(await clients.renew_secret(client, actor), 200)


# ---- what one granted


async def consent_in_path(consent_id: Path[str], actor: Given[Actor]) -> Consent:
    return await queries.clients.my_consent(consent_id, actor)


@get("/consents")
async def list_consents(actor: Given[Actor], page: Given[Paging]) -> Page[ConsentView]:
    """What one let programs of others do, newest first."""
    found = await queries.clients.my_consents(actor, page)
    return found.map(ConsentView.of)


@delete("/consents/{consent_id:str}", in_person=True, problems=[Stale])
async def take_back_consent(consent: Given[Consent], actor: Given[Actor]) -> None:
    """Take it back: the program's sessions and tokens end at once."""
    await consents.take_back(consent, actor)


routes = [
    list_clients,
    register_client,
    show_client,
    edit_client,
    remove_client,
    renew_client_secret,
    list_consents,
    take_back_consent,
]
