import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio
from cronsim import CronSimError

from msingi.kit import clock, jobs, runner, state, unit, worker
from msingi.kit.clock import now
from msingi.kit.db import Doc, Paging
from msingi.kit.errors import NotFound, Stale
from msingi.kit.jobs import JobRow, cron, job
from msingi.kit.runner import Runner
from msingi.kit.tests import mill
from msingi.kit.tests.mill import both, traced


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def prepared(running: state.State) -> None:
    running.products = both
    mill.broken.clear()
    await mill.prepare()


async def until(true: Callable[[], Awaitable[Any]], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not await true():
        assert time.monotonic() < end, f"this did not come true within {seconds} seconds"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def a_runner(**options: Any) -> AsyncIterator[Runner]:
    one = Runner(["mill"], **options)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        one.stop()
        await task


async def row(id: str) -> JobRow:
    return await jobs.rows("mill").get(id)


# ---- asking


async def test_a_job_is_done_after_the_commit_that_asked_for_it() -> None:
    asked = await unit.atomic(mill.leave_trace.later)("rye")
    assert (await row(asked)).state == "queued"
    await worker.work_off(both)
    assert await traced("leave_trace") == ["rye"]
    done = await row(asked)
    assert (done.state, done.tries, done.last_error) == ("done", 1, None)
    assert done.done_at is not None


async def test_a_rolled_back_action_asks_for_nothing() -> None:
    with pytest.raises(RuntimeError, match="the stone broke"):
        await mill.grind_and_fail("rye")
    assert not await jobs.rows("mill").exists({})


async def test_a_guarded_action_cannot_ask_for_a_job_beside_its_write() -> None:
    with pytest.raises(RuntimeError, match="asked for in @atomic"):
        await unit.guarded(mill.leave_trace.later)("rye")
    assert not await jobs.rows("mill").exists({})


async def test_calling_a_job_runs_it_here() -> None:
    await mill.leave_trace("rye")
    assert await traced("leave_trace") == ["rye"]
    assert not await jobs.rows("mill").exists({})


async def test_what_a_job_cannot_take_is_refused_when_it_is_asked_for() -> None:
    ask: Any = mill.slow.later
    for wrong in [(7, 1.0), ("rye", "long"), (mill.Sack(), 1.0), ("rye",), ("rye", 1.0, 2)]:
        with pytest.raises(TypeError):
            await ask(*wrong)
    assert not await jobs.rows("mill").exists({})


def test_a_job_takes_ids_and_says_the_type_of_each() -> None:
    async def of_a_document(sack: mill.Sack) -> None: ...
    async def of_anything(sack) -> None: ...  # type: ignore[no-untyped-def]
    async def of_many(*sacks: str) -> None: ...

    for wrong in (of_a_document, of_anything, of_many):
        with pytest.raises(TypeError):
            job(product="mill")(wrong)
    assert issubclass(mill.Sack, Doc)


async def test_arguments_come_back_as_what_they_were() -> None:
    heard: list[Any] = []

    @job(product="mill")
    async def listen(at: datetime, names: list[str], much: float | None = None) -> None:
        heard.append((at, names, much))

    at = datetime(2025, 3, 1, 7, tzinfo=UTC)
    await listen.later(at, names=["ann"])
    await worker.work_off(both)
    assert heard == [(at, ["ann"], None)]


async def test_a_job_for_later_waits_for_its_time() -> None:
    asked = await mill.leave_trace.at(now() + timedelta(hours=1), "rye")
    await worker.work_off(both)
    assert (await row(asked)).state == "queued"
    with clock.shifted(timedelta(hours=1, seconds=1)):
        await worker.work_off(both)
    assert await traced("leave_trace") == ["rye"]


async def test_found_in_a_module_is_what_stands_in_it() -> None:
    module: Any = ModuleType("a module")
    module.one, module.again, module.two, module.three, module.other = mill.high, mill.high, mill.turn, mill.bake, 4
    found = jobs.found_in([module])
    assert (found.jobs, found.crons, found.reactions) == ([mill.high], [mill.turn], [mill.bake])


# ---- unique keys


async def test_of_one_key_one_job_waits() -> None:
    ids = await asyncio.gather(*(mill.once.later("rye") for _ in range(10)))
    assert len(set(ids)) == 1
    assert await mill.once.later("oats") not in ids
    await worker.work_off(both)
    assert await traced("once") == ["oats", "rye"]
    assert await mill.once.later("rye") not in ids  # the first is done, so this is another


async def test_of_one_key_asked_for_in_actions_at_once_one_job_waits() -> None:
    ids = await asyncio.gather(*(unit.atomic(mill.once.later)("rye") for _ in range(5)))
    assert len(set(ids)) == 1
    await worker.work_off(both)
    assert await traced("once") == ["rye"]


async def test_of_one_key_asked_for_again_and_again_in_an_action_one_job_waits_for_the_earliest_time() -> None:
    at = now() + timedelta(hours=1)

    @unit.atomic
    async def ask() -> set[str]:
        asked = {await mill.once.at(at, "rye") for _ in range(3)}
        return asked | {await mill.once.later("rye"), await mill.once.at(at, "rye")}

    (id,) = await ask()
    waiting = await row(id)
    assert waiting.due_at < at
    assert waiting.asked == 2


async def test_what_is_asked_for_while_it_runs_is_run_once_more() -> None:
    async with a_runner():
        first = await mill.once.later("rye", 0.5)
        await until(lambda: mill.traces.exists({"job": "once"}))
        again = await asyncio.gather(mill.once.later("rye", 0.5), mill.once.later("rye", 0.5))
        assert list(again) == [first, first]
        await until(lambda: jobs.rows("mill").exists({"state": "done"}))
    assert await traced("once") == ["rye", "rye"]


# ---- failing


async def test_a_job_that_fails_is_tried_again_and_then_kept_as_a_dead_letter() -> None:
    mill.broken.add("rye")
    asked = await mill.brittle.later("rye")
    for tries, hours in ((1, 0), (2, 1), (3, 2)):
        with clock.shifted(timedelta(hours=hours)):
            await worker.work_off(both, raising=False)
        assert (await row(asked)).tries == tries
    dead = (await jobs.failures(Paging())).items
    assert [(each.id, each.name, each.args, each.tries, each.last_error) for each in dead] == [
        (asked, "msingi.kit.tests.mill.brittle", ["rye"], 3, "ValueError: rye is broken")
    ]
    assert [(each.product, each.priority, each.state, each.count) for each in await jobs.queues()] == [
        ("mill", "default", "dead", 1)
    ]


async def test_a_dead_letter_can_be_run_again() -> None:
    asked = await dead_letter("rye")
    mill.broken.clear()
    await jobs.run_again("mill", asked)
    await worker.work_off(both)
    assert await traced("brittle") == ["rye"]
    assert (await jobs.failures(Paging())).items == []
    with pytest.raises(Stale):
        await jobs.run_again("mill", asked)
    with pytest.raises(NotFound):
        await jobs.run_again("mill", "nothing")


async def test_a_dead_letter_can_be_thrown_away() -> None:
    asked = await dead_letter("rye")
    await jobs.discard("mill", asked)
    assert not await jobs.rows("mill").exists({})
    with pytest.raises(NotFound):
        await jobs.discard("mill", asked)
    waiting = await mill.leave_trace.later("rye")
    with pytest.raises(Stale):
        await jobs.discard("mill", waiting)


async def test_pages_of_dead_letters_follow_one_another() -> None:
    ids = [await dead_letter(f"sack {number}") for number in range(5)]
    first = await jobs.failures(Paging(limit=2))
    second = await jobs.failures(Paging(limit=2, after=first.next))
    third = await jobs.failures(Paging(limit=2, after=second.next))
    assert [each.id for page in (first, second, third) for each in page.items] == ids[::-1]
    assert third.next is None
    assert (await jobs.failures(Paging(), product="bakery")).items == []


async def dead_letter(of: str) -> str:
    mill.broken.add(of)
    asked = await mill.brittle.later(of)
    await jobs.rows("mill").raw.update_one({"_id": asked}, {"$set": {"tries": 2}})
    await worker.work_off(both, raising=False)
    assert (await row(asked)).state == "dead"
    return asked


async def test_a_job_that_takes_too_long_is_ended() -> None:
    asked = await mill.endless.later()
    with pytest.raises(worker.WorkFailed, match="endless: TimeoutError"):
        await worker.work_off(both)
    assert (await row(asked)).state == "dead"


async def test_a_job_that_the_code_does_not_know_yet_waits_for_code_that_does() -> None:
    await jobs.put("mill", JobRow(name="of the next release", due_at=now()))
    await worker.work_off(both, raising=False)
    waiting = await jobs.rows("mill").find({})
    assert waiting is not None
    assert (waiting.state, waiting.last_error) == ("queued", "LookupError: no job is called of the next release here")


async def test_a_job_that_kills_its_worker_again_and_again_is_given_up() -> None:
    asked = await mill.leave_trace.later("rye")
    lost = {"state": "running", "by": "someone", "lease_until": now() - timedelta(seconds=1)}
    for _ in range(6):
        await runner.claim("mill", 1)
        await jobs.rows("mill").raw.update_one({"_id": asked}, {"$set": lost})
        await runner.rescue("mill")
    await worker.work_off(both, raising=False)
    dead = await row(asked)
    assert (dead.state, dead.last_error) == ("dead", "RuntimeError: the worker that ran it was lost")
    assert await traced("leave_trace") == []


# ---- the runner


async def test_the_most_urgent_is_claimed_first() -> None:
    await mill.low.later("3")
    await mill.leave_trace.later("2")
    await mill.high.later("1")
    claimed = (await runner.claim("mill", 10)).rows
    assert [each.args for each in claimed] == [["1"], ["2"], ["3"]]


async def test_places_are_kept_for_the_high_priority() -> None:
    for number in range(6):
        await mill.low.later(str(number))
    assert len((await runner.claim("mill", 5, reserve=2)).rows) == 3
    await mill.high.later("now")
    assert [each.args for each in (await runner.claim("mill", 2, reserve=2)).rows] == [["now"]]


async def test_many_runners_do_each_job_once() -> None:
    ids = await asyncio.gather(*(mill.leave_trace.later(str(number)) for number in range(60)))
    async with a_runner(), a_runner(), a_runner():
        await until(lambda: all_done(60))
    assert sorted(await traced("leave_trace")) == sorted(str(number) for number in range(60))
    assert {(await row(id)).tries for id in ids} == {1}


async def all_done(count: int) -> bool:
    return await jobs.rows("mill").count({"state": "done"}) == count


async def test_a_job_is_begun_as_soon_as_the_action_that_asked_has_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK", 60.0)
    async with a_runner():
        await until(heard_by_somebody)
        await unit.atomic(mill.leave_trace.later)("first")
        await until(lambda: all_done(1), 10)
        await mill.leave_trace.later("second")
        await until(lambda: all_done(2), 10)


async def test_what_is_asked_for_while_it_runs_is_begun_as_soon_as_it_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK", 60.0)
    async with a_runner():
        await until(heard_by_somebody)
        await mill.once.later("rye", 0.3)
        await until(lambda: mill.traces.exists({"job": "once"}))
        await mill.once.later("rye", 0.3)
        await until(lambda: all_done(1), 10)
    assert await traced("once") == ["rye", "rye"]


async def heard_by_somebody() -> bool:
    return bool((await state.redis().pubsub_numsub(jobs.channel()))[0][1])


async def test_a_job_that_is_asked_for_while_a_runner_looks_is_begun_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner looks and finds nothing; it hears of a job; only then does it know that it found nothing."""
    monkeypatch.setattr(runner, "LOOK", 60.0)
    claim, asked = runner.claim, asyncio.Event()

    async def slowly(product: str, free: int, reserve: int = 0) -> runner.Claims:
        claims = await claim(product, free, reserve)
        if not asked.is_set():
            asked.set()
            await mill.leave_trace.later("rye")
        return claims

    monkeypatch.setattr(runner, "claim", slowly)
    async with a_runner():
        await until(lambda: all_done(1), 10)


async def test_a_runner_that_others_were_faster_than_looks_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK", 60.0)
    taken, lost = runner._taken, asyncio.Event()

    async def too_late(product: str, ids: Sequence[str]) -> Sequence[JobRow]:
        if lost.is_set():
            return await taken(product, ids)
        lost.set()
        return []

    monkeypatch.setattr(runner, "_taken", too_late)
    await mill.leave_trace.later("rye")
    async with a_runner():
        await until(lambda: all_done(1), 10)
    assert lost.is_set()


async def test_what_is_asked_for_beside_an_idle_runner_needs_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK", 60.0)
    async with a_runner():
        await until(heard_by_somebody)
        monkeypatch.setattr(jobs, "channel", lambda: "nobody listens here")
        await mill.leave_trace.later("rye")
        await until(lambda: all_done(1), 10)


async def test_what_is_asked_for_beside_a_busy_runner_is_told_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK", 60.0)
    told: list[str] = []
    async with a_runner() as busy:
        await mill.slow.later("rye", 0.5)
        await until(lambda: mill.traces.exists({"job": "slow began"}))
        assert len(busy.running) == 1
        async with state.slow_redis() as redis, redis.pubsub() as heard:
            await heard.subscribe(jobs.channel())
            await mill.leave_trace.later("rye")
            while not told:
                message = await heard.get_message(timeout=5)
                assert message is not None
                told += [message["data"].decode()] if message["type"] == "message" else []
    assert told == ["mill"]


async def test_a_job_whose_wake_was_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "channel", lambda: "nobody listens here")
    monkeypatch.setattr(Runner, "_told", lambda self, product: True)  # nor does it hear what is asked for beside it
    async with a_runner():
        await mill.leave_trace.later("rye")
        await until(lambda: all_done(1), 5)


async def test_c17_a_runner_that_stops_finishes_what_it_began() -> None:
    async with a_runner():
        await mill.slow.later("rye", 0.5)
        await until(lambda: mill.traces.exists({"job": "slow began"}))
        await mill.leave_trace.at(now() + timedelta(seconds=0.2), "not any more")
    assert await traced("slow") == ["rye"]
    assert await traced("leave_trace") == []


async def test_c17_what_is_not_finished_in_time_is_put_back_and_does_not_count_as_a_try() -> None:
    stop = asyncio.Event()
    working = asyncio.create_task(worker.run(both, stop, grace=0.3))
    asked = await mill.slow.later("rye", 15.0)
    await until(lambda: mill.traces.exists({"job": "slow began"}))
    stop.set()
    await working
    left = await row(asked)
    assert (left.state, left.tries, left.by) == ("queued", 0, None)


async def test_a_claim_is_kept_while_its_job_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LEASE", timedelta(seconds=0.6))
    monkeypatch.setattr(runner, "BEAT", 0.1)
    async with a_runner(), a_runner():
        await mill.slow.later("rye", 1.5)
        await until(lambda: all_done(1))
    assert await traced("slow began") == ["rye"]


async def test_c3_a_runner_that_comes_back_late_spoils_nothing() -> None:
    asked = await mill.slow.later("rye", 0.0)
    (late,) = (await runner.claim("mill", 1)).rows
    await jobs.rows("mill").raw.update_one({"_id": asked}, {"$set": {"lease_until": now() - timedelta(seconds=1)}})
    await runner.rescue("mill")
    (taken_over,) = (await runner.claim("mill", 1)).rows
    assert await runner.perform("mill", late) is None  # its note is not taken
    assert (await row(asked)).state == "running"
    assert await runner.perform("mill", taken_over) is None
    done = await row(asked)
    assert (done.state, done.tries) == ("done", 2)


# ---- the clock


def test_a_cron_knows_when_it_was_to_run_last() -> None:
    assert mill.turn.last_tick(at(7, 30, 20)) == at(7, 30)
    assert mill.turn.last_tick(at(7, 30)) == at(7, 30)

    @cron("0 7 * * 1-5", timezone="Africa/Nairobi", product="mill")
    async def mornings() -> None: ...

    assert mornings.last_tick(at(3, 59)) == datetime(2025, 3, 11, 4, tzinfo=UTC)
    assert mornings.last_tick(at(4, 0)) == at(4, 0)
    assert mornings.last_tick(datetime(2025, 3, 16, 12, tzinfo=UTC)) == datetime(2025, 3, 14, 4, tzinfo=UTC)


def at(hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(2025, 3, 12, hour, minute, second, tzinfo=UTC)


def test_what_is_no_time_is_refused_when_the_cron_is_made() -> None:
    with pytest.raises(CronSimError):
        cron("at noon", product="mill")(mill.turn.act)


async def test_a_new_cron_waits_for_its_next_tick_and_a_missed_one_is_made_up_for_once() -> None:
    assert not await runner.ask_for(mill.turn, at(7, 30))
    assert await runner.ask_for(mill.turn, at(7, 35))
    assert not await runner.ask_for(mill.turn, at(7, 35))
    await worker.work_off(both)
    assert await traced("turn") == [""]


async def test_workers_that_see_the_same_tick_run_it_once() -> None:
    await runner.ask_for(mill.turn, at(7, 30))
    for minute in (31, 32, 33):
        asked = await asyncio.gather(*(runner.ask_for(mill.turn, at(7, minute)) for _ in range(4)))
        assert sorted(asked) == [False, False, False, True]
    await worker.work_off(both)
    assert await traced("turn") == [""] * 3


async def test_two_workers_run_a_cron_once_a_tick() -> None:
    await runner.ask_for(mill.turn, now() - timedelta(minutes=5))
    with clock.shifted(timedelta(seconds=30 - now().second % 60)):  # away from the full minute
        async with a_runner(crons=[mill.turn]), a_runner(crons=[mill.turn]):
            await until(lambda: all_done(1))
            await asyncio.sleep(2 * runner.LOOK)
    assert await traced("turn") == [""]


async def test_a_cron_can_be_called() -> None:
    await mill.turn()
    assert await traced("turn") == [""]
