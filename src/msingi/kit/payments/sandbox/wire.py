"""The little HTTP that the stand-in of Daraja speaks: a request read whole, and a reply that may break off."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Scope = Mapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST = 100_000  # bytes of a request


class Cut(Exception):
    """The connection ends in the midst of the reply, on purpose."""


class Reply(Struct, frozen=True):
    """What goes out; without a body the connection breaks off before it."""

    status: int
    body: bytes | None
    kind: str = "application/json"
    headers: Mapping[str, str] = {}


class Request(Struct, frozen=True):
    """What came in. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The members of the body; none if it is no JSON object."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            return {}

    def form(self) -> dict[str, str]:
        """The fields of an HTML form."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), max_num_fields=20))


def json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply of JSON."""
    return Reply(status, msgspec.json.encode(value), headers=headers or {})


def page(html: str, status: int = 200) -> Reply:
    """A reply that a person reads."""
    return Reply(status, html.encode(), "text/html; charset=utf-8")


async def read(scope: Scope, receive: Receive) -> Request:
    """The request, as much of its body as is taken."""
    body = bytearray()
    more = True
    while more and len(body) <= LARGEST:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(scope["method"], scope["path"], headers, bytes(body))


async def write(reply: Reply, send: Send) -> None:
    """Send the reply. Raises Cut, after the server has no choice but to hang up."""
    body = reply.body if reply.body is not None else b"{"
    length = len(body) if reply.body is not None else 512
    headers = {"content-type": reply.kind, "content-length": str(length), **reply.headers}
    packed = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": packed})
    await send({"type": "http.response.body", "body": body, "more_body": reply.body is None})
    if reply.body is None:
        raise Cut
