"""Redis killed, stopped, crowded, or back with an old memory: the house stays up, and nothing old is believed."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar, Response, get, post

from msingi.kit import breaker, cache, limits, replies, state
from msingi.kit.by_address import by_address
from msingi.kit.cache import cached
from msingi.kit.db import Collection, Doc
from msingi.kit.encoded import Encoded, encoded
from msingi.kit.limits import Limit, parse, take
from msingi.kit.replies import KitResponse, sent
from msingi.kit.tests.own_redis import OwnRedis
from msingi.kit.unit import atomic


class Coop(Doc):
    hens: int = 0


coops = Collection(Coop, "coops", tags=lambda coop: [f"coop:{coop.id}"])
coops.product = "hens"


@pytest_asyncio.fixture(loop_scope="session")
async def alone(running: state.State, own: OwnRedis) -> AsyncIterator[state.State]:
    """A process with a Redis of its own."""
    settings = msgspec.structs.replace(running.settings, redis_url=own.url, anonymous_limit="100000/minute")
    async with state.running(settings) as opened:
        await coops.prepare()
        await coops.raw.delete_many({})
        await coops.raw.insert_one(coops.dump(Coop(id="big", hens=1)))
        yield opened


@cached(minutes=10, tags=lambda coop_id: [f"coop:{coop_id}"])
async def hens(coop_id: str) -> int:
    return (await coops.get(coop_id)).hens


@atomic
async def buy(coop_id: str) -> Coop:
    return await coops.change(coop_id, {"$inc": {"hens": 1}})


@get("/hens", limit="5000/minute")
async def show_hens() -> int:
    return await hens("big")


@cached(minutes=10, tags=lambda coop_id: [f"coop:{coop_id}"])
async def page_of(coop_id: str) -> Encoded:
    return encoded((await coops.get(coop_id)).hens)


@get("/page", public=True, middleware=[by_address])
async def show_page() -> Response[Any]:
    return sent(await page_of("big"))


@get("/few", limit="60/minute")
async def show_few() -> str:
    return "few"


@post("/hens")
async def buy_hen() -> int:
    return (await buy("big")).hens


@pytest_asyncio.fixture(loop_scope="session")
async def client(alone: state.State) -> AsyncIterator[httpx.AsyncClient]:
    app: Any = Litestar(
        route_handlers=[show_hens, show_page, show_few, buy_hen],
        middleware=[Limit()],
        exception_handlers=replies.HANDLERS,
        response_class=KitResponse,
        openapi_config=None,
        logging_config=None,
    )
    transport = httpx.ASGITransport(app=app, client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://a.test") as client:
        yield client


@pytest.mark.parametrize("fault", ["kill", "stop"])
async def test_c5_without_redis_the_house_answers_and_hardly_slower(
    client: httpx.AsyncClient, own: OwnRedis, fault: str
) -> None:
    extra = [await _slower_by(client, own, fault)]
    while extra[-1] >= 0.1 and len(extra) < 3:  # a neighbour may have had the machine for a moment
        extra.append(await _slower_by(client, own, fault))
    assert min(extra) < 0.1, f"{extra} s"


async def _slower_by(client: httpx.AsyncClient, own: OwnRedis, fault: str) -> float:
    """How many seconds the slowest hundredth takes longer while Redis is away."""
    healthy = await _times(client)
    getattr(own, fault)()
    faulty = await _times(client)
    if fault == "kill":
        own.start()
    else:
        own.go_on()
    await _until(lambda: _asks_redis())
    return sorted(faulty)[int(len(faulty) * 0.99)] - sorted(healthy)[int(len(healthy) * 0.99)]


async def _times(client: httpx.AsyncClient, each: int = 250, at_once: int = 4) -> list[float]:
    """How long requests take, reads and a few writes, some at once."""

    async def ask_many() -> list[float]:
        took = []
        for number in range(each):
            since = time.perf_counter()
            reply = await (client.post("/hens") if number % 20 == 0 else client.get("/hens"))
            took.append(time.perf_counter() - since)
            assert reply.is_success, reply.text
        return took

    return [took for many in await asyncio.gather(*(ask_many() for _ in range(at_once))) for took in many]


async def _asks_redis() -> bool:
    return await breaker.ask(lambda: state.redis().incr("asked"), 0) > 0


async def _until(done: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not await done():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_c5_without_redis_the_limits_do_not_open(client: httpx.AsyncClient, own: OwnRedis) -> None:
    own.kill()
    statuses = [(await client.get("/few")).status_code for _ in range(60)]
    assert (statuses.count(200), statuses.count(429)) == (30, 30)  # 60 over two processes
    generous = [await take("generous", parse("1000/minute")) for _ in range(1000)]
    assert sum(each.allowed for each in generous) == 500
    own.start()
    await _until(lambda: _asks_redis())
    again = [(await client.get("/few")).status_code for _ in range(70)]
    assert again.count(200) == 60


async def test_c5_the_breaker_opens_after_a_few_and_closes_by_a_probe(alone: state.State, own: OwnRedis) -> None:
    assert await _asks_redis()
    own.stop()
    since = time.monotonic()
    assert not any([await _asks_redis() for _ in range(breaker.FAILURES)])
    assert alone.parts[breaker.Breaker].open
    opened = time.monotonic()
    assert not any([await _asks_redis() for _ in range(1000)])
    closed_eyes = time.monotonic() - opened
    own.go_on()
    await _until(lambda: _asks_redis(), seconds=3)
    assert opened - since < 1
    assert closed_eyes < 0.5


async def test_c5_a_stalled_event_loop_is_not_taken_for_a_dead_redis(alone: state.State) -> None:
    async def stall() -> None:
        await asyncio.sleep(0)
        time.sleep(0.12)  # noqa: ASYNC251  (this is the stall)

    for _ in range(3):
        answers, _ = await asyncio.gather(asyncio.gather(*(_asks_redis() for _ in range(20))), stall())
        assert all(answers)
    assert not alone.parts[breaker.Breaker].open


async def test_c6_a_surge_of_six_hundred_queues_without_an_error(alone: state.State) -> None:
    plain = await asyncio.gather(*(state.redis().incr("surge") for _ in range(600)))
    assert sorted(plain) == list(range(1, 601))
    careful = await asyncio.gather(*(breaker.ask(lambda: state.redis().incr("surge"), None) for _ in range(600)))
    assert sorted(each or 0 for each in careful) == list(range(601, 1201))
    clients = (await state.redis().info("clients"))["connected_clients"]
    assert clients <= 33


async def test_c5_a_commit_that_redis_was_not_told_of_is_told_when_it_is_back(
    alone: state.State, own: OwnRedis
) -> None:
    assert await hens("big") == 1
    own.stop()
    await buy("big")
    assert await hens("big") == 2
    assert alone.parts[cache.Cache].owed == {"coop:big"}
    own.go_on()
    await _until(lambda: _nothing_owed(alone))
    _as_another_process(alone)  # one that saw nothing of it
    assert await hens("big") == 2


async def test_c5_who_saw_the_outage_trusts_nothing_until_others_have_told(alone: state.State, own: OwnRedis) -> None:
    assert await hens("big") == 1
    own.stop()
    while await _asks_redis() or not alone.parts[breaker.Breaker].open:
        await asyncio.sleep(0.01)
    # Another process commits, and cannot tell: this one only sees that Redis is away.
    await coops.raw.update_one({"_id": "big"}, {"$set": {"hens": 7}})
    own.go_on()
    await _until(lambda: _asks_redis())
    assert await hens("big") == 7
    assert cache.DISTRUST > cache.DEBT_PAUSE + breaker.PAUSE + breaker.PATIENCE


async def test_c4_redis_back_with_an_old_memory_is_not_believed(alone: state.State, own: OwnRedis) -> None:
    assert await hens("big") == 1
    await alone.redis.save()
    await buy("big")
    assert await hens("big") == 2
    own.kill()
    own.start()  # with the old answer, and the number that its tag had then
    await _until(lambda: _asks_redis())
    assert await alone.redis.exists("tag:coop:big")
    assert not alone.parts[breaker.Breaker].open
    assert await hens("big") == 2


@pytest.mark.parametrize("fault", ["kill", "stop"])
async def test_c4_a_kept_reply_is_believed_only_while_redis_says_so(
    client: httpx.AsyncClient, alone: state.State, own: OwnRedis, fault: str
) -> None:
    async def shows(hens: int) -> bool:
        return (await client.get("/page")).content == b"%d" % hens

    assert [await shows(1), await shows(1)] == [True, True]
    await alone.redis.save()
    await client.post("/hens")
    assert [await shows(2), await shows(2)] == [True, True]
    getattr(own, fault)()
    await client.post("/hens")
    assert all([await shows(3) for _ in range(10)])
    if fault == "kill":
        own.start()  # with the number that the tag had when there was one hen
    else:
        own.go_on()
    while not await _asks_redis():
        assert await shows(3)
    await client.post("/hens")
    assert all([await shows(4) for _ in range(10)])


async def test_c4_after_redis_lost_everything_limits_and_cache_begin_anew(alone: state.State, own: OwnRedis) -> None:
    assert await hens("big") == 1
    assert (await take("key", parse("3/minute"))).remaining == 2
    own.kill()
    own.start()
    await _until(lambda: _asks_redis())
    assert await hens("big") == 1
    assert (await take("key", parse("3/minute"))).remaining == 2


async def _nothing_owed(alone: state.State) -> bool:
    return not alone.parts[cache.Cache].owed


def _as_another_process(alone: state.State) -> None:
    for part in (cache.Cache, breaker.Breaker, limits.Keeper):
        alone.parts.pop(part, None)


async def test_a_process_that_owes_too_much_owes_everything(
    alone: state.State, own: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MOST_OWED", 2)
    own.stop()
    for number in range(4):
        await cache.forget({f"tag-{number}", f"other-{number}"})
    assert alone.parts[cache.Cache].owed <= {cache.EVERYTHING, "tag-3", "other-3"}
    own.go_on()
    await _until(lambda: _nothing_owed(alone))
    assert await alone.redis.exists(f"tag:{cache.EVERYTHING}")
