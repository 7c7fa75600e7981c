"""Hearing: what the relay carried is brought to the reactions of a product, by whichever worker takes it.

A product is one consumer group of the Redis stream, its workers share it. What Redis may have lost (it was flushed, it
came back older than it was, it cut off what a slow product had not read) is read straight from the outboxes, where
all is kept for a week; the inbox tells what is new. Events that are read together are reacted to in one transaction
(docs/decisions/0019).
"""

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import structlog
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from msingi.kit import leases, state
from msingi.kit.clock import now
from msingi.kit.db import Row
from msingi.kit.errors import Busy
from msingi.kit.events import Due, Reaction, inbox, outbox, receipt_of, receive_together, teller_of
from msingi.kit.ids import new_id
from msingi.kit.jobs import rows as jobs_of
from msingi.kit.relay import LONGEST, beginning, stream_key
from msingi.kit.runner import put_off

Fields = dict[bytes, bytes]
T = TypeVar("T")
log = structlog.get_logger("hearing")

AT_ONCE = 32  # events taken in one reading
QUICK = 0.25  # seconds: what was reacted to together in that time, more may be
BLOCK = 1.0  # seconds that a reading waits for something to read
GIVEN_UP = 15.0  # seconds after which what a worker took and did not finish goes to another
LOOK = 5.0  # seconds between two looks for what Redis lost
MEASURED = 1.0  # seconds between two looks at the stream's length: in that time a tenth of LONGEST is never told
OLDEST_COPY = timedelta(hours=2)  # how old the data of a Redis that comes back may be: it saves each hour, or sooner
LONG_GONE = 3600 * 1000  # milliseconds without a word from a worker
EVER = datetime(1970, 1, 1, tzinfo=UTC)


class Hearing:
    """What one worker process hears for one product."""

    def __init__(self, product: str, reactions: Sequence[Reaction]) -> None:
        self.product, self.reactions = product, list(reactions)
        self.name = f"{socket.gethostname()} {os.getpid()} {new_id()}"
        self.stopping = False
        self.heard = {reaction.tag.encode() for reaction in self.reactions}
        self.claimed_at = self.measured_at = 0.0
        self.turns = Turns()

    def stop(self) -> None:
        """Take no more; `run` ends when what was taken is done."""
        self.stopping = True

    async def run(self) -> None:
        """React to events until `stop` is called."""
        async with state.slow_redis() as redis:
            while not self.stopping:
                try:
                    await self._handle(redis, await self._taken_over(redis) or await self._read(redis))
                except ResponseError as error:
                    await self._join(redis, error)
                except (RedisError, PyMongoError, OSError, TimeoutError) as error:
                    log.warning("hearing_interrupted", product=self.product, error=str(error)[:200])
                    await asyncio.sleep(1)

    async def _read(self, redis: "Redis") -> list[tuple[bytes, Fields]]:
        """The next events that nobody in the group has taken."""
        if time.monotonic() - self.measured_at > MEASURED:
            if await _is_cut_off(redis, self.product):
                await _doubt(self.product)  # before the reading goes on beyond the gap
            self.measured_at = time.monotonic()
        async with asyncio.timeout(BLOCK + 5):  # Redis may hang without a word
            found = await redis.xreadgroup(
                self.product, self.name, {stream_key(): ">"}, count=AT_ONCE, block=round(BLOCK * 1000)
            )
        return found[0][1] if found else []

    async def _taken_over(self, redis: "Redis") -> list[tuple[bytes, Fields]]:
        """What a worker took, and was killed before it was done."""
        if time.monotonic() - self.claimed_at < GIVEN_UP / 3:
            return []
        async with asyncio.timeout(5):
            found = await redis.xautoclaim(stream_key(), self.product, self.name, round(GIVEN_UP * 1000), count=AT_ONCE)
        if not found[1]:
            self.claimed_at = time.monotonic()
        entries = [entry for entry in found[1] if entry[1]]
        if len(entries) < len(found[1]) or found[2:] not in ([], [[]]):
            await _doubt(self.product)  # some had been cut off from the stream
        return entries

    async def _handle(self, redis: "Redis", entries: Sequence[tuple[bytes, Fields]]) -> None:
        """React, to many at once where they are quick. What is no concern of this product, which is most, is done."""
        await self._done(redis, [id for id, fields in entries if fields[b"type"] not in self.heard])
        heard = [(id, _envelope(fields)) for id, fields in entries if fields[b"type"] in self.heard]
        for some in self.turns.parts(heard):
            await self.turns.deliver(_due(self.reactions, [envelope for _, envelope in some]))
            await self._done(redis, [id for id, _ in some])

    async def _done(self, redis: "Redis", ids: Sequence[bytes]) -> None:
        if ids:
            async with asyncio.timeout(5):
                await redis.xack(stream_key(), self.product, *ids)

    async def _join(self, redis: "Redis", error: ResponseError) -> None:
        """Make the group, if that is what is missing: the stream is new, or was lost."""
        if "NOGROUP" not in str(error):
            log.warning("hearing_interrupted", product=self.product, error=str(error)[:200])
            await asyncio.sleep(1)
            return
        await _doubt(self.product)
        try:
            await redis.xgroup_create(stream_key(), self.product, id="0", mkstream=True)
        except ResponseError as refused:
            if "BUSYGROUP" not in str(refused):
                raise


