"""Writes, and what a transaction does, at the price of the wire: over lanes of their own (see kit.lanes).

The session stays PyMongo's: it begins a transaction, marks each command, aborts, and tries the whole again. Only the
way of a command is shorter, which is two thirds of what a transaction costs this process (docs/decisions/0016). A lane
here serves one at a time, since a write may have to wait in the database, and what stood behind it would wait too.

What goes wrong is told as PyMongo tells it. A lane that is lost in a transaction is a transient fault, after which all
of it is done again. A single write is sent once more under its own number, by which the server knows it again.
"""

import asyncio
from contextlib import suppress
from itertools import count
from typing import Any
from uuid import uuid4

import bson
import structlog
from bson.binary import Binary
from bson.int64 import Int64
from pymongo import _csot, client_session_shared, helpers_shared
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect, NetworkTimeout, ServerSelectionTimeoutError
from pymongo.read_preferences import ReadPreference

from msingi.kit import lanes, state
from msingi.kit.lanes import NO_PRIMARY, REST, Lane, Row

MOST = 24  # lanes of a process; who finds none free goes the ordinary way
ELECTION = 5.0  # seconds that a write whose connection was lost waits for a primary
LARGEST = 15_000_000  # bytes: near what a document may have, PyMongo says best what is wrong
AGAIN = "RetryableWriteError"
TRANSIENT = "TransientTransactionError"
log = structlog.get_logger("lanes")


async def run(collection: AsyncCollection[Row], command: Row, session: AsyncClientSession | None) -> Row | None:
    """The reply to a write of one document, or to any statement of a transaction. Raises as PyMongo does.

    None: nothing was sent, and it has to go the ordinary way.
    """
    command["$db"] = collection.database.name
    kept = state.part(WriteLanes)
    lane = await kept.take()
    if lane is None:
        return None
    try:
        if session is not None:
            return await _in_transaction(lane, command, session)
        return await _alone(kept, lane, command, collection.write_concern.document)
    finally:
        kept.give_back(lane)


async def find(
    collection: AsyncCollection[Row],
    session: AsyncClientSession,
    where: Row,
    sort: Any,
    limit: int,
    fields: Row | None,
) -> list[Row] | None:
    """The rows that fit, as the transaction under way sees them; None if they have to be asked for the ordinary way."""
    reply = await run(collection, lanes.asking(collection, where, sort, limit, fields), session)
    return lanes.rows_of(reply) if reply is not None else None


async def commit(session: AsyncClientSession) -> None:
    """Commit the transaction under way, if that is plain.

    Whatever is not is left to PyMongo, which commits it anew: the server knows a commit again.
    """
    if not session.in_transaction or session._starting_transaction:
        return
    kept = state.part(WriteLanes)
    lane = await kept.take()
    if lane is None:
        return
    try:
        command: Row = {"commitTransaction": 1, "writeConcern": {"w": "majority"}, "$db": "admin"}
        session._apply_to(command, False, ReadPreference.PRIMARY, lane.connection)
        reply = None
        with suppress(NetworkTimeout):
            reply = await _within_time(lane, bson.encode(command))
        if reply is not None and reply.get("ok") == 1 and "writeConcernError" not in reply:
            session._process_response(reply)
            session._transaction.state = client_session_shared._TxnState.COMMITTED
    finally:
        kept.give_back(lane)


async def _in_transaction(lane: Lane, command: Row, session: AsyncClientSession) -> Row | None:
    session._apply_to(command, False, ReadPreference.PRIMARY, lane.connection)
    body = _encoded(command)
    if body is None:
        return None
    if session._starting_transaction:
        session._transaction.set_in_progress()
    try:
        reply = await _within_time(lane, body)
        if reply is None:
            raise AutoReconnect("the connection was lost in a transaction")
    except (AutoReconnect, NetworkTimeout) as fault:
        server_session: Any = session._server_session
        server_session.mark_dirty()
        fault._add_error_label(TRANSIENT)
        raise
    session._process_response(reply)
    return _checked(lane, reply)


