"""Guessing passwords is slow and ends soon, and keeps nobody out of their own account (A3 to A5).

Who shows the cookie of a device that this account was let in with before has a door of their own: strangers who shut
the account's door by guessing do not shut that. Any address has a door, whether or not it is anybody's, so that none of
this tells who has an account.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from msgspec import Struct

from msingi.kit import audit, unit
from msingi.kit.errors import AlreadyExists, Busy, NotFound
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts import rules
from msingi.products.accounts.actions import known_devices, letters, tickets, tries
from msingi.products.accounts.models.defence import Door, doors
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.rules.addresses import BadCode
from msingi.products.accounts.rules.defence import IN_A_ROW, OF_ADDRESS, OF_DOOR, Patience, SignInLocked
from msingi.products.accounts.rules.sessions import WrongCredentials
from msingi.products.accounts.rules.visitors import Visitor

UNLOCK = "unlock"
GOOD_FOR = timedelta(hours=24)
log = structlog.get_logger("accounts")


class Knock(Struct, frozen=True):
    """Somebody at a door: `failures` is how often in a row the password was wrong there before."""

    door: str
    failures: int
    account: Account | None


@asynccontextmanager
async def one_try(
    address: str, account: Account | None, visitor: Visitor, patience: Patience = OF_DOOR
) -> AsyncIterator[None]:
    """Let one password for this address, or code for this number, be tried inside; WrongCredentials or BadCode raised
    there is what counts.

    Raises TooManyTries, SignInLocked, Busy.
    """
    device = await known_devices.recognised(account, visitor)
    knock = await _knock(device.id if device else letters.mark_of(address), account)
    at_doors = {knock.door: patience}
    if device is None:
        at_doors[f"from {visitor.address}"] = OF_ADDRESS
    tried = await tries.begin(at_doors)
    try:
        yield
    except (WrongCredentials, BadCode):
        await tries.was_wrong(tried)
        await _count(knock)
        raise
    except Busy:  # nobody looked at the password; whatever else ends this leaves the try counted
        await tries.was_right(tried)
        raise
    await tries.was_right(tried)
    if knock.failures:
        await _start_anew(knock)


async def _knock(door: str, account: Account | None) -> Knock:
    found = await doors.find({"_id": door})
    failures = found.failures if found else 0
    if failures >= IN_A_ROW:
        log.info("sign_in_refused", account=account.id if account else None, reason="locked")
        raise SignInLocked
    return Knock(door, failures, account)


async def _count(knock: Knock) -> None:
    try:
        await _note_wrong(knock)
    except AlreadyExists:  # somebody knocked there for the first time at the same moment
        await _note_wrong(knock)


@atomic
async def _note_wrong(knock: Knock) -> None:
    about = knock.account.id if knock.account else ""
    try:
        after = await doors.change(knock.door, {"$inc": {"failures": 1}, "$set": {"account": about}})
    except NotFound:
        after = await doors.add(Door(id=knock.door, failures=1, account=about))
    await audit.note("accounts.sign_in_refused", actor=None, about=about, outcome="refused")
    if after.failures == IN_A_ROW:
        await audit.note("accounts.sign_in_locked", actor=None, about=about, failures=after.failures)
        if knock.account is not None:
            await _write(knock.account)


@guarded
async def _start_anew(knock: Knock) -> None:
    await doors.change_many({"_id": knock.door}, {"$set": {"failures": 0}})


# ---- opening a locked door


async def ask_to_unlock(account: Account | None) -> None:
    """Write another letter with a link that opens the account's doors, if one of them is locked."""
    if account is None or account.disabled:
        return
    locked = await doors.exists({"account": account.id, "failures": {"$gte": IN_A_ROW}})
    if locked and await letters.may_write_to(account.email):
        await _write_again(account)


@atomic
async def _write_again(account: Account) -> None:
    await _write(account)


async def _write(account: Account) -> None:
    issued = await tickets.issue(UNLOCK, GOOD_FOR, account=account.id, newest_only=True)
    await letters.write(
        "sign_in_locked", account, link=letters.link_to("/unlock", issued.secret), forgot=letters.link_to("/forgot")
    )


@atomic
async def unlock(secret: str) -> None:
    """Show the ticket of the letter: the account's doors are open again. Raises BadTicket."""
    ticket = await tickets.redeem(UNLOCK, secret)
    account = await accounts.find({"_id": ticket.account})
    if account is None:
        raise rules.tickets.BadTicket
    await open_doors(account)
    await audit.note("accounts.sign_in_unlocked", actor=account.id, about=account.id)


@atomic
async def open_doors(account: Account) -> None:
    """Forget all wrong passwords at the account's doors: its owner has shown to be there in another way."""
    shut = [door.id for door in await doors.many({"account": account.id})]
    await doors.remove_many({"_id": {"$in": shut}})
    at_doors = [*shut, letters.mark_of(account.email)]
    unit.after_commit(lambda: tries.forget(at_doors))
