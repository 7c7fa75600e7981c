"""Workers that are processes, on a MongoDB and a Redis of their own, so that anything may be killed."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import config, embedded, jobs, relay, state
from msingi.kit.tests import copies, mill
from msingi.kit.tests.copies import Copy
from msingi.kit.tests.mill import baked, both, traced


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Servers]:
    with embedded.start(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def running(servers: embedded.Servers) -> AsyncIterator[state.State]:
    async with state.running(config.load(config.Settings, environment(servers)), both) as opened:
        await opened.redis.flushdb()
        await mill.prepare()
        yield opened
        for name in await opened.mongo.list_database_names():
            if name.startswith("own_"):
                await opened.mongo.drop_database(name)


def environment(servers: embedded.Servers) -> dict[str, str]:
    return {
        "MSINGI_ENV": "test",
        "MSINGI_DATABASE": "own",
        "MONGO_URL": servers.mongo_url,
        "REDIS_URL": servers.redis_url,
    }


Start = Callable[[], Awaitable[Copy]]


@pytest_asyncio.fixture(loop_scope="session")
async def start_worker(servers: embedded.Servers, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts worker processes; those that live at the end are killed."""
    started: list[Copy] = []

    async def start() -> Copy:
        log = (tmp_path / f"worker {len(started)}.log").open("wb")
        command = [sys.executable, "-c", "from msingi.kit.tests import mill; mill.work()"]
        given = {**os.environ, **environment(servers), "PYTHONPATH": os.pathsep.join(sys.path)}
        started.append(await asyncio.to_thread(copies.copy, command, given, log))
        log.close()
        await until(beginning)
        return started[-1]

    yield start
    for number, process in enumerate(started):
        process.kill()
        process.wait()
        print((tmp_path / f"worker {number}.log").read_text()[-4000:])  # seen where the test failed


async def beginning() -> bool:
    return bool(await relay.beginning())


async def until(true: Callable[[], Awaitable[Any]], seconds: float = 30) -> float:
    """Wait for it; how long that took."""
    began = time.monotonic()
    while not await true():
        assert time.monotonic() - began < seconds, f"this did not come true within {seconds} seconds"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def in_thread(act: Callable[[], Any]) -> None:
    await asyncio.to_thread(act)


async def all_done() -> bool:
    return not await jobs.rows("mill").exists({"state": {"$ne": "done"}})


async def is_baked(sacks: list[str]) -> bool:
    return await baked() == sorted(sacks)


def kill(servers: embedded.Servers, kind: str) -> None:
    os.kill(servers.pids[kind], signal.SIGKILL)
    while not servers.dead():
        time.sleep(0.01)


async def test_c3_the_jobs_and_events_of_a_killed_worker_are_done_by_another(start_worker: Start) -> None:
    first = await start_worker()
    for number in range(6):
        await mill.slow_at_first.later(str(number))
    await until(lambda: all_began(6))
    first.kill()
    first.wait()
    killed = time.monotonic()
    await mill.grind("rye")
    await start_worker()
    await until(all_done, 20 + 30)
    took = time.monotonic() - killed
    await until(lambda: is_baked(["rye"]))
    assert await traced("slow") == [str(number) for number in range(6)]
    tries = {row.tries async for row in jobs.rows("mill").each({"name": mill.slow_at_first.name})}
    assert tries == {2}
    print(f"\ndone {took:.1f} s after the kill")
    assert took < 30


async def test_c3_a_burst_of_events_that_a_kill_cuts_off_has_its_effects_once(start_worker: Start) -> None:
    """They are reacted to many at a time: those under way are all undone with the worker, and done by the next one."""
    first = await start_worker()
    sacks = [f"{number:03d}" for number in range(120)]
    telling = asyncio.gather(*(mill.grind(sack) for sack in sacks))
    await until(some_baked)
    first.kill()
    first.wait()
    await telling
    left = len(sacks) - len(await baked())
    await start_worker()
    await until(lambda: is_baked(sacks), 45)
    print(f"\n{left} of {len(sacks)} were left when it was killed")


async def some_baked() -> bool:
    return bool(await baked())


async def all_began(count: int) -> bool:
    return len(set(await traced("slow began"))) == count


async def test_c4_no_job_and_no_event_is_lost_with_all_of_redis(servers: embedded.Servers, start_worker: Start) -> None:
    told = [f"before {number}" for number in range(20)]
    for sack in told:
        await mill.grind(sack)
        await mill.leave_trace.later(sack)
    await start_worker()
    await until(lambda: is_baked(told))
    kill(servers, "redis")
    for kept in servers.folder.rglob("*.aof*"):
        kept.unlink()
    during = [f"during {number}" for number in range(20)]
    for sack in during:
        await mill.grind(sack)
        await mill.leave_trace.later(sack)
    await until(all_done)  # jobs are run without it
    await in_thread(servers.revive)
    took = await until(lambda: is_baked(told + during))
    assert not await jobs.rows("bakery").exists({})
    await state.redis().flushall()
    await mill.grind("after")
    took = max(took, await until(lambda: is_baked([*told, *during, "after"])))
    assert await traced("leave_trace") == sorted(told + during)
    print(f"\nheard {took:.1f} s after Redis was back")


async def test_c1_the_worker_outlives_a_killed_database(servers: embedded.Servers, start_worker: Start) -> None:
    await start_worker()
    told = [f"sack {number}" for number in range(10)]
    for sack in told:
        await mill.grind(sack)
        await mill.leave_trace.later(sack)
    await mill.slow.later("over the gap", 4.0)
    await until(lambda: all_began(1))
    kill(servers, "mongo")
    await asyncio.sleep(1)
    await in_thread(servers.revive)
    await mill.grind("after")
    await mill.leave_trace.later("after")
    await until(all_done, 40)
    await until(lambda: is_baked([*told, "after"]))
    assert await traced("leave_trace") == sorted([*told, "after"])
    assert set(await traced("slow")) == {"over the gap"}


async def test_c17_a_worker_that_is_told_to_stop_finishes_first(start_worker: Start) -> None:
    process = await start_worker()
    await mill.slow.later("rye", 1.0)
    await until(lambda: all_began(1))
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert await traced("slow") == ["rye"]
    assert await state.database("kit")["leases"].count_documents({}) == 0


async def test_two_workers_share_the_work(start_worker: Start) -> None:
    await start_worker()
    second = await start_worker()
    told = [f"sack {number}" for number in range(100)]
    for sack in told:
        await mill.grind(sack)
        await mill.leave_trace.later(sack)
    second.kill()  # in the middle of it
    await until(all_done)
    await until(lambda: is_baked(told), 40)
    assert set(await traced("leave_trace")) == set(told)