def _envelope(fields: Fields) -> Row:
    said = {str(name, "utf-8"): str(value, "utf-8") for name, value in fields.items()}
    at = datetime.fromisoformat(said["at"])
    return {"_id": said["id"], "type": said["type"], "at": at, "body": msgspec.json.decode(said["body"])}


def _due(reactions: Sequence[Reaction], envelopes: Sequence[Row]) -> list[Due]:
    """What there is to react to, in the order of the events; one that came twice is there once."""
    due = [Due(each, envelope) for envelope in envelopes for each in reactions if each.tag == envelope["type"]]
    return list({receipt_of(each.reaction, each.envelope["_id"]): each for each in due}.values())


class Turns:
    """How many events are reacted to in one transaction: many while that is quick, and one by one when it was not."""

    def __init__(self) -> None:
        self.most = AT_ONCE

    def parts(self, left: Sequence[T]) -> Iterator[Sequence[T]]:
        """What there is, cut as the turns before each part went."""
        while left:
            some, left = left[: self.most], left[self.most :]
            yield some

    async def deliver(self, due: Sequence[Due]) -> int:
        """React to these now; how many had their effect. What fails, or came before, makes the next turns small."""
        began = time.monotonic()
        count = await deliver_all(due)
        if count < len(due) or time.monotonic() - began > QUICK:
            self.most = 1
        else:
            self.most = min(AT_ONCE, max(self.most, 2 * len(due)))
        return count


async def deliver_all(due: Sequence[Due]) -> int:
    """React to events; how many reactions, all of one product, had their effect now.

    They are tried in one transaction. If one of them fails, or was done before, each is done by itself, so that what
    is wrong with one holds up no other.
    """
    if len(due) > 1:
        try:
            async with asyncio.timeout(max(each.reaction.timeout for each in due)):
                await receive_together(due)
            return len(due)
        except Exception as error:  # noqa: BLE001  (whatever it was, the one whose fault it is meets it again)
            log.info("reactions_taken_apart", count=len(due), error=repr(error)[:200])
    return sum([await deliver(*each) for each in due])


async def deliver(reaction: Reaction, envelope: Row) -> bool:
    """React to an event; what fails becomes a job, so that nothing waits behind it. Whether it had its effect now."""
    while True:
        try:
            async with asyncio.timeout(reaction.timeout):
                return await reaction.receive(envelope)
        except Exception as error:  # noqa: BLE001  (whatever a reaction raises is kept with its job)
            if await _put_off(reaction, envelope, error):
                return False
        await asyncio.sleep(1)


async def _put_off(reaction: Reaction, envelope: Row, error: Exception) -> bool:
    """Make a job of it. If even that cannot be written, the database is away: then wait, and react again."""
    id = receipt_of(reaction, envelope["_id"])
    stored = {**envelope, "at": envelope["at"].isoformat()}
    try:
        await put_off(id, reaction.name, reaction.product, [stored], error, reaction.longest_wait)
        return True
    except (PyMongoError, Busy) as away:
        log.warning("hearing_waits_for_mongo", product=reaction.product, error=str(away)[:200])
        return False


# ---- what Redis lost


async def look_for_gaps(hearings: Sequence[Hearing]) -> None:
    """Again and again, find out whether Redis may have lost something, and read that from the outboxes."""
    while True:
        try:
            while not await beginning():  # before the relay has begun there is nothing to compare with
                await asyncio.sleep(0.2)
            for hearing in hearings:
                await _look(hearing)
        except (RedisError, PyMongoError, OSError, TimeoutError) as error:
            log.warning("gaps_unknown", error=str(error)[:200])
        await asyncio.sleep(LOOK)


