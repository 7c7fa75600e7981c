"""Cookies prove nothing about who wrote a request: what else a cookie-authenticated write must bring.

Source: OWASP ASVS 5.0 V3.5 and the Fetch Metadata draft. Three proofs together: the browser says that the page is ours
(`Origin`, `Sec-Fetch-Site`), the request carries a token that only our pages know (bound to the session), and its body
is of a kind that a foreign form cannot send. A read never changes anything, so it needs none of them.
"""

import hashlib
import hmac
import secrets
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from msingi.kit import sealing, state
from msingi.kit.errors import Forbidden, UnsupportedMedia

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
HEADER = b"x-csrf-token"
FIELD = "_csrf"
SECURE_COOKIE = "__Host-sid"
PLAIN_COOKIE = "sid"  # over plain HTTP in development, where browsers refuse the __Host- prefix


class CrossSite(Forbidden):
    """This write came with a cookie but not from one of our pages: {reason}."""


def cookie_name() -> str:
    """The session cookie's name: with the `__Host-` prefix in production, and wherever the house is under HTTPS."""
    settings = state.settings()
    return SECURE_COOKIE if settings.production or settings.base_url.startswith("https://") else PLAIN_COOKIE


def session_cookie(header: str) -> str | None:
    """The value of the session cookie in a Cookie header."""
    return cookie_in(header, cookie_name())


def cookie_in(header: str, name: str) -> str | None:
    """The value of a cookie in a Cookie header.

    Read by hand: http.cookies reads nothing after a cookie that it finds odd, and others may set what they like. The
    name must be exact, without the blanks and signs that some strip, for a `__Host-` cookie to be what it says.
    """
    start = name + "="
    if start not in header:
        return None
    for each in header.split(";"):
        if (pair := each.strip(" \t")).startswith(start):
            return pair[len(start) :] or None
    return None


def token_for(session: str) -> str:
    """A token for the forms and scripts of one session: `nonce.HMAC(key, session ‖ nonce)`, new at each asking."""
    nonce = secrets.token_urlsafe(12)
    return f"{nonce}.{_sign(session, nonce)}"


def is_token(session: str, token: str) -> bool:
    """Whether a token was made for this session."""
    nonce, _, signature = token.partition(".")
    return hmac.compare_digest(signature.encode(), _sign(session, nonce).encode())


def check(scope: Any, session: str) -> None:
    """Raise CrossSite or UnsupportedMedia unless this cookie-authenticated request may change something.

    Pages (`page=True` on the route) bring the token in a form field, which whoever reads the form checks with
    `is_token`; all others bring it in the header `X-CSRF-Token` and send JSON.
    """
    if scope["type"] == "http" and scope["method"] in SAFE:
        return
    headers = dict(scope["headers"])
    check_origin(headers)
    if scope["type"] != "http" or scope["route_handler"].opt.get("page") is True:
        return
    if not is_token(session, headers.get(HEADER, b"").decode("latin-1")):
        raise CrossSite(reason="the header X-CSRF-Token is missing or belongs to another session")
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind not in (b"", b"application/json") and not scope["route_handler"].opt.get("upload"):
        raise UnsupportedMedia(wanted="application/json")


def check_origin(headers: dict[bytes, bytes]) -> None:
    """Raise CrossSite unless the browser says that one of our own pages sent this.

    Our pages send no referrer, so a form of theirs comes with `Origin: null`; then Sec-Fetch-Site alone must vouch for
    it, which no page can forge.
    """
    origin = headers.get(b"origin", b"").decode("latin-1")
    site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
    if site and site != "same-origin" and origin not in _allowed():
        raise CrossSite(reason=f"Sec-Fetch-Site is {site}")
    if origin and not (origin == "null" and site == "same-origin"):
        if origin not in _allowed() and not _is_asked(origin, headers):
            raise CrossSite(reason="its Origin is not ours")
    elif site != "same-origin":
        raise CrossSite(reason="it has no Origin")


def _is_asked(origin: str, headers: dict[bytes, bytes]) -> bool:
    """Whether a page is of the very host that it asks, which is enough where nobody set the house's address."""
    host = headers.get(b"host", b"").decode("latin-1")
    return not state.settings().production and host != "" and origin in (f"http://{host}", f"https://{host}")


def _allowed() -> frozenset[str]:
    settings = state.settings()
    return _origins(settings.base_url, settings.cors_origins)


@lru_cache(maxsize=8)
def _origins(base_url: str, listed: str) -> frozenset[str]:
    own = urlsplit(base_url)
    return frozenset({f"{own.scheme}://{own.netloc}", *(each.strip() for each in listed.split(",") if each.strip())})


def _sign(session: str, nonce: str) -> str:
    key = sealing.key_for("kit.csrf").raw
    return hmac.new(key, f"{session}|{nonce}".encode(), hashlib.sha256).hexdigest()
