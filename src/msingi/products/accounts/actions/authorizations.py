"""Authorization codes: given to a browser, redeemed once by the program that asked, and void with all that they gave
when they come twice."""

from datetime import timedelta
from hmac import compare_digest, digest
from typing import Any

import structlog
from msgspec import Struct, structs

from msingi.kit import audit, state, tokens
from msingi.kit.auth import Actor
from msingi.kit.clock import now, seconds
from msingi.kit.errors import NotFound
from msingi.kit.sealing import key_for
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import consents, sessions, signing_keys
from msingi.products.accounts.actions.tickets import issue, look_at, redeem
from msingi.products.accounts.models.clients import Client
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.models.sessions import Session
from msingi.products.accounts.models.sessions import sessions as kept_sessions
from msingi.products.accounts.models.tickets import Ticket, tickets
from msingi.products.accounts.rules.openid import Step, Wish
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.openid import IdClaims, TokenReply
from msingi.products.accounts.session_secrets import hash_of, session_in_cookie

CODE = "oauth_code"
LIVES = timedelta(seconds=rules.openid.CODE_LIVES)
SINCE_LIVES = 600  # seconds that somebody may take to prove anew who they are
log = structlog.get_logger("accounts")


# ---- in the browser


async def next_step(wish: Wish, actor: Actor | None) -> Step:
    """Whether to sign in, to ask the person, or to go on. Raises OAuthError."""
    granted = await queries.clients.granted_scopes(actor.id, wish.client.id) if actor else []
    return rules.openid.next_step(wish, actor.signed_in_at if actor else None, granted, seconds_now())


def seconds_now() -> int:
    return int(seconds())


@atomic
async def allow(wish: Wish, actor: Actor, *, asked: bool) -> str:
    """A code for the program; where the person was `asked` just now, their yes is remembered."""
    if asked and wish.third_party:
        await consents.remember(actor.id, wish.client, wish.scopes, actor)
    facts: dict[str, Any] = {
        "client": wish.client.id,
        "redirect_uri": wish.redirect_uri,
        "challenge": wish.challenge,
        "scopes": wish.scopes,
        "nonce": wish.nonce,
        "login": actor.session,
        "proven_at": actor.signed_in_at,
        "methods": sorted(actor.methods),
    }
    issued = await issue(CODE, LIVES, account=actor.id, **facts)
    await audit.note("accounts.program_let_in", actor=actor, about=wish.client.id, scopes=wish.scopes)
    return issued.secret


async def refuse(wish: Wish, actor: Actor) -> None:
    """Note that the person said no."""
    await audit.note("accounts.program_let_in", actor=actor, about=wish.client.id, outcome="refused")


def since_mark(client_id: str) -> str:
    """Goes along while somebody proves anew who they are, so that it is known afterwards that they did."""
    at = str(seconds_now())
    return f"{at}.{_signature(at, client_id)}"


def since_of(mark: str, client_id: str) -> int | None:
    """When they were sent to, if the mark is ours and not old."""
    at, _, signature = mark.partition(".")
    if not compare_digest(signature.encode(), _signature(at, client_id).encode()):
        return None
    return int(at) if seconds_now() - int(at) <= SINCE_LIVES else None


def _signature(at: str, client_id: str) -> str:
    return digest(key_for("accounts.authorize").raw, f"{at}|{client_id}".encode(), "sha256").hex()


# ---- at the token endpoint


class Login(Struct, frozen=True):
    """How and when the person proved who they are, for a session that a program opens."""

    session: str
    proven_at: int
    methods: list[str]
    nonce: str = ""


async def redeem_code(client: Client, code: str, redirect_uri: str, verifier: str, visitor: Visitor) -> TokenReply:
    """Tokens for a code. Raises InvalidGrant; one that comes twice ends what it gave the first time (RFC 9700)."""
    try:
        opened, login = await _redeem(client, code, redirect_uri, verifier, visitor)
    except rules.tickets.BadTicket:
        await _end_what_it_gave(code)
        raise rules.openid.InvalidGrant from None
    return await reply_of(client, opened, login)


@atomic
async def _redeem(
    client: Client, code: str, redirect_uri: str, verifier: str, visitor: Visitor
) -> tuple[sessions.Opened, Login]:
    ticket = await look_at(CODE, code)
    facts = ticket.facts
    fits = facts["client"] == client.id and facts["redirect_uri"] == redirect_uri
    if not (fits and rules.openid.proves(verifier, facts["challenge"])):
        raise rules.openid.InvalidGrant
    await redeem(CODE, code)
    login = Login(facts["login"], facts["proven_at"], facts["methods"], facts["nonce"])
    opened = await open_for(client, facts["scopes"], login, visitor)
    await tickets.change(ticket.id, {"$set": {"facts.gave": opened.session.id}})
    return opened, login


