"""Outgoing HTTP: with a deadline, with retries where they can do no harm, and with care where a user gave the address.

`request` is for servers that the house chose. `safely` is for addresses that users typed: it opens none inside our own
network, looks again at each redirect, and connects to the very address that it looked at.
"""

import asyncio
import ipaddress
import random
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypeVar

import httpx
import msgspec
import structlog
from msgspec import Struct

from msingi.kit import state
from msingi.kit.errors import Invalid, Problem

T = TypeVar("T")
log = structlog.get_logger("fetch")

CONNECT, READ = 3.0, 10.0  # seconds to connect, and from one byte to the next
WITHIN = 15.0  # seconds that a call may take with all its tries
LARGEST = 1_000_000  # bytes of a reply
TRIES = 3
HOPS = 5  # redirects that `safely` follows
FAILURES = 5  # in a row that open a host's circuit
REST = (5.0, 60.0)  # seconds that it stays open: at first, and at most
RESTING = "it failed several times in a row"
INNER = "it leads into a network that is not public"
SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# What Python 3.11 takes for public and is not: IETF assignments with one cloud's metadata, 6to4 relays, another cloud's
# wire server, local NAT64, documentation, segment routing, the old site-local range.
INSIDE = [
    ipaddress.ip_network(each)
    for each in (
        *("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"),
        *("64:ff9b:1::/48", "100::/64", "3fff::/20", "5f00::/16", "fec0::/10"),
    )
]
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Unreachable(Problem):
    """{host} does not answer as it should right now: {reason}."""

    status = 502


def never_sent(fault: Unreachable) -> bool:
    """Whether it is certain that the last try did not reach the server: there was no connection, or no try at all."""
    return fault.details["reason"] == RESTING or isinstance(fault.__cause__, NEVER_SENT)


class ReplyTooLarge(Problem):
    """{host} sent more than the {limit} bytes that are read of a reply."""

    status = 502


class AddressRefused(Invalid):
    """This address is not one that we open: {reason}."""


class Reply(Struct, frozen=True):
    """What came back, read whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    def json(self, kind: type[T]) -> T:
        """The body as a Struct or another type. Raises msgspec.MsgspecError."""
        return msgspec.json.decode(self.body, type=kind)


class Circuit:
    """One host's health as this process sees it: after some failures in a row it is left alone for a while."""

    def __init__(self) -> None:
        self.failures, self.until, self.rest = 0, 0.0, REST[0]

    def check(self, host: str) -> None:
        """Raise Unreachable while the circuit is open; when it may be tried, one call goes and the others wait."""
        at = time.monotonic()
        if self.failures >= FAILURES:
            if at < self.until:
                raise Unreachable(host=host, reason=RESTING)
            self.until = at + self.rest

    def succeeded(self) -> None:
        self.failures, self.rest = 0, REST[0]

    def failed(self) -> None:
        self.failures += 1
        if self.failures > FAILURES:
            self.rest = min(self.rest * 2, REST[1])
        if self.failures >= FAILURES:
            self.until = time.monotonic() + self.rest


class Fetching:
    """This process's HTTP clients and circuits."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
        patience = httpx.Timeout(READ, connect=CONNECT, pool=CONNECT)
        self.trusted = httpx.AsyncClient(timeout=patience, limits=limits, verify=_authorities(environ=True))
        # No proxy of the environment's: it would resolve the name anew. No kept connections, no cookies.
        once = httpx.Limits(max_connections=100, max_keepalive_connections=0)
        known = _authorities(environ=False)
        self.careful = httpx.AsyncClient(timeout=patience, limits=once, trust_env=False, verify=known)
        self.circuits: dict[str, Circuit] = {}

    def circuit(self, host: str) -> Circuit:
        if len(self.circuits) > 1000:
            self.circuits.clear()
        return self.circuits.setdefault(host, Circuit())

    async def aclose(self) -> None:
        await self.trusted.aclose()
        await self.careful.aclose()


@cache
def _authorities(*, environ: bool) -> ssl.SSLContext:
    """Whose certificates are believed, with the environment's say or without: read once a process, it takes 20 ms."""
    return httpx.create_ssl_context(trust_env=environ)


# ---- servers that the house chose


async def request(
    method: str,
    url: str,
    *,
    json: Any = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    within: float = WITHIN,
    tries: int = TRIES,
    largest: int = LARGEST,
) -> Reply:
    """Ask a server that the house chose; returns its reply whatever the status.

    Tried again: what never reached it; 429; and, for methods that may be repeated or with an `Idempotency-Key`, what
    broke off and 502, 503, 504. `within` is in seconds and covers all tries. Redirects are not followed. Raises
    Unreachable, ReplyTooLarge.
    """
    own = {name.lower(): value for name, value in (headers or {}).items()}
    sent = {**_tracing(), "accept-encoding": "identity", **own}
    if json is not None:
        content = msgspec.json.encode(json)
        sent.setdefault("content-type", "application/json")
    fetching = state.part(Fetching)
    asked = fetching.trusted.build_request(method, url, content=content, headers=sent)
    repeatable = method.upper() in SAFE_TO_REPEAT or "idempotency-key" in sent
    try:
        async with asyncio.timeout(within) as limit:
            return await _tried(asked, fetching, repeatable, tries, largest, limit)
    except TimeoutError:
        raise Unreachable(host=asked.url.host, reason=f"no answer within {within:g} seconds") from None


