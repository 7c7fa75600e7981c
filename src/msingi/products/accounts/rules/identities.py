"""Decisions about people whom a provider vouches for: what it says of them, and which account that may open."""

from typing import Literal

from msgspec import Struct

from msingi.kit.errors import Conflict, Forbidden, Invalid, InvalidFields, NotFound, Problem
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.rules.people import email_of

Way = Literal["make", "link", "claim"]
LONGEST_NAME = 100
# The errors of RFC 6749 (4.1.2.1) and OpenID Connect (3.1.2.6); whatever else comes is not repeated to anybody.
KNOWN_REASONS = frozenset(
    {
        *("access_denied", "invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope"),
        *("server_error", "temporarily_unavailable", "interaction_required", "login_required", "consent_required"),
        *("account_selection_required", "invalid_grant", "invalid_client"),
    }
)


class UnknownProvider(NotFound):
    """Nobody signs in with that here."""


class WrongState(Problem):
    """This sign-in was not begun in this browser, or is used up, or took longer than ten minutes; begin again."""

    status = 400


class RefusedThere(Forbidden):
    """{provider} did not let you through ({reason}); begin again, or sign in another way."""


class ProviderUnreachable(Problem):
    """{provider} does not answer as it should right now; try again later, or sign in another way."""

    status = 502


class ProviderAnswerRefused(Problem):
    """What {provider} answered does not fit this sign-in, so it counts for nothing; begin again."""

    status = 502


class EmailNeeded(Invalid):
    """{provider} told us no e-mail address of yours; register with one, then connect {provider} to your account."""


class EmailInUse(Conflict):
    """There is an account with this e-mail address already; sign in as you usually do, then connect {provider}."""


class IdentityTaken(Conflict):
    """This account at {provider} is connected to somebody else's account here."""


class LastWayIn(Conflict):
    """Without it you could not sign in any more; set a password first."""


class HasPassword(Conflict):
    """There is a password already; change it instead."""


class Told(Struct, frozen=True):
    """What a provider says of a person. `email` is in our spelling, or empty; `signed_in_at` is when they proved there
    who they are, in seconds since 1970, or 0 if that is not said."""

    provider: str
    title: str
    issuer: str
    subject: str
    email: str = ""
    email_verified: bool = False
    name: str = ""
    signed_in_at: int = 0


def told_of(
    provider: str,
    title: str,
    issuer: str,
    subject: str,
    *,
    email: str | None,
    verified: bool,
    name: str | None,
    signed_in_at: int = 0,
) -> Told:
    """What was said, in our spelling.

    A verified address counts as such only if our spelling changed no more of it than the case of ASCII letters: the
    address of somebody else may become ours by folding (a Kelvin sign is a `k` in lower case).
    """
    kept = _address(email or "")
    proven = verified and kept != "" and kept == _ascii_lower((email or "").strip())
    return Told(provider, title, issuer, subject, kept, proven, _name(name or "", kept), signed_in_at)


def _address(text: str) -> str:
    try:
        return email_of(text)
    except InvalidFields:
        return ""


def _ascii_lower(text: str) -> str:
    return "".join(each.lower() if each.isascii() else each for each in text)


def _name(given: str, email: str) -> str:
    shown = "".join(each if each.isprintable() else " " for each in given)
    return " ".join(shown.split())[:LONGEST_NAME].strip() or email.partition("@")[0][:LONGEST_NAME]


def way_in(local: Account | None, told: Told) -> Way:
    """What becomes of an identity that nobody here has yet, given the account with its address. Raises EmailNeeded,
    EmailInUse.

    An account is opened only by an address that was proved on both sides. Where the provider proves it and nobody here
    ever did, whoever made the account does not own the address: it is taken from them.
    """
    if not told.email:
        raise EmailNeeded(provider=told.title)
    if local is None:
        return "make"
    if not told.email_verified:
        raise EmailInUse(provider=told.title)
    return "link" if local.email_verified else "claim"


def refusal(title: str, reason: str) -> RefusedThere:
    """The problem for an `error` that came back."""
    return RefusedThere(provider=title, reason=reason if reason in KNOWN_REASONS else "no reason given")
