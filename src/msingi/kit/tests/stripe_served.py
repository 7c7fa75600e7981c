"""The stand-in of Stripe on a port of this process, and a listener that its callbacks go to."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import stripe
from aiohttp import web

from msingi.kit.payments.face import Fact
from msingi.kit.payments.sandbox.stripe import StripeSandbox, unflattened
from msingi.kit.payments.sandbox.wire import Cut
from msingi.kit.payments.stripe import Stripe
from msingi.kit.testing import NEARBY

KEY = "sk_test_of_ours"
SECRET = "whsec_of_ours"


@dataclass
class Heard:
    """A request or callback as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, Any]:
        return unflattened(self.body.decode())


@dataclass
class World:
    """A stand-in, how it is to misbehave, who listens, and our side of it."""

    url: str
    box: StripeSandbox
    faults: dict[str, deque[dict[str, Any]]]
    asked: list[Heard]
    callbacks: list[Heard] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)  # the statuses with which the listener answers, then 200

    @property
    def stripe(self) -> Stripe:
        return Stripe(KEY, url=f"{self.url}/stripe", publishable_key="pk_test_1", pay_at=f"{self.url}/stripe/pay")

    def wish(self, kind: str, fault: str, times: int = 1, **more: Any) -> None:
        """Have the next things of a kind go wrong."""
        self.faults[kind].extend([{"fault": fault, **more}] * times)

    def pay(self, reference: str, card: str = "pm_card_visa") -> None:
        """What the payer does in the browser."""
        self.box.bank.confirm(reference, {"payment_method": card})

    async def told(self, type: str, times: int = 1) -> list[Heard]:
        """The callbacks of a kind, once so many have come."""
        wanted = f'"type":"{type}"'.encode()
        await until(lambda: len([each for each in self.callbacks if wanted in each.body]) >= times)
        return [each for each in self.callbacks if wanted in each.body]

    def facts(self, heard: Heard) -> list[Fact]:
        return list(self.stripe.hear(heard.headers, heard.body, SECRET))


async def until(done: Callable[[], bool], within: float = 10) -> None:
    """Poll until something has happened."""
    async with asyncio.timeout(within):
        while not done():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def sandbox() -> AsyncIterator[World]:
    """A stand-in of Stripe that listens on a real port, its callbacks coming back to this process."""
    faults: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
    box = StripeSandbox(lambda kind: faults[kind].popleft() if faults[kind] else None)
    world = World("", box, faults, [])
    app = web.Application()
    app.router.add_route("*", "/stripe/{rest:.*}", _asgi(box, world.asked))
    app.router.add_post("/hooks", partial(_listen, world))
    async with served(app) as world.url:
        box.listen(f"{world.url}/hooks", SECRET)
        yield world
        await box.aclose()


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """The address of an application on a free port."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def _listen(world: World, request: web.Request) -> web.Response:
    world.callbacks.append(Heard("POST", request.path, dict(request.headers), await request.read()))
    return web.Response(status=world.answers.popleft() if world.answers else 200)


def _asgi(box: StripeSandbox, asked: list[Heard]) -> Any:
    """An aiohttp handler that asks an ASGI application, and cuts the connection where that breaks off."""

    async def handle(request: web.Request) -> web.Response:
        body, sent = await request.read(), []
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked.append(Heard(request.method, request.path_qs, headers, body))
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "query_string": request.rel_url.raw_query_string.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        try:
            await box(scope, receive, send)
        except Cut:
            assert request.transport
            request.transport.abort()
            return web.Response()
        raw = {name.decode(): value.decode() for name, value in sent[0]["headers"] if name != b"content-length"}
        return web.Response(status=sent[0]["status"], body=sent[1]["body"], headers=raw)

    return handle


def api(url: str, key: str = KEY) -> httpx.AsyncClient:
    """A client that speaks to a stand-in as the payer's browser or a person with curl would."""
    return httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=10, **NEARBY)


def signed(body: str, secret: str, at: int | None = None) -> dict[str, str]:
    """The headers of a callback, signed by the library's own code."""
    header: str = stripe.WebhookSignature.generate_signature_header(body, secret, at)
    return {"Stripe-Signature": header}
