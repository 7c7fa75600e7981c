"""What providers answer, as far as it is read."""

from typing import Any, TypeVar

from msgspec import Struct, field

from msingi.kit import fetch
from msingi.products.accounts.providers.configured import Provider

T = TypeVar("T")


class Refused(Exception):
    """Something in an answer does not fit; the text says what, and never a value."""


class Tokens(Struct, frozen=True):
    """The answer of a token endpoint (RFC 6749, 5.1 and 5.2)."""

    access_token: str = ""
    id_token: str = ""
    error: str = ""

    def __repr__(self) -> str:
        return "Tokens(…)"


class Endpoints(Struct, frozen=True, kw_only=True):
    """Where to go with what. `issuers`: how it may name itself in `iss`; `names_itself`: whether it always does."""

    authorize: str
    token: str
    scope: str
    issuers: frozenset[str]
    names_itself: bool = False
    methods: list[str] = field(default_factory=list)


async def ask(provider: Provider, url: str, tokens: Tokens | None, kind: type[T], **headers: Any) -> T:
    """What a provider tells at an address. Raises Unreachable, Refused, msgspec.MsgspecError."""
    shown = {"authorization": f"Bearer {tokens.access_token}"} if tokens else {}
    reply = await fetch.get(url, headers={"accept": "application/json", **shown, **headers}, tries=2)
    if reply.status >= 500 or reply.status == 429:
        raise fetch.Unreachable(host=provider.name, reason=str(reply.status))
    if not reply.ok:
        raise Refused(f"status {reply.status}")
    return reply.json(kind)
