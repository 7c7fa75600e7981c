"""Second factors set up, renewed and taken away. With the first one all other sessions end: whoever is signed in to an
account that has one has shown it."""

from typing import Any

from msgspec import Struct

from msingi.kit import audit, revocations
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import NotFound
from msingi.kit.unit import atomic
from msingi.products.accounts import ceremonies, queries, rules
from msingi.products.accounts.actions import letters_of_factors, proofs, step_up, tickets
from msingi.products.accounts.actions.identities import check_way_in
from msingi.products.accounts.actions.sessions import Opened
from msingi.products.accounts.models.factors import Factors, Passkey, factors, passkeys
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.schemas.factors import NewPasskey, PasskeyPatch

NEW_PASSKEY = "new_passkey"


class Added(Struct, frozen=True):
    """A second factor is there: recovery codes, if it is the first one, and the session that has proved it."""

    codes: list[str]
    opened: Opened
    passkey: Passkey | None = None


# ---- an authenticator app


@atomic
async def begin_totp(actor: Actor) -> tuple[Account, str]:
    """A new seed for an authenticator app. It counts once its first code was shown, and an old one until then."""
    account, seed = await accounts.get(actor.id), rules.factors.new_seed()
    await _have_factors(actor.id)
    await factors.change(actor.id, {"$set": {"totp_new": seed, "totp_new_at": now()}})
    return account, seed


async def _have_factors(account_id: str) -> Factors:
    return await factors.find({"_id": account_id}) or await factors.add(Factors(id=account_id))


@atomic
async def confirm_totp(actor: Actor, code: str) -> Added:
    """Let the new seed count. Raises NothingToConfirm, WrongCode."""
    kept, at = await factors.find({"_id": actor.id}), now()
    if kept is None or kept.totp_new is None or not rules.factors.still_waits(kept, at):
        raise rules.factors.NothingToConfirm
    step = rules.factors.step_of(kept.totp_new, code, at)
    if step is None:
        raise rules.factors.WrongCode
    is_first = not await queries.factors.ways(actor.id)
    update = {"totp": kept.totp_new, "totp_at": at, "totp_step": step, "totp_new": None, "totp_new_at": None}
    await factors.change(actor.id, {"$set": update}, {"totp_new_at": kept.totp_new_at})
    return await _added(actor, "totp_added", ["otp", "mfa"], is_first)


async def _added(actor: Actor, what: str, methods: list[str], is_first: bool, passkey: Passkey | None = None) -> Added:
    codes = await _new_codes(actor.id) if is_first else []
    opened = await step_up.prove(actor, methods, end_others=is_first)
    await _tell(actor, opened.account, what, **({"passkey": passkey.id} if passkey else {}))
    return Added(codes, opened, passkey)


async def _tell(actor: Actor, account: Account, what: str, **facts: Any) -> None:
    await audit.note(f"accounts.{what}", actor=actor, about=account.id, **facts)
    await letters_of_factors.tell(account, what)


@atomic
async def remove_totp(actor: Actor) -> None:
    """Take the authenticator app away. Raises NotFound if there is none."""
    kept = await factors.get(actor.id)
    if kept.totp is None:
        raise NotFound
    nothing: dict[str, Any] = {"totp": None, "totp_at": None, "totp_step": 0, "misses": []}
    await factors.change(actor.id, {"$set": nothing}, {"totp_at": kept.totp_at})
    await _let_codes_go(actor.id)
    await _tell(actor, await accounts.get(actor.id), "totp_removed")


# ---- recovery codes


@atomic
async def renew_codes(actor: Actor) -> list[str]:
    """New recovery codes; those from before are void. Raises NoSecondFactor."""
    if not await queries.factors.ways(actor.id):
        raise rules.factors.NoSecondFactor
    codes = await _new_codes(actor.id)
    await _tell(actor, await accounts.get(actor.id), "recovery_codes_renewed")
    return codes


async def _new_codes(account_id: str) -> list[str]:
    codes = rules.factors.new_codes()
    await _have_factors(account_id)
    await factors.change(account_id, {"$set": {"codes": [rules.factors.hash_of_code(code) for code in codes]}})
    return codes


async def _let_codes_go(account_id: str) -> None:
    """Recovery codes are for who has something to recover."""
    if not await queries.factors.ways(account_id) and await factors.exists({"_id": account_id}):
        await factors.change(account_id, {"$set": {"codes": []}})


# ---- passkeys


@atomic
async def begin_passkey(actor: Actor) -> tuple[Account, tickets.Issued]:
    """A ticket whose challenge a new passkey answers."""
    issued = await tickets.issue(NEW_PASSKEY, proofs.LIFETIME, account=actor.id)
    return await accounts.get(actor.id), issued


async def add_passkey(actor: Actor, form: NewPasskey) -> Added:
    """Keep a passkey that a browser just made. Raises BadTicket, BadPasskey, TooManyPasskeys, AlreadyExists."""
    ticket = await tickets.look_at(NEW_PASSKEY, form.ticket)
    if ticket.account != actor.id:
        raise rules.tickets.BadTicket
    return await _add_passkey(actor, form, ceremonies.check_made(form.credential, form.ticket))


@atomic
async def _add_passkey(actor: Actor, form: NewPasskey, made: ceremonies.Made) -> Added:
    await tickets.redeem(NEW_PASSKEY, form.ticket)
    others = await queries.factors.passkeys_of(actor.id)
    if len(others) >= rules.factors.PASSKEYS:
        raise rules.factors.TooManyPasskeys(most=rules.factors.PASSKEYS)
    is_first = not await queries.factors.ways(actor.id)
    passkey = Passkey(
        account=actor.id,
        name=rules.factors.label_of(form.name, len(others)),
        credential=made.credential,
        public_key=made.public_key,
        counter=made.counter,
        transports=made.transports,
        synced=made.synced,
    )
    await passkeys.add(passkey)
    return await _added(actor, "passkey_added", ["hwk", "mfa"], is_first, passkey)


@atomic
async def rename_passkey(passkey: Passkey, patch: PasskeyPatch) -> Passkey:
    """Give a passkey another name."""
    given = {name: value.strip() for name, value in patch.given().items()}
    return await passkeys.change(passkey.id, {"$set": given}) if given else passkey


@atomic
async def remove_passkey(passkey: Passkey, actor: Actor) -> None:
    """Take a passkey away: it signs nobody in any more. Raises Stale, LastWayIn.

    The account is touched first: of two who remove the last two ways in at the same moment one comes second.
    """
    account = await accounts.change(actor.id, {})
    await passkeys.remove(passkey)
    await check_way_in(account)
    await _let_codes_go(actor.id)
    await _tell(actor, account, "passkey_removed", passkey=passkey.id)


# ---- for somebody else


@atomic
async def reset(user_id: str, actor: Actor) -> None:
    """Take away all of somebody's second factors, who lost them; their sessions end too. Raises NotFound, AboveYou."""
    account = await accounts.get(user_id)
    rules.roles.check_reach(actor, *account.roles)
    if not await forget(user_id):
        return
    after = await accounts.change(user_id, {"$inc": {"token_version": 1, "epoch": 1}}, {"epoch": account.epoch})
    await revocations.revoke(actor=user_id, below=after.token_version)
    await _tell(actor, after, "factors_reset")


async def forget(account_id: str) -> int:
    """Remove all of an account's second factors, in the unit under way; how many there were."""
    gone = await factors.remove_many({"_id": account_id})
    return gone + await passkeys.remove_many({"account": account_id})
