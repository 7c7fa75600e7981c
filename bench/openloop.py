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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvloop

from bench.wire import PATIENCE, Answer, Connection, Wrong, connected

EVERY = 100  # every so many answers are kept whole, beside the first of each connection
FINEST, COARSE = 0.0002, 0.01  # seconds between two looks at what is due: at least, and where all is due at once


@dataclass(frozen=True)
class Shape:
    """What every answer must be like: one of these statuses, and of a length between these."""

    statuses: frozenset[int]
    shortest: int
    longest: int

    def fits(self, status: int, length: int) -> bool:
        return status in self.statuses and self.shortest <= length <= self.longest


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
    count: int = 0  # of requests that are due at once, if not each of them once


@dataclass
class Seen:
    """Seconds from when each request was due until its answer was there whole, answers to check, and what it cost."""

    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    samples: list[Answer] = field(default_factory=list)
    client: float = 0.0  # of a core


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


class Crowd:
    """So many connections, and a line of requests that are due and wait for one of them."""

    def __init__(self, job: Job, done: "asyncio.Future[None]") -> None:
        self.job, self.done, self.seen = job, done, Seen()
        self.free: deque[Connection] = deque()  # each in its turn: several web processes have some of them each
        self.coming: set[asyncio.Task[None]] = set()
        self.everyone: list[Connection] = []
        self.waiting: deque[int] = deque()
        self.total = max(math.floor(job.rate * job.seconds), 1) if job.rate else job.count or len(job.raws)
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
            connection = self.free.popleft()
            if connection.is_stale():
                self._renew(connection)
                continue
            number = self.waiting.popleft()
            connection.ask(number, self.job.raws[number % len(self.job.raws)])

    def _renew(self, old: "Connection") -> None:
        """Another instead of one that was idle for so long that the server closes it, or has: that is its right."""
        old.close()
        self.everyone.remove(old)
        task = asyncio.get_running_loop().create_task(self._another())
        self.coming.add(task)
        task.add_done_callback(self.coming.discard)

    async def _another(self) -> None:
        try:
            connection = await connected(self.job, self.take, self.fail)
        except Wrong as reason:
            self.fail(str(reason))
            return
        self.everyone.append(connection)
        self.free.append(connection)
        self._send()

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
        for task in self.coming:
            task.cancel()
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
