import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from msingi.kit import events, hearing, jobs, relay, runner, state, unit, worker
from msingi.kit.db import Paging, Row
from msingi.kit.events import Event, emit
from msingi.kit.tests import mill
from msingi.kit.tests.mill import Ground, baked, both
from msingi.kit.tests.waiting import beside


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def prepared(running: state.State) -> None:
    running.products = both
    mill.broken.clear()
    await mill.prepare()


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not await true():
        assert time.monotonic() < end, f"this did not come true within {seconds} seconds"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def working() -> AsyncIterator[None]:
    """A worker in this process, from when its relay follows the stream."""
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(both, stop, grace=5))
    try:
        await until(lambda: following(), 10)
        yield
    finally:
        stop.set()
        await task


async def following() -> bool:
    begun = await relay.beginning()
    known = await state.database("kit")["hearing"].find_one({"_id": "bakery"})
    return bool(begun and known and known.get("token", "").endswith(begun))


# ---- telling


async def test_an_event_is_told_with_what_it_is_about_or_not_at_all() -> None:
    await mill.grind("rye")
    with pytest.raises(RuntimeError, match="the stone broke"):
        await mill.grind_and_fail("oats")
    assert await events.told(["mill"]) == [Ground(sack="rye")]
    assert await jobs.queues() == []
    await worker.work_off(both)
    assert await baked() == ["rye"]


async def test_emit_is_refused_where_it_could_be_told_without_its_cause() -> None:
    with pytest.raises(RuntimeError, match="inside an @atomic action"):
        await emit(Ground(sack="rye"))
    with pytest.raises(RuntimeError, match="tells="):
        await unit.guarded(emit)(Ground(sack="rye"))
    assert await events.told(["mill"]) == []


def test_a_tag_begins_with_the_product_that_tells() -> None:
    class Nameless(Event, frozen=True):
        sack: str

    with pytest.raises(TypeError, match="Nameless needs a tag"):
        events.tag_of(Nameless)
    assert events.teller_of(events.tag_of(Ground)) == "mill"


def test_an_envelope_holds_the_event_as_json() -> None:
    envelope = Ground(sack="rye").envelope()
    assert sorted(envelope) == ["_id", "at", "body", "type"]
    assert (envelope["type"], envelope["body"]) == ("mill.ground", {"sack": "rye", "by": "ann"})


def test_a_reaction_belongs_to_the_product_of_its_module() -> None:
    assert events.product_of("msingi.products.orchard.jobs") == "orchard"
    with pytest.raises(TypeError, match="say product="):
        events.product_of("elsewhere")


async def test_an_event_that_rides_in_a_document_is_moved_to_the_outbox() -> None:
    await mill.receive("rye")
    await mill.weigh("rye", 40)
    await mill.weigh("rye", 41)
    row = await mill.sacks.raw.find_one({"_id": "rye"})
    assert row is not None
    assert len(row["_outbox"]) == 3
    await worker.work_off(both)
    assert await baked() == ["rye", "rye", "rye"]
    row = await mill.sacks.raw.find_one({"_id": "rye"})
    assert row is not None
    assert row["_outbox"] == []


async def test_what_was_told_can_be_forgotten() -> None:
    await mill.grind("rye")
    await mill.receive("oats")
    await events.forget(["mill"])
    assert await events.told(["mill"]) == []
    await worker.work_off(both)
    assert await baked() == []


# ---- reacting


async def test_a_double_has_no_second_effect() -> None:
    envelope = Ground(sack="rye").envelope()
    assert await mill.bake.receive(envelope)
    assert not await mill.bake.receive(envelope)
    assert await baked() == ["rye"]


async def test_of_many_doubles_at_once_one_has_its_effect() -> None:
    envelope = Ground(sack="rye").envelope()
    news = await asyncio.gather(*(mill.bake.receive(envelope) for _ in range(8)))
    assert sorted(news) == [False] * 7 + [True]
    assert await baked() == ["rye"]


async def test_a_reaction_that_fails_leaves_neither_effect_nor_receipt() -> None:
    mill.broken.add("rye")
    with pytest.raises(ValueError, match="rye is broken"):
        await events.arrive(Ground(sack="rye"), both)
    assert await baked() == []
    assert not await events.inbox("bakery").exists({})


