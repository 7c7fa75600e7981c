"""The edge of the house: one ASGI wrapper that every request and every reply passes, whatever answers inside.

In: who is really calling and under which name, what is refused before anybody reads it, how much of a body and for how
long. Out: the request's id, the security headers, CORS, ETag and 304, compression, a line in the log, a number in the
metrics. Whatever escapes from inside becomes a problem that tells nothing.
"""

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from random import getrandbits
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import brotli  # type: ignore[import-untyped]
import structlog

from msingi.kit import drain
from msingi.kit import observe as observing
from msingi.kit.config import Settings
from msingi.kit.encoded import weak_tag
from msingi.kit.errors import Forbidden, Malformed, Problem, TooLarge, UnsupportedMedia
from msingi.kit.problem_json import problem_reply

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]
log = structlog.get_logger("edge")

# Helmet 8's defaults, byte for byte; its Content-Security-Policy is for pages, which may bring a stricter one.
SECURITY: tuple[Header, ...] = (
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"origin-agent-cluster", b"?1"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-dns-prefetch-control", b"off"),
    (b"x-download-options", b"noopen"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-permitted-cross-domain-policies", b"none"),
    (b"x-xss-protection", b"0"),
)
POLICY = b"content-security-policy"
API_POLICY = b"default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    b"default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';frame-ancestors 'self';"
    b"img-src 'self' data:;object-src 'none';script-src 'self';script-src-attr 'none';"
    b"style-src 'self' https: 'unsafe-inline';upgrade-insecure-requests"
)
API_SECURITY = (*SECURITY, (POLICY, API_POLICY))
PAGE_SECURITY = (*SECURITY, (POLICY, PAGE_POLICY))
SECURITY_NAMES = frozenset(name for name, _ in API_SECURITY)
EXPOSED = b"ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID, Idempotent-Replayed"
ALLOWED_HEADERS = (
    b"Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID, Traceparent, Tracestate, "
    b"X-CSRF-Token, X-Request-ID"
)
ALLOWED_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"x-real-ip"})
ONCE = (b"host", b"content-length", b"content-type", b"authorization", b"origin")  # twice means a trick
BODY_SECONDS = 30.0  # for a body of the usual size to arrive in
SLOWEST = 16 * 1024  # bytes a second that keep a greater body, of a route that takes such, alive beyond that
LINGER = 1.0  # seconds for which a body that nobody read is thrown away, so that its sender reads the reply
MOST_HEADERS = 64 * 1024
TAGGED_UP_TO = 256 * 1024
SQUEEZED_FROM = 1024
INLINE_UP_TO = 128 * 1024  # a longer body is compressed in a thread, since it would hold up everybody
QUALITY = 4
LOCAL = ("localhost", "127.0.0.1", "[::1]")
ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
STREAMED = b"text/event-stream"
CUTTING = frozenset({400, 408, 431})  # the end of such a request is not clear, or was waited for long enough
PRIVATE = b"private, no-cache"


class BadHost(Malformed):
    """This house is not known under that name."""


class HeadersTooLarge(Problem):
    """The headers of the request hold more than the {limit} bytes that are taken here."""

    status = 431


class BodyTooSlow(Problem):
    """The body did not arrive within {seconds} seconds."""

    status = 408


class OriginNotAllowed(Forbidden):
    """Pages of that origin may not ask here."""


