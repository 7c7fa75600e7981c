"""How a stand-in of Stripe tells what happened: signed, again until it is taken, and badly when it is told to."""

import asyncio
import hmac
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from time import time
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from msingi.kit.payments.sandbox.stripe_bank import VERSION, Thing

Fault = Mapping[str, Any]  # {"fault": "late", "seconds": 2}
Take = Callable[[str], Fault | None]  # the next fault of a kind, if one is wanted
PATIENCE = 10.0  # seconds that a listener may take
AGAIN = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds after which it is told again; Stripe goes on for three days
MOST_ENDPOINTS = 16


class Endpoint(Struct):
    """A listener. `secrets` are all signed with, as Stripe does for a day after one was changed for another."""

    id: str
    url: str
    secrets: list[str]
    events: list[str]

    def wants(self, type: str) -> bool:
        return "*" in self.events or type in self.events


class Hooks:
    """The listeners of an account, and what they are told. Without a fault they hear in the order of the events.

    A fault is looked for under the event's own name (`payment_intent.succeeded`), then under `webhook`:
    `lost`, `late` (`seconds`), `twice`, `wrong_amount` (`amount` is told), `forged`, `stale` (signed ten minutes ago).
    """

    def __init__(self, take: Take) -> None:
        self.take = take
        self.endpoints: dict[str, Endpoint] = {}
        self.told: deque[Thing] = deque(maxlen=200)
        self.silent = False  # while it is, nobody is told
        self.tasks: set[asyncio.Task[None]] = set()
        self.turn = asyncio.Lock()
        self.client: httpx.AsyncClient | None = None

    def add(self, url: str, keys: Sequence[str] = (), events: Sequence[str] = ("*",)) -> Endpoint:
        """Have `url` told from now on."""
        while len(self.endpoints) >= MOST_ENDPOINTS:
            self.endpoints.pop(next(iter(self.endpoints)))
        id = f"we_{secrets.token_hex(8)}"
        made = Endpoint(id, url, list(keys) or [f"whsec_{secrets.token_hex(16)}"], list(events) or ["*"])
        self.endpoints[id] = made
        return made

    def tell(self, type: str, thing: Thing) -> None:
        """An event: what the thing is like at this moment goes out to whoever wants to hear of it."""
        event = {
            "id": f"evt_{secrets.token_hex(12)}",
            "object": "event",
            "api_version": VERSION,
            "created": int(time()),
            "data": {"object": thing},
            "livemode": False,
            "pending_webhooks": len(self.endpoints),
            "type": type,
        }
        fault = self.take(type) or self.take("webhook") or {}
        kind = fault.get("fault")
        if kind == "wrong_amount":
            event["data"] = {"object": _with_amount(thing, int(fault.get("amount") or 1))}
        body = msgspec.json.encode(event)
        self.told.append(msgspec.json.decode(body))
        if kind == "lost" or self.silent:
            return
        for endpoint in self.endpoints.values():
            if endpoint.wants(type):
                for _ in range(2 if kind == "twice" else 1):
                    self._start(endpoint, body, fault)

    def _start(self, endpoint: Endpoint, body: bytes, fault: Fault) -> None:
        task = asyncio.create_task(self._deliver(endpoint, body, fault))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _deliver(self, endpoint: Endpoint, body: bytes, fault: Fault) -> None:
        if fault.get("fault") == "late":
            await asyncio.sleep(float(fault.get("seconds") or 1))
        for wait in (*AGAIN, None):
            async with self.turn:
                if await self._taken(endpoint, body, fault):
                    return
            if wait is not None:
                await asyncio.sleep(wait)

    async def _taken(self, endpoint: Endpoint, body: bytes, fault: Fault) -> bool:
        self.client = self.client or httpx.AsyncClient(timeout=PATIENCE, trust_env=False)
        keys = ["whsec_of_somebody_else"] if fault.get("fault") == "forged" else endpoint.secrets
        at = int(time()) - (600 if fault.get("fault") == "stale" else 0)
        headers = {"content-type": "application/json; charset=utf-8", "stripe-signature": signature(body, keys, at)}
        with suppress(httpx.HTTPError):
            return (await self.client.post(endpoint.url, content=body, headers=headers)).is_success
        return False

    async def aclose(self) -> None:
        """Leave untold what is not told yet."""
        for task in self.tasks:
            task.cancel()
        if self.client:
            await self.client.aclose()


def signature(body: bytes, keys: Sequence[str], at: int) -> str:
    """The header `Stripe-Signature` (docs.stripe.com/webhooks/signature)."""
    signed = str(at).encode() + b"." + body
    return ",".join([f"t={at}", *(f"v1={hmac.new(key.encode(), signed, sha256).hexdigest()}" for key in keys)])


def _with_amount(thing: Thing, amount: int) -> Thing:
    names = ("amount_received", "amount_capturable") if thing["object"] == "payment_intent" else ("amount",)
    return thing | {name: amount for name in names if thing.get(name)}
