"""Deadlines for what others answer, which do not count the time in which this process was too busy to read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool, Connection, parse_url
from redis.exceptions import TimeoutError as Silent

TICKS = 5


@asynccontextmanager
async def patient(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError after so many seconds in which this process could have read the answer.

    When the event loop stalls, its timers and the answer fall due together, and the timer would win. So time is
    counted in TICKS, and a tick that came late is still only one.
    """
    loop = asyncio.get_running_loop()
    left = TICKS
    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal left, timer
        left -= 1
        if left:
            timer = loop.call_later(seconds / TICKS, tick)
        else:
            limit.reschedule(loop.time())

    async with asyncio.timeout(None) as limit:
        timer = loop.call_later(seconds / TICKS, tick)
        try:
            yield
        finally:
            timer.cancel()


class _Patient(AbstractConnection):
    """A connection to Redis with such a deadline, in the place of redis-py's own."""

    deadline = 0.0  # seconds for one writing, and for one answer
    to_connect = 0.0  # seconds

    async def _connect(self) -> None:
        async with patient(self.to_connect):
            await super()._connect()  # type: ignore[safe-super, no-untyped-call]

    async def send_packed_command(self, *args: Any, **more: Any) -> None:
        await self._in_time(super().send_packed_command(*args, **more))

    async def read_response(self, disable_decoding: bool = False, timeout: float | None = None, **more: Any) -> Any:
        reading = super().read_response(disable_decoding, timeout, **more)
        return await (reading if timeout is not None else self._in_time(reading))

    async def _in_time(self, act: Any) -> Any:
        try:
            async with patient(self.deadline):
                return await act
        except TimeoutError:
            raise Silent("Redis did not answer in time") from None


def patient_pool(url: str, deadline: float, *, to_connect: float = 1.0, **options: Any) -> BlockingConnectionPool:
    """A pool of connections to the Redis at `url` with these deadlines, in seconds."""
    told: dict[str, Any] = dict(parse_url(url))
    kind = told.pop("connection_class", Connection)
    made = type(f"Patient{kind.__name__}", (_Patient, kind), {"deadline": deadline, "to_connect": to_connect})
    return BlockingConnectionPool(connection_class=made, **options, **told)
