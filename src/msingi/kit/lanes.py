"""Plain reads at the price of the wire: `find`, and `aggregate` where few rows come of it, spoken over connections that
PyMongo opened and vouched for.

PyMongo's asyncio driver spends 110 of the 140 µs that a `find_one` costs on what a plain read does not need: sessions,
server selection, cursors, a task for each message (measured: docs/decisions/0011). So PyMongo opens a connection to the
primary, with TLS and authentication, and then its transport is handed to a small protocol that sends OP_MSG and
matches the replies. Several requests share a lane: they are answered in turn.

A lane never raises what the database says. Whatever is not a plain, whole, successful answer is None, and the caller
asks the ordinary way, where PyMongo decides, tries again and explains. Writes, and reads inside a transaction, have
lanes of their own (kit.statements).
"""

import asyncio
import struct
from collections.abc import Sequence
from itertools import count
from typing import Any, TypeVar

import bson
import structlog
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError
from pymongo.read_preferences import ReadPreference
from pymongo.server_selectors import writable_server_selector

from msingi.kit import state

MOST = 6  # lanes of a process: a slow query holds up only those that wait behind it on its lane
PATIENCE = 5.0  # seconds that a lane may be silent while somebody waits
REST = 1.0  # seconds until lanes are tried again after one could not be opened
LONGEST = 48_000_000  # bytes of a message, as the server itself has it
HEAD = struct.Struct("<iiiiIB")
OP_MSG = 2013
NO_PRIMARY = (10107, 13435, 13436, 11602, 189, 91, 11600)  # the server stepped down, or is about to stop
PRIMARY = ReadPreference.PRIMARY.mode
CANNOT = (PyMongoError, OSError, AttributeError, TypeError, ValueError, TimeoutError)  # why no lane is opened
Row = dict[str, Any]
OPTIONS: CodecOptions[Row] = CodecOptions(tz_aware=True)
log = structlog.get_logger("lanes")


async def find(
    collection: AsyncCollection[Row],
    where: Row,
    *,
    sort: Sequence[tuple[str, int]] | None = None,
    limit: int = 0,
    fields: Row | None = None,
) -> list[Row] | None:
    """The rows that fit, or None if they have to be asked for the ordinary way."""
    return await _answered(collection, asking(collection, where, sort, limit, fields))


async def aggregate(collection: AsyncCollection[Row], pipeline: Sequence[Row], most: int) -> list[Row] | None:
    """The rows of an aggregation that reads, at most so many; None if they have to be asked for the ordinary way."""
    asked = {"aggregate": collection.name, "pipeline": list(pipeline), "cursor": {"batchSize": most + 1}}
    return await _answered(collection, {**asked, "$db": collection.database.name})


async def _answered(collection: AsyncCollection[Row], command: Row) -> list[Row] | None:
    lanes = state.part(Lanes)
    if collection.read_preference.mode != PRIMARY:
        return None
    lane = lanes.free() or await lanes.open()
    if lane is None:
        return None
    reply = await lane.ask(command)
    if reply is not None and reply.get("code") in NO_PRIMARY:
        lane.give_up()  # or each read would ask there in vain first
    return rows_of(reply) if reply is not None else None


def asking(
    collection: AsyncCollection[Row],
    where: Row,
    sort: Sequence[tuple[str, int]] | None,
    limit: int,
    fields: Row | None,
) -> Row:
    """A `find` as MongoDB wants it."""
    asked: Row = {"find": collection.name, "filter": where, "limit": limit, "$db": collection.database.name}
    if limit:
        asked["batchSize"] = limit + 1  # one more than there can be: else the server keeps the cursor open
    if sort:
        asked["sort"] = dict(sort)
    if fields:
        asked["projection"] = fields
    return asked


def rows_of(reply: Row) -> list[Row] | None:
    """The rows of a reply that is whole: an error, or a cursor that holds more, is for the ordinary way."""
    cursor = reply.get("cursor")
    if reply.get("ok") != 1 or cursor is None or cursor["id"] != 0:
        return None
    rows: list[Row] = cursor["firstBatch"]
    return rows


