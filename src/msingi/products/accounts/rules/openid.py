"""Decisions of OAuth 2.1 and OpenID Connect: where a browser may be sent, what may be asked for, what proves what.

The name of a problem's class is the error code that the standards give it (RFC 6749, 8628, 9126; OpenID Connect Core).
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256, sha512
from hmac import compare_digest
from typing import Literal
from urllib.parse import urlencode

from msgspec import Struct

from msingi.kit.errors import Invalid, InvalidFields, Problem
from msingi.products.accounts.models.clients import Client

IDENTITY = ("openid", "profile", "email", "offline_access")
ASKING = "questions:ask"
ENDINGS = "revocations:read"
LOOKING = "tokens:introspect"
SERVING = (ASKING, ENDINGS, LOOKING)  # only for programs that come for themselves
CODE_LIVES = 60  # seconds
DEVICE_LIVES = 600
DEVICE_INTERVAL = 5  # seconds between two questions of a device
SERVICE_LIVES = 60  # seconds that a program's own token is good for
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels: no words by chance, and nothing to mix up with a digit
PRODUCT_SCOPE = re.compile(r"[a-z][a-z0-9_]{0,40}:(?:read|write)")
ADDRESS = re.compile(
    r"(?:https://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)|http://(?:127\.0\.0\.1|\[::1\]|localhost))"
    r"(?::\d{1,5})?(?:/[A-Za-z0-9._~:/@!$&()*+=%-]*)?(?:\?[A-Za-z0-9._~:/?@!$&()*+=%-]*)?",
    re.ASCII,
)
LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::\d{1,5})?((?:[/?].*)?)", re.ASCII)
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
PROMPTS = frozenset({"none", "login", "consent"})


# ---- what is told to a program, in the standards' words


class OAuthError(Problem):
    """The request will not do."""

    status = 400


class InvalidRequest(OAuthError):
    """The request is not whole: {reason}."""


class InvalidClient(OAuthError):
    """This program is not known here, or did not prove to be the one it says."""

    status = 401


class InvalidGrant(OAuthError):
    """This code or token is not, or no longer, good for this program."""


class UnauthorizedClient(OAuthError):
    """This program is not registered for that way of getting tokens."""


class UnsupportedGrantType(OAuthError):
    """There is no such way of getting tokens here."""


class UnsupportedResponseType(OAuthError):
    """Only response_type=code is given here."""


class InvalidScope(OAuthError):
    """A scope was asked for that there is not, or that this program may not have."""


class AccessDenied(OAuthError):
    """The person said no."""


class LoginRequired(OAuthError):
    """Nobody is signed in, or not recently enough, and prompt=none forbids to ask."""


class ConsentRequired(OAuthError):
    """The person has to be asked first, and prompt=none forbids it."""


class RequestNotSupported(OAuthError):
    """Parameters come in the query here, not in a request object."""


class RequestUriNotSupported(OAuthError):
    """Parameters come in the query here, not at an address."""


class AuthorizationPending(OAuthError):
    """The person has not answered yet."""


class SlowDown(OAuthError):
    """Ask less often: wait five seconds longer each time."""


class ExpiredToken(OAuthError):
    """Nobody typed the code in time; begin anew."""


# ---- what is told to a person, since there is nowhere to be sent


class CannotSendBack(Invalid):
    """The program that sent you here is not registered, or not with the address that it wants you sent back to."""

    status = 400


class WrongDeviceCode(Invalid):
    """No device waits with this code; look at it again, or begin anew on the device."""


# ---- clients


def check_redirect_uris(uris: Iterable[str], pointer: str) -> None:
    """Raise InvalidFields unless each could be sent to safely: https, or the machine the browser is on (RFC 8252)."""
    wrong = [(at, uri) for at, uri in enumerate(uris) if not ADDRESS.fullmatch(uri)]
    if wrong:
        message = "it wants https:// and a host, or http:// on 127.0.0.1, [::1] or localhost, without user or fragment"
        raise InvalidFields(
            errors=[{"pointer": f"{pointer}/{at}", "in": "body", "message": message} for at, _ in wrong]
        )


def check_scopes(scopes: Iterable[str], permissions: Collection[str], *, service: bool) -> None:
    """Raise InvalidFields for a scope that there is not, or that only a service may have.

    Some of the `permissions` that roles carry read like scopes (`audit:read`): no program gets one from a person.
    """
    wrong = [at for at, scope in enumerate(scopes) if not _is_scope(scope, permissions, service)]
    if wrong:
        errors = [{"pointer": f"/scopes/{at}", "in": "body", "message": "there is no such scope"} for at in wrong]
        raise InvalidFields(errors=errors)


def _is_scope(scope: str, permissions: Collection[str], service: bool) -> bool:
    if scope in SERVING:
        return service
    return scope in IDENTITY or (bool(PRODUCT_SCOPE.fullmatch(scope)) and scope not in permissions)


def is_powerful(client: Client) -> bool:
    """Whether it can do what no person let it do: ask nobody, or come for itself to what is the house's own."""
    return client.first_party or not set(SERVING).isdisjoint(client.scopes)


def check_kind(client: Client) -> None:
    """Raise InvalidFields for a service that could not keep a secret, or a program that nobody could come back to."""
    faults = []
    if client.service and client.kind == "public":
        faults.append({"pointer": "/kind", "in": "body", "message": "a service has a secret: it is confidential"})
    if not (client.redirect_uris or client.service or client.device):
        faults.append({"pointer": "/redirect_uris", "in": "body", "message": "name at least one"})
    if faults:
        raise InvalidFields(errors=faults)


