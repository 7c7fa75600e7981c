"""Following an order live: whose right it is, and that a break loses nothing and repeats nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from msingi.kit import live, state, unit
from msingi.kit.live.hub import Hub
from msingi.kit.live.telling import STREAM
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.kit.tests.waiting import beside
from msingi.products.shop.actions import orders as acting
from msingi.products.shop.actions.telling import recheck_of, topic_of
from msingi.products.shop.models.orders import orders
from msingi.products.shop.tests.ordering import bank, key, lines_of, pay, place, products

__all__ = ["bank", "products"]

PATIENCE = 30.0
PLACE = {"location_id": "nairobi"}


class Stream:
    """What a reader of Server-Sent Events has been told, as it came over the wire."""

    def __init__(self) -> None:
        self.status, self.last_id, self.text = 0, "", ""
        self.began, self.more = asyncio.Event(), asyncio.Event()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.began.set()
        else:
            self.text += message.get("body", b"").decode()
            self.more.set()

    async def next(self) -> tuple[str, Any]:
        """The next event: its name, and its data."""
        async with asyncio.timeout(PATIENCE):
            while True:
                fields = await self._block()
                if "data" in fields:
                    return fields.get("event", "message"), json.loads(fields["data"])

    async def standing(self) -> None:
        """Wait until it says where it stands, which is when it follows."""
        async with asyncio.timeout(PATIENCE):
            while "id" not in await self._block():
                pass

    async def _block(self) -> dict[str, str]:
        while "\n\n" not in self.text:
            self.more.clear()
            await self.more.wait()
        block, _, self.text = self.text.partition("\n\n")
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        self.last_id = fields.get("id", self.last_id)
        return fields


@asynccontextmanager
async def stream(client: Client, topic: str, token: str = "", after: str = "") -> AsyncIterator[Stream]:
    """The answer to whoever asks for a topic, while it comes; then the connection is cut."""
    sent = {**client.headers, "host": "msingi.test", "x-order-token": token, "last-event-id": after}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/v1/shop/live",
        "raw_path": b"/v1/shop/live",
        "root_path": "",
        "query_string": urlencode({"topic": topic}).encode(),
        "headers": [(name.encode(), value.encode()) for name, value in sent.items() if value],
        "client": ("192.0.2.1", 1),
        "server": ("msingi.test", 80),
    }
    told, asked = Stream(), asyncio.Queue[Any]()
    asked.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    async with beside(lambda: client.house.app(scope, asked.get, told.send)):
        try:
            await asyncio.wait_for(told.began.wait(), PATIENCE)
            yield told
        finally:
            asked.put_nowait({"type": "http.disconnect"})


async def status_of(client: Client, topic: str, token: str = "") -> int:
    async with stream(client, topic, token) as answer:
        return answer.status


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def hub(bank: Bank) -> Hub:
    """This process, which has noticed that the stream was emptied with all the rest."""
    here = state.part(Hub)
    await live.tell("shop/nothing", "begun")
    async with asyncio.timeout(PATIENCE):
        while not here.position or not await state.redis().xrange(STREAM, min=here.position, max=here.position):
            await asyncio.sleep(0.01)
    return here


async def guests_order(nobody: Client) -> tuple[str, str]:
    """The id and the token of an order that a guest has placed."""
    placed = await place(nobody, email="guest@example.org")
    return placed["id"], placed["order_token"]


# ---- whose right it is


async def test_z1_a_guest_follows_their_own_order_and_nothing_else(nobody: Client, ann: Client, bob: Client) -> None:
    mine, token = await guests_order(nobody)
    theirs, other = await guests_order(nobody)
    anns = (await place(ann))["id"]
    topics = [topic_of(mine), topic_of(theirs), topic_of(anns), topic_of("none"), "shop/board", "shop/carts/x"]
    assert [await status_of(nobody, topic) for topic in topics] == [401, 401, 401, 401, 401, 404]
    assert [await status_of(nobody, topic, token) for topic in topics] == [200, 404, 404, 404, 401, 404]
    assert [await status_of(nobody, topic_of(mine), wrong) for wrong in (other, "x", token[:-1])] == [404] * 3
    assert [await status_of(bob, topic) for topic in topics] == [404] * 6
    assert await status_of(bob, topic_of(mine), token) == 200  # who signs in later still has the token
    assert await status_of(ann, topic_of(anns)) == 200


async def test_z1_the_token_of_an_order_stands_in_no_address(nobody: Client) -> None:
    mine, token = await guests_order(nobody)
    for name in ("token", "key", "order_token", "X-Order-Token"):
        assert (await nobody.get(f"/live?topic={topic_of(mine)}&{name}={token}", expect=401))["code"] == "sign_in_first"


async def test_z1_an_order_that_has_become_nobodys_is_followed_by_nobody(
    nobody: Client, ann: Client, admin: Client
) -> None:
    anns, (guests, token) = (await place(ann))["id"], await guests_order(nobody)
    async with (
        stream(ann, topic_of(anns)) as customer,
        stream(admin, topic_of(anns)) as staff,
        stream(nobody, topic_of(guests), token) as guest,
    ):
        for each in (customer, staff, guest):
            await each.standing()
        await acting.forget("ann")
        assert await customer.next() == ("gone", {"topic": topic_of(anns)})
        async with unit.alone():
            await orders.change(guests, {"$set": {"guest": None}})
        await recheck_of(guests)
        assert await guest.next() == ("gone", {"topic": topic_of(guests)})
        await live.tell(topic_of(anns), "order_changed")
        assert (await staff.next())[1]["kind"] == "order_changed"


# ---- what a break costs


class Walk:
    """An order on its way from placed to delivered, one move at a time."""

    def __init__(self, world: World, bank: Bank, buyer: Client, admin: Client, order_id: str, token: str) -> None:
        self.world, self.bank, self.buyer, self.admin = world, bank, buyer, admin
        self.path, self.headers = f"/orders/{order_id}", {"x-order-token": token} if token else {}
        self.moves = [self.paid, self.sent, self.sent, self.arrived, self.arrived]

    async def paid(self) -> None:
        await pay(self.bank, self.path.rpartition("/")[2])
        await self.world.work()

    async def sent(self) -> None:
        await self.admin.post(f"{self.path}/shipments", json={**PLACE, "lines": lines_of(**{"1": 1})}, headers=key())

    async def arrived(self) -> None:
        parcels = (await self.buyer.get(self.path, headers=self.headers))["shipments"]
        parcel = next(each for each in parcels if each["delivered_at"] is None)
        await self.admin.put(f"{self.path}/shipments/{parcel['id']}/delivery", code=parcel["code"])

    async def history(self) -> list[str]:
        """What the buyer may read of what happened to it."""
        told = await self.buyer.get(f"{self.path}/timeline", headers=self.headers)
        return [each["kind"] for each in told["items"]]


@pytest.mark.parametrize(("who", "cut"), [("customer", "while nothing happens"), ("guest", "while it moves")])
async def test_c2_a_stream_that_broke_off_misses_no_move_and_repeats_none(
    world: World, bank: Bank, nobody: Client, ann: Client, admin: Client, who: str, cut: str
) -> None:
    buyer = ann if who == "customer" else nobody
    id, token = ((await place(ann))["id"], "") if who == "customer" else await guests_order(nobody)
    walk = Walk(world, bank, buyer, admin, id, token)
    told: list[dict[str, Any]] = []
    async with stream(buyer, topic_of(id), token) as first:
        await first.standing()
    stood, before = first.last_id, len(await walk.history())
    for move in walk.moves:
        if cut == "while it moves":
            await move()
        async with stream(buyer, topic_of(id), token, after=stood) as again:
            if cut == "while nothing happens":
                await move()
            while before + len(told) < len(await walk.history()):
                name, message = await again.next()
                assert name == "message", name
                told.append(message)
        stood = again.last_id
    assert [each["data"]["entry"] for each in told] == (await walk.history())[before:]
    assert [each["data"]["state"] for each in told][-1] == "delivered"
    ids = [tuple(map(int, each["id"].split("-"))) for each in told]
    assert ids == sorted(set(ids))
    versions = [each["data"]["version"] for each in told]
    assert versions == sorted(versions)


async def test_c2_a_break_that_was_too_long_is_told_as_resync(
    world: World, bank: Bank, nobody: Client, admin: Client
) -> None:
    id, token = await guests_order(nobody)
    async with stream(nobody, topic_of(id), token) as before:
        await before.standing()
    walk = Walk(world, bank, nobody, admin, id, token)
    await walk.paid()
    await state.redis().xtrim(STREAM, maxlen=1, approximate=False)
    async with stream(nobody, topic_of(id), token, after=before.last_id) as after:
        assert (await after.next())[0] == "resync"
        await walk.sent()
        assert (await after.next())[1]["data"]["state"] == "partly_shipped"
