"""Quick commands to Redis at the price of the wire: one connection of a process, and one question for all who read.

A read of three keys costs 75 to 110 µs of CPU by redis-py (a connection from the pool, deadlines, streams), and 17 to
19 here; of eight at a time, who share the question, 4 each (measured: docs/decisions/0017). As in kit.lanes, the driver
opens the connection, with TLS, its password and its greeting, and then its transport is handed to a small protocol that
matches replies by their order.

Who reads while a question is under way shares the next one: each question is sent after all who share it had asked, so
nobody hears anything older than if they had asked alone. That is all that is shared: no answer is kept here.

A lane never raises what Redis says. After an error, or when the connection is lost, Redis is asked the ordinary way,
which knows what to do; only a script, which may count, is not sent again once it may have run. Redis that does not
answer within `breaker.PATIENCE` is a failure to the breaker for each who asked, as it is to those who ask the ordinary
way.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import hiredis
import structlog
from redis.exceptions import RedisError

from msingi.kit import breaker, state
from msingi.kit.breaker import Breaker
from msingi.kit.patience import TICKS

REST = 1.0  # seconds until a lane is tried again after one was opened, or could not be
CANNOT = (RedisError, OSError, AttributeError, TypeError, ValueError, TimeoutError)  # why no lane is opened
INCOMPLETE = object()  # what the parser says when a reply is not whole
Command: TypeAlias = Any  # a tuple of str, bytes, int and float
Found = Mapping[str, bytes | None]
T = TypeVar("T")
log = structlog.get_logger("redis_lane")


async def read(keys: Sequence[str]) -> Found | None:
    """What Redis holds under these keys now (and maybe under others too), or None if it does not say in time."""

    async def ordinarily() -> Found:
        return dict(zip(keys, await state.redis().mget(keys), strict=True))

    return await _asked(lambda lane: lane.read(keys), ordinarily)


async def ask(commands: Callable[[], Sequence[Command]]) -> list[Any] | None:
    """The replies to some commands, in their order, or None if Redis does not say in time.

    They may come to be sent twice, and are made anew for that.
    """

    async def ordinarily() -> list[Any]:
        async with state.redis().pipeline(transaction=False) as pipe:
            pipe.response_callbacks = {}  # the replies as they are, as by the lane
            for each in commands():
                pipe.execute_command(*each)
            replies: list[Any] = await pipe.execute()
            return replies

    return await _asked(lambda lane: lane.ask(commands()), ordinarily)


async def run(script: Any, keys: Sequence[str], arguments: Sequence[str | int]) -> Any | None:
    """What a script of `register_script` answers, or None as above. It is never sent twice: it may count."""

    async def ordinarily() -> list[Any]:
        return [await script(keys=keys, args=arguments)]

    command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
    replies = await _asked(lambda lane: lane.ask([command]), ordinarily, once=True)
    return replies[0] if replies is not None else None


async def _asked(
    by_lane: "Callable[[Lane], asyncio.Future[T | None]]", ordinarily: Callable[[], Awaitable[T]], *, once: bool = False
) -> T | None:
    health = state.part(Breaker)
    lane = None if health.open else state.part(Lanes).free()
    if lane is not None:
        answer = await by_lane(lane)
        if answer is not None:
            health.succeeded()
            return answer
        if lane.silent or (once and lane.closed):
            health.failed(TimeoutError("Redis did not answer in time"))
            return None
    return await breaker.ask(ordinarily, None)


class Asked(NamedTuple):
    """A question under way: how many replies it gets, since which tick it waits, and who is told them."""

    expected: int
    since: int
    tell: Callable[[list[Any] | None], None]


class Lane(asyncio.Protocol):
    """One connection, and who waits for which reply on it."""

    def __init__(self, connection: Any, transport: Any, run: str) -> None:
        self.connection = connection  # redis-py's, kept so that it is closed with us and not before
        self.transport = transport
        self.run = run  # which start of which Redis it leads to
        self.loop = asyncio.get_running_loop()
        self.parser = hiredis.Reader(notEnoughData=INCOMPLETE)
        self.waiting: deque[Asked] = deque()
        self.replies: list[Any] = []  # of the first of those
        self.wanted: dict[str, None] = {}  # keys of the next question of those who read
        self.readers: list[asyncio.Future[Found | None]] = []  # who shares it
        self.is_reading = self.closed = self.silent = False
        self.ticks = 0
        self.watch: asyncio.TimerHandle | None = None

    def ask(self, commands: Sequence[Command]) -> "asyncio.Future[list[Any] | None]":
        """Send commands; their replies, or None if there is an error among them or the lane is lost."""
        answer: asyncio.Future[list[Any] | None] = self.loop.create_future()
        self.send(commands, lambda replies: None if answer.done() else answer.set_result(replies))
        return answer

    def read(self, keys: Sequence[str]) -> "asyncio.Future[Found | None]":
        """What stands under these keys, by the next question that is sent; None as above."""
        answer: asyncio.Future[Found | None] = self.loop.create_future()
        if not (self.is_reading or self.readers):
            self.loop.call_soon(self.read_together)  # who asks in the same turn of the loop comes along
        self.wanted.update(dict.fromkeys(keys))
        self.readers.append(answer)
        return answer

    def read_together(self) -> None:
        """Ask what those want who have asked until now."""
        wanted, self.wanted = tuple(self.wanted), {}
        readers, self.readers = self.readers, []
        if readers:
            self.is_reading = True
            self.send([("MGET", *wanted)], partial(self.tell_readers, wanted, readers))

    def tell_readers(
        self, keys: tuple[str, ...], readers: "list[asyncio.Future[Found | None]]", replies: list[Any] | None
    ) -> None:
        """Hand the answer to all who shared the question; let those who came meanwhile ask theirs."""
        self.is_reading = False
        found = dict(zip(keys, replies[0], strict=True)) if replies is not None else None
        for each in readers:
            if not each.done():  # else whoever asked went away
                each.set_result(found)
        if self.readers:
            self.loop.call_soon(self.read_together)

    def send(self, commands: Sequence[Command], tell: Callable[[list[Any] | None], None]) -> None:
        """Send commands, and tell their replies when they are all there."""
        if self.closed:  # between the choice of this lane and now
            tell(None)
            return
        self.waiting.append(Asked(len(commands), self.ticks, tell))
        if self.watch is None:
            self.watch = self.loop.call_later(breaker.PATIENCE / TICKS, self.tick)
        self.transport.write(b"".join([hiredis.pack_command(each) for each in commands]))

    def tick(self) -> None:
        """Give the lane up if a question waits for too long. Time is counted in ticks, as in kit.patience."""
        self.watch = None
        self.ticks += 1
        if self.waiting and self.ticks - self.waiting[0].since > TICKS:
            self.silent = True
            self.give_up()
        elif self.waiting:
            self.watch = self.loop.call_later(breaker.PATIENCE / TICKS, self.tick)

    def data_received(self, data: bytes) -> None:
        """Some bytes of the replies."""
        try:
            self.parser.feed(data)
            while not self.closed and (reply := self.parser.gets()) is not INCOMPLETE:
                self.take(reply)
        except hiredis.ProtocolError:
            self.give_up()

    def take(self, reply: Any) -> None:
        """The next reply of the first question; with its last one, that is answered."""
        if not self.waiting:  # nobody asked: whatever this is, it is no connection to go on with
            self.give_up()
            return
        self.replies.append(reply)
        if len(self.replies) < self.waiting[0].expected:
            return
        replies, self.replies = self.replies, []
        faulty = any(isinstance(each, hiredis.ReplyError) for each in replies)
        self.waiting.popleft().tell(None if faulty else replies)

    def connection_lost(self, exc: Exception | None) -> None:
        """Redis, or somebody between, closed it."""
        self.give_up()

    def give_up(self) -> None:
        """Close the lane; all who wait are told that it has no answer."""
        if self.closed:
            return
        self.closed = True
        self.transport.abort()
        self.connection._close()
        if self.watch is not None:
            self.watch.cancel()
        while self.waiting:
            self.waiting.popleft().tell(None)
        self.read_together()  # is told at once that there is no answer


class Lanes:
    """This process's lane, if there is one."""

    def __init__(self) -> None:
        self.lane: Lane | None = None
        self.opening: asyncio.Task[None] | None = None
        self.opened_at = -REST
        self.closed = False

    def free(self) -> Lane | None:
        """The lane. None while there is none: it is opened in the background, and nobody waits for that."""
        lane = self.lane
        if lane is not None and not lane.closed:
            if lane.run == state.current().redis_run:
                return lane
            lane.give_up()  # a newer connection has reached another Redis: this one may be of the past
        self._begin()
        return None

    def _begin(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.opening is None and not self.closed and now - self.opened_at >= REST:
            self.opened_at = now
            self.opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        pool: Any = state.redis().connection_pool
        connection = pool.make_connection()
        lane: Lane | None = None
        try:
            await connection.connect()
            transport = connection._writer.transport
            lane = Lane(connection, transport, state.current().redis_run)
            transport.set_protocol(lane)
            self.lane = lane
        except CANNOT as fault:
            # The driver's inside may change with a version: then Redis is asked the ordinary way, as without us.
            log.info("redis_lane_not_opened", error=type(fault).__name__, detail=str(fault)[:200])
        finally:
            self.opening = None
            if lane is None:
                connection._close()

    async def aclose(self) -> None:
        """Close it, and open no more."""
        self.closed = True
        if self.opening is not None:
            self.opening.cancel()
            await asyncio.gather(self.opening, return_exceptions=True)
        if self.lane is not None:
            self.lane.give_up()