async def _alone(kept: "WriteLanes", lane: "WriteLane", command: Row, concern: Row) -> Row | None:
    """A write by itself. If it is not known what became of it, it is sent once more under the same number."""
    command |= {"lsid": lane.session, "txnNumber": Int64(next(lane.writes))}
    if concern:
        command["writeConcern"] = concern
    body = _encoded(command)
    if body is None:
        return None
    reply = await _within_time(lane, body)
    if reply is not None and AGAIN not in reply.get("errorLabels", ()):
        return _checked(lane, reply)
    lane.give_up()
    other = await kept.another()
    try:
        reply = await _within_time(other, body)
        if reply is None:
            raise AutoReconnect("the connection was lost twice in a write")
        return _checked(other, reply)
    finally:
        kept.give_back(other)


def _encoded(command: Row) -> bytes | None:
    """A command that has as much time as `pymongo.timeout` leaves; None if it is so large that PyMongo has to judge it.

    Raises what PyMongo raises for what BSON cannot say.
    """
    left = _csot.remaining()
    if left is not None:
        command["maxTimeMS"] = max(1, round(left * 1000))
    body = bson.encode(command)
    return body if len(body) <= LARGEST else None


async def _within_time(lane: Lane, body: bytes) -> Row | None:
    """The reply, or None if the lane is lost. Raises NetworkTimeout after what `pymongo.timeout` allows."""
    left = _csot.remaining()
    if left is None:
        return await lane.send(body)
    try:
        async with asyncio.timeout(left):
            return await lane.send(body)
    except TimeoutError:
        raise NetworkTimeout("the database did not answer in time") from None


def _checked(lane: Lane, reply: Row) -> Row:
    """A reply that says yes; else it is raised, as PyMongo does."""
    if reply.get("ok") != 1 and reply.get("code") in NO_PRIMARY:
        lane.give_up()
    helpers_shared._check_command_response(reply, lane.connection.max_wire_version)
    helpers_shared._check_write_command_response(reply)
    return reply


# ---- the lanes


class WriteLane(Lane):
    """A lane that one writer has at a time, with a session in the database for what is written by itself."""

    patience = 60.0  # a write that waits for others is silent, and every caller has a shorter one

    def __init__(self, connection: Any, transport: Any) -> None:
        super().__init__(connection, transport)
        self.session = {"id": Binary(uuid4().bytes, 4)}
        self.writes = count(1)


class WriteLanes:
    """This process's lanes for writing."""

    def __init__(self) -> None:
        self.idle: list[WriteLane] = []
        self.taken = 0
        self.closed = False
        self.rests_until = 0.0

    async def take(self) -> WriteLane | None:
        """A lane for the caller alone, until it is given back; None if there is none to be had."""
        while self.idle:
            lane = self.idle.pop()
            if not lane.closed:
                self.taken += 1
                return lane
        if self.closed or self.taken >= MOST or asyncio.get_running_loop().time() < self.rests_until:
            return None
        self.taken += 1
        try:
            return await lanes.opened(WriteLane)
        except BaseException as fault:
            self.taken -= 1
            if not isinstance(fault, lanes.CANNOT):
                raise
            self.rests_until = asyncio.get_running_loop().time() + REST
            log.info("lane_not_opened", error=type(fault).__name__, detail=str(fault)[:200])
            return None

    async def another(self) -> WriteLane:
        """A new lane to the primary, for what was lost on one; an election is waited for. Raises AutoReconnect."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + _csot.clamp_remaining(ELECTION)
        self.taken += 1
        try:
            while True:
                lane = await _opened_again()
                if lane is not None and lane.connection.is_writable:
                    return lane
                if lane is not None:
                    lane.give_up()
                if loop.time() > ends:
                    raise AutoReconnect("no primary for a write")
                await asyncio.sleep(0.1)
        except BaseException:
            self.taken -= 1
            raise

    def give_back(self, lane: WriteLane) -> None:
        """The caller is done with it. One that still owes a reply is closed: nobody will wait for that."""
        self.taken -= 1
        if lane.waiting or self.closed:
            lane.give_up()
        if not lane.closed:
            self.idle.append(lane)

    async def aclose(self) -> None:
        """Close them all, and open no more."""
        self.closed = True
        for lane in self.idle:
            lane.give_up()


async def _opened_again() -> WriteLane | None:
    """A new lane, or None while the server is away. Raises ServerSelectionTimeoutError once that took too long."""
    try:
        return await lanes.opened(WriteLane)
    except ServerSelectionTimeoutError:
        raise
    except lanes.CANNOT:
        return None
