"""Buyers who put something into a cart, order it, pay by a phone that pays at once, and wait until it is confirmed.

They run in a process of their own, each on one connection that stays open, spoken to with next to nothing in between:
so what is measured is the house and not who asks it. A change stream tells them what is confirmed.
"""

import asyncio
import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import uvloop
from pymongo import AsyncMongoClient

CART, CHECKOUT = "/v1/shop/cart", "/v1/shop/checkout"
GOING = "country=KE&town=Nairobi&shipping=nairobi-rider"
PATIENCE = 90.0  # seconds that a buyer waits for an order to be confirmed


class Market(NamedTuple):
    """Where the house is, where its database is, and what is for sale there."""

    url: str
    mongo_url: str
    database: str
    variants: list[str]


@dataclass
class Shopping:
    """What some buyers saw in some seconds."""

    seconds: float
    placed: int = 0  # answered with 201 within these seconds
    confirmed: int = 0  # likewise
    statuses: Counter[str] = field(default_factory=Counter)  # of answers that were not as wanted
    checkout: list[float] = field(default_factory=list)  # seconds
    confirming: list[float] = field(default_factory=list)  # from the 201 to the commit that confirms, as it is told
    whole: list[float] = field(default_factory=list)  # from the empty cart on
    drained: float = 0.0  # seconds until all that was placed was confirmed
    load: float = 0.0  # of one core, that the buyers took


def shop(market: Market, buyers: int, seconds: float, *, waits: bool) -> Shopping:
    """Have so many buyers at once order one thing after the other; what is under way at the end is finished.

    With `waits` each waits until an order is confirmed before the next one; else until it is placed.
    """
    return uvloop.run(_shop(market, buyers, seconds, waits))


async def _shop(market: Market, buyers: int, seconds: float, waits: bool) -> Shopping:
    seen = Shopping(seconds)
    async with _told(market) as told:
        began, busy = time.perf_counter(), time.process_time()
        places = itertools.cycle(random.sample(market.variants, len(market.variants)))
        tasks = [_buyer(Visit(market, told, seen, places, began + seconds, waits)) for _ in range(buyers)]
        await asyncio.gather(*tasks)
        seen.drained = time.perf_counter() - began
        seen.load = (time.process_time() - busy) / seen.drained
    return seen


@asynccontextmanager
async def _told(market: Market) -> Any:
    """What becomes of orders, by their id, as the database tells it."""
    told: dict[str, asyncio.Future[str]] = {}
    async with AsyncMongoClient[dict[str, Any]](market.mongo_url) as mongo:
        states = {"operationType": "update", "updateDescription.updatedFields.state": {"$exists": True}}
        fields = {"documentKey": 1, "updateDescription.updatedFields.state": 1}
        orders = mongo[f"{market.database}_shop"]["orders"]
        async with await orders.watch([{"$match": states}, {"$project": fields}]) as changes:

            async def listen() -> None:
                async for change in changes:
                    news = _news(told, change["documentKey"]["_id"])
                    if not news.done():
                        news.set_result(change["updateDescription"]["updatedFields"]["state"])

            listening = asyncio.create_task(listen())
            try:
                yield told
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)


def _news(told: "dict[str, asyncio.Future[str]]", order_id: str) -> "asyncio.Future[str]":
    if order_id not in told:
        told[order_id] = asyncio.get_running_loop().create_future()
    return told[order_id]


class Visit(NamedTuple):
    """What a buyer needs to know."""

    market: Market
    told: "dict[str, asyncio.Future[str]]"
    seen: Shopping
    goods: Iterator[str]
    until: float
    waits: bool


async def _buyer(visit: Visit) -> None:
    wire = Wire(visit.market.url)
    await wire.open()
    waiting: list[asyncio.Task[None]] = []
    try:
        while time.perf_counter() < visit.until:
            began = time.perf_counter()
            order_id = await _ordered(wire, visit, by_phone())
            if order_id is None:
                continue
            confirmed = asyncio.create_task(_confirmed(order_id, began, visit))
            waiting.append(confirmed)
            if visit.waits:
                await confirmed
        await asyncio.gather(*waiting)
    finally:
        wire.close()


