"""Decisions about sessions: how long they live, and which secrets are still good for them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hmac import compare_digest

from msingi.kit.errors import Forbidden, SignInFirst
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.models.sessions import Session

BENIGN = timedelta(seconds=10)  # how long the parent of a refresh token may come again: its answer was lost


class WrongCredentials(SignInFirst):
    """This e-mail address and this password do not belong together."""


class BadRefreshToken(SignInFirst):
    """This refresh token is not, or no longer, good for anything; sign in again."""


class NoCookieSession(Forbidden):
    """Only a session that lives in a cookie has such tokens; with an access token none is needed."""


def proof_by_password(methods: Iterable[str], signed_in_at: int) -> dict[str, datetime]:
    """When a session is proven that goes on after its password was shown: now, unless it stands on two factors, of
    which that is only one; then it is as old as it was."""
    return {"proven_at": datetime.fromtimestamp(signed_in_at, UTC)} if "mfa" in methods else {}


def lifetimes(roles: Iterable[str]) -> tuple[timedelta, timedelta]:
    """How long a session lives without being used, and at the longest: shorter for who may do more."""
    if "admin" in roles:
        return timedelta(hours=1), timedelta(hours=12)
    return timedelta(days=14), timedelta(days=30)


def ends_of(roles: Iterable[str], opened_at: datetime, at: datetime) -> tuple[datetime, datetime]:
    """When a session that is used now ends idle, and when at the latest."""
    idle, longest = lifetimes(roles)
    ends_at = opened_at + longest
    return min(at + idle, ends_at), ends_at


def is_alive(session: Session, account: Account, at: datetime) -> bool:
    """Whether a session is still good for its account; a role that shortens it does so at once."""
    idle, longest = lifetimes(account.roles)
    return (
        session.ended_at is None
        and session.account == account.id
        and session.epoch == account.epoch
        and not account.disabled
        and at < min(session.idle_at, session.last_used_at + idle)
        and at < min(session.ends_at, session.created_at + longest)
    )


def is_current(session: Session, digest: bytes) -> bool:
    return compare_digest(session.current, digest)


def is_lost_answer(session: Session, digest: bytes, at: datetime) -> bool:
    """Whether this is the immediate parent of the newest token, within the time in which an answer gets lost."""
    if session.previous is None or session.previous_at is None:
        return False
    return compare_digest(session.previous, digest) and at - session.previous_at <= BENIGN
