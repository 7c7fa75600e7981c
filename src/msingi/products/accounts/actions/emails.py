"""Changing one's e-mail address: the new one is proved first, and the old one can have it undone for a week."""

from datetime import timedelta
from typing import Any

from msingi.kit import audit, revocations, sealing, state
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import AlreadyExists
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import letters, tickets
from msingi.products.accounts.actions.identities import drop_ways_in
from msingi.products.accounts.actions.verification import account_of, bearer_of, check_theirs
from msingi.products.accounts.models.people import Account, accounts, with_email
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.models.tickets import Ticket
from msingi.products.accounts.models.tickets import tickets as kept_tickets

GOOD_FOR = timedelta(hours=24)
UNDONE_FOR = timedelta(days=7)


async def ask(actor: Actor, text: str) -> None:
    """Write a letter with a link to the new address. Whether it is somebody's is decided when the link is followed.

    Raises QuotaExceeded.
    """
    email = rules.people.email_of(text)
    account = await queries.people.me(actor)
    await letters.refuse_beyond(f"accounts letters from:{actor.id}", state.part(AccountsSettings).letters_from_caller)
    if email != account.email and await letters.may_write_to(email):
        await _ask(actor, account, email)


@atomic
async def _ask(actor: Actor, account: Account, email: str) -> None:
    issued = await tickets.issue(
        "email_change",
        GOOD_FOR,
        account=account.id,
        newest_only=True,
        address=letters.mark_of(account.email),
        epoch=account.epoch,
        email=_sealed(account, email),
    )
    await audit.note("accounts.email_change_asked", actor=actor, about=account.id)
    await _write("email_change", account, email, link=letters.link_to("/email", issued.secret))


async def change(secret: str, password: str = "", actor: Actor | None = None) -> Account:
    """Take the new address. Of two accounts that want the same one gets it.

    Raises BadTicket, EmailTaken, and what `verification.check_theirs` does.
    """
    ticket = await tickets.look_at("email_change", secret)
    await check_theirs(ticket, await bearer_of(ticket), password, actor)
    try:
        return await _change(secret)
    except AlreadyExists:
        raise rules.people.EmailTaken from None


@atomic
async def _change(secret: str) -> Account:
    ticket = await tickets.redeem("email_change", secret)
    before = await bearer_of(ticket)
    after = await accounts.change(before.id, {"$set": _address(before, _email_in(ticket))})
    await audit.note("accounts.email_changed", actor=before.id, about=before.id)
    await _tell(after, before.email, undo=await _way_back(before) if before.email_verified else "")
    await _tell(after, after.email, undo="")
    return after


async def _way_back(before: Account) -> str:
    """The link to undo it, for an address that was proved: else somebody would come to an account of a stranger's."""
    issued = await tickets.issue("email_undo", UNDONE_FOR, account=before.id, email=_sealed(before, before.email))
    return letters.link_to("/email/undo", issued.secret)


async def undo(secret: str) -> Account:
    """Give the account its old address back, and take it from whoever changed it. Raises BadTicket, EmailTaken.

    Its sessions end, its password is void (a letter to the address sets a new one), and so is every way in that was
    opened since a week before the change: whoever took the address may have made themselves at home first. A second
    factor that is older stays, for who has nothing but the old mailbox.
    """
    try:
        return await _undo(secret)
    except AlreadyExists:
        raise rules.people.EmailTaken from None


@atomic
async def _undo(secret: str) -> Account:
    ticket = await tickets.redeem("email_undo", secret)
    before = await account_of(ticket)
    update = {"$set": _address(before, _email_in(ticket)) | {"password": ""}, "$inc": {"token_version": 1, "epoch": 1}}
    after = await accounts.change(before.id, update)
    await drop_ways_in(before.id, since=ticket.created_at - UNDONE_FOR)
    # What was asked or changed since is not the owner's doing.
    later = {"account": before.id, "purpose": {"$in": ["email_change", "email_undo"]}, "_id": {"$gt": ticket.id}}
    await kept_tickets.change_many({**later, "used_at": None}, {"$set": {"used_at": now()}})
    await revocations.revoke(actor=before.id, below=after.token_version)
    await audit.note("accounts.email_restored", actor=before.id, about=before.id)
    for address in {before.email, after.email}:
        await _tell(after, address, undo="")
    return after


def _address(account: Account, email: str) -> dict[str, Any]:
    return {**with_email(account.name, email), "email_verified": True}


async def _tell(account: Account, address: str, undo: str) -> None:
    """Tell an address what the account's address is now: whole to itself, in part to others."""
    shown = account.email if address == account.email else _in_part(account.email)
    await _write("email_changed_notice", account, address, email=shown, undo=undo, forgot=letters.link_to("/forgot"))


async def _write(template: str, account: Account, address: str, **context: Any) -> None:
    await letters.write(template, account, to=address, **context)


def _in_part(email: str) -> str:
    local, _, domain = email.partition("@")
    return f"{local[0]}…@{domain}"


def _sealed(account: Account, email: str) -> bytes:
    return sealing.seal(sealing.key_for("accounts.addresses"), email.encode(), _place(account.id))


def _email_in(ticket: Ticket) -> str:
    sealed = ticket.facts["email"]
    return sealing.unseal(sealing.key_for("accounts.addresses"), sealed, _place(ticket.account)).decode()


def _place(account_id: str) -> str:
    return f"accounts/tickets/{account_id}/email"
