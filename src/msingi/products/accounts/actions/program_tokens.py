"""Tokens that a program gives back, or asks about."""

from msingi.kit import revocations, tokens
from msingi.kit.actors import Actor
from msingi.kit.errors import NotFound
from msingi.kit.state import settings
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import sessions
from msingi.products.accounts.models.clients import Client
from msingi.products.accounts.models.sessions import Session
from msingi.products.accounts.schemas.openid import TokenState
from msingi.products.accounts.session_secrets import read_refresh_token

NOT_GOOD = TokenState(active=False)


async def give_back(client: Client, token: str) -> None:
    """End what a token of this program belongs to; anything else is left alone and not told of (RFC 7009)."""
    session = await _session_of(token)
    if session is not None:
        if session.client == client.id:
            await sessions.end(session)
        return
    actor = await tokens.identify_token(token)
    if actor is not None and actor.client == client.id:
        await _end(actor)


@atomic
async def _end(actor: Actor) -> None:
    """What access tokens belong to: a session, or nothing but themselves."""
    session = await queries.sessions.session_of(actor)
    if session is not None:
        await sessions.end(session)
    else:
        await revocations.revoke(actor=actor.id, session=actor.session)


async def state_of(client: Client, token: str) -> TokenState:
    """Whether a token is good: of this program's own, and of all for who may look at any (RFC 7662).

    Raises UnauthorizedClient for a public program, to which anybody could pose as it.
    """
    if client.kind == "public":
        raise rules.openid.UnauthorizedClient
    found = await _state_of_refresh_token(token) if read_refresh_token(token) else await _state_of_access_token(token)
    may_look = rules.openid.LOOKING in client.scopes or found.client_id == client.id
    return found if may_look else NOT_GOOD


async def _state_of_access_token(token: str) -> TokenState:
    actor = await tokens.identify_token(token)
    if actor is None or revocations.is_revoked(actor) or await revocations.is_revoked_now(actor):
        return NOT_GOOD
    return TokenState(
        active=True,
        token_type="access_token",  # noqa: S106
        scope=None if actor.scopes is None else " ".join(sorted(actor.scopes)),
        client_id=actor.client or None,
        sub=actor.id,
        sid=actor.session,
        exp=actor.expires_at,
        iss=settings().issuer,
        aud=tokens.audience_of(settings().issuer),
    )


async def _state_of_refresh_token(token: str) -> TokenState:
    session = await _session_of(token)
    if session is None:
        return NOT_GOOD
    return TokenState(
        active=True,
        token_type="refresh_token",  # noqa: S106
        scope=None if session.scopes is None else " ".join(session.scopes),
        client_id=session.client or None,
        sub=session.account,
        sid=session.id,
        exp=int(min(session.idle_at, session.ends_at).timestamp()),
    )


async def _session_of(token: str) -> Session | None:
    """The session whose newest refresh token this is, while it is alive."""
    shown = read_refresh_token(token)
    if shown is None:
        return None
    try:
        session, _ = await queries.sessions.session_and_account(shown.session)
    except NotFound:
        return None
    return session if rules.sessions.is_current(session, shown.hash) else None
