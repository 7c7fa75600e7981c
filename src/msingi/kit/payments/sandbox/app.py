"""The stand-ins of all payment providers as one application, which granian loads: `build`."""

import os
from typing import Any

import msgspec

from msingi.kit.payments.sandbox import daraja_pages
from msingi.kit.payments.sandbox.control import Control, Settings, Wish
from msingi.kit.payments.sandbox.daraja import Daraja
from msingi.kit.payments.sandbox.stripe import StripeSandbox
from msingi.kit.payments.sandbox.wire import Cut, Receive, Reply, Request, Scope, Send, json, read, write


class RefusesProduction(Exception):
    """The stand-ins of payment providers do not start in production: nobody would be paid."""


class Sandbox:
    """Both stand-ins, and the control over them."""

    def __init__(self, settings: Settings | None = None, *, stripe_hook: str = "", stripe_secret: str = "") -> None:
        self.control = Control(settings)
        self.daraja = Daraja(self.control)
        self.stripe = StripeSandbox(lambda kind: self.control.take(f"stripe.{kind}"))
        if stripe_hook:
            self.stripe.listen(stripe_hook, *([stripe_secret] if stripe_secret else []))

    async def aclose(self) -> None:
        await self.daraja.aclose()
        await self.stripe.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["path"].startswith("/stripe/"):
            await self.stripe(scope, receive, send)
        elif scope["type"] == "http":
            await write(await self._answer(await read(scope, receive)), send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, request: Request) -> Reply:
        if request.path == "/control":
            return await self._controlled(request)
        if request.path == "/health":
            return json({"status": "alive"})
        if request.path == "/mpesa" or request.path.startswith("/mpesa/"):
            below = msgspec.structs.replace(request, path="/" + request.path.removeprefix("/mpesa").lstrip("/"))
            found = await self.daraja.answer(below) or await daraja_pages.answer(self.daraja, below)
            if found is not None:
                return found
        return json({"errorCode": "404.001.01", "errorMessage": "Resource not found"}, 404)

    async def _controlled(self, request: Request) -> Reply:
        released = 0
        if request.method == "POST":
            try:
                released = await self._wished(msgspec.json.decode(request.body, type=Wish))
            except (msgspec.MsgspecError, ValueError) as fault:
                return json({"error": str(fault)}, 422)
        return json({**self.control.seen(), "held": len(self.daraja.held), "released": released})

    async def _wished(self, wish: Wish) -> int:
        if wish.reset:
            self.control.reset()
            self.daraja.forget()
        changed = {**msgspec.structs.asdict(self.control.settings), **wish.settings}
        self.control.settings = msgspec.convert(changed, Settings)
        for kind, faults in wish.faults.items():
            self.control.want(kind, faults)
        return await self.daraja.release(wish.release) if wish.release else 0


def build() -> Any:
    """The application, as the environment wants it (see `python -m msingi.kit.payments.sandbox --help`).

    Raises RefusesProduction.
    """
    refuse_production()
    settings = Settings(accept_after=float(os.environ.get("MSINGI_SANDBOX_ACCEPT_AFTER") or 2.0))
    hook, secret = os.environ.get("MSINGI_SANDBOX_STRIPE_HOOK", ""), os.environ.get("MSINGI_STRIPE_WEBHOOK_SECRET", "")
    return _hanging_up(Sandbox(settings, stripe_hook=hook, stripe_secret=secret))


def refuse_production() -> None:
    """Raises RefusesProduction where MSINGI_ENV says so."""
    if os.environ.get("MSINGI_ENV") == "production":
        raise RefusesProduction(RefusesProduction.__doc__)


def _hanging_up(app: Sandbox) -> Any:
    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Cut:
            return  # with part of the body unsent, the server can only hang up

    return whole
