"""The runner: claims jobs that are due, runs them, notes what became of them, and asks for what the clock wants.

A claim is a lease: the runner renews it while the job runs, and if it dies another takes the job over. What is noted
counts only under the claim, so a runner that was given up for dead spoils nothing when it comes back. Of many jobs
that are due each is claimed by itself, in one command (docs/decisions/0019).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import structlog
from pymongo.errors import DuplicateKeyError, PyMongoError
from redis.exceptions import RedisError

from msingi.kit import drain, observe, state
from msingi.kit.clock import now
from msingi.kit.db import Row, session
from msingi.kit.ids import new_id
from msingi.kit.jobs import LONGEST_ERROR, Cron, Here, JobRow, Runnable, channel, named, put, rows, waker
from msingi.kit.unit import alone, atomic

log = structlog.get_logger("jobs")

SLOTS = 16  # jobs that one worker runs at the same time
FOR_HIGH = 4  # of these, kept free for the high priority
LOOK = 1.0  # seconds between two looks for what is due, when nobody wakes us
LEASE = timedelta(seconds=12)  # how long a claim holds without being renewed
BEAT = 3.0  # seconds between two renewals, and between two looks for claims that ran out
FIRST_WAIT = 2.0  # seconds before the first retry
URGENT_FIRST = [("priority", 1), ("due_at", 1)]


class Runner:
    """What one worker process runs for some products."""

    def __init__(self, products: Sequence[str], crons: Iterable[Cron] = (), slots: int = SLOTS) -> None:
        self.products, self.crons, self.slots = list(products), list(crons), slots
        self.running: dict[asyncio.Task[None], tuple[str, JobRow]] = {}
        self.wanted = set(self.products)
        self.wake = asyncio.Event()
        self.stopping = False
        self.seen: dict[str, datetime] = {}

    async def run(self) -> None:
        """Run jobs until `stop` is called, and those under way to their end. If it is cancelled, they are put back."""
        here = state.part(Here).runners
        here.append(self._told)
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(each()) for each in (self._listen, self._beat, self._tick)]
                while not self.stopping:
                    await self._round()
                while self.running:
                    await asyncio.wait(self.running)
                await drain.end(helpers)
        finally:
            here.remove(self._told)
            await drain.end(self.running)

    def stop(self) -> None:
        """Claim no more; `run` then ends when the jobs under way are done."""
        self.stopping = True
        self.wake.set()

    async def _round(self) -> None:
        """Claim what is due and start it, then wait until there may be more."""
        self.wake.clear()
        try:
            await self._claim_all()
        except PyMongoError as error:
            log.warning("jobs_unreachable", error=str(error)[:200])
            await asyncio.sleep(LOOK)
        try:
            await asyncio.wait_for(self.wake.wait(), LOOK)
        except TimeoutError:
            self.wanted.update(self.products)

    async def _claim_all(self) -> None:
        random.shuffle(self.products)  # so that no product's backlog holds up the others
        for product in self.products:
            free = self.slots - len(self.running)
            if free > 0 and product in self.wanted:
                self.wanted.discard(product)  # before we look: what is asked for meanwhile is wanted anew
                try:
                    claims = await claim(product, free, reserve=FOR_HIGH)
                except BaseException:
                    self.wanted.add(product)
                    raise
                for row in claims.rows:
                    self._start(product, row)
                if claims.more:
                    self.wanted.add(product)
                if claims.lost:
                    self.wake.set()

    def _start(self, product: str, row: JobRow) -> None:
        task = asyncio.create_task(_quietly(product, row))
        self.running[task] = product, row
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self.running[task]
        if self.wanted:
            self.wake.set()

    async def _listen(self) -> None:
        while True:
            with suppress(RedisError, OSError, TimeoutError):
                async with state.slow_redis() as redis, redis.pubsub() as heard:
                    await heard.subscribe(channel())
                    async for message in heard.listen():
                        self._woken(message)
            await asyncio.sleep(LOOK)

    def _woken(self, message: Row) -> None:
        if message["type"] == "message":
            self._told(message["data"].decode())

    def _told(self, product: str) -> bool:
        """There is a job: look for it. Whether nothing else is run here now, so that it begins at once."""
        if self.stopping or product not in self.products:
            return False
        self.wanted.add(product)
        self.wake.set()
        return not self.running

    async def _beat(self) -> None:
        """Keep our claims, and take away those whose runner has stopped keeping them."""
        while True:
            try:
                for product in self.products:
                    await self._keep(product)
                    await rescue(product)
            except PyMongoError as error:
                log.warning("leases_not_kept", error=str(error)[:200])
            await asyncio.sleep(BEAT)

    async def _keep(self, product: str) -> None:
        claims = [row for owner, row in self.running.values() if owner == product]
        if claims:
            ours = {"_id": {"$in": [row.id for row in claims]}, "by": {"$in": [row.by for row in claims]}}
            await rows(product).raw.update_many(ours, {"$set": {"lease_until": now() + LEASE}})

    async def _tick(self) -> None:
        """Ask for what the clock wants."""
        while True:
            for each in self.crons:
                with suppress(PyMongoError):
                    await self._tick_one(each)
            await asyncio.sleep(LOOK)

    async def _tick_one(self, cron: Cron) -> None:
        tick = cron.last_tick(now())
        if self.seen.get(cron.name) != tick:
            if await ask_for(cron, tick):
                log.info("cron_ticked", cron=cron.name, tick=tick)
            self.seen[cron.name] = tick


async def _quietly(product: str, row: JobRow) -> None:
    await perform(product, row)


# ---- one job, from its claim to its end


class Claims(NamedTuple):
    """What was claimed; whether more may be due than that; whether others were faster with some."""

    rows: Sequence[JobRow]
    more: bool
    lost: bool


async def claim(product: str, free: int, reserve: int = 0) -> Claims:
    """Take up to `free` jobs that are due, the most urgent first; the last `reserve` places are for high ones only."""
    due = {"state": "queued", "due_at": {"$lte": now()}}
    found = await rows(product).many(due, sort=URGENT_FIRST, limit=free)
    ids = [row.id for place, row in enumerate(found) if row.priority == 0 or place < free - reserve]
    ours = await _taken(product, ids) if ids else []
    lost = len(ours) < len(ids)
    return Claims(ours, more=lost or len(ids) < len(found) or len(found) == free, lost=lost)


async def _taken(product: str, ids: Sequence[str]) -> Sequence[JobRow]:
    """Those of these that are ours now."""
    by = new_id()
    taken = {"$set": {"state": "running", "by": by, "lease_until": now() + LEASE}, "$inc": {"tries": 1}}
    async with alone():
        return await rows(product).claim(ids, by, taken, {"state": "queued"}, sort=URGENT_FIRST)


async def rescue(product: str) -> None:
    """Put back into the queue what was claimed by a runner that is gone; that try counts."""
    lost = {"state": "running", "lease_until": {"$lt": now()}}
    note = "the worker that ran it was lost"
    fresh = {"state": "queued", "by": None, "due_at": now(), "last_error": note}
    done = await rows(product).raw.update_many(lost, {"$set": fresh})
    if done.modified_count:
        log.warning("jobs_rescued", product=product, count=done.modified_count)


async def perform(product: str, row: JobRow) -> Exception | None:
    """Run a claimed job and note what became of it; returns what went wrong, if something did."""
    known: Runnable | None = None
    with structlog.contextvars.bound_contextvars(job=row.name, job_id=row.id):
        try:
            known = named(row.name)
            if row.tries > known.retries + 1:
                raise RuntimeError(row.last_error)
            async with asyncio.timeout(known.timeout):
                await known.run(row.args)
        except asyncio.CancelledError:
            await _put_back(product, row)
            raise
        except Exception as error:  # noqa: BLE001  (whatever a job raises, it is the job's failure and is kept with it)
            await _persistently(partial(_failed, product, row, error, known))
            return error
        await _persistently(partial(_done, product, row))
        return None


async def _done(product: str, row: JobRow) -> None:
    """Note that it is done; or, if it was asked for again meanwhile, queue it once more."""
    observe.count("jobs", job=row.name, result="done")
    over = {"state": "done", "done_at": now(), "by": None, "last_error": None}
    async with alone():
        ended = await rows(product).apply(row.id, {"$set": over}, {"by": row.by, "asked": row.asked})
    if not ended:
        anew = {"state": "queued", "due_at": now(), "by": None, "tries": 0}
        await rows(product).raw.update_one({"_id": row.id, "by": row.by}, {"$set": anew})
        await waker(product)()  # who asked woke the runners while it could not be claimed


async def _failed(product: str, row: JobRow, error: Exception, known: Runnable | None) -> None:
    """Queue it for another try, after a pause that doubles from try to try, or bury it."""
    dead = row.tries > (known.retries if known else 5)
    observe.count("jobs", job=row.name, result="dead" if dead else "failed")
    log.warning("job_died" if dead else "job_failed", tries=row.tries, exc_info=error)
    after: Row = {"by": None, "last_error": f"{type(error).__name__}: {error}"[:LONGEST_ERROR]}
    if dead:
        after |= {"state": "dead"}
    else:
        after |= {"state": "queued", "due_at": now() + pause(row.tries, known.longest_wait if known else 900)}
    await rows(product).raw.update_one({"_id": row.id, "by": row.by}, {"$set": after})


def pause(tries: int, longest: float) -> timedelta:
    """How long to wait after so many tries: between half and all of 2, 4, 8 … seconds, at most `longest`."""
    return timedelta(seconds=min(longest, FIRST_WAIT * 2.0 ** min(tries - 1, 30)) * random.uniform(0.5, 1))


async def _put_back(product: str, row: JobRow) -> None:
    """We are told to stop: another worker begins it anew at once, and this try does not count."""
    fresh = {"$set": {"state": "queued", "by": None, "due_at": now()}, "$inc": {"tries": -1}}
    with suppress(PyMongoError):  # then its lease runs out
        await rows(product).raw.update_one({"_id": row.id, "by": row.by}, fresh)


async def _persistently(note: Callable[[], Awaitable[None]]) -> None:
    """The job has run: losing the note of it would run it again, so a database that is away is waited for."""
    for _ in range(10):
        try:
            await note()
            return
        except PyMongoError as error:
            log.warning("job_note_failed", error=str(error)[:200])
            await asyncio.sleep(1)


async def run_due(product: str) -> list[Exception | None]:
    """Run all jobs of a product that are due now, one after the other; returns what each raised. For tests."""
    return [await perform(product, row) for row in (await claim(product, 100)).rows]


# ---- what fails elsewhere, and what the clock wants


async def put_off(id: str, name: str, product: str, args: Sequence[object], error: Exception, longest: float) -> None:
    """Make a job of something that was tried once and failed; under an id that exists already it changes nothing."""
    log.warning("reaction_failed", reaction=name, exc_info=error)
    observe.count("jobs", job=name, result="failed")
    row = JobRow(id=id, name=name, args=list(args), due_at=now() + pause(1, longest), tries=1)
    row.last_error = f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
    with suppress(DuplicateKeyError):
        await rows(product).raw.insert_one(rows(product).dump(row))


@atomic
async def ask_for(cron: Cron, tick: datetime) -> bool:
    """Queue a cron's job for a tick; False if that was done before, or if this cron was never seen until now."""
    ticks = state.database("kit")["crons"]
    known = await ticks.find_one({"_id": cron.name}, session=session())
    if known is None:
        await ticks.insert_one({"_id": cron.name, "tick": tick}, session=session())
        return False
    if known["tick"] >= tick:
        return False
    await ticks.update_one({"_id": cron.name}, {"$set": {"tick": tick}}, session=session())
    await put(cron.product, JobRow(name=cron.name, due_at=now()))
    return True
