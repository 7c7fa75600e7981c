"""Waiting for what comes about beside a test, and for what runs beside it to end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from msingi.kit import drain


async def until(holds: Callable[[], Any], seconds: float = 5) -> float:
    """Wait until it holds; returns for how many seconds. Fails after `seconds`."""
    began = monotonic()
    while not holds():
        assert monotonic() - began < seconds, "it did not come to hold in time"
        await asyncio.sleep(0.005)
    return monotonic() - began


@asynccontextmanager
async def beside(watch: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """A watch runs meanwhile. What it failed of is raised at the end."""
    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        await drain.end([task])
        if not task.cancelled():
            task.result()
