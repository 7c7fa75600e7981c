"""Small collections that every process holds in memory: read whole when it starts, then followed by a change stream.

What decides about each request (which role carries what, how often one may ask) is never asked of the database with
the request. A change is a write like any other; every process has read it within moments, this one at its commit.
While the database is away, what was known last goes on to hold.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, NoReturn, TypeVar

import msgspec
import pymongo
import structlog
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import PyMongoError

from msingi.kit import state, unit
from msingi.kit.db import Collection, Doc, Row

D = TypeVar("D", bound=Doc)
Rows = Mapping[str, D | None]
Listener = Callable[[], Awaitable[None]]
PATIENCE = 2.0  # seconds that a process which starts waits for its first reading
MOST = 10_000  # rows of a collection
log = structlog.get_logger("followed")


async def follow(
    name: str,
    watch: Callable[[], Awaitable[AsyncChangeStream[Row]]],
    begin: Callable[[], Awaitable[None]],
    hear: Callable[[Row | None], Awaitable[None]],
) -> NoReturn:
    """Follow a change stream for as long as the process lives, whatever becomes of the database meanwhile.

    First the stream is opened, then `begin` reads what there is: nothing can fall between the two, and to hear a
    thing twice must do no harm. `hear` gets each change, and None whenever there was nothing for a while.
    """
    heard = state.part(Heard).names
    while True:
        try:
            async with await watch() as stream:
                await begin()
                heard.add(name)
                while stream.alive:
                    await hear(await stream.try_next())
        except PyMongoError as error:
            log.warning(f"{name}_interrupted", error=type(error).__name__)
            await asyncio.sleep(0.2)


class Heard:
    """What this process has begun to follow, by name: it is all ears when `revocations` and `followed` are there."""

    def __init__(self) -> None:
        self.names: set[str] = set()


class Followed(Generic[D]):
    """A small collection in the kit's database, and what is done with its rows each time they were read.

    `learn` gets them by their id, with None for a row that cannot be understood: it decides what that means. Before
    the first reading it gets None instead of rows.
    """

    def __init__(self, store: Collection[D], learn: Callable[[Rows[D] | None], None]) -> None:
        store.product = "kit"
        self.store, self.learn = store, learn
        self.listeners: list[Listener] = []
        _all.append(self)

    def on_change(self, act: Listener) -> Listener:
        """Register what every process does after it learned of a change."""
        if act not in self.listeners:
            self.listeners.append(act)
        return act

    def changes(self) -> None:
        """The unit under way changes a row: have this process know it by the time the caller gets an answer."""
        unit.after_commit(self.read)

    async def read(self) -> None:
        """Read all rows now. Raises PyMongoError, and then what was known goes on to hold."""
        held = state.part(_Held)
        async with held.lock:  # one reading after the other: an older answer never comes last
            rows: dict[str, D | None] = {}
            async for row in self.store.raw.find({}, limit=MOST):
                rows[row["_id"]] = self._load(row)
            same = held.rows.get(self.store.name) == rows
            held.rows[self.store.name] = rows
            if not same:
                self.learn(rows)
        for act in () if same else self.listeners:
            try:
                await act()
            except Exception:  # a listener's trouble must not keep the others from knowing
                log.warning("change_listener_failed", store=self.store.name, exc_info=True)

    def _load(self, row: Row) -> D | None:
        try:
            return self.store.load(row)
        except msgspec.ValidationError as error:
            log.error("row_not_understood", store=self.store.name, id=str(row["_id"]), error=str(error))
            return None


_all: list[Followed[Any]] = []


class _Held:
    """What this process read last, by collection."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.rows: dict[str, Rows[Any]] = {}

    def start_over(self) -> None:
        """Know of no row: for tests, which empty the collections."""
        for each in _all:
            self.rows[each.store.name] = {}
            each.learn({})


def stores() -> list[Collection[Any]]:
    """The collections that are followed, in the kit's own database."""
    return [each.store for each in _all]


async def begin() -> None:
    """Read everything before the first request. While the database is away nothing is known, and that is told too."""
    for each in _all:
        each.learn(None)
    try:
        with pymongo.timeout(PATIENCE):
            await _read_all()
    except PyMongoError as error:
        log.warning("followed_unread", error=type(error).__name__)


async def _read_all() -> None:
    for each in _all:
        await each.read()


async def run_watch() -> None:
    """Follow them all by one stream."""
    known = {each.store.name: each for each in _all}
    only = {"$match": {"ns.coll": {"$in": list(known)}}}

    async def hear(change: Row | None) -> None:
        if change is not None:
            await known[change["ns"]["coll"]].read()

    await follow("followed", lambda: state.database("kit").watch([only], max_await_time_ms=500), _read_all, hear)
