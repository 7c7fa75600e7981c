"""Questions to Redis that may go unanswered: a Redis that is down costs a request some milliseconds, not its answer.

Each question may take PATIENCE seconds. After FAILURES in a row the breaker opens: nobody asks any more, everybody
takes the other way at once, and a probe in the background looks every PAUSE seconds whether Redis answers again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from msingi.kit import state
from msingi.kit.patience import patient

T = TypeVar("T")
D = TypeVar("D")
log = structlog.get_logger("breaker")

PATIENCE = 0.05  # seconds that a question may take
FAILURES = 3  # in a row
PAUSE = 0.25  # seconds from one probe to the next
AT_ONCE = 10  # questions under way: more would wait for this process and not for Redis. Patience begins with the turn
UNANSWERED = (RedisError, OSError, TimeoutError)


class Breaker:
    """What this process knows of Redis's health."""

    def __init__(self) -> None:
        self.open = False
        self.closed_at = float("-inf")  # when it closed last, by time.monotonic
        self.failures = 0
        self.places = asyncio.Semaphore(AT_ONCE)
        self.probed_at = 0.0
        self.probe: asyncio.Task[None] | None = None

    def succeeded(self) -> None:
        """Redis answered."""
        self.failures = 0
        if self.open:
            self.open, self.closed_at = False, time.monotonic()
            log.info("redis_answers_again")

    def failed(self, error: BaseException) -> None:
        """Redis did not answer, or refused."""
        self.failures += 1
        if self.failures >= FAILURES and not self.open:
            self.open, self.probed_at = True, time.monotonic()
            log.warning("redis_given_up", error=type(error).__name__, detail=str(error)[:200])

    def look(self) -> None:
        """While open, let a probe run now and then; whoever calls this does not wait for it."""
        if self.probe is None and time.monotonic() - self.probed_at >= PAUSE:
            self.probe = asyncio.create_task(self._look())

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(PAUSE):
                await state.redis().ping()  # type: ignore[misc]
            self.succeeded()
        except UNANSWERED:
            pass
        finally:
            self.probed_at, self.probe = time.monotonic(), None


async def ask(question: Callable[[], Awaitable[T]], otherwise: D, *, patience: float | None = None) -> T | D:
    """The answer of Redis to `question` (a function that asks it), or `otherwise` if there is none in time.

    `patience` is in seconds, PATIENCE if not given. Nothing that Redis or the network raises gets through.
    """
    breaker = state.part(Breaker)
    if breaker.open:
        breaker.look()
        return otherwise
    async with breaker.places:
        if breaker.open:  # it opened while this one waited its turn
            return otherwise
        try:
            async with patient(patience or PATIENCE):
                answer = await question()
        except UNANSWERED as error:
            breaker.failed(error)
            return otherwise
    breaker.succeeded()
    return answer
