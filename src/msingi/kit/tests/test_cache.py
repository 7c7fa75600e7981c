"""The cache: one origin call under a herd, and never an answer older than the commit that changed it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from msgspec import Struct

from msingi.kit import breaker, cache, clock, state
from msingi.kit.cache import cached
from msingi.kit.db import Collection, Doc
from msingi.kit.encoded import Encoded, encoded
from msingi.kit.errors import NotFound
from msingi.kit.testing import test_settings
from msingi.kit.unit import atomic, guarded


class Barn(Doc):
    cows: int = 0


class Summary(Struct):
    cows: int
    at: datetime
    names: list[str] = []


class Kind(Enum):
    COW = "cow"


barns = Collection(Barn, "barns", tags=lambda barn: [f"barn:{barn.id}"])
barns.product = "farm"
asked: list[Any] = []
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def farm(running: state.State) -> AsyncIterator[None]:
    await barns.prepare()
    await barns.raw.delete_many({})
    await barns.raw.insert_one(barns.dump(Barn(id="red", cows=1)))
    asked.clear()
    yield


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowded machine is no subject here; what happens without Redis is that of test_redis_faults."""
    monkeypatch.setattr(breaker, "PATIENCE", 5.0)


@pytest.fixture
def gate() -> Iterator[asyncio.Event]:
    """While it is shut, nobody who asked gets an answer."""
    gates.append(asyncio.Event())
    yield gates[0]
    gates.clear()


gates: list[asyncio.Event] = []


@cached(minutes=10, tags=lambda barn_id: [f"barn:{barn_id}"])
async def summary(barn_id: str) -> "Summary":
    asked.append(barn_id)
    barn = await barns.get(barn_id)
    for each in gates:
        await each.wait()
    return Summary(cows=barn.cows, at=NOON, names=["Bella"])


@atomic
async def buy(barn_id: str) -> Barn:
    return await barns.change(barn_id, {"$inc": {"cows": 1}})


@guarded
async def buy_one(barn_id: str) -> Barn:
    return await barns.change(barn_id, {"$inc": {"cows": 1}})


def as_another_process() -> None:
    """Forget what this process remembers, but not what is in Redis."""
    state.current().parts.pop(cache.Cache, None)


async def test_an_answer_is_asked_for_once_and_comes_back_as_it_was(running: state.State) -> None:
    first, again = await summary("red"), await summary("red")
    assert first == again == Summary(cows=1, at=NOON, names=["Bella"])
    assert first is not again
    as_another_process()
    assert await summary("red") == first
    assert asked == ["red"]


async def test_c15_a_herd_makes_one_call_per_key_and_process(running: state.State, gate: asyncio.Event) -> None:
    await barns.raw.insert_one(barns.dump(Barn(id="blue", cows=5)))
    herd = [asyncio.create_task(summary(barn)) for barn in ("red", "blue") * 250]
    while len(asked) < 2:
        await asyncio.sleep(0.001)
    late = [asyncio.create_task(summary("red")) for _ in range(100)]  # now the tags have their numbers
    await asyncio.sleep(0.05)
    gate.set()
    answers = await asyncio.gather(*herd, *late)
    assert sorted(asked) == ["blue", "red"]
    assert [answer.cows for answer in answers] == [1, 5] * 250 + [1] * 100


async def test_c15_when_the_minutes_are_over_the_old_answer_is_served_while_one_call_makes_the_new(
    running: state.State, gate: asyncio.Event
) -> None:
    gate.set()
    await summary("red")
    await barns.raw.update_one({"_id": "red"}, {"$set": {"cows": 9}})  # past the kit: no tag is raised
    gate.clear()
    with clock.shifted(timedelta(minutes=11)):
        served = await asyncio.gather(*(summary("red") for _ in range(100)))
        while len(asked) < 2:
            await asyncio.sleep(0.001)
        assert {answer.cows for answer in served} == {1}
        gate.set()
        deadline = asyncio.get_running_loop().time() + 5
        while (await summary("red")).cows != 9:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.005)
    assert asked == ["red", "red"]


@pytest.mark.parametrize("act", [buy, buy_one])
async def test_a_commit_makes_the_answer_new_in_every_process(running: state.State, act: Any) -> None:
    await summary("red")
    await act("red")
    as_another_process()
    assert (await summary("red")).cows == 2
    assert (await summary("red")).cows == 2
    assert asked == ["red", "red"]


