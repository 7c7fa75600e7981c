"""Limits: exact over processes, honest on every reply, and half as generous when the process is late."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar, get
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from msingi.kit import breaker, limits, replies, state
from msingi.kit.actors import Actor
from msingi.kit.errors import NotFound
from msingi.kit.http import Path
from msingi.kit.limits import Limit, Quota, Window, network_of, parse, take


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowded machine is no subject here; what happens without Redis is that of test_redis_faults."""
    monkeypatch.setattr(breaker, "PATIENCE", 5.0)


def test_a_limit_is_read_from_words() -> None:
    assert parse("30/minute") == Quota(30, 60)
    assert parse("5/10 seconds") == Quota(5, 10)
    assert parse("1000/2hours") == Quota(1000, 7200)
    assert parse("1/day") == Quota(1, 86400)


@pytest.mark.parametrize("text", ["", "30", "0/minute", "30/fortnight", "-1/minute", "30/minute ", "many/minute"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no limit"):
        parse(text)


def test_only_generous_quotas_are_leased_and_never_more_than_a_twentieth() -> None:
    assert [parse(f"{n}/minute").block for n in (1, 99, 100, 300, 3000)] == [1, 1, 5, 15, 50]


def test_an_address_stands_for_one_subscriber() -> None:
    assert network_of("192.0.2.7") == network_of("::ffff:192.0.2.7") == "address:192.0.2.7"
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff::9") == "network:2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("testclient") == "address:testclient"


def test_the_turn_of_a_window_is_no_moment_to_double_the_rate() -> None:
    window, quota = Window(0.0), Quota(10, 60)
    window.take(1, quota, 0.0)
    late = sum(window.take(1, quota, 59.9).allowed for _ in range(20))
    early = sum(window.take(1, quota, 66.0).allowed for _ in range(20))
    assert (late, early) == (9, 1)
    assert sum(window.take(1, quota, 180.0).allowed for _ in range(20)) == 10


# ---- over processes

SEVERAL = """
import asyncio, os, sys, time
from msingi.kit import breaker, config, limits, state

breaker.PATIENCE = 5.0

async def main():
    async with state.running(config.load(config.Settings, os.environ)):
        await state.redis().ping()
        print("ready", flush=True)
        sys.stdin.readline()
        for words in sys.argv[1:]:
            quota = limits.parse(words)
            # Some come as tasks of their own at once, as requests do.
            taken = await asyncio.gather(*(limits.take(words, quota) for _ in range(quota.quota * 6 // 4)))
            print(sum(each.allowed for each in taken), flush=True)

asyncio.run(main())
"""


async def test_r2_the_limit_is_exact_over_processes(running: state.State) -> None:
    quotas = ["1/minute", "40/minute", "100/minute", "300/minute"]
    processes = [_several(running, quotas) for _ in range(4)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        told = await asyncio.gather(*(asyncio.to_thread(process.communicate, "go\n", 60) for process in processes))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    allowed = [sum(counts) for counts in zip(*([int(each) for each in out.split()] for out, _ in told), strict=True)]
    assert [parse(words).quota for words in quotas] == allowed


def _several(running: state.State, quotas: list[str]) -> subprocess.Popen[str]:
    environ = {
        "MSINGI_ENV": "test",
        "MONGO_URL": running.settings.mongo_url,
        "REDIS_URL": running.settings.redis_url,
        "MSINGI_DATABASE": running.settings.database,
    }
    return subprocess.Popen(
        [sys.executable, "-c", SEVERAL, *quotas],
        env=os.environ | environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("words", ["20/minute", "200/minute"])
async def test_r2_the_limit_is_exact_when_all_come_at_once(running: state.State, words: str) -> None:
    quota = parse(words)
    taken = await asyncio.gather(*(take("burst", quota) for _ in range(quota.quota * 6)))
    assert sum(each.allowed for each in taken) == quota.quota
    assert all(each.remaining == 0 and 1 <= each.retry_after <= 63 for each in taken if not each.allowed)
    assert min(each.remaining for each in taken if each.allowed) == 0


async def test_r2_what_is_leased_and_not_spent_is_not_lost(
    running: state.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LEASE", 0.005)
    quota = parse("100/minute")
    burst = [(await take("slow", quota)).allowed for _ in range(40)]
    slow = []
    for _ in range(60):
        await asyncio.sleep(0.006)
        slow.append((await take("slow", quota)).allowed)
    assert all(burst + slow)
    await asyncio.sleep(0.006)
    assert not (await take("slow", quota)).allowed


async def test_a_costly_request_takes_more_or_nothing(running: state.State) -> None:
    tight, generous = parse("10/minute"), parse("100/minute")
    for quota in (tight, generous):
        first = await take("costly", quota, cost=7)
        second = await take("costly", quota, cost=quota.quota)
        third = await take("costly", quota, cost=3)
        assert (first.allowed, second.allowed, third.allowed) == (True, False, True)
        limits.forget()
        await running.redis.flushdb()


@pytest.mark.parametrize("words", ["3/2 seconds", "200/2 seconds"])
async def test_r1_after_the_seconds_of_retry_after_it_works_again(running: state.State, words: str) -> None:
    quota = parse(words)
    for _ in range(quota.quota):
        await take("again", quota)
    refused = await take("again", quota)
    since = time.monotonic()
    while not (await take("again", quota)).allowed:
        assert time.monotonic() - since < 10
        await asyncio.sleep(0.02)
    assert not refused.allowed
    assert abs(time.monotonic() - since - refused.retry_after) <= 1


# ---- in front of routes


class Doorman(ASGIMiddleware):
    """Believes whoever says who they are: the gate has tests of its own."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        headers = dict(scope["headers"])
        scope["user"] = Actor(id=headers[b"who"].decode()) if b"who" in headers else None
        await next_app(scope, receive, send)


@get("/open")
async def open_route() -> str:
    return "yes"


@get("/tight/{number:int}", limit="3/minute")
async def tight_route(number: Path[int]) -> str:
    return str(number)


@get("/fails")
async def failing_route() -> None:
    raise NotFound


@get("/health", limit="off")
async def health_route() -> str:
    return "alive"


@pytest_asyncio.fixture(loop_scope="session")
async def client(running: state.State) -> AsyncIterator[httpx.AsyncClient]:
    running.settings = msgspec.structs.replace(
        running.settings, anonymous_limit="10/minute", member_limit="200/minute", processes=2
    )
    app = Litestar(
        route_handlers=[open_route, tight_route, failing_route, health_route],
        middleware=[Doorman(), Limit()],
        exception_handlers=replies.HANDLERS,
        openapi_config=None,
        logging_config=None,
    )
    async with _client(app, "192.0.2.1") as client:
        yield client


def _client(app: Any, address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app, client=(address, 1)), base_url="http://a.test")


async def test_r1_every_reply_tells_the_limit_and_what_is_left(client: httpx.AsyncClient) -> None:
    first, second = await client.get("/open"), await client.get("/fails")
    assert first.headers["ratelimit-policy"] == second.headers["ratelimit-policy"] == '"anonymous";q=10;w=60'
    assert (first.headers["ratelimit"], second.headers["ratelimit"]) == ('"anonymous";r=9;t=60', '"anonymous";r=8;t=60')
    assert (first.status_code, second.status_code) == (200, 404)


async def test_r1_a_routes_own_limit_stands_before_the_general_one(client: httpx.AsyncClient) -> None:
    reply = await client.get("/tight/1", headers={"who": "ann"})
    assert reply.headers["ratelimit-policy"] == '"route";q=3;w=60, "member";q=200;w=60'
    assert reply.headers["ratelimit"] == '"route";r=2;t=60, "member";r=199;t=60'


async def test_r1_too_many_are_refused_with_a_problem_that_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    statuses = [(await client.get(f"/tight/{number}", headers={"who": "ann"})).status_code for number in range(3)]
    refused = await client.get("/tight/9", headers={"who": "ann"})
    assert statuses == [200, 200, 200]
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert (problem["code"], problem["quota"], problem["window"]) == ("quota_exceeded", 3, 60)
    # The window ends in a minute; then the first third of the next must pass until one of the three is forgotten.
    assert refused.headers["retry-after"] == str(problem["retry_after"])
    assert 79 <= problem["retry_after"] <= 81
    assert refused.headers["ratelimit"] == f'"route";r=0;t={problem["retry_after"]}'


async def test_each_caller_has_their_own_quota(client: httpx.AsyncClient) -> None:
    for who in ("ann", "bob"):
        assert [(await client.get("/tight/1", headers={"who": who})).status_code for _ in range(4)] == [200] * 3 + [429]
    app = client._transport.app  # type: ignore[attr-defined]
    for _ in range(10):
        assert (await client.get("/open")).status_code == 200
    assert (await client.get("/open")).status_code == 429
    async with _client(app, "2001:db8::1") as one, _client(app, "2001:db8::2") as neighbour:
        assert (await one.get("/open")).headers["ratelimit"] == '"anonymous";r=9;t=60'
        assert (await neighbour.get("/open")).headers["ratelimit"] == '"anonymous";r=8;t=60'


async def test_an_exempt_route_is_not_counted_and_tells_nothing(client: httpx.AsyncClient) -> None:
    replies = [await client.get("/health") for _ in range(20)]
    assert {reply.status_code for reply in replies} == {200}
    assert "ratelimit" not in replies[0].headers


async def test_r3_a_late_event_loop_halves_the_anonymous_quota_and_recovers(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert limits.RECOVERY <= 60
    monkeypatch.setattr(limits, "RECOVERY", 0.5)
    assert (await client.get("/open")).headers["ratelimit-policy"] == '"anonymous";q=10;w=60'
    time.sleep(0.5)  # noqa: ASYNC251  (this is what makes the loop late)
    await asyncio.sleep(0.01)
    strained = await client.get("/open")
    member = await client.get("/open", headers={"who": "ann"})
    assert strained.headers["ratelimit-policy"] == '"anonymous";q=5;w=60'
    assert strained.headers["ratelimit"] == '"anonymous";r=3;t=60'
    assert member.headers["ratelimit-policy"] == '"member";q=200;w=60'
    since = time.monotonic()
    while (await client.get("/open", headers={})).headers["ratelimit-policy"] != '"anonymous";q=10;w=60':
        assert time.monotonic() - since < 10
        await asyncio.sleep(0.2)
