"""Verifying an e-mail address: a letter with a link, which is good once, for a day, if none went after it."""

from datetime import timedelta

from msingi.kit import audit
from msingi.kit.auth import Actor
from msingi.kit.errors import NotFound
from msingi.kit.unit import atomic
from msingi.products.accounts import hashing, queries, rules
from msingi.products.accounts.actions import letters, tickets, tries
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.models.tickets import Ticket

GOOD_FOR = timedelta(hours=24)


async def ask(account: Account | None) -> None:
    """Write the letter, if the account's address is still to be verified and has not had too many lately."""
    if account is None or account.email_verified or account.disabled:
        return
    if await letters.may_write_to(account.email):
        await _write(account)


@atomic
async def _write(account: Account) -> None:
    issued = await tickets.issue(
        "verify", GOOD_FOR, account=account.id, newest_only=True, address=letters.mark_of(account.email)
    )
    await letters.write("verify", account, link=letters.link_to("/verify", issued.secret))


async def verify(secret: str, password: str = "", actor: Actor | None = None) -> Account:
    """Note that the address is its bearer's. Raises BadTicket, and what `check_theirs` does."""
    ticket = await tickets.look_at("verify", secret)
    await check_theirs(ticket, await owner_of(ticket), password, actor)
    return await _verify(secret)


async def check_theirs(ticket: Ticket, account: Account, password: str, actor: Actor | None) -> None:
    """Raise unless who shows a letter's ticket holds the account too: is signed in to it, or knows its password.

    The letter proves the address, this the account. Else an account that a stranger made with somebody's address, or
    would give that address to, would come to be confirmed by its owner's click, and stay open to the stranger. Raises
    ProofMissing, WrongPassword, TooManyTries, Busy; the ticket stays good.
    """
    if actor is not None and actor.in_person and actor.id == account.id:
        return
    if not password:
        raise rules.factors.ProofMissing(wanted="the account's password, or a sign-in to it")
    async with tries.guess(f"ticket {ticket.id}", rules.defence.OF_DOOR, rules.people.WrongPassword):
        if not await hashing.fits(account.password, password):
            raise rules.people.WrongPassword


@atomic
async def _verify(secret: str) -> Account:
    account = await owner_of(await tickets.redeem("verify", secret))
    await audit.note("accounts.email_verified", actor=account.id, about=account.id)
    if account.email_verified:
        return account
    return await accounts.change(account.id, {"$set": {"email_verified": True}})


async def owner_of(ticket: Ticket) -> Account:
    """Whose ticket it is, if the account still has the address that the ticket was sent to. Raises BadTicket."""
    account = await account_of(ticket)
    if account.disabled or ticket.facts["address"] != letters.mark_of(account.email):
        raise rules.tickets.BadTicket
    return account


async def bearer_of(ticket: Ticket) -> Account:
    """The same, if nobody changed the password since, or ended all sessions. Raises BadTicket."""
    account = await owner_of(ticket)
    if ticket.facts["epoch"] != account.epoch:
        raise rules.tickets.BadTicket
    return account


async def account_of(ticket: Ticket) -> Account:
    """Whose ticket it is, whatever address the account has now. Raises BadTicket."""
    try:
        return await queries.people.user(ticket.account)
    except NotFound:
        raise rules.tickets.BadTicket from None
