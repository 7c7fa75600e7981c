"""Sessions: opened by signing in, carried on by refresh tokens that are used once, ended for all processes at once."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from msgspec import Struct, structs

from msingi.kit import audit, revocations, sealing, state, tokens
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import InvalidFields, NotFound, Stale
from msingi.kit.ids import new_id
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts import hashing, queries, rules
from msingi.products.accounts.actions import defence, known_devices, people, proofs, signing_keys
from msingi.products.accounts.believed import Believed
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.models.sessions import Kind, Session, sessions
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.sessions import SignIn
from msingi.products.accounts.session_secrets import (
    RefreshToken,
    hash_of,
    new_cookie,
    new_refresh_token,
    read_refresh_token,
    session_in_cookie,
)

NOTED = timedelta(minutes=1)  # the use of a cookie is noted once in this time
ENDED_AT_ONCE = 100  # sessions in one transaction
log = structlog.get_logger("accounts")


class Opened(Struct, frozen=True):
    """A session with its secret in the clear, which nobody can tell a second time: a refresh token or a cookie."""

    session: Session
    account: Account
    secret: str
    device: str = ""  # the cookie by which the device is known when it comes again

    @property
    def expires_in(self) -> int:
        """Seconds until it ends if it is not used again."""
        return int((self.session.idle_at - now()).total_seconds())

    @property
    def lasts(self) -> int:
        """Seconds until it ends whatever happens."""
        return int((self.session.ends_at - now()).total_seconds())


# ---- signing in


async def sign_in(form: SignIn, visitor: Visitor) -> Opened:
    """Open a session for who knows the password.

    Raises WrongCredentials, TooManyTries, SignInLocked, EmailUnverified, AccountDisabled, Busy. The work is the same
    whether or not there is such an account.
    """
    hashing.check_room()
    address = _address(form.email)
    account = await queries.people.account_by_email(address)
    async with defence.one_try(address or form.email, account, visitor):
        known = await hashing.fits(account.password if account else None, form.password)
        if account is None or not known:
            log.info("sign_in_refused", account=account.id if account else None)
            raise rules.sessions.WrongCredentials
    if hashing.is_outdated(account.password):
        with suppress(Stale):
            await people.hash_anew(account, await hashing.hashed(form.password))
    return await let_in(account, form.session, visitor, ["pwd"])


async def let_in(account: Account, kind: Kind, visitor: Visitor, methods: list[str]) -> Opened:
    """Open a session for who proved to be this person by `methods` (amr of RFC 8176): every way in ends here.

    Raises AccountDisabled, EmailUnverified; SecondFactorNeeded, whose ticket is a write of its own: call it outside of
    any unit, unless `methods` hold `mfa`.
    """
    if account.disabled:
        raise rules.people.AccountDisabled
    if state.part(AccountsSettings).verifies and not account.email_verified:
        raise rules.addresses.EmailUnverified
    if needed := await proofs.needed(account, kind, methods):
        raise needed
    return await _enter(account, kind, visitor, methods)


@atomic
async def _enter(account: Account, kind: Kind, visitor: Visitor, methods: list[str]) -> Opened:
    device = await known_devices.remember(account, visitor)
    opened = await open_session(account, kind, visitor, methods, device=device.id)
    return structs.replace(opened, device=device.cookie)


def _address(text: str) -> str:
    """The address as it is kept; what is no address belongs to nobody, and that is found out at the same cost."""
    try:
        return rules.people.email_of(text)
    except InvalidFields:
        return ""


@atomic
async def open_session(account: Account, kind: Kind, visitor: Visitor, methods: list[str], **special: Any) -> Opened:
    """A new session, under an id that nobody knew before. `special` are further fields of it."""
    id, at = new_id(), now()
    secret = new_cookie(id) if kind == "cookie" else new_refresh_token(id, 0).text
    idle_at, ends_at = rules.sessions.ends_of(account.roles, at, at)
    usual = {"proven_at": at, "idle_at": idle_at, "ends_at": ends_at}
    session = Session(
        id=id,
        account=account.id,
        kind=kind,
        epoch=account.epoch,
        current=hash_of(secret),
        methods=methods,
        user_agent=visitor.user_agent,
        address=visitor.address,
        created_at=at,
        last_used_at=at,
        **(usual | special),
    )
    actor = Actor(id=account.id, session=id, acting=session.acting)
    await audit.note("accounts.signed_in", actor=actor, about=account.id, methods=methods, client=session.client)
    log.info("session_opened", account=account.id, session=id, kind=kind)
    return Opened(await sessions.add(session), account, secret)


async def access_token(opened: Opened) -> str:
    """An access token of this session, which it does not outlive."""
    actor = actor_of(opened.session, opened.account)
    lifetime = min(tokens.LIFETIME, opened.lasts)
    return tokens.token_for(actor, await signing_keys.signing_key(), lifetime=lifetime)


def actor_of(session: Session, account: Account) -> Actor:
    """Whom a session stands for. A program of others carries none of the person's roles, hence no permission."""
    return Actor(
        id=account.id,
        name=account.name,
        roles=frozenset(account.roles) if session.scopes is None else frozenset(),
        session=session.id,
        version=account.token_version,
        signed_in_at=int(session.proven_at.timestamp()),
        expires_at=int(min(session.idle_at, session.ends_at).timestamp()),
        methods=frozenset(session.methods),
        acting=session.acting,
        client=session.client,
        scopes=None if session.scopes is None else frozenset(session.scopes),
    )


# ---- refreshing