async def get(url: str, **options: Any) -> Reply:
    """`request` with GET."""
    return await request("GET", url, **options)


async def post(url: str, **options: Any) -> Reply:
    """`request` with POST."""
    return await request("POST", url, **options)


async def _tried(
    asked: httpx.Request, fetching: Fetching, repeatable: bool, tries: int, largest: int, limit: asyncio.Timeout
) -> Reply:
    host = asked.url.netloc.decode()
    circuit = fetching.circuit(host)
    for attempt in range(1, tries + 1):
        circuit.check(host)
        wait = _backoff(attempt)
        try:
            reply = await _once(fetching.trusted, asked, largest)
        except httpx.TransportError as fault:
            circuit.failed()
            if attempt == tries or not (repeatable or isinstance(fault, NEVER_SENT)):
                raise Unreachable(host=host, reason=type(fault).__name__) from fault
        except asyncio.CancelledError:
            circuit.failed()
            raise
        else:
            circuit.failed() if reply.status in (502, 503, 504) else circuit.succeeded()
            again = reply.status == 429 or (repeatable and reply.status in (502, 503, 504))
            wait = _retry_after(reply, wait)
            if attempt == tries or not again or not _fits(wait, limit):
                return reply
        log.info("fetch_again", host=host, attempt=attempt, wait=round(wait, 2))
        await asyncio.sleep(wait)
    raise AssertionError("a try returns or raises")


def _backoff(attempt: int) -> float:
    return random.uniform(0.5, 1.0) * min(0.2 * 2.0**attempt, 5.0)


def _retry_after(reply: Reply, otherwise: float) -> float:
    """What the server asks for, in seconds or as a date (RFC 9110 §10.2.3)."""
    given = reply.headers.get("retry-after", "")
    if given.isascii() and given.isdigit():
        return float(given[:6])
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    return otherwise


def _fits(wait: float, limit: asyncio.Timeout) -> bool:
    end = limit.when()
    return end is None or asyncio.get_running_loop().time() + wait < end


def _tracing() -> dict[str, str]:
    """The request that this is done for, so that the other side's log can be laid beside ours."""
    known = structlog.contextvars.get_contextvars()
    names = {"x-request-id": known.get("request_id"), "traceparent": known.get("traceparent")}
    return {name: str(value) for name, value in names.items() if value}


async def _once(client: httpx.AsyncClient, asked: httpx.Request, largest: int) -> Reply:
    reply = await client.send(asked, stream=True)
    try:
        body = bytearray()
        async for piece in reply.aiter_bytes():
            body += piece
            if len(body) > largest:
                raise ReplyTooLarge(host=asked.url.host, limit=largest)
        return Reply(reply.status_code, dict(reply.headers), bytes(body), str(asked.url))
    finally:
        await reply.aclose()


# ---- addresses that users gave


Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def _resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(text: str) -> bool:
    """Whether an IP address is one of the open internet's, whatever it is wrapped in.

    Private, loopback, link-local (where clouds keep their metadata), shared, multicast and reserved ones are not, nor
    what carries such an IPv4 address in an IPv6 one (mapped, 6to4, Teredo, NAT64).
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(each is not None and not is_public(str(each)) for each in inner):
            return False
        if address.ipv4_mapped:
            return True
    closed = address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global
    return not closed and not any(address in network for network in INSIDE)


class Guard:
    """How `safely` finds and judges addresses; tests put another in its place."""

    def __init__(
        self,
        resolve: Resolve = _resolve,
        may_open: Callable[[str], bool] = is_public,
        ports: frozenset[int] = frozenset({80, 443}),
    ) -> None:
        self.resolve, self.may_open, self.ports = resolve, may_open, ports

    def check(self, text: str, schemes: Sequence[str] = ("http", "https")) -> None:
        """Look at an address as far as one can without asking where its name leads. Raises AddressRefused."""
        url = _url(text)
        host, _ = self._parts(url)
        if url.scheme not in schemes:
            raise AddressRefused(reason=f"it must begin with {' or '.join(f'{each}://' for each in schemes)}")
        with suppress(ValueError):
            if not self.may_open(str(ipaddress.ip_address(host.strip("[]")))):
                raise AddressRefused(reason=INNER)

    async def address_of(self, url: httpx.URL) -> str:
        """An IP address of this URL's host, when all that it has may be opened. Raises AddressRefused, Unreachable."""
        host, port = self._parts(url)
        try:
            found = await self.resolve(host, port)
        except (OSError, UnicodeError):
            raise Unreachable(host=host, reason="its name is not known") from None
        if not found or not all(self.may_open(each) for each in found):
            raise AddressRefused(reason=INNER)
        return found[0]

    def _parts(self, url: httpx.URL) -> tuple[str, int]:
        """The host and the port, if its form is one that we open. Raises AddressRefused."""
        if url.scheme not in ("http", "https") or not url.host:
            raise AddressRefused(reason="it must begin with http:// or https://")
        if url.userinfo:
            raise AddressRefused(reason="it must hold no user name")
        port = url.port or (443 if url.scheme == "https" else 80)
        if port not in self.ports:
            raise AddressRefused(reason=f"port {port} is not open to this")
        host = name_of(url)
        if not _NAME.fullmatch(host):
            raise AddressRefused(reason="its host is no name")
        return host, port


