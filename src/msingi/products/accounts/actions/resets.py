"""Setting a new password without the old one: by a link in a letter, good once, for half an hour."""

from datetime import timedelta

from msingi.kit import audit, revocations
from msingi.kit.events import emit
from msingi.kit.unit import atomic
from msingi.products.accounts import hashing
from msingi.products.accounts.actions import defence, known_devices, letters, tickets
from msingi.products.accounts.actions.identities import drop_ways_in
from msingi.products.accounts.actions.tickets import Issued
from msingi.products.accounts.actions.verification import bearer_of
from msingi.products.accounts.contract import PasswordChanged
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.passwords import check_password

GOOD_FOR = timedelta(minutes=30)


async def ask(account: Account | None, template: str = "reset") -> None:
    """Write a letter with such a link: `reset`, or `already_registered` to who registers a second time."""
    if account is None or account.disabled:
        return
    if await letters.may_write_to(account.email):
        await _write(account, template)


@atomic
async def _write(account: Account, template: str) -> None:
    issued = await _issued(account)
    await audit.note("accounts.password_reset_asked", actor=None, about=account.id, letter=template)
    await letters.write(template, account, link=letters.link_to("/reset", issued.secret))


async def _issued(account: Account) -> Issued:
    """A ticket that is void when the address or the password has changed since."""
    mark = letters.mark_of(account.email)
    return await tickets.issue(
        "reset", GOOD_FOR, account=account.id, newest_only=True, address=mark, epoch=account.epoch
    )


async def reset(secret: str, password: str) -> None:
    """Set a new password and end all sessions; signs nobody in. Raises BadTicket, WeakPassword, Busy.

    A password that will not do leaves the ticket as it was. The link came by the account's address, so that is
    verified.
    """
    account = await bearer_of(await tickets.look_at("reset", secret))
    check_password(password, email=account.email, name=account.name)
    await _reset(secret, await hashing.hashed(password))


@atomic
async def _reset(secret: str, password: str) -> None:
    account = await bearer_of(await tickets.redeem("reset", secret))
    update = {
        "$set": {"password": password, "email_verified": True},
        "$inc": {"token_version": 1, "epoch": 1},
    }
    after = await accounts.change(account.id, update)
    if not account.email_verified:  # whoever made the account without the address has no way in any more
        await drop_ways_in(account.id)
    await revocations.revoke(actor=account.id, below=after.token_version)
    await known_devices.forget(after)  # who had one with the old password has no door of their own any more
    await defence.open_doors(after)
    await emit(PasswordChanged(user_id=account.id))
    await audit.note("accounts.password_reset", actor=account.id, about=account.id)


async def tell_of_new_password(account: Account) -> None:
    """Write to the account's address that it has a new password."""
    await letters.write("password_changed", account, link=letters.link_to("/forgot"))
