"""Jobs: work for later, on the clock or in the queue. A row in the product's `jobs` collection is the whole truth.

`later` writes the row in the transaction under way; kit.runner claims rows that are due and runs them. Redis only
wakes the runners, so losing it delays a job by a second and loses none. A job may be run more than once (its worker
may die after the effect and before the note of it), so it takes ids, looks at how things stand, and does what is left.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, update_wrapper
from types import ModuleType
from typing import Any, Generic, Literal, ParamSpec, Protocol, get_type_hints, overload
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim
from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from msingi.kit import breaker, state, statements, unit
from msingi.kit.clock import now
from msingi.kit.db import Collection, Doc, Index, Page, Paging, Row, View, plain
from msingi.kit.errors import NotFound, Stale
from msingi.kit.events import Reaction, product_of, reactions

P = ParamSpec("P")
Priority = Literal["high", "default", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "default", "low")
LIVE = ["queued", "running"]
DONE_KEPT = 3 * 24 * 3600  # seconds that a finished job can be looked at
LONGEST_ERROR = 1000  # characters


class JobRow(Doc):
    """One piece of work, from the moment it is asked for until some days after it is done."""

    name: str
    due_at: datetime
    args: list[Any] = []
    state: Literal["queued", "running", "done", "dead"] = "queued"
    priority: int = 1  # its place in PRIORITIES
    tries: int = 0
    key: str | None = None  # while it lives, no other of this key is queued
    asked: int = 1  # how often it was asked for under its key
    by: str | None = None  # the claim under which it runs
    lease_until: datetime | None = None
    last_error: str | None = None
    done_at: datetime | None = None


@cache
def rows(product: str) -> Collection[JobRow]:
    """The jobs of a product."""
    found = Collection(
        JobRow,
        "jobs",
        indexes=[
            "state priority due_at",
            Index("key", unique=True, where={"key": {"$type": "string"}, "state": {"$in": LIVE}}),
            Index("done_at", expires_after=DONE_KEPT),
        ],
    )
    found.product = product
    return found


def stores(product: str) -> list[Collection[Any]]:
    """The collections that jobs need in a product's database."""
    return [rows(product)]


# ---- what can be run


class Runnable(Protocol):
    """What the runner needs of a job, a cron or a reaction."""

    name: str
    product: str
    retries: int
    timeout: float
    longest_wait: float

    async def run(self, args: Sequence[Any]) -> None: ...


