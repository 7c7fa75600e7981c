"""Two small products that work: a mill that tells what it has ground, and a bakery that hears of it.

`work` is their worker, for the tests that kill one.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

from msingi.kit import config, db, events, jobs, unit, worker
from msingi.kit.db import Collection, Doc
from msingi.kit.events import Event, emit, on
from msingi.kit.jobs import cron, job


class Ground(Event, frozen=True, tag="mill.ground"):
    sack: str
    by: str = "ann"


class Spilt(Event, frozen=True, tag="mill.spilt"):
    sack: str


class Sack(Doc):
    weight: int = 50


class Loaf(Doc):
    sack: str


class Trace(Doc):
    """Left by a job that ran."""

    job: str
    of: str


sacks = Collection(Sack, "sacks")
traces = Collection(Trace, "traces")
loaves = Collection(Loaf, "loaves")
sacks.product = traces.product = "mill"
loaves.product = "bakery"


# ---- what the mill does


@unit.atomic
async def grind(sack: str) -> None:
    await sacks.add(Sack(id=sack))
    await emit(Ground(sack=sack))


@unit.atomic
async def grind_and_fail(sack: str) -> None:
    await sacks.add(Sack(id=sack))
    await emit(Ground(sack=sack))
    await leave_trace.later(sack)
    raise RuntimeError("the stone broke")


@unit.guarded
async def weigh(sack: str, weight: int) -> None:
    await sacks.change(sack, {"$set": {"weight": weight}}, tells=[Ground(sack=sack)])


@unit.guarded
async def receive(sack: str) -> None:
    await sacks.add(Sack(id=sack), tells=[Ground(sack=sack)])


@unit.atomic
async def spill(sack: str) -> None:
    await emit(Spilt(sack=sack))


@unit.atomic
async def trace(name: str, of: str) -> None:
    await traces.add(Trace(job=name, of=of))


# ---- its jobs

broken: set[str] = set()  # what fails for now


@job(product="mill")
async def leave_trace(of: str) -> None:
    await trace("leave_trace", of)


@job(product="mill", retries=2, priority="low")
async def low(of: str) -> None:
    await trace("low", of)


@job(product="mill", priority="high")
async def high(of: str) -> None:
    await trace("high", of)


@job(product="mill", retries=2)
async def brittle(of: str) -> None:
    if of in broken:
        raise ValueError(f"{of} is broken")
    await trace("brittle", of)


@job(product="mill", timeout=0.2, retries=0)
async def endless() -> None:
    await asyncio.sleep(3600)


@job(product="mill", retries=5, timeout=20)
async def slow(of: str, seconds: float) -> None:
    await trace("slow began", of)
    await asyncio.sleep(seconds)
    await trace("slow", of)


@job(product="mill", retries=5, timeout=60)
async def slow_at_first(of: str) -> None:
    first = not await traces.exists({"job": "slow began", "of": of})
    await trace("slow began", of)
    await asyncio.sleep(50 if first else 0)
    await trace("slow", of)


@job(product="mill", unique=lambda of, seconds=0.0: of)
async def once(of: str, seconds: float = 0.0) -> None:
    await trace("once", of)
    await asyncio.sleep(seconds)


@cron("* * * * *", product="mill")
async def turn() -> None:
    await trace("turn", "")


# ---- the bakery


@on(Ground, product="bakery", retries=1)
async def bake(event: Ground) -> None:
    await loaves.add(Loaf(sack=event.sack))
    if event.sack in broken:
        raise ValueError(f"{event.sack} is broken")


@on(Spilt, product="bakery")
async def mourn(event: Spilt) -> None:
    await leave_trace.later(event.sack)


@on(Spilt, product="bakery", retries=1)
async def sweep_up(event: Spilt) -> None:
    await loaves.add(Loaf(sack=f"crumbs of {event.sack}"))
    if event.sack in broken:
        raise ValueError(f"{event.sack} is broken")


class Told(Event, frozen=True, tag="mill.told"):
    of: str
    seconds: float = 0.0


@on(Told, product="bakery")
async def remember(event: Told) -> None:
    await once.later(event.of)
    await loaves.add(Loaf(sack=event.of))
    await asyncio.sleep(event.seconds)


@dataclass(frozen=True)
class Toy:
    """As much of a manifest as the worker looks at."""

    name: str
    found: jobs.Work


mill = Toy("mill", jobs.Work([leave_trace, low, high, brittle, endless, slow, slow_at_first, once], [turn], []))
bakery = Toy("bakery", jobs.Work([], [], [bake, mourn, sweep_up, remember]))
both: Sequence[Toy] = (mill, bakery)


async def prepare() -> None:
    kept = [*events.stores("mill"), *jobs.stores("mill"), *events.stores("bakery"), *jobs.stores("bakery")]
    await db.prepare([*kept, sacks, traces, loaves])


async def baked() -> list[str]:
    return sorted([loaf.sack async for loaf in loaves.each({})])


async def traced(name: str) -> list[str]:
    return sorted([each.of async for each in traces.each({"job": name})])


def work() -> None:
    """Be their worker, as the environment says."""
    asyncio.run(worker.main(config.load(config.Settings, os.environ), both))