async def test_an_event_of_an_older_or_newer_version_is_understood() -> None:
    await mill.bake.receive({**Ground(sack="rye").envelope(), "body": {"sack": "rye", "miller": "bob"}})
    assert await baked() == ["rye"]


async def test_a_job_asked_for_by_a_reaction_follows_its_effect() -> None:
    await mill.spill("rye")
    await worker.work_off(both)
    assert await mill.traced("leave_trace") == ["rye"]


def both_about(*envelopes: Row) -> list[events.Due]:
    return [events.Due(each, envelope) for envelope in envelopes for each in (mill.mourn, mill.sweep_up)]


async def test_all_that_a_product_does_about_an_event_is_done_once() -> None:
    envelope = mill.Spilt(sack="rye").envelope()
    assert await hearing.deliver_all(both_about(envelope)) == 2
    assert await events.inbox("bakery").count({}) == 2
    assert await hearing.deliver_all(both_about(envelope)) == 0
    await worker.work_off(both)
    assert (await baked(), await mill.traced("leave_trace")) == (["crumbs of rye"], ["rye"])


async def test_what_was_done_before_is_left_out_and_the_rest_is_done() -> None:
    envelope = mill.Spilt(sack="rye").envelope()
    assert await mill.sweep_up.receive(envelope)
    assert await hearing.deliver_all(both_about(envelope)) == 1
    await worker.work_off(both)
    assert (await baked(), await mill.traced("leave_trace")) == (["crumbs of rye"], ["rye"])


async def test_of_reactions_to_one_event_the_one_that_fails_takes_no_other_along() -> None:
    mill.broken.add("rye")
    assert await hearing.deliver_all(both_about(mill.Spilt(sack="rye").envelope())) == 1
    await worker.work_off(both)
    assert (await baked(), await mill.traced("leave_trace")) == ([], ["rye"])
    waiting = [row async for row in state.database("bakery")["jobs"].find()]
    assert [(row["name"].rpartition(".")[2], row["last_error"]) for row in waiting] == [
        ("sweep_up", "ValueError: rye is broken")
    ]


async def test_of_many_events_one_that_fails_takes_no_other_along() -> None:
    mill.broken.add("rye")
    told = [Ground(sack=sack).envelope() for sack in ("oats", "rye", "barley")]
    assert await hearing.deliver_all([events.Due(mill.bake, each) for each in told]) == 2
    assert await baked() == ["barley", "oats"]
    assert await events.inbox("bakery").count({}) == 2
    waiting = [row async for row in state.database("bakery")["jobs"].find()]
    assert [row["args"][0]["body"] for row in waiting] == [{"sack": "rye", "by": "ann"}]


async def test_of_many_events_those_that_came_before_have_no_second_effect() -> None:
    told = [Ground(sack=sack).envelope() for sack in ("oats", "rye", "barley")]
    assert await mill.bake.receive(told[1])
    assert await hearing.deliver_all([events.Due(mill.bake, each) for each in told]) == 2
    assert await baked() == ["barley", "oats", "rye"]


async def test_what_was_taken_twice_since_it_was_not_acknowledged_has_its_effect_once() -> None:
    """As when a worker dies between commit and acknowledgement; and as when the relay carried an event twice."""
    told = [Ground(sack=sack).envelope() for sack in ("oats", "rye")]
    entries = [(f"{number}-1".encode(), _carried(each)) for number, each in enumerate([*told, told[0]])]
    for _ in range(2):
        await hearing.Hearing("bakery", [mill.bake])._handle(state.redis(), entries)
    assert await baked() == ["oats", "rye"]


def _carried(envelope: Row) -> dict[bytes, bytes]:
    return {name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in _said(envelope)}


def _said(envelope: Row) -> list[tuple[str, Any]]:
    return list(relay._fields(envelope).items())


async def test_many_events_share_a_transaction_and_what_they_ask_for_is_asked_for_once() -> None:
    due = [events.Due(mill.remember, mill.Told(of="rye").envelope()) for _ in range(8)]
    assert await hearing.deliver_all(due) == 8
    (row,) = await jobs.rows("mill").many({})
    assert row.asked == 1  # and with a transaction for each it would have been asked for eight times
    assert await baked() == ["rye"] * 8