async def _ordered(wire: "Wire", visit: Visit, pay: dict[str, str]) -> str | None:
    """Put something into a new cart, see what it costs, and order it. The order's id, if all went well."""
    seen = visit.seen
    put = await wire.ask("PUT", f"{CART}/lines/{next(visit.goods)}", {"quantity": 1})
    if _is_wrong(seen, "cart", put, 200):
        return None
    token = {"X-Cart-Token": put.headers["x-cart-token"]}
    cart = await wire.ask("GET", f"{CART}?{GOING}", None, token)
    if _is_wrong(seen, "cart", cart, 200):
        return None
    form, key = _form(cart.data["totals"]["total"], pay), {"Idempotency-Key": os.urandom(12).hex()}
    began = time.perf_counter()
    order = await wire.ask("POST", CHECKOUT, form, token | key)
    ended = time.perf_counter()
    if _is_wrong(seen, "checkout", order, 201):
        return None
    seen.checkout.append(ended - began)
    seen.placed += ended < visit.until
    return str(order.data["id"])


def order_unpaid(market: Market, count: int) -> list[str]:
    """So many orders, one after the other, that wait for a card on the provider's page; their ids."""
    return uvloop.run(_order_unpaid(market, count))


async def _order_unpaid(market: Market, count: int) -> list[str]:
    goods, seen = itertools.cycle(market.variants), Shopping(0.0)
    wire = Wire(market.url)
    await wire.open()
    try:
        found = [
            await _ordered(wire, Visit(market, {}, seen, goods, 0.0, False), {"provider": "stripe"})
            for _ in range(count)
        ]
    finally:
        wire.close()
    if None in found:
        raise RuntimeError(f"wrong answers: {dict(seen.statuses)}")
    return [order_id for order_id in found if order_id is not None]


def by_phone() -> dict[str, str]:
    """Another phone each time, whose owner pays."""
    return {"provider": "mpesa", "phone": f"+2547112{random.randrange(10**5):05}"}


def _form(total: int, pay: dict[str, str]) -> dict[str, Any]:
    person = {"name": "Ann Wanjiru", "phone": "+254712345678", "country": "KE", "town": "Nairobi", "street": "Moi Ave"}
    return {
        "address": person,
        "shipping_id": "nairobi-rider",
        "expected_total": total,
        "email": "buyer@bench.example.org",
        "pay": pay,
    }


async def _confirmed(order_id: str, began: float, visit: Visit) -> None:
    placed = time.perf_counter()
    seen = visit.seen
    try:
        state = await asyncio.wait_for(_news(visit.told, order_id), PATIENCE)
    except TimeoutError:
        state = f"not confirmed within {PATIENCE:.0f} s"
    ended = time.perf_counter()
    if state != "confirmed":
        seen.statuses[f"order: {state}"] += 1
        return
    seen.confirmed += ended < visit.until
    seen.confirming.append(ended - placed)
    seen.whole.append(ended - began)


def _is_wrong(seen: Shopping, what: str, answer: "Answer", wanted: int) -> bool:
    if answer.status == wanted:
        return False
    seen.statuses[f"{what}: {answer.status} {answer.data.get('code', '')}"] += 1
    return True


# ---- HTTP, as little of it as will do


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    data: Any


class Wire:
    """One connection, on which one thing is asked after the other; a new one where the server closed an idle one."""

    def __init__(self, url: str) -> None:
        self.parts = urlsplit(url)

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(self.parts.hostname, self.parts.port)

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request and its answer. What is asked twice here does no harm: a new cart, or one and the same order."""
        try:
            return await self._ask(method, path, body, headers)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            await self.open()
            return await self._ask(method, path, body, headers)

    async def _ask(self, method: str, path: str, body: Any, headers: dict[str, str] | None) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.parts.netloc}", f"Content-Length: {len(content)}"]
        lines += ["Content-Type: application/json"] if content else []
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        said = await self.reader.readexactly(int(named.get("content-length", 0)))
        return Answer(int(head[0].split(" ")[1]), named, json.loads(said) if said else {})

    def close(self) -> None:
        self.writer.close()