def redirect_fits(registered: str, given: str) -> bool:
    """Whether it is the very address; on the same machine a program takes whatever port is free (RFC 8252, 7.3)."""
    if given == registered:
        return True
    ours, theirs = LOOPBACK.fullmatch(registered), LOOPBACK.fullmatch(given)
    return bool(ours and theirs and ADDRESS.fullmatch(given) and ours.groups() == theirs.groups())


def origin_of(uri: str) -> str:
    """Scheme, host and port of an address that was checked."""
    return "/".join(re.split(r"[?]", uri, maxsplit=1)[0].split("/")[:3])


def sent_to(uri: str, **said: str | None) -> str:
    """The address with what it is told in its query."""
    told = {name: value for name, value in said.items() if value is not None}
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode(told)}" if told else uri


# ---- what a program asks for


def once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Parameters by name; empty ones are as if they were not there. Raises InvalidRequest if one stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidRequest(reason="a parameter stands twice")
    return {name: value for name, value in found.items() if value}


class Wish(Struct, frozen=True):
    """What a program asks of a person's browser, checked."""

    client: Client
    redirect_uri: str
    scopes: list[str]
    challenge: str
    nonce: str
    state: str | None
    prompts: frozenset[str]
    max_age: int | None
    since: int | None = None  # when the person was sent to prove anew who they are

    @property
    def third_party(self) -> bool:
        return not self.client.first_party


def wish_of(client: Client, redirect_uri: str, given: Mapping[str, str], since: int | None) -> Wish:
    """What an authorization request asks for. Raises OAuthError, which goes to the program."""
    _check_supported(given)
    prompts = frozenset(given.get("prompt", "").split())
    if prompts - PROMPTS or ("none" in prompts and len(prompts) > 1):
        raise InvalidRequest(reason="prompt is none, or some of login and consent")
    max_age = given.get("max_age")
    if max_age is not None and not re.fullmatch(r"\d{1,9}", max_age):
        raise InvalidRequest(reason="max_age is a number of seconds")
    return Wish(
        client=client,
        redirect_uri=redirect_uri,
        scopes=scopes_of(client, given.get("scope", "")),
        challenge=_challenge_of(given),
        nonce=_short(given, "nonce"),
        state=given.get("state"),
        prompts=prompts,
        max_age=None if max_age is None else int(max_age),
        since=since,
    )


def _check_supported(given: Mapping[str, str]) -> None:
    if "request" in given:
        raise RequestNotSupported
    if "request_uri" in given:
        raise RequestUriNotSupported
    if given.get("response_type") != "code":
        raise UnsupportedResponseType
    if given.get("response_mode", "query") != "query":
        raise InvalidRequest(reason="response_mode is query")


def _challenge_of(given: Mapping[str, str]) -> str:
    """Of PKCE there is only S256: who could leave it out, or send the plain verifier, could use a stolen code."""
    challenge = given.get("code_challenge", "")
    if given.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
        raise InvalidRequest(reason="a code_challenge of 43 letters with code_challenge_method=S256 is needed")
    return challenge


def _short(given: Mapping[str, str], name: str) -> str:
    if len(given.get(name, "")) > 512:
        raise InvalidRequest(reason=f"{name} is longer than 512 letters")
    return given.get(name, "")


def scopes_of(client: Client, text: str) -> list[str]:
    """The scopes asked for, in order, each once. Raises InvalidScope for none, or for one that it may not have."""
    asked = sorted(set(text.split()))
    if not asked or not set(asked) <= set(client.scopes) - set(SERVING):
        raise InvalidScope
    return asked


def narrowed(text: str | None, granted: Iterable[str]) -> list[str]:
    """What of the scopes granted is asked for now: all, or fewer. Raises InvalidScope for more."""
    known = set(granted)
    asked = known if text is None else set(text.split())
    if not asked or not asked <= known:
        raise InvalidScope
    return sorted(asked)


Step = Literal["sign_in", "ask", "go"]


def next_step(wish: Wish, signed_in_at: int | None, granted: Iterable[str], at: int) -> Step:
    """What comes next for a browser with this wish. Raises LoginRequired, ConsentRequired where nobody may be asked."""
    if signed_in_at is None or not _is_fresh(wish, signed_in_at, at):
        if "none" in wish.prompts:
            raise LoginRequired
        return "sign_in"
    needs_yes = wish.third_party and not set(wish.scopes) <= set(granted)
    if not needs_yes and "consent" not in wish.prompts:
        return "go"
    if "none" in wish.prompts:
        raise ConsentRequired
    return "ask"


def _is_fresh(wish: Wish, signed_in_at: int, at: int) -> bool:
    """Whether the proof of who it is is as new as the program wants it."""
    if wish.since is not None and signed_in_at >= wish.since:
        return True
    return "login" not in wish.prompts and (wish.max_age is None or at - signed_in_at <= wish.max_age)


# ---- what proves what


def proves(verifier: str, challenge: str) -> bool:
    """Whether whoever shows this verifier made the challenge (RFC 7636, S256)."""
    if not VERIFIER.fullmatch(verifier):
        return False
    made = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return compare_digest(made, challenge)


def typed_code(text: str) -> str:
    """What a person typed, as it was shown: blanks, hyphens and letter case do not matter."""
    return re.sub(r"[^A-Z]", "", text.upper())


def shown_code(code: str) -> str:
    return f"{code[:4]}-{code[4:]}"


def half_hash(token: str) -> str:
    """The `at_hash` of an access token beside an ID token that Ed25519 signs: the left half of SHA-512."""
    return urlsafe_b64encode(sha512(token.encode()).digest()[:32]).rstrip(b"=").decode()