async def refresh(text: str, client: str = "") -> Opened:
    """The session with its next refresh token; the one shown is used up. Raises BadRefreshToken.

    One that was given to somebody else's program (`client`) is good only for that program.

    The immediate parent of the newest token gets that very one again while its answer may have been lost. Any other
    token from before the newest is in two hands: the session ends.
    """
    shown = read_refresh_token(text)
    if shown is None:
        raise rules.sessions.BadRefreshToken
    session, account = await _alive(shown.session)
    if session.client != client:
        raise rules.sessions.BadRefreshToken
    if rules.sessions.is_current(session, shown.hash):
        with suppress(Stale):
            return await _rotate(session, account, shown)
        session, account = await _alive(shown.session)  # somebody was faster
    if rules.sessions.is_lost_answer(session, shown.hash, now()):
        return Opened(session, account, _child_of(session, shown))
    if shown.generation < session.generation:
        log.warning("refresh_token_replayed", account=account.id, session=session.id)
        await end(session, "accounts.refresh_replayed")
    raise rules.sessions.BadRefreshToken


async def _alive(session_id: str) -> tuple[Session, Account]:
    try:
        return await queries.sessions.session_and_account(session_id)
    except NotFound:
        raise rules.sessions.BadRefreshToken from None


@guarded
async def _rotate(session: Session, account: Account, shown: RefreshToken) -> Opened:
    at = now()
    child = new_refresh_token(session.id, session.generation + 1)
    idle_at, ends_at = rules.sessions.ends_of(account.roles, session.created_at, at)
    after = await sessions.change(
        session.id,
        {
            "$set": {
                "generation": child.generation,
                "current": child.hash,
                "previous": shown.hash,
                "previous_at": at,
                "child": sealing.seal(_key_of(shown), child.text.encode(), _place(session)),
                "last_used_at": at,
                "idle_at": min(idle_at, session.ends_at),
                "ends_at": min(ends_at, session.ends_at),
            }
        },
        {"generation": session.generation, "current": shown.hash, "ended_at": None},
    )
    return Opened(after, account, child.text)


def _child_of(session: Session, shown: RefreshToken) -> str:
    return sealing.unseal(_key_of(shown), session.child or b"", _place(session)).decode()


def _key_of(shown: RefreshToken) -> sealing.Key:
    """Whoever has the database has no parent token, hence no way to its child."""
    return sealing.key_from(shown.text.encode(), "accounts.child")


def _place(session: Session) -> str:
    return f"accounts/sessions/{session.id}/child"


# ---- ending


@atomic
async def end(session: Session, noted: str = "accounts.session_ended", *, by: Actor | None = None) -> None:
    """End a session: its secret is good for nothing, and no process believes its access tokens. Twice is once.

    `by` is who does it, if it is not the person.
    """
    with suppress(Stale):
        await sessions.change(session.id, {"$set": {"ended_at": now()}}, {"ended_at": None})
        outcome: audit.Outcome = "refused" if noted == "accounts.refresh_replayed" else "done"
        who = by or session.account
        await audit.note(noted, actor=who, about=session.account, outcome=outcome, ended=session.id)
    await revocations.revoke(actor=session.account, session=session.id)


async def sign_out(actor: Actor) -> None:
    """End the session under way."""
    session = await sessions.find({"_id": actor.session, "account": actor.id})
    if session is not None:
        await end(session, "accounts.signed_out")
    else:
        await _disown(actor)


@atomic
async def _disown(actor: Actor) -> None:
    await revocations.revoke(actor=actor.id, session=actor.session)


@atomic
async def end_all(account_id: str, actor: Actor) -> None:
    """End all of somebody's sessions at once, however many there are. Raises Stale, NotFound."""
    account = await accounts.get(account_id)
    step = {"$inc": {"token_version": 1, "epoch": 1}}
    after = await accounts.change(account_id, step, {"epoch": account.epoch})
    await revocations.revoke(actor=account_id, below=after.token_version)
    await audit.note("accounts.sessions_ended", actor=actor, about=account_id)


async def end_others(actor: Actor) -> None:
    """End all of the actor's sessions but the one under way, however many somebody opened."""
    while await _end_some(actor):
        pass


@atomic
async def _end_some(actor: Actor) -> int:
    found = await queries.sessions.other_sessions(actor, limit=ENDED_AT_ONCE)
    for session in found:
        await end(session)
    return len(found)


# ---- cookies


class _Believed(Believed):
    """Cookies that this process looked up a moment ago."""


async def identify_cookie(value: str) -> Actor | None:
    """Who shows this session cookie. What was revoked since it was looked up is looked up again."""
    return state.part(_Believed).find(hash_of(value)) or await identify_cookie_anew(value)


async def identify_cookie_anew(value: str) -> Actor | None:
    """The same, whatever this process believes: its session may have been proved once more in another one."""
    believed, digest = state.part(_Believed), hash_of(value)
    believed.forget(digest)
    session_id = session_in_cookie(value)
    if session_id is None:
        return None
    try:
        session, account = await queries.sessions.session_and_account(session_id)
    except NotFound:
        return None
    if not rules.sessions.is_current(session, digest):
        return None
    return believed.keep(digest, actor_of(await _noted(session, account), account))


async def _noted(session: Session, account: Account) -> Session:
    """The session with its use noted, which moves its idle end."""
    at = now()
    if at - session.last_used_at < NOTED:
        return session
    try:
        return await _note(session, account)
    except Stale:
        return session


@guarded
async def _note(session: Session, account: Account) -> Session:
    at = now()
    idle_at, ends_at = rules.sessions.ends_of(account.roles, session.created_at, at)
    return await sessions.change(
        session.id,
        {
            "$set": {
                "last_used_at": at,
                "idle_at": min(idle_at, session.ends_at),
                "ends_at": min(ends_at, session.ends_at),
            }
        },
        {"ended_at": None, "last_used_at": session.last_used_at},
    )
