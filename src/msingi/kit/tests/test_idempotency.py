"""The same request twice: one effect, one reply, also when the process is killed in between."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar, Request, Response
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Meta, Struct

from msingi.kit import config, idempotency, replies, state, unit
from msingi.kit.actors import Actor
from msingi.kit.clock import now
from msingi.kit.db import Collection, Doc, Form, Page, prepare
from msingi.kit.errors import Conflict
from msingi.kit.http import Body, get, post
from msingi.kit.idempotency import Idempotency, Try, Work
from msingi.kit.testing import NEARBY, test_settings
from msingi.kit.tests import copies
from msingi.kit.unit import atomic, guarded


class Order(Doc):
    item: str
    paid: int = 0


class Receipt(Doc):
    order_id: str
    at: datetime | None = None
    lines: list[tuple[str, int]] = []


class NewOrder(Form):
    item: Annotated[str, Meta(min_length=1)]
    price: int = 1


class Done(Struct):
    order: Order
    receipt: Receipt | None
    counts: list[int]


class SoldOut(Conflict):
    """There is no more of it."""


orders = Collection(Order, "orders")
receipts = Collection(Receipt, "receipts")
orders.product = receipts.product = "stall"


@atomic
async def order(new: NewOrder) -> Order:
    if new.item == "nothing":
        raise SoldOut
    return await orders.add(Order(item=new.item))


@guarded
async def pay(order: Order, price: int) -> Order:
    return await orders.change(order.id, {"$inc": {"paid": price}})


@atomic
async def write_receipt(order: Order) -> tuple[Receipt | None, list[int]]:
    receipt = await receipts.add(Receipt(order_id=order.id, at=order.created_at, lines=[(order.item, order.paid)]))
    return receipt, [await orders.count({}), await receipts.count({})]


@atomic
async def note_nothing() -> None: ...


def die_at(place: str) -> None:
    """Where a test kills its server, once: the mark says that it happened."""
    mark = Path(os.environ.get("DIE_MARK", "/nowhere"))
    if os.environ.get("DIE_AT") == place and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


slow: list[asyncio.Event] = []
runs: list[str] = []


@post("/orders")
async def make_order(data: Body[NewOrder]) -> Done:
    runs.append(data.item)
    for each in slow:
        await each.wait()
    die_at("before")
    made = await order(data)
    die_at("after the order")
    await note_nothing()
    made = await pay(made, data.price)
    die_at("after the payment")
    receipt, counts = await write_receipt(made)
    die_at("after the receipt")
    return Done(made, receipt, counts)


@post("/failing")
async def fail_after_the_order(data: Body[NewOrder]) -> Response[dict[str, str]]:
    made = await order(data)
    runs.append("failing")
    if len(runs) == 1:
        raise RuntimeError("the provider is away")
    return Response({"id": made.id}, headers={"Location": f"/orders/{made.id}", "X-Other": str(len(runs))})


@post("/refusing")
async def refuse_after_the_order(data: Body[NewOrder]) -> Order:
    made = await order(data)
    runs.append("refusing")
    if len(runs) == 1:
        raise SoldOut
    return made


@post("/payments", idempotency="required")
async def pay_something(data: Body[NewOrder]) -> Order:
    return await order(data)


@post("/counts", idempotency="off")
async def count_something(data: Body[NewOrder]) -> Order:
    return await order(data)


@post("/raw")
async def take_raw(request: Request[Any, Any, Any]) -> dict[str, Any]:
    body = await request.body()
    return {"sha256": sha256(body).hexdigest(), "length": len(body)}


@get("/pid")
async def show_pid() -> str:
    return str(os.getpid())


class Doorman(ASGIMiddleware):
    """Believes whoever says who they are: the gate has tests of its own."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        headers = dict(scope["headers"])
        scope["user"] = Actor(id=headers[b"who"].decode()) if b"who" in headers else None
        await next_app(scope, receive, send)


ROUTES = [
    make_order,
    fail_after_the_order,
    refuse_after_the_order,
    pay_something,
    count_something,
    take_raw,
    show_pid,
]


def _app(**more: Any) -> Litestar:
    return Litestar(
        route_handlers=ROUTES,
        opt={"product": "stall"},
        middleware=[Doorman(), Idempotency()],
        exception_handlers=replies.HANDLERS,
        openapi_config=None,
        logging_config=None,
        **more,
    )


def build() -> Litestar:
    """What Granian loads in a process of its own."""
    settings = config.load(config.Settings, os.environ)
    idempotency.LEASE = float(os.environ["LEASE"])

    @asynccontextmanager
    async def alive(app: Litestar) -> AsyncIterator[None]:
        async with state.running(settings):
            yield

    return _app(lifespan=[alive])


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def stall(running: state.State) -> AsyncIterator[None]:
    stores: list[Collection[Any]] = [orders, receipts, *idempotency.stores("stall")]
    await prepare(stores)
    for store in stores:
        await store.raw.delete_many({})
    runs.clear()
    slow.clear()
    yield


