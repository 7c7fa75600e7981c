"""One process's share of the live stream: it follows it, and hands each message to the connections it holds."""

import asyncio
import re
from collections.abc import Coroutine, Iterable, MutableMapping
from functools import cached_property
from typing import Any

import msgspec
import redis.asyncio as aioredis
import structlog
from redis.exceptions import RedisError

from msingi.kit import clock, drain, revocations, roles, state
from msingi.kit.actors import Actor
from msingi.kit.errors import Busy, Invalid, Problem
from msingi.kit.live.telling import LOOK_AGAIN, LOST, STREAM
from msingi.kit.live.topics import check_may_follow
from msingi.kit.live.wire import frame_of

TOPICS_EACH = 100  # topics that one connection follows
CONNECTIONS_EACH = 20  # connections that one actor keeps to one process
UNKNOWN_EACH = 100  # the same of those who show no more than a key, from one network address: it may be many people's
UNKNOWN_ALL = 2_000  # and of all of those together, so that there is always room for who is known
REPLAYED = 1_000  # messages that a resume repeats; more than that, and reading anew is cheaper
LOOKED_THROUGH = 5_000  # entries that it looks through for them
BACKLOG = 1_500  # messages that wait for a slow reader before it is let go; more than a resume repeats
SLICE = 500  # connections that get a message at one go, some 2 ms, before others have their turn
BLOCK = 5_000  # milliseconds that a read waits, and so how soon an emptied stream is noticed
log = structlog.get_logger("live")
Position = tuple[int, int]


class BadPosition(Invalid):
    """`after` wants the id of a message, such as 1767225600000-0."""


class TooManyTopics(Invalid):
    """One connection follows at most {most} topics."""


class TooManyConnections(Problem):
    """You, or others at your address, keep {most} live connections here already; close one first."""

    status = 429


class Message:
    """One message, put into each wire's words once however many connections get it."""

    def __init__(self, id: str, topic: str, kind: str, data: bytes) -> None:
        self.id, self.topic, self.kind, self.data = id, topic, kind, data
        self.position = position_of(id)

    @cached_property
    def event(self) -> bytes:
        """As a Server-Sent Event."""
        body = {"id": self.id, "topic": self.topic, "kind": self.kind, "data": msgspec.Raw(self.data)}
        return b"id: %s\ndata: %s\n\n" % (self.id.encode(), msgspec.json.encode(body))

    @cached_property
    def frame(self) -> MutableMapping[str, Any]:
        """As a Socket.IO event."""
        body = {"id": self.id, "topic": self.topic, "kind": self.kind, "data": msgspec.Raw(self.data)}
        return event_frame("message", body)


def event_frame(name: str, data: Any) -> MutableMapping[str, Any]:
    """A Socket.IO event, ready to be sent."""
    return frame_of("2" + msgspec.json.encode([name, data]).decode())


def position_of(id: str) -> Position:
    """A message's id as numbers, for comparing. Raises BadPosition."""
    if not re.fullmatch(r"\d{1,16}-\d{1,16}", id):
        raise BadPosition
    at, _, number = id.partition("-")
    return int(at), int(number)


class Listener:
    """One connection. What it is told goes out in its own way; `put` keeps order and drops what it has had.

    Without an actor it is somebody's at this network address who shows keys. None of these waits for the other side.
    """

    __slots__ = ("actor", "address", "floors", "held", "keys", "topics")

    def __init__(self, actor: Actor | None, address: str = "") -> None:
        self.actor, self.address = actor, address
        self.topics: set[str] = set()
        self.keys: dict[str, str] = {}  # by topic: what was shown to follow it
        self.floors: dict[str, Position] = {}  # by topic: what was repeated up to here is not said again
        self.held: dict[str, list[Message]] = {}  # by topic: what came in while older ones were repeated

    def put(self, message: Message) -> None:
        """A message has come on a topic that this connection follows."""
        if message.topic in self.held:
            self.held[message.topic].append(message)
        elif message.position > self.floors.get(message.topic, (0, 0)):
            self.send(message)

    def send(self, message: Message) -> None:
        raise NotImplementedError

    def resync(self, id: str) -> None:
        """Messages may be missing up to `id`: let the other side read the state again."""
        raise NotImplementedError

    def lose(self, topic: str) -> None:
        """The actor may not see this topic any more."""
        raise NotImplementedError

    def close(self) -> None:
        """Let the other side go: its proof has ended, or the process does."""
        raise NotImplementedError


