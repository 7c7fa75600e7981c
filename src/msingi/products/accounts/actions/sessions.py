"""Sessions: opened by signing in, carried on by refresh tokens that are used once, ended for all processes at once."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from msgspec import Struct

from msingi.kit import revocations, sealing, state, tokens
from msingi.kit.auth import Actor
from msingi.kit.clock import now, seconds
from msingi.kit.errors import InvalidFields, NotFound, Stale
from msingi.kit.ids import new_id
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts import hashing, queries, rules
from msingi.products.accounts.actions import people, signing_keys
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.models.sessions import Kind, Session, sessions
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
BELIEVED = 30.0  # seconds for which a process believes a cookie that it looked up
REMEMBERED = 20_000
log = structlog.get_logger("accounts")


class Opened(Struct, frozen=True):
    """A session with its secret in the clear, which nobody can tell a second time: a refresh token or a cookie."""

    session: Session
    account: Account
    secret: str

    @property
    def expires_in(self) -> int:
        """Seconds until it ends if it is not used again."""
        return int((self.session.idle_at - now()).total_seconds())


# ---- signing in


async def sign_in(form: SignIn, visitor: Visitor) -> Opened:
    """Open a session for who knows the password. Raises WrongCredentials, AccountDisabled, Busy.

    The work is the same whether or not there is such an account.
    """
    account = await queries.people.account_by_email(_address(form.email))
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

    Raises AccountDisabled.
    """
    if account.disabled:
        raise rules.people.AccountDisabled
    return await open_session(account, kind, visitor, methods)


def _address(text: str) -> str:
    """The address as it is kept; what is no address belongs to nobody, and that is found out at the same cost."""
    try:
        return rules.people.email_of(text)
    except InvalidFields:
        return ""


@guarded
async def open_session(account: Account, kind: Kind, visitor: Visitor, methods: list[str], **special: Any) -> Opened:
    """A new session, under an id that nobody knew before. `special` are further fields of it."""
    id, at = new_id(), now()
    secret = new_cookie(id) if kind == "cookie" else new_refresh_token(id, 0).text
    idle_at, ends_at = rules.sessions.ends_of(account.roles, at, at)
    session = Session(
        id=id,
        account=account.id,
        kind=kind,
        epoch=account.epoch,
        current=hash_of(secret),
        methods=methods,
        proven_at=at,
        user_agent=visitor.user_agent,
        address=visitor.address,
        device=visitor.device,
        created_at=at,
        last_used_at=at,
        idle_at=idle_at,
        ends_at=ends_at,
        **special,
    )
    log.info("session_opened", account=account.id, session=id, kind=kind)
    return Opened(await sessions.add(session), account, secret)


async def access_token(opened: Opened) -> str:
    """An access token of this session."""
    return tokens.token_for(actor_of(opened.session, opened.account), await signing_keys.signing_key())


def actor_of(session: Session, account: Account) -> Actor:
    """Whom a session stands for."""
    return Actor(
        id=account.id,
        name=account.name,
        roles=frozenset(account.roles),
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


async def refresh(text: str) -> Opened:
    """The session with its next refresh token; the one shown is used up. Raises BadRefreshToken.

    The immediate parent of the newest token gets that very one again while its answer may have been lost. Any other
    token from before the newest is in two hands: the session ends.
    """
    shown = read_refresh_token(text)
    if shown is None:
        raise rules.sessions.BadRefreshToken
    session, account = await _alive(shown.session)
    if rules.sessions.is_current(session, shown.hash):
        with suppress(Stale):
            return await _rotate(session, account, shown)
        session, account = await _alive(shown.session)  # somebody was faster
    if rules.sessions.is_lost_answer(session, shown.hash, now()):
        return Opened(session, account, _child_of(session, shown))
    if shown.generation < session.generation:
        log.warning("refresh_token_replayed", account=account.id, session=session.id)
        await end(session)
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
async def end(session: Session) -> None:
    """End a session: its secret is good for nothing, and no process believes its access tokens. Twice is once."""
    with suppress(Stale):
        await sessions.change(session.id, {"$set": {"ended_at": now()}}, {"ended_at": None})
    await revocations.revoke(actor=session.account, session=session.id)


async def sign_out(actor: Actor) -> None:
    """End the session under way."""
    session = await sessions.find({"_id": actor.session, "account": actor.id})
    if session is not None:
        await end(session)
    else:
        await _disown(actor)


@atomic
async def _disown(actor: Actor) -> None:
    await revocations.revoke(actor=actor.id, session=actor.session)


@atomic
async def end_others(actor: Actor) -> None:
    """End all of the actor's sessions but the one under way."""
    for session in await queries.sessions.other_sessions(actor):
        await end(session)


# ---- cookies


class _Believed:
    """Cookies that this process looked up a moment ago, by their hash: whose they are, and until when that holds."""

    def __init__(self) -> None:
        self.actors: dict[bytes, tuple[Actor, float]] = {}

    def start_over(self) -> None:
        """Believe nobody: for tests, which empty the collections."""
        self.actors.clear()


async def identify_cookie(value: str) -> Actor | None:
    """Who shows this session cookie. What was revoked since it was looked up is looked up again."""
    believed, digest = state.part(_Believed).actors, hash_of(value)
    actor, until = believed.get(digest, (None, 0.0))
    if actor is not None and seconds() < until and not revocations.is_revoked(actor):
        return actor
    believed.pop(digest, None)
    session_id = session_in_cookie(value)
    if session_id is None:
        return None
    try:
        session, account = await queries.sessions.session_and_account(session_id)
    except NotFound:
        return None
    if not rules.sessions.is_current(session, digest):
        return None
    actor = actor_of(await _noted(session, account), account)
    while len(believed) >= REMEMBERED:
        del believed[next(iter(believed))]
    believed[digest] = (actor, min(seconds() + BELIEVED, actor.expires_at))
    return actor


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