@pytest_asyncio.fixture(loop_scope="session")
async def client(stall: None) -> AsyncIterator[httpx.AsyncClient]:
    async with _client(_app()) as client:
        yield client


def _client(app: Any, address: str = "192.0.2.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(address, 1), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://a.test")


def with_key(key: str, who: str = "ann") -> dict[str, str]:
    return {"idempotency-key": key, "who": who}


COW = {"item": "cow", "price": 30}


async def test_p1_the_second_try_gets_the_first_ones_reply_byte_for_byte(client: httpx.AsyncClient) -> None:
    first = await client.post("/orders", json=COW, headers=with_key("k1"))
    again = await client.post("/orders", json=COW, headers=with_key("k1"))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert first.headers["content-type"] == again.headers["content-type"]
    assert await orders.count({}) == await receipts.count({}) == len(runs) == 1
    assert first.json()["order"]["paid"] == 30


async def test_p1_fifty_parallel_tries_have_one_effect_and_equal_replies(client: httpx.AsyncClient) -> None:
    async def try_until_answered() -> httpx.Response:
        while True:
            reply = await client.post("/orders", json=COW, headers=with_key("k1"))
            if reply.status_code != 409:
                return reply
            assert reply.json()["code"] == "still_working"
            assert reply.headers["retry-after"] == "1"
            await asyncio.sleep(0.01)

    got = await asyncio.gather(*(try_until_answered() for _ in range(50)))
    assert {reply.status_code for reply in got} == {201}
    assert len({reply.content for reply in got}) == 1
    assert [reply.headers.get("idempotent-replayed") for reply in got].count(None) == 1
    assert await orders.count({}) == await receipts.count({}) == len(runs) == 1


async def test_p1_while_the_first_is_worked_on_the_second_hears_409(client: httpx.AsyncClient) -> None:
    slow.append(asyncio.Event())
    first = asyncio.create_task(client.post("/orders", json=COW, headers=with_key("k1")))
    while not runs:
        await asyncio.sleep(0.001)
    second = await client.post("/orders", json=COW, headers=with_key("k1"))
    other = await client.post("/orders", json={"item": "hen"}, headers=with_key("k1"))
    slow[0].set()
    assert (second.status_code, second.json()["code"]) == (409, "still_working")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (await first).status_code == 201