class Hub:
    """This process's connections, by topic, and how far it has followed the stream."""

    def __init__(self) -> None:
        self.position = ""
        self.topics: dict[str, set[Listener]] = {}
        self.listeners: set[Listener] = set()
        self.background: set[asyncio.Task[Any]] = set()
        self.looks = 0  # how often it was asked to look again who may see a topic

    def check_room(self, newcomer: Listener) -> None:
        """Raise TooManyConnections if its actor, or its address, keeps as many as one may; Busy if there is no room."""
        if newcomer.actor is not None:
            most, theirs = CONNECTIONS_EACH, sum(_is_of(each, newcomer.actor.id) for each in self.listeners)
        else:
            unknown = [each.address for each in self.listeners if each.actor is None]
            if len(unknown) >= UNKNOWN_ALL:
                raise Busy(retry_after=10)
            most, theirs = UNKNOWN_EACH, unknown.count(newcomer.address)
        if theirs >= most:
            raise TooManyConnections(most=most)

    def enter(self, listener: Listener) -> None:
        """A connection opens."""
        self.listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """A connection is gone."""
        self.listeners.discard(listener)
        for topic in list(listener.topics):
            self.unfollow(listener, topic)

    async def follow(self, listener: Listener, topics: Iterable[str], after: str | None, looks: int) -> str:
        """Let a connection follow topics it may see, from `after` on if given; returns the id it now stands at.

        First what it missed, then what came meanwhile, then what comes: in order, each once. `looks` is what
        `self.looks` was before it was checked that the actor, or a key that was shown, may see them.
        """
        asked = wanted = frozenset(topics)
        if listener not in self.listeners:
            return self.position  # it closed while it was checked
        for topic in wanted:
            listener.held[topic] = []
            listener.topics.add(topic)
            self.topics.setdefault(topic, set()).add(listener)
        try:
            if looks != self.looks:
                await asyncio.gather(*(self._look_again(topic) for topic in wanted))
                wanted &= listener.topics
            reached = await self._catch_up(listener, wanted, after) if after else self.position
        finally:
            self._release(listener, asked)
        return reached or "0-0"

    async def _catch_up(self, listener: Listener, topics: frozenset[str], after: str) -> str:
        position_of(after)
        try:
            missed = await asyncio.wait_for(_missed(topics, after), 2)
        except (RedisError, OSError, TimeoutError):
            missed = None
        if missed is None:
            listener.resync(self.position)
            return self.position
        for message in missed:
            if message.topic in listener.topics:  # it may have lost the right, or been let go, meanwhile
                listener.send(message)
                listener.floors[message.topic] = message.position
        return missed[-1].id if missed else after

    def _release(self, listener: Listener, topics: Iterable[str]) -> None:
        held = [message for topic in topics for message in listener.held.pop(topic, [])]
        for message in sorted(held, key=lambda message: message.position):
            if message.topic in listener.topics:
                listener.put(message)

    def unfollow(self, listener: Listener, topic: str) -> None:
        """A connection follows a topic no more."""
        listener.floors.pop(topic, None)
        listener.keys.pop(topic, None)
        listener.topics.discard(topic)
        those = self.topics.get(topic, set())
        those.discard(listener)
        if not those:
            self.topics.pop(topic, None)

    async def hand_out(self, message: Message) -> None:
        """A message has come on the stream."""
        self.position = message.id
        if message.kind == LOST:
            self.resync()
        elif message.kind == LOOK_AGAIN:
            self.looks += 1
            self.do(self._look_again(message.topic))
        else:
            await self._tell(message, list(self.topics.get(message.topic, ())))

    async def _tell(self, message: Message, followers: list[Listener]) -> None:
        for begin in range(0, len(followers), SLICE):
            if begin:
                await asyncio.sleep(0)  # meanwhile some may have left, or may not see the topic any more
            for each in followers[begin : begin + SLICE]:
                if message.topic in each.topics:
                    each.put(message)

    def resync(self) -> None:
        """Messages may be missing: all connections are told."""
        log.info("live_resync", connections=len(self.listeners))
        for listener in list(self.listeners):
            listener.resync(self.position)

    async def _look_again(self, topic: str) -> None:
        for listener in list(self.topics.get(topic, ())):
            try:
                await check_may_follow(topic, listener.actor, listener.keys.get(topic, ""))
            except Exception as refusal:  # a policy that fails says no
                if not isinstance(refusal, Problem):
                    log.error("live_policy_failed", topic=topic, exc_info=True)
                self.unfollow(listener, topic)
                listener.lose(topic)

    def close(self, listeners: Iterable[Listener]) -> None:
        """Let these connections go."""
        for listener in list(listeners):
            self.leave(listener)
            listener.close()

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let something go on beside."""
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)


async def _missed(topics: frozenset[str], after: str) -> list[Message] | None:
    """The messages on some topics after an id; None if that cannot be proven, or they are too many."""
    redis, found, at = state.redis(), list[Message](), after
    if not await _is_there(redis, after):
        return None
    for _ in range(LOOKED_THROUGH // REPLAYED):
        rows = await redis.xrange(STREAM, min=f"({at}", max="+", count=REPLAYED)
        found.extend(message for message in map(_message, rows) if message.topic in topics and message.kind[:1] != "!")
        if len(found) > REPLAYED:
            return None
        if len(rows) < REPLAYED:
            return found
        at = rows[-1][0].decode()
    return None


def _message(row: Any) -> Message:
    id, fields = row
    return Message(id.decode(), fields[b"topic"].decode(), fields[b"kind"].decode(), fields[b"data"])


async def _is_there(redis: "aioredis.Redis", id: str) -> bool:
    """Whether the stream still holds this entry: if so, it holds all that came after it."""
    return bool(await redis.xrange(STREAM, min=id, max=id, count=1))


# ---- following the stream


async def run_tailer() -> None:
    """Follow the stream for this process's connections until cancelled, through restarts and losses of Redis."""
    hub = state.part(Hub)
    async with asyncio.TaskGroup() as group:
        group.create_task(_tail(hub))
        group.create_task(_dismiss(hub))
        group.create_task(_leave(hub))


