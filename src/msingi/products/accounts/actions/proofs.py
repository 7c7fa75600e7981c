"""What somebody shows to prove who they are beside the password: looked at first, then used up with what it opens."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from msgspec import Struct

from msingi.kit import audit
from msingi.kit.clock import now
from msingi.kit.errors import Stale
from msingi.kit.ids import first_id_at, new_id
from msingi.kit.unit import guarded
from msingi.products.accounts import ceremonies, queries, rules
from msingi.products.accounts.actions import letters_of_factors, tickets
from msingi.products.accounts.models.factors import Factors, Passkey, factors, passkeys
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.models.sessions import Kind
from msingi.products.accounts.models.tickets import Ticket
from msingi.products.accounts.schemas.factors import Credential, SecondFactor, StepUp

SECOND_STEP = "second_factor"
LIFETIME = timedelta(minutes=5)


class Shown(Struct, frozen=True):
    """A proof that is good. `methods` are what it adds to a session; `use` uses it up, in the unit under way."""

    methods: list[str]
    use: Callable[[], Awaitable[Any]]


# ---- asking for it


async def needed(account: Account, kind: Kind, methods: list[str]) -> rules.factors.SecondFactorNeeded | None:
    """What to answer to who proved only one of their two factors; None if they have none, or proved two.

    The ticket that it holds stands for the first step. It is written by itself, so raise it outside of any unit.
    """
    if rules.factors.proves_two(methods):
        return None
    ways = await queries.factors.ways(account.id)
    if not ways:
        return None
    issued = await _issue(account, kind, methods)
    return await _problem(issued.ticket, issued.secret, ways)


async def needed_still(secret: str) -> rules.factors.SecondFactorNeeded:
    """The same once more, for a page that lost it. Raises BadTicket."""
    ticket = await tickets.look_at(SECOND_STEP, secret)
    return await _problem(ticket, secret, await queries.factors.ways(ticket.account))


async def _problem(ticket: Ticket, secret: str, ways: list[str]) -> rules.factors.SecondFactorNeeded:
    left = round((ticket.expires_at - now()).total_seconds())
    details: dict[str, Any] = {"ticket": secret, "methods": ways, "expires_in": left}
    if "passkey" in ways:
        mine = await queries.factors.passkeys_of(ticket.account)
        details["passkey"] = ceremonies.options_to_show(mine, secret)
    return rules.factors.SecondFactorNeeded(**details)


@guarded
async def _issue(account: Account, kind: Kind, methods: list[str]) -> tickets.Issued:
    return await tickets.issue(
        SECOND_STEP, LIFETIME, account=account.id, kind=kind, methods=methods, epoch=account.epoch
    )


# ---- looking at it


async def check(account: Account, form: SecondFactor | StepUp, secret: str) -> Shown:
    """The second factor that a form shows. `secret` is that of the ticket whose challenge a passkey answers.

    Raises ProofMissing, WrongCode, BadPasskey, PasskeyCloned, QuotaExceeded.
    """
    if form.credential is not None:
        return (await check_passkey(form.credential, secret, account))[0]
    if form.code is not None:
        return await _check_code(account, form.code)
    if form.recovery_code is not None:
        return await _check_recovery_code(account, form.recovery_code)
    raise rules.factors.ProofMissing(wanted="one of code, recovery_code and credential")


async def _check_code(account: Account, code: str) -> Shown:
    """A code of the authenticator app. Each try counts until it has proved right, so that parallel ones do too."""
    kept = await factors.find({"_id": account.id})
    if kept is None or kept.totp is None:
        raise await _refused(account, "totp")
    miss = new_id()
    await _count_miss(kept, miss)
    step = rules.factors.step_of(kept.totp, code, now())
    if step is None or step <= kept.totp_step:
        raise await _refused(account, "totp")

    async def use() -> None:
        meant = {"totp_at": kept.totp_at, "totp_step": {"$lt": step}}
        update = {"$set": {"totp_step": step}, "$pull": {"misses": miss}}
        await factors.change(account.id, update, meant, rules.factors.WrongCode)

    return Shown(["otp", "mfa"], use)


@guarded
async def _count_miss(kept: Factors, miss: str) -> None:
    """Take one of the tries of the window under way, of however many that ask at once. Raises QuotaExceeded."""
    most = rules.factors.MISSES
    long_ago = first_id_at(now() - rules.factors.WINDOW)
    room = {"$or": [{f"misses.{most - 1}": {"$exists": False}}, {"misses.0": {"$lt": long_ago}}]}
    update = {"$push": {"misses": {"$each": [miss], "$slice": -most}}}
    try:
        await factors.change(kept.id, update, room)
    except Stale:
        latest = await factors.get(kept.id)
        raise rules.factors.too_many_misses(latest.misses, now()) from None


async def _check_recovery_code(account: Account, code: str) -> Shown:
    digest = rules.factors.hash_of_code(code)
    if not await factors.exists({"_id": account.id, "codes": digest}):
        raise await _refused(account, "recovery_code")

    async def use() -> None:
        meant = {"codes": digest}
        after = await factors.change(account.id, {"$pull": {"codes": digest}}, meant, rules.factors.WrongCode)
        await audit.note("accounts.recovery_code_used", actor=account.id, about=account.id, left=len(after.codes))
        await letters_of_factors.tell(account, "recovery_code_used", left=len(after.codes))

    return Shown(["otp", "mfa"], use)


async def _refused(account: Account, method: str) -> rules.factors.WrongCode:
    """Note that a second factor was refused, and say so."""
    await audit.note(
        "accounts.second_factor_refused", actor=account.id, about=account.id, outcome="refused", method=method
    )
    return rules.factors.WrongCode()


# ---- passkeys


async def check_passkey(credential: Credential, secret: str, account: Account | None = None) -> tuple[Shown, Passkey]:
    """A passkey that answers the challenge of the ticket with this secret: of this account, or of whoever it names.

    Raises BadPasskey, PasskeyCloned.
    """
    passkey = await queries.factors.passkey_of_credential(ceremonies.id_of(credential))
    handle = ceremonies.handle_of(credential)
    if passkey is None or (account is not None and passkey.account != account.id):
        raise rules.factors.BadPasskey
    if handle != rules.factors.user_handle(passkey.account) and (account is None or handle is not None):
        raise rules.factors.BadPasskey
    counter = ceremonies.check_shown(credential, passkey, secret)
    if rules.factors.is_clone(passkey.counter, counter):
        raise await _cloned(passkey, counter)

    async def use() -> None:
        meant = {"counter": {"$lt": counter} if counter else 0}
        update = {"$set": {"counter": counter, "last_used_at": now()}}
        await passkeys.change(passkey.id, update, meant, rules.factors.PasskeyCloned)

    return Shown(["hwk", "mfa"], use), passkey


async def _cloned(passkey: Passkey, counter: int) -> rules.factors.PasskeyCloned:
    """Note that a passkey counted backwards, where its owner and the auditors see it, and say so."""
    await _mark_cloned(passkey)
    facts = {"passkey": passkey.id, "kept": passkey.counter, "shown": counter}
    await audit.note(
        "accounts.passkey_cloned", actor=passkey.account, about=passkey.account, outcome="refused", **facts
    )
    return rules.factors.PasskeyCloned()


@guarded
async def _mark_cloned(passkey: Passkey) -> None:
    await passkeys.change(passkey.id, {"$set": {"cloned_at": now()}})