@pytest.mark.parametrize(
    ("path", "body"), [("/orders", {"item": "hen"}), ("/orders?gift=1", COW)], ids=["body", "query"]
)
async def test_p1_another_request_under_the_same_key_is_refused(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    await client.post("/orders", json=COW, headers=with_key("k1"))
    other = await client.post(path, json=body, headers=with_key("k1"))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await orders.count({}) == 1


async def test_p1_a_key_belongs_to_its_actor_or_address_and_its_route(client: httpx.AsyncClient) -> None:
    async with _client(_app(), "192.0.2.2") as elsewhere:
        made = [
            await client.post("/orders", json=COW, headers=with_key("k1", "ann")),
            await client.post("/orders", json=COW, headers=with_key("k1", "bob")),
            await client.post("/orders", json=COW, headers={"idempotency-key": "k1"}),
            await elsewhere.post("/orders", json=COW, headers={"idempotency-key": "k1"}),
            await client.post("/payments", json=COW, headers=with_key("k1", "ann")),
        ]
    assert [reply.headers.get("idempotent-replayed") for reply in made] == [None] * 5
    assert await orders.count({}) == 5


@pytest.mark.parametrize("key", ["", "k" * 256, "k\x07", "kä"])
async def test_p1_a_bad_key_is_refused(client: httpx.AsyncClient, key: str) -> None:
    headers = [(b"idempotency-key", key.encode("latin-1")), (b"who", b"ann")]
    reply = await client.post("/orders", json=COW, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_idempotency_key")
    assert runs == []


async def test_p1_keys_of_255_characters_are_taken(client: httpx.AsyncClient) -> None:
    first = await client.post("/orders", json=COW, headers=with_key("k" * 255))
    again = await client.post("/orders", json=COW, headers=with_key("k" * 255))
    assert first.content == again.content
    assert len(runs) == 1


async def test_p1_a_route_may_demand_a_key_or_take_none(client: httpx.AsyncClient) -> None:
    without = await client.post("/payments", json=COW)
    assert (without.status_code, without.json()["code"]) == (400, "idempotency_key_missing")
    for _ in range(2):
        assert (await client.post("/counts", json=COW, headers=with_key("k1"))).status_code == 201
    assert await orders.count({}) == 2


async def test_p1_a_refusal_that_changed_nothing_is_not_kept(client: httpx.AsyncClient) -> None:
    invalid = await client.post("/orders", json={"item": ""}, headers=with_key("k1"))
    sold_out = await client.post("/orders", json={"item": "nothing"}, headers=with_key("k1"))
    made = await client.post("/orders", json=COW, headers=with_key("k1"))
    assert (invalid.status_code // 100, sold_out.status_code, made.status_code) == (4, 409, 201)


async def test_p1_after_a_failure_the_next_try_goes_on_from_what_was_done(client: httpx.AsyncClient) -> None:
    failed = await client.post("/failing", json=COW, headers=with_key("k1"))
    made = await client.post("/failing", json=COW, headers=with_key("k1"))
    again = await client.post("/failing", json=COW, headers=with_key("k1"))
    assert (failed.status_code, made.status_code, again.status_code) == (500, 201, 201)
    assert await orders.count({}) == 1
    assert made.content == again.content
    assert made.headers["location"] == again.headers["location"]
    assert (made.headers["x-other"], again.headers.get("x-other")) == ("2", None)


async def test_p1_a_refusal_after_something_was_done_lets_the_next_try_go_on(client: httpx.AsyncClient) -> None:
    refused = await client.post("/refusing", json=COW, headers=with_key("k1"))
    made = await client.post("/refusing", json=COW, headers=with_key("k1"))
    assert (refused.status_code, made.status_code) == (409, 201)
    assert await orders.count({}) == 1


async def test_p1_a_body_larger_than_allowed_is_refused_before_anything(
    client: httpx.AsyncClient, running: state.State
) -> None:
    running.settings = msgspec.structs.replace(running.settings, max_body=2048)
    small, large = os.urandom(2048), os.urandom(2049)
    taken = await client.post("/raw", content=small, headers=with_key("k1"))
    refused = await client.post("/raw", content=large, headers=with_key("k2"))
    assert taken.json() == {"sha256": sha256(small).hexdigest(), "length": 2048}
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")


async def test_p1_a_kept_reply_counts_for_48_hours_by_the_databases_clock(client: httpx.AsyncClient) -> None:
    await client.post("/orders", json=COW, headers=with_key("k1"))
    store = idempotency.tries("stall")
    row = await store.find({})
    assert row is not None
    assert 47.9 < (row.kept_until - row.created_at).total_seconds() / 3600 < 48.1
    assert [index.expires_after for index in store.indexes] == [0]
    await store.raw.update_one({}, {"$set": {"kept_until": row.created_at}})  # past, and the sweeper not come yet
    later = await client.post("/orders", json={"item": "hen"}, headers=with_key("k1"))
    assert (later.status_code, later.headers.get("idempotent-replayed")) == (201, None)


async def test_c2_who_lost_the_lease_cannot_commit(client: httpx.AsyncClient) -> None:
    slow.append(asyncio.Event())
    first = asyncio.create_task(client.post("/orders", json=COW, headers=with_key("k1")))
    while not runs:
        await asyncio.sleep(0.001)
    store = idempotency.tries("stall")
    await store.raw.update_one({}, [{"$set": {"lease_until": "$$NOW"}}])  # a minute passed
    gate, slow[:] = slow[0], []
    second = await client.post("/orders", json=COW, headers=with_key("k1"))
    gate.set()
    assert second.status_code == 201
    assert ((await first).status_code, (await first).json()["code"]) == (409, "still_working")
    assert await orders.count({}) == await receipts.count({}) == 1
    again = await client.post("/orders", json=COW, headers=with_key("k1"))
    assert again.content == second.content


async def test_c2_a_step_that_does_not_fit_is_never_taken_for_another(client: httpx.AsyncClient) -> None:
    await client.post("/failing", json=COW, headers=with_key("k1"))
    store = idempotency.tries("stall")
    await store.raw.update_one({}, {"$set": {"steps.1.act": "elsewhere.other"}})
    assert (await client.post("/failing", json=COW, headers=with_key("k1"))).status_code == 500
    assert await orders.count({}) == 1


async def test_what_waits_for_a_commit_is_no_step_of_the_request(running: state.State) -> None:
    seen: list[Any] = []

    @atomic
    async def act() -> None:
        async def look() -> None:
            seen.append(unit.journal.get())

        unit.after_commit(look)

    class Notes:
        def next_step(self) -> int:
            return 1

        def recall(self, step: int, act: Any) -> tuple[bool, Any]:
            return False, None

        async def keep(self, session: Any, step: int, act: Any, result: Any) -> None: ...

    token = unit.journal.set(Notes())
    await act()
    unit.journal.reset(token)
    assert seen == [None]


# ---- killed, on a real server


@contextmanager
def serving(port: int, **environ: str) -> Iterator[None]:
    """Granian with the stall on a port, one worker that is started again when it dies."""
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--respawn-failed-workers"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-log", "msingi.kit.tests.test_idempotency:build"]
    with open(os.devnull, "wb") as nowhere:
        process = copies.copy(command, os.environ | environ, nowhere)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environ_of(running: state.State, **more: str) -> dict[str, str]:
    return {
        "MSINGI_ENV": "test",
        "MONGO_URL": running.settings.mongo_url,
        "REDIS_URL": running.settings.redis_url,
        "MSINGI_DATABASE": running.settings.database,
        **more,
    }


async def post_until_answered(client: httpx.AsyncClient, key: str, body: Any, seconds: float = 60) -> httpx.Response:
    """What a careful client does: try again with the same key after a broken line, a 409 or a 503."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            reply = await client.post("/orders", json=body, headers=with_key(key))
            if reply.status_code not in (409, 503):
                return reply
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "no answer"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("place", ["before", "after the order", "after the payment", "after the receipt"])
async def test_c2_killed_in_between_the_same_key_finishes_the_work(
    running: state.State, tmp_path: Path, place: str
) -> None:
    environ = environ_of(running, LEASE="1", DIE_AT=place, DIE_MARK=str(tmp_path / "died"))
    port = free_port()
    with serving(port, **environ):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, **NEARBY) as client:
            made = await post_until_answered(client, "k1", COW)
            assert (tmp_path / "died").exists()
            again = await post_until_answered(client, "k1", COW)
    assert made.status_code == 201
    done = made.json()
    assert (done["order"]["item"], done["order"]["paid"], done["counts"]) == ("cow", 30, [1, 1])
    assert done["receipt"]["lines"] == [["cow", 30]]
    assert await orders.count({}) == await receipts.count({}) == 1
    kept = await orders.get(done["order"]["_id"])
    assert (kept.paid, kept.version) == (30, 2)
    assert again.content == made.content
    assert again.headers["idempotent-replayed"] == "true"


async def test_c2_killed_again_and_again_every_order_is_made_once(running: state.State) -> None:
    keys = [f"k{number}" for number in range(40)]
    environ, port = environ_of(running, LEASE="0.3"), free_port()
    # A killed process leaves its transactions open; MongoDB ends them after a minute if nobody says sooner.
    async with (
        short_transactions(running, 3),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, **NEARBY) as client,
    ):
        work = [asyncio.create_task(post_until_answered(client, key, COW)) for key in keys]
        answered = []
        for kill in range(4):
            with serving(port, **environ):
                pid = await first_pid(client)
                await asyncio.sleep(0.03 * kill)
                os.kill(pid, signal.SIGKILL)
                answered.append(sum(each.done() for each in work))
        with serving(port, **environ):
            made = [reply.json() for reply in await asyncio.gather(*work)]
    assert answered[0] < len(keys)
    assert await orders.count({}) == await receipts.count({}) == len(keys)
    assert {order.paid for order in await orders.many({})} == {30}
    assert len({each["order"]["_id"] for each in made}) == len(keys)


@asynccontextmanager
async def short_transactions(running: state.State, seconds: int) -> AsyncIterator[None]:
    """Let MongoDB end transactions that are older than this."""
    before = await running.mongo.admin.command("getParameter", transactionLifetimeLimitSeconds=1)
    await running.mongo.admin.command("setParameter", transactionLifetimeLimitSeconds=seconds)
    try:
        yield
    finally:
        was = before["transactionLifetimeLimitSeconds"]
        await running.mongo.admin.command("setParameter", transactionLifetimeLimitSeconds=was)


async def first_pid(client: httpx.AsyncClient, seconds: float = 30) -> int:
    """The process that answers, as soon as one does."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return int((await client.get("/pid")).text)
        except httpx.TransportError:
            assert time.monotonic() < deadline, "no server"
            await asyncio.sleep(0.02)


async def _page() -> Page[Order]:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("act", "result"),
    [
        (_page, Page([Order(item="cow")], "more")),
        (write_receipt, (Receipt(order_id="1", at=now(), lines=[("cow", 2)]), [1, 2])),
        (note_nothing, None),
    ],
)
async def test_results_of_any_shape_come_back_as_they_went_in(act: Any, result: Any) -> None:
    found = Try(print="", state="open", lease="", lease_until=now(), kept_until=now())
    inner = act if act is _page else act.__wrapped__
    async with state.running(test_settings()):
        work = Work(idempotency.tries("stall"), found)
        found.steps["1"] = {"act": f"{inner.__module__}.{inner.__qualname__}", "result": work.sealed(1, result)}
        assert b"cow" not in found.steps["1"]["result"]
        assert work.recall(1, inner) == (True, result)