class Job(Generic[P]):
    """A function that can be asked for later: `await remind.later(task_id)`. Calling it runs it here and now."""

    def __init__(
        self,
        act: Callable[P, Awaitable[None]],
        *,
        product: str,
        retries: int,
        timeout: float,
        priority: Priority,
        unique: Callable[P, str] | None,
        longest_wait: float,
    ) -> None:
        self.act, self.product, self.unique = act, product, unique
        self.name = f"{act.__module__}.{act.__qualname__}"
        self.retries, self.timeout, self.longest_wait = retries, timeout, longest_wait
        self.priority = PRIORITIES.index(priority)
        self.signature = inspect.signature(act)
        self.kinds = _kinds_of(act, self.signature)
        _named[self.name] = self
        update_wrapper(self, act)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        await self.act(*args, **kwargs)

    async def later(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Have it done as soon as a worker is free, once the action under way has committed; returns the job's id.

        If it has a unique key, and one of that key waits already, that one serves both; if it runs already, it is
        run once more when it is done. Raises TypeError if the arguments are not what the function takes.
        """
        return await self._ask(now(), args, kwargs)

    async def at(self, when: datetime, /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Have it done at a time (within a second of it, if a worker is free)."""
        return await self._ask(when, args, kwargs)

    async def run(self, args: Sequence[Any]) -> None:
        """Run it with arguments as they were stored."""
        await self.act(*(msgspec.convert(arg, kind) for arg, kind in zip(args, self.kinds, strict=True)))  # type: ignore[call-arg]

    async def _ask(self, due: datetime, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        key = f"{self.name} {self.unique(*args, **kwargs)}" if self.unique else None
        row = JobRow(name=self.name, args=self._stored(bound.args), priority=self.priority, due_at=due, key=key)
        return await put(self.product, row)

    def _stored(self, values: Sequence[Any]) -> list[Any]:
        """The arguments as JSON, which must come back as the same arguments."""
        stored = []
        for value, kind, name in zip(values, self.kinds, self.signature.parameters, strict=True):
            stored.append(msgspec.to_builtins(value))
            try:
                msgspec.convert(stored[-1], kind)
            except msgspec.ValidationError as fault:
                raise TypeError(f"{self.name} cannot be given this {name} for later: {fault}") from None
        return stored


class Making(Protocol):
    """Makes a job of any function."""

    def __call__(self, act: Callable[P, Awaitable[None]]) -> Job[P]: ...


@overload
def job(
    *,
    retries: int = 5,
    timeout: float = 60,
    priority: Priority = "default",
    longest_wait: float = 900,
    product: str = "",
) -> Making: ...


@overload
def job(
    *,
    retries: int = 5,
    timeout: float = 60,
    priority: Priority = "default",
    unique: Callable[P, str],
    longest_wait: float = 900,
    product: str = "",
) -> Callable[[Callable[P, Awaitable[None]]], Job[P]]: ...


def job(
    *,
    retries: int = 5,
    timeout: float = 60,
    priority: Priority = "default",
    unique: Callable[..., str] | None = None,
    longest_wait: float = 900,
    product: str = "",
) -> Any:
    """Make an async function a job.

    A try may take `timeout` seconds; a failed one is repeated up to `retries` times, with pauses that double from
    two seconds up to `longest_wait`, and is then a dead letter, which can be looked at and run again. `unique`
    makes a key from the arguments, of which at most one is waiting or running.
    """

    def wrap(act: Callable[P, Awaitable[None]]) -> Job[P]:
        return Job(
            act,
            product=product or product_of(act.__module__),
            retries=retries,
            timeout=timeout,
            priority=priority,
            unique=unique,
            longest_wait=longest_wait,
        )

    return wrap


class Cron:
    """A function that runs by the clock, once a tick however many workers there are. Calling it runs it now."""

    def __init__(
        self,
        act: Callable[[], Awaitable[None]],
        *,
        when: str,
        zone: ZoneInfo,
        product: str,
        retries: int,
        timeout: float,
    ) -> None:
        self.act, self.when, self.zone, self.product = act, when, zone, product
        self.name = f"{act.__module__}.{act.__qualname__}"
        self.retries, self.timeout, self.longest_wait = retries, timeout, 900.0
        CronSim(when, now())  # raises CronSimError for what is no cron expression
        _named[self.name] = self
        update_wrapper(self, act)

    async def __call__(self) -> None:
        await self.act()

    async def run(self, args: Sequence[Any]) -> None:
        """Run it, as its row says."""
        await self.act()

    def last_tick(self, at: datetime) -> datetime:
        """The latest time, not after `at`, at which it is to run. Clock changes are handled as Debian's cron does."""
        just_after = at.replace(microsecond=0).timestamp() + 1
        tick = next(CronSim(self.when, datetime.fromtimestamp(just_after, self.zone), reverse=True))
        return tick.astimezone(at.tzinfo)


def cron(
    when: str, *, timezone: str = "UTC", retries: int = 3, timeout: float = 300, product: str = ""
) -> Callable[[Callable[[], Awaitable[None]]], Cron]:
    """Run an async function by the clock: `@cron("0 7 * * *", timezone="Africa/Nairobi")`.

    A tick that no worker saw is made up for when one is back: once, however many were missed.
    """

    def wrap(act: Callable[[], Awaitable[None]]) -> Cron:
        owner = product or product_of(act.__module__)
        return Cron(act, when=when, zone=ZoneInfo(timezone), product=owner, retries=retries, timeout=timeout)

    return wrap


_named: dict[str, Runnable] = {}


def named(name: str) -> Runnable:
    """The job, cron or reaction of a name. Raises LookupError if the code that runs has none."""
    found = _named.get(name) or reactions.get(name)
    if found is None:
        raise LookupError(f"no job is called {name} here")
    return found


@dataclass(frozen=True)
class Work:
    """What modules hold for the worker."""

    jobs: Sequence[Job[Any]]
    crons: Sequence[Cron]
    reactions: Sequence[Reaction]


def found_in(modules: Iterable[ModuleType]) -> Work:
    """The jobs, crons and reactions that stand in these modules."""
    things = {id(thing): thing for module in modules for thing in vars(module).values()}.values()
    return Work(
        jobs=[thing for thing in things if isinstance(thing, Job)],
        crons=[thing for thing in things if isinstance(thing, Cron)],
        reactions=[thing for thing in things if isinstance(thing, Reaction)],
    )


def _kinds_of(act: Callable[..., Any], signature: inspect.Signature) -> list[Any]:
    """The types of the arguments, which must be said, and be small enough to be stored: ids, not documents."""
    hints = get_type_hints(act)
    for parameter in signature.parameters.values():
        kind = hints.get(parameter.name)
        if kind is None or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise TypeError(f"{act.__qualname__} must say the type of each argument, and take none with a star")
        if isinstance(kind, type) and issubclass(kind, Doc):
            raise TypeError(f"{act.__qualname__} may run much later: it takes the id of a {kind.__name__}, not a copy")
    return [hints[name] for name in signature.parameters]


# ---- asking


async def put(product: str, row: JobRow) -> str:
    """Store a job, in the transaction under way if there is one, and wake the runners after it. Returns its id."""
    work = unit.current.get()
    if work is None:
        id = await _store(product, row, None)
        await waker(product)()
        return id
    if work.session is None:
        raise RuntimeError(
            "a job is asked for in @atomic: a @guarded action makes one write, and tells an event with it"
        )
    id = await _store_in(work, product, row)
    if waker(product) not in work.after:
        unit.after_commit(waker(product))
    return id


async def _store_in(work: unit.Unit, product: str, row: JobRow) -> str:
    """Store a job; of one key it is enough to ask once in a transaction, for none of it is seen before the rest."""
    known = work.asked.get((product, row.key)) if row.key else None
    if known is not None and known[1] <= row.due_at:
        return known[0]
    work.count_write()
    id = await _store(product, row, work.session)
    if row.key:
        work.asked[product, row.key] = id, row.due_at
    return id


async def _store(product: str, row: JobRow, session: AsyncClientSession | None) -> str:
    if row.key is None:
        if session is not None:
            await rows(product).add(row)
        else:
            async with unit.alone():
                await rows(product).add(row)
        return row.id
    try:
        return await _store_unique(product, row, session)
    except DuplicateKeyError:
        if session is not None:
            raise
        return await _store_unique(product, row, session)  # another was faster, so now there is one


async def _store_unique(product: str, row: JobRow, session: AsyncClientSession | None) -> str:
    """Store a job, unless one of its key lives: then note on that one that it was asked for again."""
    fresh: Row = {name: value for name, value in plain(row).items() if name not in ("key", "asked")}
    raw, where = rows(product).raw, {"key": row.key, "state": {"$in": LIVE}}
    update: Row = {"$inc": {"asked": 1}, "$min": {"due_at": fresh.pop("due_at")}, "$setOnInsert": fresh}
    command = {"findAndModify": raw.name, "query": where, "update": update, "new": True, "upsert": True}
    reply = await statements.run(raw, command | {"fields": {"_id": 1}}, session)
    if reply is not None:
        return str(reply["value"]["_id"])
    there = await raw.find_one_and_update(
        where, update, upsert=True, return_document=ReturnDocument.AFTER, session=session
    )
    assert there is not None  # noqa: S101  (an upsert leaves something)
    return str(there["_id"])


class Here:
    """The runners of this process: they are told without a message. Each says whether it has nothing else to do."""

    def __init__(self) -> None:
        self.runners: list[Callable[[str], bool]] = []


@cache
def waker(product: str) -> Callable[[], Awaitable[None]]:
    """What tells the runners that a product has a job. If it does not arrive, they look by themselves each second.

    An idle runner of this process takes the job at once, so that the others need not hear of it.
    """

    async def wake() -> None:
        idle = [each(product) for each in state.part(Here).runners]  # all of them are told
        if any(idle):
            return
        await breaker.ask(lambda: state.redis().publish(channel(), product), None)

    return wake


def channel() -> str:
    """Where the runners are woken."""
    return f"{state.settings().database}:jobs"


# ---- looking at queues and failures


class Queue(View):
    """How many jobs of a product are in a state, and when the first of them was, or is, due."""

    product: str
    priority: Priority
    state: str
    count: int
    first_due: datetime


class Failure(View):
    """A dead letter: a job that was given up."""

    id: str
    product: str
    name: str
    args: list[Any]
    tries: int
    last_error: str | None
    created_at: datetime


async def queues() -> list[Queue]:
    """How full the queues of the running products are; what was done long ago is not counted."""
    group = {
        "_id": {"priority": "$priority", "state": "$state"},
        "count": {"$sum": 1},
        "first_due": {"$min": "$due_at"},
    }
    found = []
    for product in _running():
        async for row in await rows(product).raw.aggregate([{"$group": group}, {"$sort": {"_id": 1}}]):
            priority, its_state = PRIORITIES[row["_id"]["priority"]], row["_id"]["state"]
            found.append(Queue(product, priority, its_state, row["count"], row["first_due"]))
    return found


async def failures(paging: Paging, product: str = "") -> Page[Failure]:
    """The dead letters of the running products (or of one), newest first."""
    where: Row = {"state": "dead", **({"_id": {"$lt": paging.after}} if paging.after else {})}
    found: list[Failure] = []
    for each in [product] if product else _running():
        async for row in rows(each).raw.find(where, sort=[("_id", -1)], limit=paging.limit + 1):
            found.append(Failure.of(rows(each).load(row), product=each))
    found.sort(key=lambda failure: failure.id, reverse=True)
    shown = found[: paging.limit]
    return Page(shown, shown[-1].id if len(found) > paging.limit else None)


async def run_again(product: str, id: str) -> None:
    """Try a dead letter again from the start. Raises NotFound; Stale if it is not dead, or its key is queued anew."""
    fresh = {"state": "queued", "tries": 0, "due_at": now(), "done_at": None}
    try:
        done = await rows(product).raw.update_one({"_id": id, "state": "dead"}, {"$set": fresh})
    except DuplicateKeyError:
        raise Stale from None
    await _must_have_found(product, id, done.matched_count)
    await waker(product)()


async def discard(product: str, id: str) -> None:
    """Throw a dead letter away. Raises NotFound; Stale if it is not dead."""
    gone = await rows(product).raw.delete_one({"_id": id, "state": "dead"})
    await _must_have_found(product, id, gone.deleted_count)


async def _must_have_found(product: str, id: str, count: int) -> None:
    if not count:
        raise Stale if await rows(product).exists({"_id": id}) else NotFound


def _running() -> list[str]:
    return [each.name for each in state.current().products]