class Edge:
    """Wraps the whole application. `observe` is told of each finished request (see `observe.request_done`).

    A route takes more than `settings.max_body` bytes with `max_body=…` on its decorator line. `tokens` are headers with
    which somebody without an account shows that something is theirs: pages of other origins may send and read them, and
    the answers are theirs alone.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        *,
        tokens: Sequence[str] = (),
        observe: Callable[..., None] = observing.request_done,
    ) -> None:
        self.app = app
        self.tokens = frozenset(each.lower().encode() for each in tokens)
        also = "".join(f", {each}" for each in tokens).encode()
        self.allowed, self.exposed = ALLOWED_HEADERS + also, EXPOSED + also
        self.observe = observe
        self.max_body = settings.max_body
        self.hosts = _hosts(settings)
        self.known_hosts: set[bytes] = set()
        self.origins = frozenset(each.encode() for each in _listed(settings.cors_origins) if each not in ("*", "null"))
        self.own_origin = _origin_of(settings.base_url).encode()
        self.is_trusted = _trust([ip_network(each, strict=False) for each in _listed(settings.trusted_proxies)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        kind = scope["type"]
        if kind == "http":
            await Exchange(self, scope, receive, send).run()
        elif kind == "websocket":
            await self.connect(scope, receive, send)
        else:
            try:
                await self.app(scope, receive, send)
            finally:
                observing.close()

    async def connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket: the same rules for its name and its origin, which no framework checks by itself."""
        headers = self.headers_of(scope)
        id = scope.setdefault("state", {})["request_id"] = _id_of(headers)
        observing.request_id.set(id)
        observing.asking.set(scope)
        if self.is_known_host(headers) and self.is_welcome(headers):
            await self.app(scope, receive, send)
        else:
            log.info("socket_refused", path=scope["path"], origin=headers.get(b"origin", b"").decode("latin-1"))
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "origin or host not allowed"})

    def headers_of(self, scope: Scope) -> dict[bytes, bytes]:
        """The request's headers (the last of each name), after what only a trusted proxy may say was judged."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        scope.setdefault("state", {})["direct"] = FORWARDED.isdisjoint(headers)
        if not scope["state"]["direct"]:
            _judge_forwarded(scope, headers, self.is_trusted)
        return headers

    def is_known_host(self, headers: dict[bytes, bytes]) -> bool:
        """Whether the house goes by the name that the request gives: exactly, with or without a port."""
        host = headers.get(b"host", b"")
        if host in self.known_hosts:
            return True
        read = HOST.fullmatch(host)
        if read is None:
            return False
        name = read[1].lower()
        if name not in self.hosts and host.lower() not in self.hosts:
            return False
        if len(self.known_hosts) < 100:
            self.known_hosts.add(host)
        return True

    def is_welcome(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a page of this origin may open a socket. No browser leaves the Origin out; others bring no cookie."""
        origin = headers.get(b"origin")
        if origin is None:
            return b"cookie" not in headers
        host = headers.get(b"host", b"")
        same = origin in (b"http://" + host, b"https://" + host)
        return same or origin == self.own_origin or origin in self.origins


