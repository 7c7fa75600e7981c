"""Requests at a constant rate, latencies from the moment each was due: a client on uvloop's protocols.

What is due waits in a line for a free connection, and the wait counts. The clock that says what is due is a timer of
the kernel's, since uvloop's own are no finer than a millisecond.
"""

import asyncio
import ctypes
import math
import os
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, cast

import uvloop

EVERY = 100  # every so many answers are kept whole, beside the first of each connection
PATIENCE = 30.0  # seconds that an answer is waited for after the last request was due
FINEST, COARSE = 0.0002, 0.01  # seconds between two looks at what is due: at least, and where all is due at once
BODILESS = (204, 304)


class Wrong(Exception):
    """An answer was wrong, or none came."""


@dataclass(frozen=True)
class Shape:
    """What every answer must be like: one of these statuses, and of a length between these."""

    statuses: frozenset[int]
    shortest: int
    longest: int

    def fits(self, status: int, length: int) -> bool:
        return status in self.statuses and self.shortest <= length <= self.longest


@dataclass(frozen=True)
class Answer:
    """One answer, whole; `number` is the request's."""

    number: int
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Job:
    """What to ask whom. Without a rate all requests are due at once, each of them once."""

    host: str
    port: int
    raws: Sequence[bytes]
    shape: Shape | None
    connections: int
    rate: float
    seconds: float


@dataclass
class Seen:
    """Seconds from when each request was due until its answer was there whole, answers to check, and what it cost."""

    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    samples: list[Answer] = field(default_factory=list)
    client: float = 0.0  # of a core


class Place(Protocol):
    """Where a server listens."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


def steadily(job: Job) -> Seen:
    """Ask at the job's rate for its seconds. Raises Wrong."""
    return uvloop.run(_steadily(job))


def in_turn(job: Job) -> Seen:
    """Ask each request once, one after the other, and keep every answer. Raises Wrong."""
    return uvloop.run(_in_turn(job))


async def _steadily(job: Job) -> Seen:
    return await _let(await _gathered(job))


async def _let(crowd: "Crowd") -> Seen:
    """Let the crowd ask until all is answered."""
    rate, used = crowd.job.rate, time.process_time()
    crowd.began = time.perf_counter() + 0.02
    try:
        with _ticking(max(1 / rate, FINEST) if rate else COARSE, crowd.look):
            await asyncio.wait_for(crowd.done, crowd.job.seconds + PATIENCE)
    except TimeoutError:
        raise Wrong(f"{crowd.total - crowd.answered} requests of {crowd.total} were never answered") from None
    finally:
        crowd.close()
    crowd.seen.client = (time.process_time() - used) / (time.perf_counter() - crowd.began)
    return crowd.seen


async def through(job: Job) -> list[Answer]:
    """Ask each request once, as many at a time as there are connections, and keep every answer. Raises Wrong."""
    crowd = await _gathered(job)
    crowd.every = 1
    return (await _let(crowd)).samples


async def _gathered(job: Job) -> "Crowd":
    loop = asyncio.get_running_loop()
    crowd = Crowd(job, loop.create_future())
    for _ in range(job.connections):
        connection = await connected(job, crowd.take, crowd.fail)
        crowd.free.append(connection)
        crowd.everyone.append(connection)
    return crowd


async def connected(job: "Place", take: "Take", fail: Callable[[str], None]) -> "Connection":
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(lambda: Connection(take, fail), job.host, job.port)
    except OSError as error:
        raise Wrong(f"nobody answers at {job.host}:{job.port}: {error}") from None
    return connection


