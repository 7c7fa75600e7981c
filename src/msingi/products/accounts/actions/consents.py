"""What people let programs do: remembered, so that they are asked once, and taken back, which ends what came of it."""

from msingi.kit import audit
from msingi.kit.auth import Actor
from msingi.kit.errors import NotFound
from msingi.kit.unit import atomic
from msingi.products.accounts.actions import sessions
from msingi.products.accounts.models.clients import Client, Consent, consents
from msingi.products.accounts.models.sessions import sessions as kept_sessions


@atomic
async def remember(account: str, client: Client, scopes: list[str], by: Actor) -> Consent:
    """Note that a person said yes; what they granted before stays granted."""
    known = await consents.find({"account": account, "client": client.id})
    await audit.note("accounts.consent_given", actor=by, about=client.id, scopes=scopes)
    if known is None:
        return await consents.add(Consent(account=account, client=client.id, client_name=client.name, scopes=scopes))
    more = sorted({*known.scopes, *scopes})
    return await consents.change(known.id, {"$set": {"scopes": more, "client_name": client.name}})


@atomic
async def use(account: str, client: Client, scopes: list[str]) -> None:
    """Let a program in by what a person granted. It is written to, so that of this and of taking it back at the same
    moment one comes second, and knows. Raises NotFound.
    """
    known = await consents.find({"account": account, "client": client.id, "scopes": {"$all": scopes}})
    if known is None:
        raise NotFound
    await consents.change(known.id, {"$set": {"client_name": client.name}})


async def take_back(consent: Consent, by: Actor) -> None:
    """End what a person let a program do: its tokens stop at once, and it has to ask again. Raises NotFound.

    Many sessions take several transactions; the last one takes the consent away.
    """
    while not await _take_back(consent, by):
        pass


@atomic
async def _take_back(consent: Consent, by: Actor) -> bool:
    """End some of its sessions, and the consent if these are the last."""
    theirs = {"account": consent.account, "client": consent.client, "ended_at": None}
    found = await kept_sessions.many(theirs, limit=sessions.ENDED_AT_ONCE)
    for session in found:
        await sessions.end(session)
    if len(found) == sessions.ENDED_AT_ONCE:
        return False
    await consents.remove(await consents.get(consent.id))
    await audit.note("accounts.consent_taken_back", actor=by, about=consent.client)
    return True
