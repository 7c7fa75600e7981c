"""One's phone: a number that a code proved, and signing in by a code to it."""

from contextlib import suppress
from datetime import timedelta

from msingi.kit import audit, sealing, sms
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import AlreadyExists, Stale
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import codes, defence, letters, sessions, texts
from msingi.products.accounts.actions.sessions import Opened
from msingi.products.accounts.models.codes import Code
from msingi.products.accounts.models.people import Account, accounts, phone_key, with_phone
from msingi.products.accounts.models.sessions import Kind
from msingi.products.accounts.rules.visitors import Visitor


async def ask(actor: Actor, text: str, visitor: Visitor) -> None:
    """Send a code to the number that is to be one's own. Whether it is somebody's is decided when the code is shown.

    Raises QuotaExceeded.
    """
    phone = sms.number_of(text)
    await texts.check_caller(visitor)
    account = await queries.people.me(actor)
    known = await queries.people.account_by_phone(phone)
    if (known is None or known.id != account.id) and await texts.may_text(phone):
        await _ask(account, phone)


@atomic
async def _ask(account: Account, phone: str) -> None:
    issued = await codes.issue("verify", account.id, _sealed(account.id, phone))
    await texts.write_code(phone, issued.digits, account.language, issued.code.expires_at)


async def verify(actor: Actor, digits: str) -> Account:
    """Show the code: the number is one's own. Raises BadTicket, PhoneTaken."""
    code = await codes.tried("verify", actor.id, digits)
    if code is None:
        raise rules.tickets.BadTicket
    try:
        return await _verify(actor, code)
    except Stale:
        raise rules.tickets.BadTicket from None
    except AlreadyExists:
        raise rules.addresses.PhoneTaken from None


@atomic
async def _verify(actor: Actor, code: Code) -> Account:
    await codes.use(code)
    phone = _phone_in(code)
    long_ago = {"phone_key": phone_key(phone), "phone_at": {"$lte": now() - rules.addresses.NUMBER_KEPT}}
    await accounts.change_many(long_ago, {"$set": with_phone(None)})  # who had it before
    await audit.note("accounts.phone_verified", actor=actor, about=actor.id)
    return await accounts.change(actor.id, {"$set": with_phone(phone)})


@atomic
async def remove(actor: Actor) -> None:
    """Have no number any more."""
    await audit.note("accounts.phone_removed", actor=actor, about=actor.id)
    await accounts.change(actor.id, {"$set": with_phone(None)})


async def sign_in(text: str, digits: str, kind: Kind, visitor: Visitor) -> Opened:
    """Open a session for who has the phone. Raises BadCode, TooManyTries, SignInLocked, AccountDisabled;
    and SecondFactorNeeded, as any sign-in.

    New codes bring no new tries: a number has a door, as an address does.
    """
    phone = sms.number_of(text)
    account = await queries.people.account_by_phone(phone)
    async with defence.one_try(phone, account, visitor, rules.defence.OF_NUMBER):
        code = await codes.tried("sign_in", letters.mark_of(phone), digits)
        if code is None or account is None:
            raise rules.addresses.BadCode
    try:
        await codes.use(code)
    except Stale:
        raise rules.addresses.BadCode from None
    await _note_use(account)
    return await sessions.let_in(account, kind, visitor, ["sms"])


async def _note_use(account: Account) -> None:
    """The number is theirs still. Noted once a day."""
    if account.phone_at is None or now() - account.phone_at > timedelta(days=1):
        with suppress(Stale):
            await _keep(account)


@guarded
async def _keep(account: Account) -> None:
    await accounts.change(account.id, {"$set": {"phone_at": now()}}, {"phone_key": account.phone_key})


def _sealed(account_id: str, phone: str) -> bytes:
    return sealing.seal(sealing.key_for("accounts.addresses"), phone.encode(), _place(account_id))


def _phone_in(code: Code) -> str:
    return sealing.unseal(sealing.key_for("accounts.addresses"), code.phone, _place(code.whose)).decode()


def _place(account_id: str) -> str:
    return f"accounts/codes/{account_id}/phone"