class Lane(asyncio.Protocol):
    """One connection, and who waits for which answer on it."""

    patience = 0.0  # seconds that it may be silent while somebody waits; none of its own: PATIENCE

    def __init__(self, connection: Any, transport: Any) -> None:
        self.connection = connection  # PyMongo's, kept so that it is closed with us and not before
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.numbers = count(1)
        self.waiting: dict[int, asyncio.Future[Row | None]] = {}
        self.pieces = bytearray()
        self.closed = False
        self.heard_at = 0.0
        self.watch: asyncio.TimerHandle | None = None

    def ask(self, command: Row) -> "asyncio.Future[Row | None]":
        """Send a command; its reply, or None if the lane is lost before that, or if BSON cannot say the command."""
        try:
            body = bson.encode(command)
        except (BSONError, TypeError, ValueError, OverflowError, RecursionError):  # PyMongo explains it better
            answer: asyncio.Future[Row | None] = self.loop.create_future()
            answer.set_result(None)
            return answer
        return self.send(body)

    def send(self, body: bytes) -> "asyncio.Future[Row | None]":
        """Send a command that is encoded; its reply, or None if the lane is lost before that."""
        answer: asyncio.Future[Row | None] = self.loop.create_future()
        if self.closed:  # between the choice of this lane and now
            answer.set_result(None)
            return answer
        number = next(self.numbers) & 0x7FFFFFFF
        if not self.waiting:
            self.heard_at = self.loop.time()
            if self.watch is None:
                self.watch = self.loop.call_later(self.patience or PATIENCE, self.look)
        self.waiting[number] = answer
        self.transport.write(HEAD.pack(HEAD.size + len(body), number, 0, OP_MSG, 0, 0) + body)
        return answer

    def look(self) -> None:
        """Give the lane up if it has been silent for too long while somebody waits."""
        self.watch = None
        patience = self.patience or PATIENCE
        if self.waiting and self.loop.time() - self.heard_at >= patience:
            log.warning("lane_silent", waiting=len(self.waiting))
            self.give_up()
        elif self.waiting:
            self.watch = self.loop.call_later(patience, self.look)

    def data_received(self, data: bytes) -> None:
        """Some bytes of the replies."""
        self.heard_at = self.loop.time()
        if not self.pieces and int.from_bytes(data[:4], "little") == len(data) >= HEAD.size:
            self.answer(data)
            return
        self.pieces += data
        while len(self.pieces) >= HEAD.size:
            length = int.from_bytes(self.pieces[:4], "little")
            if not HEAD.size <= length <= LONGEST:
                self.give_up()
                return
            if len(self.pieces) < length:
                return
            message = bytes(self.pieces[:length])
            del self.pieces[:length]
            self.answer(message)

    def answer(self, message: bytes) -> None:
        """Hand a reply to who waits for it; whoever went away meanwhile left nobody."""
        _, _, number, kind, _, section = HEAD.unpack_from(message)
        waiting = self.waiting.pop(number, None)
        if kind != OP_MSG or section != 0:
            self.give_up()
        if waiting is None or waiting.done():
            return
        try:
            waiting.set_result(bson.decode(memoryview(message)[HEAD.size :], OPTIONS) if kind == OP_MSG else None)
        except (BSONError, ValueError, OverflowError):  # a row that cannot be read: PyMongo will say so
            waiting.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server, or somebody between, closed it."""
        self.give_up()

    def give_up(self) -> None:
        """Close the lane; all who wait ask the ordinary way."""
        if not self.closed:
            self.closed = True
            self.transport.abort()
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None
        waiting, self.waiting = self.waiting, {}
        for each in waiting.values():
            if not each.done():
                each.set_result(None)


class Lanes:
    """This process's lanes to the primary."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        self.opening = self.closed = False
        self.tried_at = -REST

    def free(self) -> Lane | None:
        """The lane with the fewest waiting, unless all are busy and there may be another."""
        best: Lane | None = None
        for lane in self.lanes:
            if lane.closed:
                self.lanes = [each for each in self.lanes if not each.closed]
                return self.free()
            if not lane.waiting:
                return lane
            if best is None or len(lane.waiting) < len(best.waiting):
                best = lane
        return best if len(self.lanes) >= MOST or self.opening else None

    async def open(self) -> Lane | None:
        """One more lane. None while another is being opened and there is none yet, or soon after it failed."""
        loop = asyncio.get_running_loop()
        if self.opening or self.closed or loop.time() - self.tried_at < REST:
            return self._least()
        self.opening = True
        try:
            lane = await opened(Lane)
            self.lanes.append(lane)
            if self.closed:  # meanwhile
                lane.give_up()
                return None
            return lane
        except CANNOT as fault:
            # The driver's inside may change with a version: then reads go the ordinary way, as they do without us.
            self.tried_at = loop.time()
            log.info("lane_not_opened", error=type(fault).__name__, detail=str(fault)[:200])
            return self._least()
        finally:
            self.opening = False

    def _least(self) -> Lane | None:
        return min((each for each in self.lanes if not each.closed), key=lambda each: len(each.waiting), default=None)

    async def aclose(self) -> None:
        """Close them all, and open no more."""
        self.closed = True
        for lane in self.lanes:
            lane.give_up()


L = TypeVar("L", bound=Lane)


async def opened(kind: type[L]) -> L:
    """A connection to the primary as PyMongo makes it, with its transport in our hands. Raises what is in CANNOT."""
    topology: Any = await state.mongo()._get_topology()
    server = await topology.select_server(writable_server_selector, "find")
    connection = await server.pool.connect()
    transport = connection.conn.get_conn.transport
    lane = kind(connection, transport)
    transport.set_protocol(lane)
    transport.resume_reading()
    return lane
