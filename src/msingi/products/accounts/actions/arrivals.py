"""What somebody who is not signed in asks for an address: the answer is the same whether or not the address is known.

It is so by its make: the request only leaves a sealed note of what was asked, and is answered before anybody has
looked for an account. The worker looks, and what it finds goes by letter to the one who owns the address.
"""

from base64 import b64decode, b64encode
from datetime import datetime

import msgspec
from msgspec import Struct

from msingi.kit import sealing, sms
from msingi.kit.errors import AlreadyExists
from msingi.kit.jobs import job
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import codes, defence, letters, people, resets, texts, verification
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.people import Registration

PLACE = "accounts/jobs/answer"


class Registering(Struct, frozen=True, tag=True):
    """Somebody wants this account."""

    account: Account


class Verifying(Struct, frozen=True, tag=True):
    """Somebody wants another letter to verify this address."""

    email: str


class Forgetting(Struct, frozen=True, tag=True):
    """Somebody forgot the password that goes with this address."""

    email: str


class Unlocking(Struct, frozen=True, tag=True):
    """Somebody wants to sign in again at an account's door that too many wrong passwords locked."""

    email: str


class Texting(Struct, frozen=True, tag=True):
    """Somebody wants to sign in by a code to this phone."""

    phone: str
    digits: str
    until: datetime


Asked = Registering | Verifying | Forgetting | Unlocking | Texting


async def register(form: Registration, visitor: Visitor) -> None:
    """Ask for an account. The work until the answer, a password's hash too, is the same for any address.

    Raises WeakPassword, Busy, QuotaExceeded.
    """
    await letters.check_caller(visitor)
    account = await people.drawn_up(form)
    account.language = visitor.language
    await _leave(Registering(account))


async def ask_to_verify(email: str, visitor: Visitor) -> None:
    """Ask for another letter to verify an address. Raises QuotaExceeded."""
    await letters.check_caller(visitor)
    await _leave(Verifying(rules.people.email_of(email)))


async def forget_password(email: str, visitor: Visitor) -> None:
    """Ask for a letter to set a new password. Raises QuotaExceeded."""
    await letters.check_caller(visitor)
    await _leave(Forgetting(rules.people.email_of(email)))


async def ask_to_unlock(email: str, visitor: Visitor) -> None:
    """Ask for another letter to open a locked door. Raises QuotaExceeded."""
    await letters.check_caller(visitor)
    await _leave(Unlocking(rules.people.email_of(email)))


async def ask_for_code(text: str, visitor: Visitor) -> None:
    """Ask for a code to sign in with. There is one for any number; it goes to a number that is somebody's.

    Raises QuotaExceeded.
    """
    phone = sms.number_of(text)
    await texts.check_caller(visitor)
    await _ask_for_code(phone)


@atomic
async def _ask_for_code(phone: str) -> None:
    issued = await codes.issue("sign_in", letters.mark_of(phone))
    await _leave(Texting(phone, issued.digits, issued.code.expires_at))


async def _leave(asked: Asked) -> None:
    sealed = sealing.seal(sealing.key_for("accounts.arrivals"), msgspec.msgpack.encode(asked), PLACE)
    await answer.later(b64encode(sealed).decode())


@job(retries=10, priority="high")
async def answer(sealed: str) -> None:
    """Do what was asked. Done twice, it writes a second letter at most."""
    plain = sealing.unseal(sealing.key_for("accounts.arrivals"), b64decode(sealed), PLACE)
    asked: Asked = msgspec.msgpack.decode(plain, type=Asked)
    match asked:
        case Registering(account):
            await _make(account)
        case Verifying(email):
            await verification.ask(await queries.people.account_by_email(email))
        case Forgetting(email):
            await resets.ask(await queries.people.account_by_email(email))
        case Unlocking(email):
            await defence.ask_to_unlock(await queries.people.account_by_email(email))
        case Texting():
            await _text(asked)


async def _text(asked: Texting) -> None:
    account = await queries.people.account_by_phone(asked.phone)
    if account is not None and not account.disabled and await texts.may_text(asked.phone):
        await texts.write_code(asked.phone, asked.digits, account.language, asked.until)


async def _make(account: Account) -> None:
    """Make the account, whose letter follows; if there is one with this address, write to its owner instead.

    That letter holds a link to choose a password: who opens it owns the address, whoever registered it first.
    """
    try:
        await people.add(account)
    except AlreadyExists:
        known = await queries.people.account_by_email(account.email)
        if known is not None and known.id != account.id:
            await resets.ask(known, "already_registered")
