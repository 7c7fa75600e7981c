"""The token with which this process comes for itself, when it asks another process of the house."""

import asyncio
from base64 import b64encode
from time import monotonic
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import structlog
from msgspec import Struct

from msingi.kit import fetch, state
from msingi.kit.errors import Busy

EARLY = 10.0  # seconds before its end at which a token is renewed
log = structlog.get_logger("service_tokens")


class _Reply(Struct):
    access_token: str
    expires_in: int


class _Held:
    """The token that this process has, and until when it may be used."""

    def __init__(self) -> None:
        self.token, self.until = "", 0.0
        self.lock = asyncio.Lock()


async def authorization() -> dict[str, str]:
    """The header to ask with. Raises Busy (503) while no token can be had, or where no credentials were set."""
    held = state.part(_Held)
    async with held.lock:
        if monotonic() >= held.until:
            reply = await _new()
            held.token, held.until = reply.access_token, monotonic() + reply.expires_in - EARLY
    return {"authorization": f"Bearer {held.token}"}


def forget() -> None:
    """Get another one next time: this one was refused."""
    state.part(_Held).until = 0.0


async def _new() -> _Reply:
    """Client credentials (RFC 6749, 4.4): id and secret are form-encoded before they are put together."""
    settings = state.settings()
    proof = f"{quote(settings.client_id)}:{quote(settings.client_secret)}".encode()
    headers = {
        "authorization": f"Basic {b64encode(proof).decode()}",
        "content-type": "application/x-www-form-urlencoded",
    }
    form = urlencode({"grant_type": "client_credentials"}).encode()
    try:
        reply = await fetch.post(_address(), content=form, headers=headers)
        if reply.status == 200:
            return msgspec.json.decode(reply.body, type=_Reply)
        log.error("service_token_refused", status=reply.status)
    except (fetch.Unreachable, fetch.ReplyTooLarge, msgspec.MsgspecError) as fault:
        log.error("service_token_not_to_be_had", error=type(fault).__name__)
    raise Busy(retry_after=2)


def _address() -> str:
    """Where tokens are given: as told, else where the keys are."""
    settings = state.settings()
    if settings.token_url or not settings.jwks_url:
        return settings.token_url
    keys = urlsplit(settings.jwks_url)
    return f"{keys.scheme}://{keys.netloc}/oauth/token"
