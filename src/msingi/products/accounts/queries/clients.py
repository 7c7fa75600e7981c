"""Programs, and what people granted them."""

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging
from msingi.kit.errors import NotFound
from msingi.products.accounts import rules
from msingi.products.accounts.models.clients import Client, Consent, clients, consents


async def registered(page: Paging) -> Page[Client]:
    """All programs, newest first: for those who look after them, which the route sees to."""
    return await clients.page({}, page, sorts=("-created_at",))


async def client(client_id: str) -> Client:
    """One of them."""
    return await clients.get(client_id)


async def known_client(client_id: str) -> Client | None:
    return await clients.find({"_id": client_id})


async def place_to_send_back(client_id: str, redirect_uri: str) -> Client:
    """The program, if this is an address of its. Raises CannotSendBack: nobody is sent anywhere before this."""
    found = await known_client(client_id)
    if found is None or not any(rules.openid.redirect_fits(each, redirect_uri) for each in found.redirect_uris):
        raise rules.openid.CannotSendBack
    return found


async def my_consents(actor: Actor, page: Paging) -> Page[Consent]:
    """What the actor let programs do, newest first."""
    return await consents.page({"account": actor.id}, page, sorts=("-_id",))


async def my_consent(consent_id: str, actor: Actor) -> Consent:
    """One of them."""
    return await consents.get(consent_id, when={"account": actor.id})


async def granted_scopes(account: str, client_id: str) -> list[str]:
    """What a person let a program do; nothing, if they were never asked."""
    found = await consents.find({"account": account, "client": client_id})
    return found.scopes if found else []


async def client_of_device(client_id: str) -> Client:
    """The program that a device runs. Raises WrongDeviceCode where it is gone."""
    try:
        return await clients.get(client_id)
    except NotFound:
        raise rules.openid.WrongDeviceCode from None
