"""Proving who one is: the second step of signing in, signing in with a passkey, and once more within a session."""

from msingi.kit import audit, revocations
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import SignInFirst
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts import ceremonies, hashing, queries, rules
from msingi.products.accounts.actions import proofs, sessions, tickets, tries
from msingi.products.accounts.actions.proofs import LIFETIME, SECOND_STEP, Shown
from msingi.products.accounts.actions.sessions import Opened
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.models.sessions import Kind
from msingi.products.accounts.models.sessions import sessions as kept_sessions
from msingi.products.accounts.models.tickets import Ticket
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.factors import PasskeySignIn, SecondFactor, StepUp

PASSKEY_SIGN_IN = "passkey_sign_in"
STEP_UP = "step_up"
WRONG = (rules.people.WrongPassword, rules.factors.WrongCode, rules.factors.BadPasskey)


# ---- signing in, second step


async def kind_of(ticket: str) -> Kind:
    """What kind of session this ticket of a first step opens. Raises BadTicket."""
    kind: Kind = (await tickets.look_at(SECOND_STEP, ticket)).facts["kind"]
    return kind


async def finish_sign_in(form: SecondFactor, visitor: Visitor) -> Opened:
    """Open the session whose first step gave the ticket; a wrong proof leaves the ticket as it is.

    Raises BadTicket, AccountDisabled, and what `proofs.check` does.
    """
    ticket = await tickets.look_at(SECOND_STEP, form.ticket)
    account = await _account_of(ticket)
    return await _enter(form.ticket, account, await proofs.check(account, form, form.ticket), visitor)


async def _account_of(ticket: Ticket) -> Account:
    """Whose ticket it is. A password that was changed meanwhile voids it."""
    account = await accounts.get(ticket.account)
    if account.disabled:
        raise rules.people.AccountDisabled
    if account.epoch != ticket.facts["epoch"]:
        raise rules.tickets.BadTicket
    return account


@atomic
async def _enter(secret: str, account: Account, shown: Shown, visitor: Visitor) -> Opened:
    """All at once, so that of many who show the same one enters."""
    ticket = await tickets.redeem(SECOND_STEP, secret)
    await shown.use()
    methods = [*ticket.facts["methods"], *shown.methods]
    return await sessions.let_in(account, ticket.facts["kind"], visitor, methods)


# ---- signing in with a passkey alone


@guarded
async def begin_passkey_sign_in() -> tickets.Issued:
    """A ticket whose challenge any passkey of this site may answer: nobody says who they are."""
    return await tickets.issue(PASSKEY_SIGN_IN, LIFETIME)


async def sign_in_with_passkey(form: PasskeySignIn, visitor: Visitor) -> Opened:
    """Open a session for who holds the passkey. Raises BadTicket, BadPasskey, PasskeyCloned, AccountDisabled."""
    await tickets.look_at(PASSKEY_SIGN_IN, form.ticket)
    shown, passkey = await proofs.check_passkey(form.credential, form.ticket)
    return await _enter_with_passkey(form, passkey.account, shown, visitor)


@atomic
async def _enter_with_passkey(form: PasskeySignIn, account_id: str, shown: Shown, visitor: Visitor) -> Opened:
    await tickets.redeem(PASSKEY_SIGN_IN, form.ticket)
    await shown.use()
    return await sessions.let_in(await accounts.get(account_id), form.session, visitor, shown.methods)


# ---- once more within a session


async def options(actor: Actor) -> tuple[list[str], tickets.Issued | None, dict[str, object]]:
    """What the actor can prove themselves with now; and if that is a passkey, a ticket and what the browser needs."""
    ways = await queries.factors.ways(actor.id)
    has_password = (await accounts.get(actor.id)).password != ""
    # Without a password a code alone proves too little; whoever comes by a provider comes that way once more.
    methods = ["password", *ways] if has_password else [way for way in ways if way == "passkey"]
    if "passkey" not in ways:
        return methods, None, {}
    issued = await _issue(actor)
    return methods, issued, ceremonies.options_to_show(await queries.factors.my_passkeys(actor), issued.secret)


@guarded
async def _issue(actor: Actor) -> tickets.Issued:
    return await tickets.issue(STEP_UP, LIFETIME, account=actor.id)


async def step_up(actor: Actor, form: StepUp) -> Opened:
    """Note in the session under way that its person just proved who they are.

    Who holds a stolen session does not get to guess; the owner, in another one, is not kept out by that. Raises
    ProofMissing, WrongPassword, what `proofs.check` does, BadTicket, TooManyTries, Busy.
    """
    async with tries.guess(f"step up {actor.session}", rules.defence.OF_DOOR, *WRONG):
        return await _proved(actor, form)


async def _proved(actor: Actor, form: StepUp) -> Opened:
    account = await accounts.get(actor.id)
    if form.credential is not None:
        return await _with_passkey(actor, account, form)
    if form.password is None:
        raise rules.factors.ProofMissing(wanted="password, or credential")
    if not await hashing.fits(account.password, form.password):
        await audit.note("accounts.step_up_refused", actor=actor, about=actor.id, outcome="refused", method="password")
        raise rules.people.WrongPassword
    has_factor = await queries.factors.ways(account.id)
    shown = await proofs.check(account, form, "") if has_factor else None
    return await _step_up(actor, ["pwd"], shown, None)


async def _with_passkey(actor: Actor, account: Account, form: StepUp) -> Opened:
    secret = form.ticket or ""
    ticket = await tickets.look_at(STEP_UP, secret)
    if ticket.account != actor.id:
        raise rules.tickets.BadTicket
    return await _step_up(actor, [], await proofs.check(account, form, secret), secret)


@atomic
async def _step_up(actor: Actor, methods: list[str], shown: Shown | None, ticket: str | None) -> Opened:
    if ticket is not None:
        await tickets.redeem(STEP_UP, ticket)
    if shown is not None:
        await shown.use()
    proved = [*methods, *(shown.methods if shown else [])]
    opened = await prove(actor, proved)
    await audit.note("accounts.stepped_up", actor=actor, about=actor.id, methods=proved)
    return opened


@atomic
async def prove(actor: Actor, methods: list[str], *, end_others: bool = False) -> Opened:
    """Note in the session under way that its person just proved who they are by these methods.

    With `end_others` all the account's other sessions end, also one that is just being opened, and so do all access
    tokens made before. Raises SignInFirst if the session is over.
    """
    account = await accounts.get(actor.id)
    alive = {"account": account.id, "epoch": account.epoch, "ended_at": None}
    if end_others:
        step = {"$inc": {"epoch": 1, "token_version": 1}}
        account = await accounts.change(account.id, step, {"epoch": account.epoch})
        await revocations.revoke(actor=account.id, below=account.token_version)
    session = await kept_sessions.find({"_id": actor.session, **alive})
    if session is None:
        raise SignInFirst
    proof = {"methods": sorted({*session.methods, *methods}), "proven_at": now(), "epoch": account.epoch}
    return Opened(await kept_sessions.change(session.id, {"$set": proof}, alive, SignInFirst), account, "")