async def _look(hearing: Hearing) -> None:
    began = now()
    token, run = await _what_redis_holds()
    known = await _known().find_one({"_id": hearing.product}) or {}
    since = _lost_since(known, token, run)

    async def read_outboxes() -> None:
        if since:
            count = await catch_up(hearing.product, hearing.reactions, since)
            log.info("caught_up", product=hearing.product, since=since, found=count)
        fresh = {"token": token, "run": run, "at": began, "doubt": None}
        with suppress(DuplicateKeyError):  # there is a doubt that was not there when we began: look again
            same = {"_id": hearing.product, "doubt": known.get("doubt")}
            await _known().update_one(same, {"$set": fresh}, upsert=True)
        await _tidy(hearing.product)

    if since or began - known["at"] > timedelta(minutes=1):
        await leases.holding(f"hearing {hearing.product}", read_outboxes)


async def _what_redis_holds() -> tuple[str, str]:
    """What changes when Redis is emptied or the relay has to begin anew; and what changes when Redis is restarted."""
    redis = state.redis()
    await redis.set(f"{stream_key()}:token", new_id(), nx=True)
    token = await redis.get(f"{stream_key()}:token")
    server = await redis.info("server")
    return f"{(token or b'').decode()} {await beginning()}", server["run_id"]


def _lost_since(known: Row, token: str, run: str) -> datetime | None:
    if known.get("token") != token or known.get("doubt"):
        return EVER
    if known["run"] != run:
        last_seen: datetime = known["at"]
        return last_seen - OLDEST_COPY
    return None


async def _is_cut_off(redis: "Redis", product: str) -> bool:
    """Whether the stream was shortened beyond what the product has read."""
    async with asyncio.timeout(5):
        if await redis.xlen(stream_key()) < LONGEST * 0.9:
            return False
        first = (await redis.xinfo_stream(stream_key()))["first-entry"]
        groups = await redis.xinfo_groups(stream_key())
    return any(
        group["name"].decode() == product and _place(group["last-delivered-id"]) < _place(first[0]) for group in groups
    )


def _place(id: bytes) -> tuple[int, int]:
    milliseconds, _, number = id.decode().partition("-")
    return int(milliseconds), int(number or 0)


async def _doubt(product: str) -> None:
    """Have everything that is kept looked through at the next look."""
    await _known().update_one({"_id": product}, {"$set": {"doubt": new_id()}}, upsert=True)


async def _tidy(product: str) -> None:
    """Forget the workers of long ago, if they left nothing undone."""
    redis = state.redis()
    for each in await redis.xinfo_consumers(stream_key(), product):
        if each["pending"] == 0 and each["idle"] > LONG_GONE:
            await redis.xgroup_delconsumer(stream_key(), product, each["name"])


def _known() -> AsyncCollection[Row]:
    return state.database("kit")["hearing"]


async def catch_up(product: str, reactions: Sequence[Reaction], since: datetime = EVER) -> int:
    """React to what the outboxes hold since then and the inbox does not; returns how many had their effect now."""
    count = 0
    for teller in {teller_of(reaction.tag) for reaction in reactions}:
        heard = {reaction.tag for reaction in reactions if teller_of(reaction.tag) == teller}
        wanted = {"type": {"$in": sorted(heard)}, "created_at": {"$gte": since}}
        batch: list[Row] = []
        async for row in outbox(teller).raw.find(wanted, sort=[("created_at", 1)]):
            batch.append(row)
            if len(batch) == 500:
                count += await _catch_up_batch(product, reactions, batch)
                batch = []
        count += await _catch_up_batch(product, reactions, batch)
    return count


async def _catch_up_batch(product: str, reactions: Sequence[Reaction], batch: Sequence[Row]) -> int:
    due = {receipt_of(each.reaction, each.envelope["_id"]): each for each in _due(reactions, [*map(_told, batch)])}
    for kept in (inbox(product), jobs_of(product)):  # what was done, and what waits to be tried again
        async for found in kept.raw.find({"_id": {"$in": list(due)}}, {"_id": 1}):
            due.pop(found["_id"], None)
    turns = Turns()
    return sum([await turns.deliver(some) for some in turns.parts(list(due.values()))])


def _told(row: Row) -> Row:
    wanted: dict[str, Any] = {name: row[name] for name in ("_id", "type", "at", "body")}
    return wanted
