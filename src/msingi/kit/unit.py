"""One unit of work: what is written together, and what waits until it is safe.

`@atomic` is a transaction. `@guarded` is a single write on a single document, which MongoDB makes atomic by itself;
on a hot document it holds its rate where a transaction collapses (measured: 25 times slower at 64 writers).
Either may be run again by MongoDB's driver, so an action touches nothing but the database; letters, jobs, live
messages and stale cache tags wait for the commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import pymongo
import structlog
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import ConnectionFailure, ExecutionTimeout, NetworkTimeout, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from msingi.kit import state, statements
from msingi.kit.errors import Busy

P = ParamSpec("P")
R = TypeVar("R")
Later = Callable[[], Awaitable[Any]]
log = structlog.get_logger("unit")

PATIENCE = 10.0  # seconds that a transaction may spend on being tried again before the caller hears 503


class Unit:
    """What one action has written so far."""

    def __init__(self, session: AsyncClientSession | None) -> None:
        self.session = session
        self.dirty: set[str] = set()
        self.after: list[Later] = []
        self.asked: dict[tuple[str, str], tuple[str, datetime]] = {}  # by product and key of a job: its id, when due
        self.writes = 0

    def count_write(self) -> None:
        """A write happens. Outside a transaction there may be only one."""
        self.writes += 1
        if self.session is None and self.writes > 1:
            raise RuntimeError("a second write belongs in @atomic: @guarded is for one write on one document")


class Journal(Protocol):
    """Remembers what the units of one request have done, so that a retry after a crash goes on from there.

    kit.idempotency keeps one for a request that carries an Idempotency-Key.
    """

    def next_step(self) -> int: ...

    def recall(self, step: int, act: Callable[..., Any]) -> tuple[bool, Any]: ...

    async def keep(self, session: AsyncClientSession, step: int, act: Callable[..., Any], result: Any) -> None: ...


current: ContextVar[Unit | None] = ContextVar("unit", default=None)
journal: ContextVar[Journal | None] = ContextVar("journal", default=None)
# What is done with the tags that a commit made stale; kit.cache sets it.
_forget: list[Callable[[set[str]], Awaitable[None]]] = []


def on_stale(forget: Callable[[set[str]], Awaitable[None]]) -> None:
    """Register who is told, after each commit, which tags it made stale."""
    _forget.append(forget)


def after_commit(act: Later) -> None:
    """Do this when the unit under way has committed, and not at all if it fails. Needs a unit."""
    unit = current.get()
    if unit is None:
        raise RuntimeError("after_commit belongs inside an @atomic or @guarded action")
    unit.after.append(act)


def atomic(act: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """All of it or none of it, in one transaction (snapshot reads, majority writes).

    The action may be run more than once. Inside another action it joins that one's transaction. Raises Busy (503)
    when writers on the same documents keep it from finishing within PATIENCE seconds.
    """

    @wraps(act)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        outer = current.get()
        if outer is not None:
            if outer.session is None:
                raise RuntimeError(f"{act.__name__} is @atomic and cannot run inside a @guarded action")
            return await act(*args, **kwargs)

        notes = journal.get()
        step = notes.next_step() if notes else 0
        if notes:
            known, result = notes.recall(step, act)
            if known:
                found: R = result
                return found

        tried: list[Unit] = []

        async def attempt(session: AsyncClientSession) -> tuple[R, Unit]:
            unit = Unit(session)
            tried[:] = [unit]
            with _entered(unit):
                result = await act(*args, **kwargs)
                if notes:
                    await notes.keep(session, step, act, result)
                await statements.commit(session)
                return result, unit

        try:
            with _busy_when_crowded(), pymongo.timeout(PATIENCE):
                async with state.mongo().start_session() as session:
                    done: tuple[R, Unit] = await session.with_transaction(
                        attempt, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
                    )
        except (Busy, asyncio.CancelledError):
            _doubt(tried)
            raise
        await _finished(done[1])
        return done[0]

    return run


def guarded(act: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """One write on one document, without a transaction; its events ride in the document (`tells=`).

    A second write raises RuntimeError. Inside an @atomic action it joins that transaction; in a request with an
    Idempotency-Key it becomes one, so that the write and the note of it are one.
    """
    as_atomic, by_itself = atomic(act), repeatable(act)

    @wraps(act)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if journal.get() is not None:
            return await as_atomic(*args, **kwargs)
        return await by_itself(*args, **kwargs)

    return run


def repeatable(act: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """As @guarded, for a write that knows itself again: made twice, it changes nothing the second time.

    It needs no note of having been made, so that a request with an Idempotency-Key makes it without a transaction too:
    what holds the scarce thing is named by the request (a hold by its order), and is there or is not.
    """
    joining = atomic(act)

    @wraps(act)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if current.get() is not None:
            return await joining(*args, **kwargs)
        unit = Unit(None)
        try:
            with _busy_when_crowded(), _entered(unit), pymongo.timeout(PATIENCE):
                result = await act(*args, **kwargs)
        except (Busy, asyncio.CancelledError):
            _doubt([unit])
            raise
        await _finished(unit)
        return result

    return run


@asynccontextmanager
async def alone() -> Any:
    """For the kit's own bookkeeping: writes that belong to no action (leases, receipts, migrations)."""
    unit = Unit(None)
    unit.count_write = lambda: None  # type: ignore[method-assign]
    with _entered(unit):
        yield unit
    await _finish(unit)


@contextmanager
def _entered(unit: Unit) -> Any:
    token = current.set(unit)
    try:
        yield
    finally:
        current.reset(token)


_finishing: set["asyncio.Task[None]"] = set()


async def _finished(unit: Unit) -> None:
    """Do what waited for the commit, to its end: a caller who goes away meanwhile does not take it along."""
    if unit.dirty or unit.after:
        await asyncio.shield(_begun(_finish(unit)))


def _doubt(tried: list[Unit]) -> None:
    """Nobody knows whether this was committed: call its tags stale, which is harmless if it was not."""
    for unit in tried:
        if unit.dirty:
            unit.after.clear()
            _begun(_finish(unit))


def _begun(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    task = asyncio.create_task(work)
    _finishing.add(task)  # else nobody holds it but the loop, weakly
    task.add_done_callback(_finishing.discard)
    return task


async def _finish(unit: Unit) -> None:
    """The work is committed: nothing here may turn it into a failure. What is lost here is done again by a sweep."""
    noted = journal.set(None)  # what follows is no step of the request
    try:
        if unit.dirty:
            for forget in _forget:
                await _quietly(lambda forget=forget: forget(unit.dirty))  # type: ignore[misc]
        for act in unit.after:
            await _quietly(act)
    finally:
        journal.reset(noted)


async def _quietly(act: Later) -> None:
    try:
        await act()
    except Exception:  # the commit stands whatever happens here
        log.warning("after_commit_failed", exc_info=True)


@contextmanager
def _busy_when_crowded() -> Any:
    try:
        yield
    except (NetworkTimeout, ExecutionTimeout, ConnectionFailure) as error:
        raise Busy(retry_after=1) from error
    except OperationFailure as error:
        if error.has_error_label("TransientTransactionError") or error.timeout:
            raise Busy(retry_after=1) from error
        raise
    except PyMongoError as error:
        if error.timeout:
            raise Busy(retry_after=1) from error
        raise