class Exchange:
    """One request and its reply."""

    __slots__ = (
        "begun",
        "body_left",
        "client_receive",
        "client_send",
        "deadline",
        "edge",
        "headers",
        "held",
        "id",
        "method",
        "path",
        "received",
        "refused",
        "refusing",
        "scope",
        "size",
        "started",
        "status",
    )

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = perf_counter()
        self.edge = edge
        self.scope = scope
        self.client_receive = receive
        self.client_send = send
        self.headers = edge.headers_of(scope)
        self.method: str = scope["method"]
        self.path: str = scope["path"]  # the application may change the one in the scope
        self.id = scope["state"]["request_id"] = _id_of(self.headers)
        if not edge.tokens.isdisjoint(self.headers):
            scope["state"]["shown"] = b" ".join(
                self.headers[each] for each in sorted(edge.tokens) if each in self.headers
            )
        self.status = self.size = self.received = 0
        self.body_left = b"content-length" in self.headers or b"transfer-encoding" in self.headers
        self.body_left = self.body_left or scope["http_version"] == "2"
        self.deadline: float | None = None
        self.held: Message | None = None
        self.begun = self.refusing = False
        self.refused: Problem | None = None

    async def run(self) -> None:
        """Answer it."""
        observing.request_id.set(self.id)
        observing.asking.set(self.scope)
        try:
            if observing.tracing():
                with observing.request_span(self.method, self.headers) as span:
                    await self.answer()
                    span.update_name(f"{self.method} {self.route()}")
                    span.set_attribute("http.response.status_code", self.status)
            else:
                await self.answer()
        finally:
            self.edge.observe(
                self.method,
                self.path,
                self.route(),
                self.status,
                perf_counter() - self.started,
                self.size,
                self.id,
                self.scope["state"].get("actor_id"),
            )

    def route(self) -> str:
        """The template of the route, never the path: the metrics must not grow with what is asked."""
        found: str = self.scope["state"].get("route") or self.scope.get("path_template") or "unmatched"
        return found

    async def answer(self) -> None:
        """Refuse it, or let the application answer."""
        problem = self.refusal()
        if problem is not None:
            await self.refuse(problem)
        elif self.method == "OPTIONS" and self.is_preflight():
            await self.answer_preflight()
        else:
            await self.ask_inside()

    async def ask_inside(self) -> None:
        """Let the application answer, and answer for it what it cannot."""
        if self.method == "HEAD":
            self.scope["method"] = "GET"
            self.scope["state"]["is_head"] = True  # for who would read much from a disk to answer it
        try:
            await self.edge.app(self.scope, self.receive if self.body_left else self.client_receive, self.send)
        except Problem as problem:
            self.refused = self.refused or problem
        except Exception as error:
            if self.refused is None:
                log.error("unhandled_error", path=self.path, exc_info=error)
            if self.begun:
                raise  # the server cuts the connection, and so the caller sees that the reply is not whole
        if not self.begun:
            await self.refuse(self.refused or Problem())

    # ---- what is refused before anybody reads it

    def refusal(self) -> Problem | None:
        """The first thing that speaks against answering at all."""
        given = self.scope["headers"]
        if len(b"".join(map(b"".join, given))) + 4 * len(given) > MOST_HEADERS:
            return HeadersTooLarge(limit=MOST_HEADERS)
        if len(given) != len(self.headers) and _is_doubled(given):
            return Malformed(reason="a header that may stand once stands twice")
        # The server frames bodies by the last coding alone; one that it does not undo hides a second request.
        if self.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            return Malformed(reason="no transfer coding but `chunked` is understood here")
        length = self.headers.get(b"content-length", b"0")
        if not length.isdigit() or (b"transfer-encoding" in self.headers and b"content-length" in self.headers):
            return Malformed(reason="the length of its body is not clear")
        if not self.edge.is_known_host(self.headers):
            return BadHost(reason="unknown host")
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            return UnsupportedMedia(wanted="the body as it is, without Content-Encoding")
        return None

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem instead of what the application would say."""
        self.refusing = True
        self.held = None
        status, headers, body = problem_reply(problem, self.id)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    # ---- the body, counted and timed

    async def read_off_body(self, status: int, is_streamed: bool) -> bool:
        """Throw away what the application did not read; returns whether that was all there is.

        The server cuts a connection whose body had not come when the reply was whole. Who sends headers and body one
        after the other, as most clients do, would lose the reply with it, or the next request. Who asks before sending
        needs none of that; and where a reply is streamed, somebody else may be listening for the caller's leaving.
        """
        if b"expect" in self.headers or is_streamed or (self.refusing and status in CUTTING):
            return False
        end = asyncio.get_running_loop().time() + LINGER
        while self.body_left:
            message = await self.piece(end)
            if message is None:
                return False
            self.body_left = message.get("more_body", False)
        return True

    async def receive(self) -> Message:
        """The next piece of the body, for the application."""
        if not self.body_left:
            return await self.client_receive()
        limit = self.limit()
        if self.deadline is None:
            self.deadline = asyncio.get_running_loop().time() + BODY_SECONDS
            if int(self.headers.get(b"content-length", b"0")) > limit:
                raise self.break_off(TooLarge(limit=limit))
        message = await self.piece(self.deadline + self.patience(limit))
        if message is None:
            raise self.break_off(BodyTooSlow(seconds=int(BODY_SECONDS)))
        if message["type"] != "http.request":
            raise self.break_off(Malformed(reason="the connection ended before the body did"))
        self.body_left = message.get("more_body", False)
        self.received += len(message.get("body", b""))
        if self.received > limit:
            raise self.break_off(TooLarge(limit=limit))
        return message

    async def piece(self, deadline: float) -> Message | None:
        """What comes next from the caller, or None if nothing comes until `deadline`, in the loop's time."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self.client_receive()
        except TimeoutError:
            # Granian lets go of a read a moment after it was cancelled, and keeps a connection that it still reads.
            await asyncio.sleep(0.1)
            return None

    def limit(self) -> int:
        """How many bytes the route takes, which it says on its decorator line, or else all routes."""
        handler = self.scope.get("route_handler")
        own: int | None = handler.opt.get("max_body") if handler is not None else None
        return own or self.edge.max_body

    def patience(self, limit: int) -> float:
        """Seconds beyond the usual that a great body, where one is taken, earns by what has come of it."""
        return self.received / SLOWEST if limit > self.edge.max_body else 0.0

    def break_off(self, problem: Problem) -> Problem:
        """From here on the reply is this problem, whatever the application makes of it."""
        self.refused = problem
        return problem

    # ---- the reply

    async def send(self, message: Message) -> None:
        """A piece of the reply, from the application."""
        if self.refused is not None and not (self.refusing or self.begun):
            return
        kind = message["type"]
        if kind == "http.response.start":
            self.held = message  # until it is known whether the body is whole, and so what the headers say
        elif kind == "http.response.body":
            if self.held is not None:
                message = await self.begin(self.held, message)
            if self.method == "HEAD":
                message["body"] = b""
            self.size += len(message.get("body", b""))
            await self.client_send(message)
        else:
            await self.client_send(message)

    async def begin(self, start: Message, message: Message) -> Message:
        """Send the status and the headers that follow from the first piece of the body; returns what is left of it."""
        self.held, self.begun = None, True
        status: int = start["status"]
        headers = [(name.lower(), value) for name, value in start.get("headers", ())]
        names = dict(headers)
        is_unread = self.body_left and not await self.read_off_body(status, message.get("more_body", False))
        # Where a process ends, the next request goes to one that stays.
        if (is_unread or drain.draining()) and self.scope["http_version"] != "2" and b"connection" not in names:
            headers.append((b"connection", b"close"))
        self.add_what_all_replies_have(status, headers, names)
        body: bytes = message.get("body", b"")
        if body and not message.get("more_body", False) and _is_text(names.get(b"content-type", b"")):
            long = len(body) >= SQUEEZED_FROM and b"content-encoding" not in names
            if long:
                headers.append((b"vary", b"Accept-Encoding"))
            if status == 200 and self.scope["method"] == "GET" and len(body) <= TAGGED_UP_TO:
                status, body = self.tag(headers, names, body)
            if long and body:
                body = await self.squeeze(headers, body)
            message = {"type": "http.response.body", "body": body}
        self.status = status
        await self.client_send({"type": "http.response.start", "status": status, "headers": headers})
        return message

    def add_what_all_replies_have(self, status: int, headers: list[Header], names: dict[bytes, bytes]) -> None:
        """The id, the security headers, CORS and who may keep the reply."""
        security = PAGE_SECURITY if names.get(b"content-type", b"").startswith(b"text/html") else API_SECURITY
        if SECURITY_NAMES.isdisjoint(names):
            headers.extend(security)
        else:
            headers.extend(each for each in security if each[0] not in names)
        headers.append((b"x-request-id", self.id.encode()))
        if b"cache-control" not in names:
            keeping = self.keeping(status, names)
            if keeping:
                headers.append((b"cache-control", keeping))
                if keeping is PRIVATE:  # two people's answers may carry the same version for an ETag
                    headers.append((b"vary", b"Authorization, Cookie"))
        origin = self.headers.get(b"origin")
        if origin is not None or self.edge.origins:
            headers.append((b"vary", b"Origin"))
            if origin in self.edge.origins:
                headers.extend(_permission(origin, self.edge.exposed))

    def keeping(self, status: int, names: dict[bytes, bytes]) -> bytes:
        """Who may keep a reply that does not say: nobody what was made for one person, save that one for a 304."""
        if b"set-cookie" in names:
            return b"no-store"
        if b"authorization" in self.headers or b"cookie" in self.headers:
            return PRIVATE if status == 200 and self.scope["method"] == "GET" else b"no-store"
        if not self.edge.tokens.isdisjoint(self.headers) or not self.edge.tokens.isdisjoint(names):
            return b"no-store"
        return b""

    def tag(self, headers: list[Header], names: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
        """Give the reply an ETag, unless it has one; 304 and nothing more for who holds the same already."""
        if b"set-cookie" in names:
            return 200, body
        tag = names.get(b"etag")
        if tag is None:
            tag = names[b"etag"] = weak_tag(body).encode()
            headers.append((b"etag", tag))
        held = self.headers.get(b"if-none-match")
        if held is None or not _is_among(tag, held):
            return 200, body
        headers[:] = [each for each in headers if each[0] not in (b"content-length", b"content-type")]
        return 304, b""

    async def squeeze(self, headers: list[Header], body: bytes) -> bytes:
        """Compress the body as the caller likes best, if it likes that at all."""
        coding = coding_for(self.headers.get(b"accept-encoding", b""))
        if not coding:
            return body
        if len(body) > INLINE_UP_TO:
            body = await asyncio.to_thread(_compress, coding, body)
        else:
            body = _compress(coding, body)
        headers[:] = [
            (name, _weak(value) if name == b"etag" else value) for name, value in headers if name != b"content-length"
        ]
        headers.append((b"content-encoding", coding))
        headers.append((b"content-length", str(len(body)).encode()))
        return body

    # ---- CORS

    def is_preflight(self) -> bool:
        """Whether a browser asks first what a page of another origin may do."""
        return b"origin" in self.headers and b"access-control-request-method" in self.headers

    async def answer_preflight(self) -> None:
        """Say it, without troubling the application."""
        if self.headers[b"origin"] not in self.edge.origins:
            await self.refuse(OriginNotAllowed())
            return
        self.scope["state"]["route"] = "preflight"
        headers = [
            (b"access-control-allow-methods", ALLOWED_METHODS),
            (b"access-control-allow-headers", self.edge.allowed),
            (b"access-control-max-age", b"600"),
        ]
        await self.send({"type": "http.response.start", "status": 204, "headers": headers})
        await self.send({"type": "http.response.body", "body": b""})


# ---- what is said of a request


def _id_of(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id")
    if given is not None and ID.fullmatch(given):
        return given.decode()
    return f"{getrandbits(96):024x}"  # no secret; asking the system for one costs a switch of threads


def _is_doubled(headers: Iterable[Header]) -> bool:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in ONCE or name == b"transfer-encoding":
            if name in seen:
                return True
            seen.add(name)
    return False


def _judge_forwarded(scope: Scope, headers: dict[bytes, bytes], is_trusted: Callable[[str], bool]) -> None:
    """Believe what a trusted proxy says of its caller; from anybody else it is as if it had not been said."""
    client = scope.get("client")
    if client and is_trusted(client[0]):
        _believe(scope, headers, is_trusted)
    for name in FORWARDED:
        headers.pop(name, None)
    kept = [each for each in scope["headers"] if each[0] not in FORWARDED and each[0] != b"host"]
    hosts = [each for each in scope["headers"] if each[0] == b"host"]
    # Two Host headers stay two, to be refused; one becomes the one that the proxy was asked for.
    scope["headers"] = [*(hosts if len(hosts) > 1 else [(b"host", headers.get(b"host", b""))]), *kept]


def _believe(scope: Scope, headers: dict[bytes, bytes], is_trusted: Callable[[str], bool]) -> None:
    chain = ",".join(v.decode("latin-1") for k, v in scope["headers"] if k == b"x-forwarded-for")
    client, port = scope["client"][0], scope["client"][1]
    for hop in reversed(chain.split(",")):
        address = _address(hop.strip())
        if address is None:
            break
        client, port = address, 0
        if not is_trusted(address):
            break
    scope["client"] = (client, port)
    scheme = headers.get(b"x-forwarded-proto", b"").rpartition(b",")[2].strip().lower()
    if scheme in (b"http", b"https"):
        secure = scheme == b"https"
        scope["scheme"] = ("wss" if secure else "ws") if scope["type"] == "websocket" else scheme.decode()
    host = headers.get(b"x-forwarded-host", b"").rpartition(b",")[2].strip()
    if host:
        headers[b"host"] = host


def _address(text: str) -> str | None:
    try:
        return str(ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def _trust(networks: list[IPv4Network | IPv6Network]) -> Callable[[str], bool]:
    @lru_cache(maxsize=1024)
    def is_trusted(address: str) -> bool:
        read = _address(address)
        return read is not None and any(ip_address(read) in network for network in networks)

    return is_trusted


def _hosts(settings: Settings) -> frozenset[bytes]:
    names = [*_listed(settings.allowed_hosts), urlsplit(settings.base_url).netloc]
    if not settings.production:
        names += [*LOCAL, settings.host]
    return frozenset(name.lower().encode() for name in names if name)


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


# ---- what is said of a reply


def _permission(origin: bytes, exposed: bytes) -> list[Header]:
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", exposed),
    ]


@lru_cache(maxsize=256)
def _is_text(content_type: bytes) -> bool:
    """Whether a body of this kind gets shorter when compressed, and is worth an ETag."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == STREAMED:
        return False
    return kind.startswith(b"text/") or kind.endswith((b"json", b"xml", b"javascript", b"/yaml"))


def _is_among(tag: bytes, held: bytes) -> bool:
    """Weak comparison (RFC 9110 §13.1.2): the same but for the `W/`, or `*`."""
    if held.strip() == b"*":
        return True
    return _strong(tag) in {_strong(each.strip()) for each in held.split(b",")}


def _strong(tag: bytes) -> bytes:
    return tag.removeprefix(b"W/")


def _weak(tag: bytes) -> bytes:
    """Compressed it is no longer the same bytes."""
    return tag if tag.startswith(b"W/") else b"W/" + tag


@lru_cache(maxsize=256)
def coding_for(accept_encoding: bytes) -> bytes:
    """`br`, `gzip` or nothing, as an Accept-Encoding header likes best (RFC 9110 §12.5.3): q=0 means never."""
    liked = {}
    for each in accept_encoding.lower().split(b","):
        name, _, parameters = each.partition(b";")
        liked[name.strip()] = _quality(parameters)
    others = liked.get(b"*", 0.0)
    brotli_liked, gzip_liked = liked.get(b"br", others), liked.get(b"gzip", others)
    if not (brotli_liked or gzip_liked):
        return b""
    return b"br" if brotli_liked >= gzip_liked else b"gzip"


def _quality(parameters: bytes) -> float:
    name, _, value = parameters.partition(b"=")
    if name.strip() != b"q":
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0


def _compress(coding: bytes, body: bytes) -> bytes:
    if coding == b"br":
        squeezed: bytes = brotli.compress(body, quality=QUALITY)
        return squeezed
    return gzip.compress(body, QUALITY, mtime=0)
