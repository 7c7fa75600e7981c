"""Devices that an account was let in with before: a cookie knows them again, and of a new one a letter tells.

A browser keeps one secret for each account that signed in there. A secret that it brings along is believed for the
account it was made for and never taken over for another, so that nobody can plant one of theirs.
"""

import secrets

from msgspec import Struct

from msingi.kit import sealing
from msingi.kit.clock import now
from msingi.kit.unit import atomic
from msingi.products.accounts import rules
from msingi.products.accounts.actions import letters
from msingi.products.accounts.models.defence import KnownDevice, known_devices
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.session_secrets import hash_of

TOGETHER = 5  # accounts that take turns in one browser
SIGN = "."


class Remembered(Struct, frozen=True):
    """A device, and the cookie by which it is known from now on."""

    id: str
    cookie: str


async def recognised(account: Account | None, visitor: Visitor) -> KnownDevice | None:
    """The device that a visitor's cookie names, if this account was let in with it before.

    For nobody's account it looks as long.
    """
    if not visitor.device:
        return None
    shown = [hash_of(each) for each in _secrets_in(visitor.device)]
    return await known_devices.find({"account": account.id if account else "", "secret": {"$in": shown}})


def _secrets_in(cookie: str) -> list[str]:
    return cookie.split(SIGN)[:TOGETHER]


@atomic
async def remember(account: Account, visitor: Visitor) -> Remembered:
    """Know this device again from now on; if the account is new to it, and not new at all, a letter tells its owner."""
    device = await recognised(account, visitor)
    if device is not None:
        await known_devices.change(device.id, {"$set": {"shown": True, "seen_at": now()}})
        return Remembered(device.id, visitor.device)
    secret = secrets.token_urlsafe(32)
    cookie = SIGN.join([secret, *(each for each in _secrets_in(visitor.device) if each)][:TOGETHER])
    return Remembered((await _add(account, visitor, hash_of(secret))).id, cookie)


async def _add(account: Account, visitor: Visitor, secret: bytes) -> KnownDevice:
    like = sealing.blind("accounts.devices", f"{visitor.user_agent}\n{visitor.address}")
    forgetful = await known_devices.find({"account": account.id, "like": like, "shown": False})
    if forgetful is not None:  # a program without a memory: the same again, as far as one can see
        return await known_devices.change(forgetful.id, {"$set": {"secret": secret, "seen_at": now()}})
    if await known_devices.exists({"account": account.id}):
        await _tell(account, visitor)
    return await known_devices.add(KnownDevice(account=account.id, secret=secret, like=like, seen_at=now()))


async def _tell(account: Account, visitor: Visitor) -> None:
    await letters.write(
        "new_sign_in",
        account,
        at=now().strftime("%Y-%m-%d %H:%M UTC"),
        address=visitor.address,
        user_agent=rules.agents.called(visitor.user_agent),
        link=letters.link_to("/forgot"),
    )


@atomic
async def forget(account: Account) -> None:
    """Know none of the account's devices any more."""
    await known_devices.remove_many({"account": account.id})
