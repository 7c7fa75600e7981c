"""What the machine allows: the database driver alone, asked for the same by one process, with nothing around it."""

import asyncio
import time
from typing import Any

import uvloop

from bench.measure import Entrant, Fast, How

NAME, TITLE = "driver", "the driver alone"
CALLS = ("document", "page", "create")  # workloads of which there is such a call


def fast(entrant: Entrant, call: str, how: How) -> Fast:
    """As many as it answers, on the data of a stack."""
    found = how.pool.submit(_alone, entrant.world, call, how.connections, how.seconds).result()
    count, seconds, used = found
    return Fast(count / seconds, used * 1000 / count, 0.0, 0.0)


def _alone(world: Any, call: str, at_once: int, seconds: float) -> tuple[int, float, float]:
    return uvloop.run(_asked(world, call, at_once, seconds))


async def _asked(world: Any, call: str, at_once: int, seconds: float) -> tuple[int, float, float]:
    """How many calls were made, in how many seconds, with how many of CPU."""
    from bench.stacks.driver import driver  # noqa: PLC0415

    async with driver(world) as calls:
        await calls[call]()
        count, used, began = 0, time.process_time(), time.perf_counter()

        async def again() -> None:
            nonlocal count
            while time.perf_counter() < began + seconds:
                await calls[call]()
                count += 1

        await asyncio.gather(*(again() for _ in range(at_once)))
        return count, time.perf_counter() - began, time.process_time() - used