def guard() -> Guard:
    """This process's guard. In development a setting lets it open all addresses and ports."""
    return state.part(Guard, _as_set)


def _as_set() -> Guard:
    if state.settings().fetch_inside:
        return Guard(may_open=lambda address: True, ports=frozenset(range(1, 65536)))
    return Guard()


def name_of(url: httpx.URL) -> str:
    """The host as it goes over the wire, a name of other letters in its ASCII form."""
    return url.raw_host.decode("ascii", "replace")


async def safely(
    url: str,
    *,
    method: str = "GET",
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    within: float = WITHIN,
    largest: int = LARGEST,
) -> Reply:
    """Ask an address that a user gave; returns the reply whatever the status.

    GET and HEAD follow up to HOPS redirects, each looked at like the first; `headers` go only to the first host. It is
    tried once and takes no compressed reply. Raises AddressRefused (422), Unreachable and ReplyTooLarge (502).
    """
    try:
        async with asyncio.timeout(within):
            return await _followed(url, method.upper(), content, headers or {}, largest)
    except TimeoutError:
        raise Unreachable(host=_url(url).host, reason=f"no answer within {within:g} seconds") from None


async def _followed(url: str, method: str, content: bytes | None, headers: Mapping[str, str], largest: int) -> Reply:
    at, sent = _url(url), headers
    for _ in range(HOPS + 1):
        reply = await _pinned(at, method, content, sent, largest)
        onward = reply.headers.get("location")
        if method not in ("GET", "HEAD") or reply.status not in (301, 302, 303, 307, 308) or not onward:
            return reply
        before, at = at, at.join(_url(onward))
        if before.scheme == "https" and at.scheme != "https":
            raise AddressRefused(reason="it leads from https to http")
        if before.netloc != at.netloc:
            sent = {}
    raise AddressRefused(reason=f"it redirects more than {HOPS} times")


async def _pinned(at: httpx.URL, method: str, content: bytes | None, headers: Mapping[str, str], largest: int) -> Reply:
    """One request to the very address that was judged: the name is not looked up again, but still named and proven."""
    client = state.part(Fetching).careful
    address = await guard().address_of(at)
    own = {"host": at.netloc.decode(), "accept-encoding": "identity", "user-agent": "msingi"}
    sent = {**{name.lower(): value for name, value in headers.items()}, **own}
    asked = client.build_request(method, at.copy_with(host=address, fragment=None), content=content, headers=sent)
    asked.extensions["sni_hostname"] = name_of(at)
    try:
        reply = await client.send(asked, stream=True, follow_redirects=False)
    except (httpx.TransportError, httpx.InvalidURL) as fault:
        raise Unreachable(host=at.host, reason=type(fault).__name__) from fault
    return await _read_raw(reply, at, largest)


async def _read_raw(reply: httpx.Response, at: httpx.URL, largest: int) -> Reply:
    """The body as it came: nothing is unpacked, so that no small reply grows large."""
    try:
        if reply.headers.get("content-encoding", "identity") != "identity":
            raise Unreachable(host=at.host, reason="it sent a compressed reply that was not asked for")
        body = bytearray()
        async for piece in reply.aiter_raw():
            body += piece
            if len(body) > largest:
                raise ReplyTooLarge(host=at.host, limit=largest)
    except httpx.TransportError as fault:
        raise Unreachable(host=at.host, reason=type(fault).__name__) from fault
    finally:
        await reply.aclose()
    return Reply(reply.status_code, dict(reply.headers), bytes(body), str(at))


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
        _ = url.host, url.netloc  # only now is a name of other letters read, which may be none
    except (httpx.InvalidURL, UnicodeError):
        raise AddressRefused(reason="it is no address") from None
    return url
