"""The relay: carries what every product has told from its outbox to the Redis stream that the hearers read.

One process of the house does it at a time. It follows one change stream over all databases of the house, because the
order of commits is not the order of ids: who polls by id skips events. Its place in that stream is saved after a
batch, at most once a second, so what it had carried and not yet noted is carried twice, and nothing is left out;
inboxes drop doubles.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pymongo
import structlog
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure, PyMongoError
from redis.exceptions import RedisError

from msingi.kit import drain, leases, observe, state
from msingi.kit.db import CARRIED, TOLD, Row
from msingi.kit.events import Riding, unload, unload_all
from msingi.kit.ids import new_id

log = structlog.get_logger("relay")

LONGEST = 100_000  # events that the stream holds, about; who falls behind further reads the outboxes (kit.hearing)
BATCH = 200  # events to a round trip
WAITING = 1000  # changes that may wait to be carried
PLACE_LOST = {260, 280, 286}  # the resume token is invalid, the stream is broken, or the oplog no longer reaches back
SAVED_EVERY = 10.0  # seconds, while nothing happens: the saved place must stay within the oplog
SAVED_AFTER = 1.0  # seconds, while much happens: a place that is older costs doubles, and no more
REDIS_PAUSE = 0.5  # seconds between two tries while Redis is away


async def run() -> None:
    """Carry events whenever no other process does, until cancelled. When one dies, another goes on in six seconds."""
    while True:
        try:
            await leases.holding("relay", _carry)
        except (PyMongoError, RedisError, OSError) as error:
            log.warning("relay_interrupted", error=str(error)[:200])
        await asyncio.sleep(1)


def stream_key() -> str:
    """The Redis stream that carries the events of this house."""
    return f"{state.settings().database}:events"


async def _carry() -> None:
    place = await _notes().find_one({"_id": "place"})
    try:
        async with await _watch(place["token"] if place else None) as stream:
            if place is None:
                await _begin(stream)
            log.info("relay_began", resumed=place is not None)
            await _follow(stream)
    except OperationFailure as error:
        if error.code not in PLACE_LOST:
            raise
        log.warning("relay_lost_its_place", error=str(error)[:200])
        await _notes().delete_one({"_id": "place"})


async def _watch(token: Any) -> AsyncChangeStream[Row]:
    """What is told in the databases of this house: rows put into an outbox, and events put into a document."""
    told = [
        {"operationType": "insert", "ns.coll": "outbox"},
        {"operationType": {"$in": ["insert", "replace"]}, f"fullDocument.{TOLD}": {"$exists": True}},
        {"operationType": "update", f"updateDescription.updatedFields.{TOLD}": {"$exists": True}},
    ]
    ours = {"ns.db": {"$regex": f"^{re.escape(state.settings().database)}_"}, "$or": told}
    return await state.mongo().watch([{"$match": ours}], start_after=token, max_await_time_ms=1000, batch_size=WAITING)


async def _begin(stream: AsyncChangeStream[Row]) -> None:
    """Start where the stream starts. What was told before that is read by the hearers, straight from the outboxes."""
    for base in await _databases():
        await unload_all(base)
    await _save(stream.resume_token, begun=new_id())


async def beginning() -> str:
    """Names the time since when nothing was left out; when it changes, the hearers look through all that is kept."""
    place = await _notes().find_one({"_id": "place"})
    return place["begun"] if place else ""


async def _databases() -> list[str]:
    prefix = f"{state.settings().database}_"
    return [name for name in await state.mongo().list_database_names() if name.startswith(prefix)]


async def _follow(stream: AsyncChangeStream[Row]) -> None:
    """Read ahead while a batch is carried, so that batches are as large as the load asks for."""
    waiting: asyncio.Queue[Row | PyMongoError] = asyncio.Queue(WAITING)
    reader = asyncio.create_task(_read(stream, waiting))
    loop = asyncio.get_running_loop()
    saved, unsaved = loop.time(), None
    try:
        while True:
            changes = await _next_batch(waiting)
            await _carry_batch(changes)
            unsaved = changes[-1]["_id"]
            if loop.time() - saved >= SAVED_AFTER:
                await _save(unsaved)
                saved, unsaved = loop.time(), None
    finally:
        await drain.end([reader])
        if unsaved is not None:
            with suppress(PyMongoError), pymongo.timeout(2):  # whoever is next then carries nothing twice
                await _save(unsaved)


async def _read(stream: AsyncChangeStream[Row], waiting: "asyncio.Queue[Row | PyMongoError]") -> None:
    noted = asyncio.get_running_loop().time()
    try:
        while True:
            change = await stream.try_next()
            if change is not None:
                await waiting.put(change)
            elif asyncio.get_running_loop().time() - noted > SAVED_EVERY:
                noted = asyncio.get_running_loop().time()
                await waiting.put({"_id": stream.resume_token, "operationType": "none"})
    except PyMongoError as error:
        await waiting.put(error)


async def _next_batch(waiting: "asyncio.Queue[Row | PyMongoError]") -> list[Row]:
    batch = [await waiting.get()]
    while not waiting.empty() and len(batch) < BATCH:
        batch.append(waiting.get_nowait())
    changes = [each for each in batch if isinstance(each, dict)]
    failed = [each for each in batch if isinstance(each, PyMongoError)]
    if failed and not changes:
        raise failed[0]
    if failed:
        waiting.put_nowait(failed[0])
    return changes


async def _carry_batch(changes: Sequence[Row]) -> None:
    by_base: dict[str, list[Riding]] = {}
    for change in changes:
        if change["operationType"] != "none" and change["ns"]["coll"] != "outbox":
            riding = Riding(change["ns"]["coll"], change["documentKey"]["_id"], _riding(change))
            by_base.setdefault(change["ns"]["db"], []).append(riding)
    for base, found in by_base.items():
        await unload(base, found)
    rows = [change["fullDocument"] for change in changes if change.get("ns", {}).get("coll") == "outbox"]
    if rows:
        await _hand_over(rows)
        observe.count("events_carried", len(rows))


def _riding(change: Row) -> list[Row]:
    """The events that a write put into a document, taken from the change itself: the document may be gone by now."""
    if "fullDocument" in change:
        return list(change["fullDocument"].get(CARRIED, ()))
    found: list[Row] = []
    for name, value in change["updateDescription"]["updatedFields"].items():
        if name == CARRIED:
            found += value
        elif name.startswith(f"{CARRIED}."):
            found.append(value)
    return found


async def _hand_over(rows: Sequence[Row]) -> None:
    """Put rows into the Redis stream; while Redis is away, wait: they are safe where they are."""
    away = False
    while True:
        try:
            async with state.redis().pipeline(transaction=False) as pipe:
                for row in rows:
                    pipe.xadd(stream_key(), _fields(row), maxlen=LONGEST, approximate=True)
                await pipe.execute()
            return
        except (RedisError, OSError) as error:
            if not away:
                log.warning("relay_waits_for_redis", error=str(error)[:200])
            away = True
            await asyncio.sleep(REDIS_PAUSE)


def _fields(row: Row) -> dict[Any, Any]:
    at = row["at"].isoformat()
    return {"id": row["_id"], "type": row["type"], "at": at, "body": msgspec.json.encode(row["body"])}


async def _save(token: Any, **more: str) -> None:
    await _notes().update_one({"_id": "place"}, {"$set": {"token": token, **more}}, upsert=True)


def _notes() -> AsyncCollection[Row]:
    return state.database("kit")["relay"]