async def test_slow_reactions_are_done_one_by_one_until_they_are_quick_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "QUICK", 1.0)
    turns = hearing.Turns()
    slow = [events.Due(mill.remember, mill.Told(of="rye", seconds=0.6).envelope()) for _ in range(2)]
    assert await turns.deliver(slow) == 2
    assert turns.most == 1
    for most in (2, 4):
        quick = [events.Due(mill.remember, mill.Told(of="rye").envelope()) for _ in range(turns.most)]
        assert await turns.deliver(quick) == len(quick)
        assert turns.most == most


async def test_a_failing_reaction_holds_up_nobody_and_can_be_run_again() -> None:
    mill.broken.add("rye")
    async with working():
        for sack in ("rye", "oats"):
            await mill.grind(sack)
        await until(lambda: is_baked(["oats"]))
        await until(lambda: in_state("dead"))  # tried twice
        failed = (await jobs.failures(Paging())).items[0]
        assert (failed.product, failed.tries, failed.last_error) == ("bakery", 2, "ValueError: rye is broken")
        mill.broken.clear()
        await jobs.run_again("bakery", failed.id)
        await until(lambda: is_baked(["oats", "rye"]))
    assert (await jobs.failures(Paging())).items == []


async def test_work_off_says_what_failed() -> None:
    mill.broken.add("rye")
    await mill.grind("rye")
    with pytest.raises(worker.WorkFailed, match="bake: ValueError: rye is broken"):
        await worker.work_off(both)


async def is_baked(sacks: list[str]) -> bool:
    return await baked() == sacks


async def in_state(wanted: str) -> bool:
    return await jobs.rows("bakery").exists({"state": wanted})


# ---- the relay


async def test_an_event_is_heard_within_milliseconds() -> None:
    async with working():
        await mill.grind("first")
        await until(lambda: is_baked(["first"]))
        waits = []
        for number in range(20):
            began = time.perf_counter()
            await mill.grind(f"sack {number}")
            told = time.perf_counter()
            while not await mill.loaves.exists({"sack": f"sack {number}"}):
                await asyncio.sleep(0.001)
            waits.append((time.perf_counter() - told, told - began))
    waits.sort()
    print(f"\nfrom commit to effect: p50 {waits[10][0] * 1000:.1f} ms, max {waits[-1][0] * 1000:.1f} ms")
    assert waits[10][0] < 0.5


async def test_an_event_that_rides_in_a_document_arrives_even_if_the_document_is_gone() -> None:
    async with working():
        await mill.receive("rye")
        await mill.sacks.raw.delete_one({"_id": "rye"})
        await mill.receive("oats")
        await mill.weigh("oats", 40)
        await until(lambda: is_baked(["oats", "oats", "rye"]))
        await until(lambda: empty_handed("oats"))


async def empty_handed(sack: str) -> bool:
    row = await mill.sacks.raw.find_one({"_id": sack})
    return row is not None and row["_outbox"] == []


async def test_a_relay_killed_before_it_saved_its_place_loses_and_doubles_nothing() -> None:
    async with working():
        await mill.grind("first")
        await until(lambda: is_baked(["first"]))
    before = await state.database("kit")["relay"].find_one({"_id": "place"})
    assert before is not None
    many = sorted(["first", *(f"sack {number}" for number in range(30))])
    async with working():
        await asyncio.gather(*(mill.grind(sack) for sack in many[1:]))
        await until(lambda: is_baked(many))
    # This is what is left when it dies after the delivery: the events are in the stream, the old place in the notes.
    await state.database("kit")["relay"].replace_one({"_id": "place"}, before)
    async with working():
        await until(lambda: carried(61))
        await mill.grind("zzz")
        await until(lambda: is_baked([*many, "zzz"]))
        await until(acknowledged)
    assert await baked() == [*many, "zzz"]


async def carried(count: int) -> bool:
    return int(await state.redis().xlen(events_key())) >= count


async def acknowledged() -> bool:
    pending = await state.redis().xpending(events_key(), "bakery")
    return bool(pending["pending"] == 0)


def events_key() -> str:
    return relay.stream_key()


