"""How soon a change of an order is on somebody's screen: from the write to a client that follows the board.

It starts nothing itself: whoever measures gives a house that runs, somebody of its staff, and orders to change.
"""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import httpx

BOARD = "shop/board"
PATIENCE = 30.0  # seconds that a change is waited for
Change = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]


class Arrivals(NamedTuple):
    """Milliseconds, of each change: from its write, and from the request that asked for it, to the client.

    The write is when the house made the change's time, before the database had it; so it holds the commit too. Both
    clocks are this machine's.
    """

    since_write: list[float]
    since_request: list[float]
    missed: int

    def rows(self) -> dict[str, float]:
        """The figures: p50 and p99 of both, and how many changes never came."""
        found = {f"since_write_{name}": value for name, value in _percentiles(self.since_write).items()}
        found |= {f"since_request_{name}": value for name, value in _percentiles(self.since_request).items()}
        return found | {"changes": len(self.since_write), "missed": self.missed}


def measure(url: str, token: str, order_ids: Sequence[str], followers: int = 1) -> Arrivals:
    """Cancel these orders one after the other, and see when the last of so many followers of the board hears of each.

    The orders have to be ones that can be cancelled; `token` is an access token of somebody with the right to orders.
    """
    return asyncio.run(measured(url, token, order_ids, cancelled, followers))


async def cancelled(client: httpx.AsyncClient, order_id: str) -> httpx.Response:
    """Change an order once: cancel it, as staff do."""
    return await client.put(f"/v1/shop/orders/{order_id}/cancellation", json={"reason": "To see how soon it is seen"})


async def measured(
    url: str, token: str, order_ids: Sequence[str], change: Change = cancelled, followers: int = 1
) -> Arrivals:
    """The same, with any change; the reply to it is the order, with the time of its last change."""
    async with _client(url, token) as client, _following(client, followers) as heard:
        since_write, since_request, missed = list[float](), list[float](), 0
        for order_id in order_ids:
            began = time.time()
            reply = (await change(client, order_id)).raise_for_status().json()
            at = await _arrived(heard, order_id, reply["version"])
            if at is None:
                missed += 1
                continue
            since_write.append((at - datetime.fromisoformat(reply["updated_at"]).timestamp()) * 1000)
            since_request.append((at - began) * 1000)
    return Arrivals(since_write, since_request, missed)


@asynccontextmanager
async def _client(url: str, token: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
        yield client


# ---- those who follow


class Heard:
    """When each follower heard of which version of which order."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, int], float] = {}
        self.news = asyncio.Event()

    def hear(self, change: dict[str, Any]) -> None:
        self.at.setdefault((change["order_id"], change["version"]), time.time())
        self.news.set()


@asynccontextmanager
async def _following(client: httpx.AsyncClient, followers: int) -> AsyncIterator[list[Heard]]:
    heard = [Heard() for _ in range(followers)]
    ready = [asyncio.Event() for _ in range(followers)]
    tasks = [asyncio.create_task(_follow(client, each, at)) for each, at in zip(heard, ready, strict=True)]
    try:
        await asyncio.wait_for(asyncio.gather(*(each.wait() for each in ready)), PATIENCE)
        yield heard
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(client: httpx.AsyncClient, heard: Heard, ready: asyncio.Event) -> None:
    """One stream of Server-Sent Events, as a browser reads it."""
    async with client.stream("GET", "/v1/shop/live", params={"topic": BOARD}, timeout=None) as stream:
        stream.raise_for_status()
        async for line in stream.aiter_lines():
            ready.set()  # the first line says from where on it follows
            if line.startswith("data: ") and "order_id" in line:
                heard.hear(json.loads(line[6:])["data"])


async def _arrived(heard: Sequence[Heard], order_id: str, version: int) -> float | None:
    """When the last of them had heard of it; None if one does not in time."""
    try:
        return max([await asyncio.wait_for(_heard(each, order_id, version), PATIENCE) for each in heard])
    except TimeoutError:
        return None


async def _heard(heard: Heard, order_id: str, version: int) -> float:
    while (order_id, version) not in heard.at:
        heard.news.clear()
        await heard.news.wait()
    return heard.at[order_id, version]


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if len(values) < 2:
        return {"p50_ms": values[0] if values else 0.0, "p99_ms": values[0] if values else 0.0}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2)}