async def _tail(hub: Hub) -> None:
    while True:
        try:
            async with state.slow_redis() as redis:
                await _anchor(hub, redis)
                while True:
                    await _follow(hub, redis)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("live_stream_unreachable", error=type(error).__name__)
            await asyncio.sleep(0.25)


async def _anchor(hub: Hub, redis: "aioredis.Redis") -> None:
    """Stand where we stood if the stream still holds that place, else at its end; then all are told to resync."""
    async with asyncio.timeout(5):
        if hub.position and await _is_there(redis, hub.position):
            return
        newest = await redis.xrevrange(STREAM, count=1)
        if newest:
            at = newest[0][0]
        else:  # an empty stream gets a first entry, so that each place in it is an entry that can be looked for
            at = await redis.xadd(STREAM, {"topic": "", "kind": "!start", "data": "null"})
        known, hub.position = hub.position, at.decode()
    if known:
        hub.resync()


async def _follow(hub: Hub, redis: "aioredis.Redis") -> None:
    before = hub.position
    async with asyncio.timeout(BLOCK / 1000 + 5):
        found = await redis.xread({STREAM: before}, block=BLOCK, count=500)
        whole = await _is_there(redis, before)
    if not whole:
        await _anchor(hub, redis)
        return
    for _, rows in found or ():
        for row in rows:
            await hub.hand_out(_message(row))


async def _dismiss(hub: Hub) -> None:
    """Let go, each second, of those whose proof of who they are has ended."""
    while True:
        await asyncio.sleep(1)
        hub.close(each for each in hub.listeners if has_ended(each.actor))


def has_ended(actor: Actor | None) -> bool:
    """Whether what this actor showed has expired or was revoked. A key is its topic's affair: see `recheck`."""
    if actor is None:
        return False
    return 0 < actor.expires_at <= clock.seconds() or revocations.is_revoked(actor)


def _is_of(listener: Listener, actor: str) -> bool:
    return listener.actor is not None and listener.actor.id == actor


@revocations.on_revoked
async def close_revoked(actor: str, session: str) -> None:
    """Close at once the connections that a revocation means."""
    hub = state.part(Hub)
    hub.close(each for each in hub.listeners if _is_of(each, actor) and has_ended(each.actor))


@roles.on_change
async def look_everywhere() -> None:
    """Roles carry something else now: look again who may see each topic."""
    hub = state.part(Hub)
    hub.looks += 1
    for topic in list(hub.topics):
        hub.do(hub._look_again(topic))


async def _leave(hub: Hub) -> None:
    """Let go of all when the process is asked to stop: they find another."""
    await drain.race(asyncio.Event().wait())
    hub.close(hub.listeners)


def close_for(id: str) -> int:
    """Close this process's connections of a session or of an actor, by its id; returns how many there were."""
    hub = state.part(Hub)
    theirs = [each for each in hub.listeners if each.actor and id in (each.actor.session, each.actor.id)]
    hub.close(theirs)
    return len(theirs)