async def test_an_answer_that_was_being_made_during_a_commit_is_never_read(
    running: state.State, gate: asyncio.Event
) -> None:
    slow = asyncio.create_task(summary("red"))
    while not asked:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)  # it has read the barn by now
    await buy("red")
    after = asyncio.create_task(summary("red"))
    await asyncio.sleep(0.02)
    gate.set()
    assert (await after).cows == 2
    assert (await slow).cows in (1, 2)
    as_another_process()
    assert (await summary("red")).cows == 2


async def test_a_commit_that_fails_makes_nothing_stale(running: state.State) -> None:
    @atomic
    async def fail() -> None:
        await barns.change("red", {"$inc": {"cows": 1}})
        raise NotFound

    await summary("red")
    with pytest.raises(NotFound):
        await fail()
    await summary("red")
    assert asked == ["red"]


async def test_inside_an_action_the_snapshot_is_read_and_nothing_is_kept(running: state.State) -> None:
    @atomic
    async def buy_and_look() -> int:
        await barns.change("red", {"$inc": {"cows": 1}})
        return (await summary("red")).cows

    assert (await summary("red")).cows == 1
    assert await buy_and_look() == 2
    assert asked == ["red", "red"]


async def test_a_failure_is_told_to_all_who_wait_and_not_kept(running: state.State) -> None:
    told = await asyncio.gather(*(summary("gone") for _ in range(20)), return_exceptions=True)
    assert [type(each) for each in told] == [NotFound] * 20
    await barns.raw.insert_one(barns.dump(Barn(id="gone", cows=3)))
    assert (await summary("gone")).cows == 3
    assert asked == ["gone", "gone"]


async def test_a_process_keeps_a_copy_and_asks_only_whether_it_still_holds(running: state.State) -> None:
    await summary("red")
    keys = [each async for each in running.redis.scan_iter("cache:*")]
    assert await running.redis.delete(*keys) == 1
    assert (await summary("red")).cows == 1
    assert asked == ["red"]
    await barns.raw.update_one({"_id": "red"}, {"$set": {"cows": 9}})
    await running.redis.set("tag:barn:red", "another number")  # as another process does after its commit
    assert (await summary("red")).cows == 9
    assert asked == ["red", "red"]


async def test_what_another_process_made_newer_is_taken_over_and_not_made_again(running: state.State) -> None:
    await summary("red")
    mine = running.parts[cache.Cache]
    as_another_process()
    await buy("red")
    assert (await summary("red")).cows == 2
    running.parts[cache.Cache] = mine
    assert (await summary("red")).cows == 2
    assert asked == ["red", "red"]


async def test_copies_take_no_more_memory_than_they_may(running: state.State) -> None:
    async with state.running(msgspec.structs.replace(running.settings, cache_memory=100_000)) as opened:
        copies = state.part(cache.Cache).copies
        for size in range(60):
            assert await long(size) == "x" * 100 * size
            assert copies.taken == sum(size for _, size in copies.found.values()) <= 100_000
        assert 15 < len(copies.found) < 20
        assert await long(20_000) == "x" * 2_000_000
        assert copies.taken <= 100_000
    async with state.running(msgspec.structs.replace(running.settings, cache_memory=0)) as opened:
        await summary("red")
        assert (await summary("red")).cows == 1
        assert not opened.parts[cache.Cache].copies.found


def test_what_was_not_asked_for_the_longest_goes_first(running: state.State) -> None:
    copies = cache.Copies()
    copies.most = 100
    for number in range(16):
        copies.keep(number, f"copy {number}", 6)
    assert copies.get(0) == "copy 0"
    copies.keep(16, "copy 16", 6)
    copies.keep(16, "another", 5)
    assert (copies.get(0), copies.get(1), copies.get(16), copies.taken) == ("copy 0", None, "another", 95)
    copies.keep(2, "too large for one", 7)
    assert (copies.get(2), copies.taken) == (None, 89)


async def test_what_nobody_can_change_is_one_object_for_all(running: state.State) -> None:
    first = await page()
    herd = await asyncio.gather(*(page() for _ in range(10)))
    assert first == encoded(Summary(cows=3, at=NOON))
    assert all(each is first for each in herd)
    as_another_process()
    assert await page() is await page()
    assert [each.is_constant for each in (page, anything, summary, many)] == [True, True, False, False]


