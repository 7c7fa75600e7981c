"""Topics over Socket.IO: websocket only, who it is before anything else, and a limit to everything.

Long polling would need every request of a connection to reach the same process, which several web processes behind one
port cannot promise (measured: 2 of 8 clients connect).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import socketio
import structlog
from socketio.exceptions import ConnectionRefusedError as Refused

from msingi.kit import audit, csrf, limits, state
from msingi.kit.actors import Actor
from msingi.kit.errors import Forbidden, Invalid, Problem, QuotaExceeded, SignInFirst
from msingi.kit.live.hub import (
    BACKLOG,
    TOPICS_EACH,
    UNKNOWN_ALL,
    UNKNOWN_EACH,
    Hub,
    Listener,
    Message,
    TooManyTopics,
    has_ended,
    packet_of,
)
from msingi.kit.live.topics import LONGEST, check_may_follow

LARGEST = 64_000  # bytes of a message that is taken
GREETING = 10.0  # seconds in which a connection says who it is
EVENTS, WINDOW = 20, 1.0  # events that a connection may send in so many seconds
PATIENCE = 200  # events beyond that before it is let go
log = structlog.get_logger("live")
Identify = Callable[[str], Awaitable[Actor | None]]


class BadEvent(Invalid):
    """This event is not as it should be: {reason}."""


class Socket(Listener):
    """One Socket.IO connection; `key` is what somebody without an account greeted with."""

    def __init__(self, server: socketio.AsyncServer, sid: str, actor: Actor | None, key: str, scope: Any) -> None:
        super().__init__(actor, limits.client_of(scope))
        self.key = key
        self.server, self.sid, self.scope = server, sid, scope
        self.wire: str = server.manager.eio_sid_from_sid(sid, "/")
        self.window, self.events, self.refused = 0.0, 0, 0

    async def send(self, message: Message) -> None:
        await self._say(message.packet)

    async def resync(self, id: str) -> None:
        await self._say(packet_of("resync", {"id": id}))

    async def lose(self, topic: str) -> None:
        await self._say(packet_of("gone", {"topic": topic}))

    async def close(self) -> None:
        await self.server.disconnect(self.sid)

    @property
    def gone(self) -> bool:
        return self.wire not in self.server.eio.sockets

    async def _say(self, text: str) -> None:
        wire = self.server.eio.sockets.get(self.wire)
        if wire is None:
            return
        if wire.queue.qsize() >= BACKLOG:
            self._give_up(wire)
        else:
            await self.server.eio.send(self.wire, text)

    def _give_up(self, wire: Any) -> None:
        """The reader is too slow: forget what waits, tell it to read anew, and let it go."""
        here = state.part(Hub)
        here.leave(self)
        while not wire.queue.empty():
            wire.queue.get_nowait()
            wire.queue.task_done()
        log.info("live_reader_too_slow", actor=self.actor.id if self.actor else "")
        here.do(self._say(packet_of("resync", {"id": here.position})))
        here.do(self.close())

    def count(self) -> None:
        """An event has come from the other side. Raises QuotaExceeded if they are too many."""
        at = time.monotonic()
        if at - self.window >= WINDOW:
            self.window, self.events = at, 0
        self.events += 1
        if self.events > EVENTS:
            self.refused += 1
            raise QuotaExceeded(quota=EVENTS, window=int(WINDOW), retry_after=1)


def make_socket_server(identify: Identify) -> socketio.AsyncServer:
    """The Socket.IO server of one process; `identify` tells the actor of an access token, or None.

    A client connects with `auth: {token}` and emits `subscribe` `{topic, key?, after?}` → `{ok, id}` or `{error}`,
    `unsubscribe` `{topic}` and `renew` `{token}` (a younger token of the same session). It is sent `message`
    `{id, topic, kind, data}`, `resync` `{id}` and `gone` `{topic}`; what it missed comes before `subscribe` is
    answered. Who has no account connects with `auth: {topic, key}`, a topic and a key that opens it, and follows that.
    """
    server = socketio.AsyncServer(
        async_mode="asgi",
        transports=["websocket"],
        cors_allowed_origins=_is_ours,
        max_http_buffer_size=LARGEST,
        ping_interval=20,
        ping_timeout=20,
        namespaces=["/"],
        logger=_errors_of("socketio"),
        engineio_logger=_errors_of("engineio"),
    )
    sockets: dict[str, Socket] = {}

    async def connect(sid: str, environ: Any, auth: Any) -> None:
        scope = environ["asgi.scope"]
        try:
            socket = Socket(server, sid, *await _greeted(identify, auth, scope), scope)
            state.part(Hub).check_room(socket)
        except Problem as problem:
            audit.refused_on_socket(scope, None, "connect", problem)
            raise Refused(problem.code, problem.body()) from None
        sockets[sid] = socket
        state.part(Hub).enter(socket)

    async def disconnect(sid: str, reason: str = "") -> None:
        socket = sockets.pop(sid, None)
        if socket:
            state.part(Hub).leave(socket)

    async def subscribe(socket: Socket, given: dict[str, Any]) -> dict[str, Any]:
        topic, after = _text(given, "topic"), given.get("after")
        if after is not None and not isinstance(after, str):
            raise BadEvent(reason="`after` is the id of a message")
        if len(socket.topics | {topic}) > TOPICS_EACH:
            raise TooManyTopics(most=TOPICS_EACH)
        key = _text(given, "key") if "key" in given else socket.key
        if socket.actor is None:
            await limits.count_unknown(socket.scope)
        here = state.part(Hub)
        looks = here.looks
        await check_may_follow(topic, socket.actor, key)
        socket.keys[topic] = key
        return {"ok": True, "id": await here.follow(socket, [topic], after, looks)}

    async def unsubscribe(socket: Socket, given: dict[str, Any]) -> dict[str, Any]:
        state.part(Hub).unfollow(socket, _text(given, "topic"))
        return {"ok": True}

    async def renew(socket: Socket, given: dict[str, Any]) -> dict[str, Any]:
        actor = await _actor_of(identify, given)
        if socket.actor is None or (actor.id, actor.session) != (socket.actor.id, socket.actor.session):
            raise Forbidden
        socket.actor = actor
        return {"ok": True}

    async def unknown(socket: Socket, given: dict[str, Any]) -> dict[str, Any]:
        raise BadEvent(reason="there is no such event; there are subscribe, unsubscribe and renew")

    def answering(act: Callable[[Socket, dict[str, Any]], Awaitable[dict[str, Any]]], skip: int = 0) -> Any:
        async def answer(*given: Any) -> dict[str, Any] | None:
            sid, data = given[skip], given[skip + 1 : skip + 2]
            socket = sockets.get(sid)
            return await _answer(socket, act, data[0] if data else None) if socket else None

        return answer

    server.on("connect", connect)
    server.on("disconnect", disconnect)
    server.on("subscribe", answering(subscribe))
    server.on("unsubscribe", answering(unsubscribe))
    server.on("renew", answering(renew))
    server.on("*", answering(unknown, skip=1))
    _let_go_of_the_silent(server)
    return server


async def _answer(
    socket: Socket, act: Callable[[Socket, dict[str, Any]], Awaitable[dict[str, Any]]], given: Any
) -> dict[str, Any]:
    try:
        socket.count()
        if not isinstance(given, dict):
            raise BadEvent(reason="it takes one object")
        return await act(socket, given)
    except Problem as problem:
        audit.refused_on_socket(socket.scope, socket.actor, act.__name__, problem)
        if socket.refused > PATIENCE:
            state.part(Hub).close([socket])
        return {"error": problem.body()}
    except Exception:  # one connection's trouble is told to it, not to the server
        log.error("live_event_failed", exc_info=True)
        return {"error": Problem().body()}


async def _greeted(identify: Identify, auth: Any, scope: Any) -> tuple[Actor | None, str]:
    """Who greets: an actor, by a token; else nobody, by a key that opens a topic."""
    if not isinstance(auth, dict) or "key" not in auth or "token" in auth:
        return await _actor_of(identify, auth), ""
    topic, key = _text(auth, "topic"), _text(auth, "key")
    await limits.count_unknown(scope)
    await check_may_follow(topic, None, key)
    return None, key


async def _actor_of(identify: Identify, auth: Any) -> Actor:
    token = auth.get("token") if isinstance(auth, dict) else None
    actor = await identify(token) if isinstance(token, str) and len(token) < 8192 else None
    if actor is None or has_ended(actor):
        raise SignInFirst
    return actor


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
        raise BadEvent(reason=f"`{name}` is a text of 1 to {LONGEST} characters")
    return value


def _is_ours(origin: str | None, environ: dict[str, Any]) -> bool:
    """Whether a page of this origin may connect; programs, which send none, prove themselves by their token alone."""
    if origin is None:
        return False  # asked only about headers for the reply: there is nobody to name in them
    try:
        csrf.check_origin({b"origin": origin.encode(), b"host": environ.get("HTTP_HOST", "").encode()})
    except csrf.CrossSite:
        return False
    return True


def _errors_of(name: str) -> logging.Logger:
    """The library's logger, without its lines on each event: they would hold what was sent."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.ERROR)
    return logger


def _let_go_of_the_silent(server: socketio.AsyncServer) -> None:
    """A websocket that does not say in time who it is costs us its place; and few of one address are waited for."""
    first = server.eio.handlers["connect"]
    silent: dict[str, str] = {}  # addresses by websocket

    async def opened(wire: str, environ: Any) -> Any:
        address = limits.client_of(environ["asgi.scope"])
        for each in [each for each in silent if not is_silent(each)]:
            del silent[each]
        if list(silent.values()).count(address) >= UNKNOWN_EACH or len(silent) >= UNKNOWN_ALL:
            return False
        silent[wire] = address
        asyncio.get_running_loop().call_later(GREETING, check, wire)
        return await first(wire, environ)

    def is_silent(wire: str) -> bool:
        return wire in server.eio.sockets and not server.manager.sid_from_eio_sid(wire, "/")

    def check(wire: str) -> None:
        if is_silent(wire):
            state.part(Hub).do(server.eio.disconnect(wire))

    server.eio.on("connect", opened)
