"""Topics over Socket.IO: websocket only, who it is before anything else, and a limit to everything.

Long polling would need every request of a connection to reach the same process, which several web processes behind one
port cannot promise (measured: 2 of 8 clients connect). What is left of the protocol (Socket.IO 5 over Engine.IO 4, one
namespace, texts alone) is small enough to be spoken here, without a library's queue and tasks for each connection.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec
import structlog

from msingi.kit import audit, csrf, drain, ids, limits, state
from msingi.kit.actors import Actor
from msingi.kit.errors import Forbidden, Invalid, Malformed, Problem, QuotaExceeded, SignInFirst
from msingi.kit.live.hub import (
    BACKLOG,
    TOPICS_EACH,
    UNKNOWN_ALL,
    UNKNOWN_EACH,
    Hub,
    Listener,
    Message,
    TooManyTopics,
    event_frame,
    has_ended,
)
from msingi.kit.live.topics import LONGEST, check_may_follow
from msingi.kit.live.wire import CLOSING, Receive, Send, Wire, frame_of
from msingi.kit.problem_json import problem_reply

PATH = "/socket.io/"
GREETING = 10.0  # seconds in which a connection says who it is
EVENTS, WINDOW = 20, 1.0  # events that a connection may send in so many seconds
PATIENCE = 200  # events beyond that before it is let go
CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR = "01234"
PACKET = re.compile(r"([0-4])(?:(/[^,]*),?)?(\d{0,15})(.*)", re.DOTALL)  # kind, namespace, number of an answer, data
log = structlog.get_logger("live")
Scope = Any  # of ASGI
App = Any  # of ASGI
Identify = Callable[[str], Awaitable[Actor | None]]


class BadEvent(Invalid):
    """This event is not as it should be: {reason}."""


class Socket(Listener):
    """One Socket.IO connection; `key` is what somebody without an account greeted with."""

    __slots__ = ("events", "identify", "is_known", "key", "refused", "scope", "window", "wire")

    def __init__(self, wire: Wire, identify: Identify, scope: Any) -> None:
        super().__init__(None, limits.client_of(scope))
        self.wire, self.identify, self.scope = wire, identify, scope
        self.key, self.is_known = "", False
        self.window, self.events, self.refused = 0.0, 0, 0

    def send(self, message: Message) -> None:
        if self.wire.behind < BACKLOG:
            self.wire.say(message.frame)
        else:
            self._give_up()

    def resync(self, id: str) -> None:
        self.wire.say(event_frame("resync", {"id": id}))

    def lose(self, topic: str) -> None:
        self.wire.say(event_frame("gone", {"topic": topic}))

    def close(self) -> None:
        self.wire.say(frame_of(DISCONNECT))
        self.wire.end()

    def _give_up(self) -> None:
        """The reader is too slow: forget what waits, tell it to read anew, and let it go."""
        here = state.part(Hub)
        here.leave(self)
        self.wire.forget()
        log.info("live_reader_too_slow", actor=self.actor.id if self.actor else "")
        self.resync(here.position)
        self.wire.say(frame_of(DISCONNECT))
        self.wire.end(CLOSING)

    def count(self) -> None:
        """An event has come from the other side. Raises QuotaExceeded if they are too many."""
        at = time.monotonic()
        if at - self.window >= WINDOW:
            self.window, self.events = at, 0
        self.events += 1
        if self.events > EVENTS:
            self.refused += 1
            raise QuotaExceeded(quota=EVENTS, window=int(WINDOW), retry_after=1)

    # ---- what comes in

    async def hear(self, packet: str) -> bool:
        """A packet has come; whether the connection goes on. What is no packet at all ends it.

        They are answered one after the other: who asks much waits for itself.
        """
        if self.wire.is_ending:
            return True  # nobody answers any more, whoever it was that asks
        read = PACKET.fullmatch(packet)
        if read is None:
            return False
        kind, space, number, rest = read.groups()
        try:
            data = msgspec.json.decode(rest) if rest else None
        except (msgspec.DecodeError, RecursionError):
            return False
        space = (space or "/").partition("?")[0]
        if kind == CONNECT:
            await self._connect(space, data)
        elif space != "/":
            return True  # nobody is there
        elif kind == EVENT:
            return await self._event(number, data)
        return kind in (CONNECT, ACK)

    async def _connect(self, space: str, auth: Any) -> None:
        if space != "/" or self.is_known:
            named = "" if space == "/" else f"{space},"
            self.wire.say(frame_of(f'{CONNECT_ERROR}{named}{{"message":"Unable to connect"}}'))
            return
        answer = await greet(self, auth)
        self.wire.say(frame_of((CONNECT if self.is_known else CONNECT_ERROR) + msgspec.json.encode(answer).decode()))

    async def _event(self, number: str, data: Any) -> bool:
        if not isinstance(data, list) or not data or not isinstance(data[0], str):
            return False
        if self.is_known:
            said = await answer(self, ACTS.get(data[0], unknown), data[1] if len(data) > 1 else None)
            if number:
                self.wire.say(frame_of(ACK + number + msgspec.json.encode([said]).decode()))
        return True


# ---- what a connection may ask for


async def greet(socket: Socket, auth: Any) -> dict[str, Any]:
    """Let a connection in, if it shows who it is; what it is answered."""
    try:
        socket.actor, socket.key = await _greeted(socket.identify, auth, socket.scope)
        state.part(Hub).check_room(socket)
    except Problem as problem:
        audit.refused_on_socket(socket.scope, None, "connect", problem)
        return {"message": problem.code, "data": problem.body()}
    except Exception:  # as below
        log.error("live_greeting_failed", exc_info=True)
        return {"message": Problem().code, "data": Problem().body()}
    socket.is_known = True
    if not socket.wire.over:
        state.part(Hub).enter(socket)
    return {"sid": ids.new_id()}


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


async def answer(
    socket: Socket, act: Callable[[Socket, dict[str, Any]], Awaitable[dict[str, Any]]], given: Any
) -> dict[str, Any]:
    """Do what an event asks for; what it is answered."""
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
    actor = await _actor_of(socket.identify, given)
    if socket.actor is None or (actor.id, actor.session) != (socket.actor.id, socket.actor.session):
        raise Forbidden
    socket.actor = actor
    return {"ok": True}


async def unknown(socket: Socket, given: dict[str, Any]) -> dict[str, Any]:
    raise BadEvent(reason="there is no such event; there are subscribe, unsubscribe and renew")


ACTS = {"subscribe": subscribe, "unsubscribe": unsubscribe, "renew": renew}


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
        raise BadEvent(reason=f"`{name}` is a text of 1 to {LONGEST} characters")
    return value


# ---- the server


class SocketServer:
    """Serves Socket.IO at its path, and everything else with `app`; `identify` tells the actor of an access token.

    A client connects with `auth: {token}` and emits `subscribe` `{topic, key?, after?}` → `{ok, id}` or `{error}`,
    `unsubscribe` `{topic}` and `renew` `{token}` (a younger token of the same session). It is sent `message`
    `{id, topic, kind, data}`, `resync` `{id}` and `gone` `{topic}`; what it missed comes before `subscribe` is
    answered. Who has no account connects with `auth: {topic, key}`, a topic and a key that opens it, and follows that.
    """

    def __init__(self, identify: Identify, app: App) -> None:
        self.identify, self.app = identify, app
        self.silent: dict[Socket, str] = {}  # those who have not said who they are yet, and their addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "lifespan" or not f"{scope['path']}/".startswith(PATH):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            if self._lets_in(scope):
                await self._serve(Socket(Wire(receive, send), self.identify, scope))
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": "not let in"})
        else:
            await _refuse(scope, send)

    def _lets_in(self, scope: Scope) -> bool:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if query.get("transport") != ["websocket"] or query.get("EIO") != ["4"] or "sid" in query:
            return False
        if drain.draining() or not _is_ours(dict(scope["headers"])):
            return False
        address = limits.client_of(scope)
        return len(self.silent) < UNKNOWN_ALL and list(self.silent.values()).count(address) < UNKNOWN_EACH

    async def _serve(self, socket: Socket) -> None:
        """A websocket that does not say in time who it is costs us its place; and few of one address are waited for."""
        self.silent[socket] = socket.address
        greeting = asyncio.get_running_loop().call_later(GREETING, socket.wire.cut)

        async def hear(packet: str) -> bool:
            goes_on = await socket.hear(packet)
            if socket.is_known and self.silent.pop(socket, None) is not None:
                greeting.cancel()
            return goes_on

        try:
            await socket.wire.run(hear)
        finally:
            greeting.cancel()
            self.silent.pop(socket, None)
            state.part(Hub).leave(socket)


def _is_ours(headers: dict[bytes, bytes]) -> bool:
    """Whether a page of this origin may connect; programs, which send none, prove themselves by their token alone."""
    if b"origin" not in headers:
        return True
    try:
        csrf.check_origin({b"origin": headers[b"origin"], b"host": headers.get(b"host", b"")})
    except csrf.CrossSite:
        return False
    return True


async def _refuse(scope: Scope, send: Send) -> None:
    id = scope.get("state", {}).get("request_id", "")
    status, headers, body = problem_reply(Malformed(reason="Socket.IO is served by websocket alone"), id)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