async def test_over_two_processes_a_commit_that_returned_is_seen_by_who_asks_then(running: state.State) -> None:
    """While others ask the same all the time, so that questions are shared."""
    done = False

    async def ask_all_the_time() -> None:
        while not done:
            await summary("red")
            await asyncio.sleep(0)

    async with _another() as other:
        readers = [asyncio.create_task(ask_all_the_time()) for _ in range(8)]
        for bought in range(2, 42):
            assert await other() == bought
            assert (await summary("red")).cows == bought
        done = True
        await asyncio.gather(*readers)
    assert 41 <= len(asked) < 200


@asynccontextmanager
async def _another() -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """A process of its own that buys a cow whenever it is asked to, and says how many there are."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __spec__.name, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    asking, telling = process.stdin, process.stdout
    assert asking is not None
    assert telling is not None

    async def buy_there() -> int:
        asking.write(b"\n")
        return int(await telling.readline())

    try:
        yield buy_there
    finally:
        asking.close()
        await process.wait()


async def _buy_when_asked() -> None:
    async with state.running(test_settings()):
        while await asyncio.to_thread(sys.stdin.readline):
            print((await buy("red")).cows, flush=True)


async def test_an_evicted_tag_makes_the_answer_new(running: state.State) -> None:
    await summary("red")
    await running.redis.delete("tag:barn:red")
    await summary("red")
    assert asked == ["red", "red"]


async def test_everything_can_be_forgotten_at_once(running: state.State) -> None:
    await summary("red")
    await cache.forget_everything()
    await summary("red")
    assert asked == ["red", "red"]


async def test_whoever_leaves_does_not_take_the_answer_along(running: state.State, gate: asyncio.Event) -> None:
    leaver = asyncio.create_task(summary("red"))
    while not asked:
        await asyncio.sleep(0.001)
    stayer = asyncio.create_task(summary("red"))
    await asyncio.sleep(0.01)
    leaver.cancel()
    gate.set()
    assert (await stayer).cows == 1
    assert leaver.cancelled()


@cached(minutes=1, tags=lambda size: [])
async def long(size: int) -> str:
    return "x" * 100 * size


@cached(minutes=1, tags=lambda: [])
async def page() -> Encoded:
    return encoded(Summary(cows=3, at=NOON))


@cached(minutes=1, tags=lambda: [])
async def many() -> list[int]:
    return [1]


@cached(minutes=1, tags=lambda *args, **more: [])
async def anything(*args: Any, **more: Any) -> int:
    asked.append((args, more))
    return len(asked)


async def test_every_argument_is_part_of_the_key(running: state.State) -> None:
    same: Any = {"created_at": NOON, "updated_at": NOON}
    barn = Barn(id="red", cows=1, **same)
    given: list[Any] = [
        1, "1", 1.5, True, None, b"1", NOON, NOON.isoformat(), Kind.COW, [1, 2], [1, [2]], {"a": 1}, {"a": 2}, {1, 2},
        barn, Barn(id="red", cows=2, **same), Barn(id="blue", cows=1, **same), Summary(cows=1, at=NOON),
    ]  # fmt: skip
    first = [await anything(each) for each in given]
    first += [await anything(), await anything(1, 2), await anything(1, b=2), await anything(1, c=2)]
    assert len(set(first)) == len(given) + 4
    again = [await anything(each) for each in given]
    assert again == first[: len(given)]
    assert await anything(1, b=2) == first[-2]
    assert await anything({2, 1}) == await anything({1, 2})


@pytest.mark.parametrize("value", [object(), lambda: 1, asyncio, [object()], {"a": object()}])
async def test_what_has_no_value_of_its_own_cannot_be_part_of_a_key(running: state.State, value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be cached for these arguments"):
        await anything(value)
    assert asked == []


async def test_another_shape_of_the_answer_is_another_key() -> None:
    class Old(Struct):
        cows: int

    class New(Struct):
        cows: int
        sheep: int = 0

    async def ask() -> Any: ...

    shapes = set()
    for kind in (Old, New, list[Old], int):
        ask.__annotations__["return"] = kind
        shapes.add(cached(minutes=1, tags=lambda: [])(ask).shape)
    assert len(shapes) == 4


def test_a_function_that_does_not_say_what_it_returns_is_refused() -> None:
    async def vague(a: int):  # type: ignore[no-untyped-def]
        return a

    with pytest.raises(TypeError, match="does not say what it returns"):
        cached(minutes=1, tags=lambda a: [])(vague)
    with pytest.raises(ValueError, match="a tag must outlive them"):
        cached(minutes=24 * 60, tags=lambda: [])


if __name__ == "__main__":
    asyncio.run(_buy_when_asked())
