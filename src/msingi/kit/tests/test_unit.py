"""Units of work: all or nothing, what waits for the commit, and what a crowd of writers is told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from msingi.kit import state, unit
from msingi.kit.db import Collection, Doc
from msingi.kit.errors import Busy, Conflict
from msingi.kit.unit import after_commit, atomic, guarded


class Purse(Doc):
    coins: int = 0


purses = Collection(Purse, "purses", tags=lambda purse: [f"purse:{purse.id}"])
purses.product = "bank"


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def bank(running: state.State) -> AsyncIterator[None]:
    await purses.prepare()
    await purses.raw.delete_many({})
    await purses.raw.insert_many([purses.dump(Purse(id=who, coins=10)) for who in ("ann", "bob")])
    yield


@atomic
async def move(coins: int, fail: bool = False) -> str:
    await purses.change("ann", {"$inc": {"coins": -coins}})
    if fail:
        raise Conflict
    await purses.change("bob", {"$inc": {"coins": coins}})
    return "moved"


async def coins() -> list[int]:
    return [purse.coins for purse in await purses.many({}, sort=[("_id", 1)])]


async def test_all_of_it_is_written() -> None:
    assert await move(3) == "moved"
    assert await coins() == [7, 13]


async def test_none_of_it_is_written_when_it_fails() -> None:
    with pytest.raises(Conflict):
        await move(3, fail=True)
    assert await coins() == [10, 10]


async def test_transfers_at_once_lose_no_coin() -> None:
    await asyncio.gather(*(move(1) for _ in range(8)))
    assert await coins() == [2, 18]


async def test_what_waits_for_the_commit_happens_after_it_and_only_then() -> None:
    seen: list[list[int]] = []

    async def look() -> None:
        seen.append(await coins())

    @atomic
    async def act(fail: bool) -> None:
        await purses.change("ann", {"$inc": {"coins": 1}})
        after_commit(look)
        assert not seen
        if fail:
            raise Conflict

    with pytest.raises(Conflict):
        await act(True)
    assert not seen
    await act(False)
    assert seen == [[11, 10]]


async def test_a_failure_after_the_commit_does_not_undo_it() -> None:
    async def explode() -> None:
        raise ValueError("too late to matter")

    @atomic
    async def act() -> str:
        await purses.change("ann", {"$inc": {"coins": 1}})
        after_commit(explode)
        return "done"

    assert await act() == "done"
    assert await coins() == [11, 10]


async def test_stale_tags_are_told_once_the_commit_stands() -> None:
    told: list[set[str]] = []

    async def forget(tags: set[str]) -> None:
        told.append(set(tags))

    unit.on_stale(forget)
    try:
        await move(1)
    finally:
        unit._forget.remove(forget)
    assert told == [{"purse:ann", "purse:bob"}]


async def test_a_second_write_in_a_guarded_action_is_refused() -> None:
    @guarded
    async def twice() -> None:
        await purses.change("ann", {"$inc": {"coins": 1}})
        await purses.change("bob", {"$inc": {"coins": 1}})

    with pytest.raises(RuntimeError, match="second write"):
        await twice()


async def test_a_guarded_action_inside_an_atomic_one_joins_its_transaction() -> None:
    @guarded
    async def give() -> None:
        await purses.change("ann", {"$inc": {"coins": 1}})

    @atomic
    async def outer() -> None:
        await give()
        raise Conflict

    with pytest.raises(Conflict):
        await outer()
    assert await coins() == [10, 10]


async def test_writers_that_never_get_through_hear_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "PATIENCE", 0.5)
    held, leave = asyncio.Event(), asyncio.Event()

    @atomic
    async def hold() -> None:
        await purses.change("ann", {"$inc": {"coins": 1}})
        held.set()
        await leave.wait()

    @atomic
    async def knock() -> None:
        await purses.change("ann", {"$inc": {"coins": 1}})

    monkeypatch.setattr(unit, "PATIENCE", 30)
    holder = asyncio.create_task(hold())
    await held.wait()
    monkeypatch.setattr(unit, "PATIENCE", 0.5)
    with pytest.raises(Busy) as told:
        await knock()
    leave.set()
    await holder
    assert told.value.headers == {"Retry-After": "1"}
    assert await coins() == [11, 10]


@pytest.fixture
def told(running: state.State) -> Iterator[list[set[str]]]:
    """What was called stale, commit by commit."""
    heard: list[set[str]] = []

    async def forget(tags: set[str]) -> None:
        heard.append(set(tags))

    unit.on_stale(forget)
    yield heard
    unit._forget.remove(forget)


async def test_a_caller_who_goes_away_after_the_commit_does_not_take_along_what_follows(told: list[set[str]]) -> None:
    committed, done = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        committed.set()
        await asyncio.sleep(0.05)
        done.set()

    @atomic
    async def act() -> None:
        await purses.change("ann", {"$inc": {"coins": 1}})
        after_commit(slowly)

    caller = asyncio.create_task(act())
    await committed.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.wait_for(done.wait(), 15)
    assert told == [{"purse:ann"}]


async def test_a_commit_that_nobody_knows_of_counts_as_a_change(told: list[set[str]]) -> None:
    reached = asyncio.Event()

    @atomic
    async def act() -> None:
        await purses.change("ann", {"$inc": {"coins": 1}})
        reached.set()
        await asyncio.sleep(5)

    caller = asyncio.create_task(act())
    await reached.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await _until(lambda: told == [{"purse:ann"}])


async def _until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not so():
            await asyncio.sleep(0.005)