class Crowd:
    """So many connections, and a line of requests that are due and wait for one of them."""

    def __init__(self, job: Job, done: "asyncio.Future[None]") -> None:
        self.job, self.done, self.seen = job, done, Seen()
        self.free: deque[Connection] = deque()
        self.everyone: list[Connection] = []
        self.waiting: deque[int] = deque()
        self.total = max(math.floor(job.rate * job.seconds), 1) if job.rate else len(job.raws)
        self.began, self.next, self.answered, self.every = 0.0, 0, 0, EVERY

    def due(self, number: int) -> float:
        return self.began + (number / self.job.rate if self.job.rate else 0.0)

    def look(self) -> None:
        """Put in line what has become due, and send what a connection is free for."""
        now = time.perf_counter()
        while self.next < self.total and self.due(self.next) <= now:
            self.waiting.append(self.next)
            self.next += 1
        self._send()

    def _send(self) -> None:
        while self.waiting and self.free:
            number = self.waiting.popleft()
            self.free.popleft().ask(number, self.job.raws[number % len(self.job.raws)])

    def take(self, connection: "Connection", answer: Answer) -> None:
        self.seen.latencies.append(time.perf_counter() - self.due(answer.number))
        shape, size = self.job.shape, len(answer.body)
        if shape and not shape.fits(answer.status, size):
            self.fail(f"wrong answer: {answer.status} with {size} bytes: {answer.body[:300]!r}")
            return
        if connection.asked == 1 or self.answered % self.every == 0:
            self.seen.samples.append(answer)
        self.answered += 1
        self.free.append(connection)
        self._send()
        if self.answered == self.total and not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(Wrong(reason))

    def close(self) -> None:
        for each in self.everyone:
            each.close()


@contextmanager
def _ticking(every: float, look: Callable[[], None]) -> Iterator[None]:
    """Call `look` so often, by a timer of the kernel's."""
    loop, timer = asyncio.get_running_loop(), _timer(every)

    def tick() -> None:
        os.read(timer, 8)
        look()

    loop.add_reader(timer, tick)
    try:
        yield
    finally:
        loop.remove_reader(timer)
        os.close(timer)


def _timer(every: float) -> int:
    """timerfd_create(2), which Python has only since 3.13: the interval and the first time, in seconds and ns."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC)
    part = (int(every), max(int(every % 1 * 1e9), 1))
    spec = (ctypes.c_long * 4)(*part, *part)
    if timer < 0 or libc.timerfd_settime(timer, 0, spec, None):
        raise OSError(ctypes.get_errno(), "no timer")
    return int(timer)


# ---- one connection

Take = Callable[["Connection", Answer], None]


class Connection(asyncio.Protocol):
    """Asks one request at a time and reads its answer: a length that was told, or chunks."""

    def __init__(self, take: "Take", fail: Callable[[str], None]) -> None:
        self.take, self.fail = take, fail
        self.number, self.asked, self.buffer = -1, 0, bytearray()
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no children of it

    def ask(self, number: int, request: bytes) -> None:
        self.number = number
        self.asked += 1
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        found = parsed(self.buffer)
        if found:
            status, headers, body = found
            self.buffer.clear()
            self.take(self, Answer(self.number, status, headers, body))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closing:
            self.fail(f"the server closed a connection ({error or 'without a word'})")

    def close(self) -> None:
        self.closing = True
        self.transport.close()


def parsed(buffer: bytearray) -> tuple[int, dict[str, str], bytes] | None:
    """Status, headers and body of an answer; None as long as it is not there whole."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    status = int(first[9:12])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = _body(buffer, end + 4, status, headers)
    return None if body is None else (status, headers, body)


def _body(buffer: bytearray, start: int, status: int, headers: Mapping[str, str]) -> bytes | None:
    if "chunked" in headers.get("transfer-encoding", ""):
        return _unchunked(buffer, start)
    size = 0 if status in BODILESS else int(headers.get("content-length", 0))
    return bytes(buffer[start : start + size]) if len(buffer) >= start + size else None


def _unchunked(buffer: bytearray, start: int) -> bytes | None:
    parts: list[bytes] = []
    while (line := buffer.find(b"\r\n", start)) >= 0:
        size = int(buffer[start:line].split(b";")[0], 16)
        start = line + 2 + size + 2
        if len(buffer) < start:
            return None
        if not size:
            return b"".join(parts)
        parts.append(bytes(buffer[line + 2 : line + 2 + size]))
    return None


# ---- one after the other


async def _in_turn(job: Job) -> Seen:
    answers: asyncio.Queue[Answer | str] = asyncio.Queue()
    connection = await connected(job, lambda _, answer: answers.put_nowait(answer), answers.put_nowait)
    seen = Seen()
    for number, request in enumerate(job.raws):
        connection.ask(number, request)
        answer = await asyncio.wait_for(answers.get(), PATIENCE)
        if isinstance(answer, str):
            raise Wrong(answer)
        seen.samples.append(answer)
    connection.close()
    return seen
