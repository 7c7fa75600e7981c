"""Decisions only: no database, no clock, no await."""

import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any

from email_validator import EmailNotValidError, validate_email

from msingi.kit.errors import Conflict, Forbidden, Invalid, InvalidFields, SignInFirst
from msingi.products.accounts.models import Account, Role, Session

BENIGN = timedelta(seconds=10)  # how long the parent of a refresh token may come again: its answer was lost


class EmailTaken(Conflict):
    """There is an account with this e-mail address already."""


class WrongCredentials(SignInFirst):
    """This e-mail address and this password do not belong together."""


class AccountDisabled(Forbidden):
    """This account is disabled."""


class BadRefreshToken(SignInFirst):
    """This refresh token is not, or no longer, good for anything; sign in again."""


class WrongPassword(Forbidden):
    """This is not your current password."""


class WeakPassword(Invalid):
    """This password is too easy to guess; choose a longer or a stranger one."""

    def __init__(self, reason: str, pointer: str) -> None:
        error = {"pointer": pointer, "in": "body", "message": MESSAGES[reason]}
        super().__init__(reason=reason, errors=[error])


class LastAdmin(Conflict):
    """Somebody has to remain who may look after the others."""


class NoCookieSession(Forbidden):
    """Only a session that lives in a cookie has such tokens; with an access token none is needed."""


MESSAGES = {
    "too_common": "it is on the lists that are tried first, or follows a pattern",
    "like_you": "it is made of your name, your address or the name of this service",
}


def email_of(text: str) -> str:
    """An address in the one spelling in which it is kept. Raises InvalidFields."""
    try:
        found = validate_email(text.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError as fault:
        error = {"pointer": "/email", "in": "body", "message": str(fault)}
        raise InvalidFields(errors=[error]) from None
    return found.normalized.lower()


def roles_of(asked: Iterable[Role]) -> list[Role]:
    """Roles in their order; everybody is a user."""
    return ["user", "admin"] if "admin" in asked else ["user"]


def is_acting_admin(account: Account) -> bool:
    return "admin" in account.roles and not account.disabled


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


def changes_of(account: Account, asked: dict[str, Any]) -> dict[str, Any]:
    """What of the fields asked for is different from how it is."""
    return {name: value for name, value in asked.items() if getattr(account, name) != value}


def normal(password: str) -> bytes:
    """A password as bytes: the same whether a keyboard composes its accents or not."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