async def open_for(client: Client, scopes: list[str], login: Login, visitor: Visitor) -> sessions.Opened:
    """A session of a program, for who signed in here and still is, and did not think better of it.

    Raises InvalidGrant.
    """
    try:
        signed_in, account = await queries.sessions.session_and_account(login.session)
        if not client.first_party:
            await consents.use(account.id, client, scopes)
    except NotFound:
        raise rules.openid.InvalidGrant from None
    ends: dict[str, Any] = {}
    if "offline_access" not in scopes:  # no refresh token: it is over with the access token
        ends["idle_at"] = ends["ends_at"] = now() + timedelta(seconds=tokens.LIFETIME)
    return await sessions.open_session(
        account,
        "token",
        visitor,
        login.methods,
        proven_at=signed_in.proven_at,
        client=client.id,
        client_name=client.name,
        scopes=scopes,
        **ends,
    )


async def _end_what_it_gave(code: str) -> None:
    ticket = await _used(code)
    session = await kept_sessions.find({"_id": ticket.facts.get("gave", "")}) if ticket else None
    if ticket is None or session is None:
        return
    log.warning("authorization_code_replayed", client=session.client, session=session.id)
    await _end_replayed(session, ticket)


@atomic
async def _end_replayed(session: Session, ticket: Ticket) -> None:
    await sessions.end(session)
    about = ticket.facts["client"]
    await audit.note("accounts.code_replayed", actor=ticket.account, about=about, outcome="refused", session=session.id)


async def _used(code: str) -> Ticket | None:
    id = session_in_cookie(code)
    if id is None:
        return None
    return await tickets.find({"_id": id, "purpose": CODE, "secret": hash_of(code), "used_at": {"$ne": None}})


async def refresh(client: Client, text: str, scope: str | None) -> TokenReply:
    """The next tokens of a session that this program opened, for all of its scopes or fewer this time.

    Raises OAuthError.
    """
    try:
        opened = await sessions.refresh(text, client.id)
    except rules.sessions.BadRefreshToken:
        raise rules.openid.InvalidGrant from None
    still = set(opened.session.scopes or []) & set(client.scopes)
    scopes = rules.openid.narrowed(scope, still)
    narrow = structs.replace(opened, session=structs.replace(opened.session, scopes=scopes))
    reply = await reply_of(client, narrow, None)
    return structs.replace(reply, refresh_token=opened.secret if "offline_access" in still else None)


async def reply_of(client: Client, opened: sessions.Opened, login: Login | None) -> TokenReply:
    """What the program gets: with a login and `openid` an ID token, with `offline_access` a refresh token."""
    scopes = opened.session.scopes or []
    token = await sessions.access_token(opened)
    return TokenReply(
        access_token=token,
        token_type="Bearer",  # noqa: S106
        expires_in=tokens.LIFETIME,
        scope=" ".join(scopes),
        refresh_token=opened.secret if "offline_access" in scopes else None,
        id_token=await _id_token(client, opened, login, token) if login and "openid" in scopes else None,
    )


async def _id_token(client: Client, opened: sessions.Opened, login: Login, access_token: str) -> str:
    at = seconds_now()
    claims = IdClaims(
        iss=state.settings().base_url,
        sub=opened.account.id,
        aud=client.id,
        iat=at,
        exp=at + tokens.LIFETIME,
        auth_time=login.proven_at,
        amr=login.methods,
        sid=login.session,
        at_hash=rules.openid.half_hash(access_token),
        nonce=login.nonce,
    )
    return tokens.signed("JWT", claims, await signing_keys.signing_key())


# ---- a program by itself


async def own_token(client: Client, scope: str | None) -> TokenReply:
    """A token with which a service comes for itself, for a minute (security.md B11). Raises OAuthError."""
    if not client.service:
        raise rules.openid.UnauthorizedClient
    scopes = rules.openid.narrowed(scope, set(client.scopes) - set(rules.openid.IDENTITY))
    actor = Actor(
        id=client.id,
        name=client.name,
        roles=frozenset({"service"}),
        version=client.token_version,
        client=client.id,
        scopes=frozenset(scopes),
    )
    lifetime = rules.openid.SERVICE_LIVES
    token = tokens.token_for(actor, await signing_keys.signing_key(), lifetime=lifetime)
    return TokenReply(access_token=token, token_type="Bearer", expires_in=lifetime, scope=" ".join(scopes))  # noqa: S106


def claims_of(account: Account, scopes: frozenset[str] | None) -> dict[str, Any]:
    """What scopes allow to be told of a person; without any limit, all of it."""
    told: dict[str, Any] = {"sub": account.id}
    if scopes is None or "profile" in scopes:
        told |= {"name": account.name, "updated_at": int(account.updated_at.timestamp())}
    if scopes is None or "email" in scopes:
        told |= {"email": account.email, "email_verified": account.email_verified}
    return told
