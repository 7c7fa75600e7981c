"""Whole replies, kept in this process as long as what they were made from has not changed.

For a reply that is kept, a route reads no query, makes no dependency and encodes nothing: what is left is to ask Redis
for the numbers of its tags, together with all others who ask. It is as fresh as `kit.cache` promises, since it is
believed for the same reason.

`middleware=[by_address]` on a route's decorator line says: which cached answers it asks for, and what it makes of them,
follows from its path and its query alone, and not from who asks or what else is in the headers. A reply is kept only if
its body is one of these very answers (kit.encoded), so what the same route reads from the database by itself, such as a
search, is not. Nor is any of a route that is not `public=True`. The gate and the limits stand in front of it, and count
and refuse as ever.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from msingi.kit import cache, state
from msingi.kit.cache import COPY, Cache, Used
from msingi.kit.layer import Layer

Header = tuple[bytes, bytes]


class Reply(NamedTuple):
    """What was answered with 200 at an address, and the cached answers that it was made from."""

    headers: Sequence[Header]
    body: bytes
    used: Sequence[Used]


class ByAddress(Layer):
    """Answers with what it keeps, if that still holds; else keeps what the route answers, if that may be kept."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope.get("method") != "GET" or scope["route_handler"].opt.get("public") is not True:
            await next_app(scope, receive, send)
            return
        keeper = state.part(Cache)
        address = (scope.get("root_path"), scope["path"], scope["query_string"])
        reply: Reply | None = keeper.copies.get(address)
        if reply is not None and await keeper.holds(reply.used):
            await send({"type": "http.response.start", "status": 200, "headers": [*reply.headers]})
            await send({"type": "http.response.body", "body": reply.body, "more_body": False})
            return
        used: list[Used] = []
        headers: list[Header] | None = None

        async def send_and_keep(message: Message) -> None:
            nonlocal headers
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ())] if message["status"] == 200 else None
            elif message["type"] == "http.response.body" and headers is not None and not message.get("more_body"):
                _keep(address, Reply(headers, message.get("body", b""), used), keeper)
            await send(message)

        noted = cache.noted.set(used)
        try:
            await next_app(scope, receive, send_and_keep)
        finally:
            cache.noted.reset(noted)


by_address = ByAddress()


def _keep(address: Any, reply: Reply, keeper: Cache) -> None:
    """Keep a reply whose body is an answer that was asked for, if all of those can be told from older ones."""
    is_one = any(getattr(each.answer, "body", None) is reply.body for each in reply.used)
    if is_one and all(each.stamp for each in reply.used) and b"set-cookie" not in dict(reply.headers):
        used = tuple(each._replace(answer=None) for each in reply.used)
        keeper.copies.keep(
            address, reply._replace(used=used), len(reply.body) + len(address[1]) + len(address[2]) + 2 * COPY
        )