async def test_a_relay_that_lost_its_place_leaves_nothing_out() -> None:
    async with working():
        await mill.grind("first")
        await until(lambda: is_baked(["first"]))
    await mill.grind("meanwhile")
    await mill.receive("riding")
    notes = state.database("kit")["relay"]
    place = await notes.find_one({"_id": "place"})
    assert place is not None
    text = place["token"]["_data"]
    before_the_oplog = {"_data": text[:2] + "00000001" + text[10:]}  # its first bytes are the time in seconds
    await notes.update_one({"_id": "place"}, {"$set": {"token": before_the_oplog}})
    async with working():
        await until(lambda: is_baked(["first", "meanwhile", "riding"]))
        await mill.grind("last")
        await until(lambda: is_baked(["first", "last", "meanwhile", "riding"]))


async def test_the_relay_of_one_worker_carries_while_the_other_waits() -> None:
    async with working(), working():
        for number in range(10):
            await mill.grind(f"sack {number}")
        await until(lambda: is_baked([f"sack {number}" for number in range(10)]))
        assert await state.redis().xlen(events_key()) == 10


# ---- what Redis loses


async def test_c4_no_event_is_lost_when_redis_is_emptied() -> None:
    async with working():
        await mill.grind("first")
        await until(lambda: is_baked(["first"]))
    await carried_and_unheard("second")
    await state.redis().flushdb()
    async with working():
        await until(lambda: is_baked(["first", "second"]), 30)


async def test_c4_what_was_in_a_lost_stream_is_read_from_the_outboxes() -> None:
    async with working():
        await mill.grind("first")
        await until(lambda: is_baked(["first"]))
    await carried_and_unheard("second")
    await state.redis().delete(events_key())  # and nothing else: by its token, this is the Redis that we knew
    async with working():
        await until(lambda: is_baked(["first", "second"]), 30)
        await mill.grind("third")
        await until(lambda: is_baked(["first", "second", "third"]))


async def test_c4_what_a_restarted_redis_no_longer_holds_is_read_from_the_outboxes() -> None:
    async with working():
        await mill.grind("first")
        await until(lambda: is_baked(["first"]))
    await carried_and_unheard("second")
    (newest,) = await state.redis().xrevrange(events_key(), count=1)
    await state.redis().xdel(events_key(), newest[0])
    # What it had written to its disk was a little older than what it had said; and it is another run of the server.
    await state.database("kit")["hearing"].update_one({"_id": "bakery"}, {"$set": {"run": "the one before"}})
    async with working():
        await until(lambda: is_baked(["first", "second"]), 30)


async def carried_and_unheard(*sacks: str) -> None:
    """Tell of these while a relay runs and nobody hears."""
    there = await state.redis().xlen(events_key())
    async with beside(relay.run):
        for sack in sacks:
            await mill.grind(sack)
        await until(lambda: carried(there + len(sacks)))


async def test_what_was_cut_off_before_it_was_read_is_read_from_the_outboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with working():
        await mill.grind("first")
        await until(lambda: is_baked(["first"]))
    sacks = [f"sack {number}" for number in range(5)]
    await carried_and_unheard(*sacks)
    await state.redis().xtrim(events_key(), maxlen=2, approximate=False)
    monkeypatch.setattr(hearing, "LONGEST", 2)
    async with working():
        await until(lambda: is_baked(sorted(["first", *sacks])))


async def test_what_a_killed_worker_had_taken_goes_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async with working():
        await mill.grind("first")
        await until(lambda: is_baked(["first"]))
    await carried_and_unheard("taken")
    taken = await state.redis().xreadgroup("bakery", "the dead one", {events_key(): ">"})
    assert len(taken[0][1]) == 1
    monkeypatch.setattr(hearing, "GIVEN_UP", 1.0)
    async with working():
        await until(lambda: is_baked(["first", "taken"]))
        await until(acknowledged)


def test_events_travel_as_json() -> None:
    row = {**Ground(sack="rye").envelope()}
    fields = {str(name).encode(): msgspec.json.encode(value) for name, value in relay._fields(row).items()}
    assert set(fields) == {b"id", b"type", b"at", b"body"}


def test_pauses_double_up_to_the_longest() -> None:
    for tries, most in ((1, 2), (2, 4), (3, 8), (12, 900)):
        assert most / 2 <= runner.pause(tries, 900).total_seconds() <= most
