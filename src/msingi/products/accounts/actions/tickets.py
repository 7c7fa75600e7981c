"""Tickets: issued for one purpose, redeemed once, however many try at the same moment."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

from msgspec import Struct

from msingi.kit.clock import now
from msingi.kit.errors import NotFound, Stale
from msingi.kit.ids import new_id
from msingi.kit.unit import guarded
from msingi.products.accounts import rules
from msingi.products.accounts.models.tickets import Ticket, tickets
from msingi.products.accounts.session_secrets import hash_of, new_cookie, session_in_cookie


class Issued(Struct, frozen=True):
    """A ticket with its secret in the clear, which nobody can tell a second time."""

    ticket: Ticket
    secret: str


async def issue(
    purpose: str, lifetime: timedelta, *, account: str = "", newest_only: bool = False, **facts: Any
) -> Issued:
    """A ticket for one purpose, in the unit under way. With `newest_only` the account's earlier ones are void.

    Which one is the newest is found out when one is shown: of two that were issued at the same moment neither could
    have known the other.
    """
    id = new_id()
    secret = new_cookie(id)
    expires_at = now() + lifetime
    ticket = Ticket(
        id=id,
        purpose=purpose,
        account=account,
        secret=hash_of(secret),
        newest_only=newest_only,
        facts=facts,
        expires_at=expires_at,
    )
    return Issued(await tickets.add(ticket), secret)


async def look_at(purpose: str, secret: str) -> Ticket:
    """The ticket, without using it up. Raises BadTicket."""
    id = session_in_cookie(secret)
    with suppress(NotFound):
        if id is not None:
            return await _newest(await tickets.get(id, when=_good(purpose, secret)))
    raise rules.tickets.BadTicket


@guarded
async def redeem(purpose: str, secret: str) -> Ticket:
    """Use a ticket up. Of many who try at once one succeeds. Raises BadTicket.

    Inside an @atomic action it is used up only if all the rest succeeds too.
    """
    id = session_in_cookie(secret)
    with suppress(NotFound, Stale):
        if id is not None:
            await _newest(await tickets.get(id, when=_good(purpose, secret)))
            return await tickets.change(id, {"$set": {"used_at": now()}}, _good(purpose, secret))
    raise rules.tickets.BadTicket


async def _newest(ticket: Ticket) -> Ticket:
    """The same ticket, if no later one made it void. Raises BadTicket."""
    later = {"account": ticket.account, "purpose": ticket.purpose, "_id": {"$gt": ticket.id}}
    if ticket.newest_only and await tickets.exists(later):
        raise rules.tickets.BadTicket
    return ticket


def _good(purpose: str, secret: str) -> dict[str, Any]:
    return {"purpose": purpose, "secret": hash_of(secret), "used_at": None, "expires_at": {"$gt": now()}}
