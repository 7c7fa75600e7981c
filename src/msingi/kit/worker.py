"""The worker: one process that carries events, reacts to them, runs jobs by queue and clock, and sends letters."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from msingi.kit import audit_chain, data_keys, drain, files, mail, memory, relay, resealing, state
from msingi.kit.config import Settings
from msingi.kit.events import Hearer, unload_few
from msingi.kit.hearing import Hearing, catch_up, look_for_gaps
from msingi.kit.runner import Runner, run_due

log = structlog.get_logger("worker")

GRACE = 15.0  # seconds that what is under way may take to finish when the worker is told to stop


async def main(settings: Settings, products: Sequence[Hearer], parts: Mapping[type, Any] | None = None) -> None:
    """Work for these products until SIGTERM or SIGINT; then finish what is under way, and leave."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with state.running(settings, products, parts):
        await run(products, stop)


async def run(products: Sequence[Hearer], stop: asyncio.Event, grace: float = GRACE) -> None:
    """Work for these products, in a process that runs already, until `stop` is set.

    A database or a Redis that is away is waited for. What is not finished `grace` seconds after the stop is
    cancelled and put back, for another worker to do.
    """
    await data_keys.load()
    hearings = [Hearing(each.name, each.found.reactions) for each in products if each.found.reactions]
    crons = [cron for each in products for cron in each.found.crons]
    runner = Runner([each.name for each in products], crons)
    stoppable: list[Runner | Hearing] = [runner, *hearings]
    finishing = [_kept_up(each.run) for each in stoppable]
    stores = [*mail.stores(), *(store for each in products for store in getattr(each, "all_stores", ()))]
    watches = [data_keys.run_watch, relay.run, mail.run, lambda: look_for_gaps(hearings), lambda: resealing.run(stores)]
    watches += [audit_chain.run, files.run, memory.run_watch]
    others = [_kept_up(watch) for watch in watches]
    log.info("worker_started", products=[each.name for each in products])
    try:
        await stop.wait()
        log.info("worker_stops")
        for part in stoppable:
            part.stop()
        await asyncio.wait(finishing, timeout=grace)
    finally:
        await drain.end([*finishing, *others])
        log.info("worker_stopped")


def _kept_up(act: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
    """A task that begins again if it fails: one part that is broken must not stop the others."""

    async def go() -> None:
        while True:
            try:
                return await act()
            except Exception:  # whatever it was, the next try may find it gone
                log.exception("worker_part_failed", part=getattr(act, "__qualname__", "?"))
                await asyncio.sleep(1)

    return asyncio.create_task(go())


class WorkFailed(AssertionError):
    """A job or a reaction failed while a test had the work done."""


async def work_off(products: Sequence[Hearer], *, raising: bool = True) -> None:
    """Do all that waits, in this process: carry events, react, run jobs that are due, send letters, until none is left.

    For tests. Events go straight from the outboxes to the reactions, by the way that is taken when Redis was lost.
    Raises WorkFailed if something failed, unless `raising` is False: then it is left to be tried again, as always.
    """
    before = {id for each in products for id in await _failing(each.name)}
    while True:
        done: list[Any] = []
        for product in products:
            await unload_few(product.name)
        for product in products:
            done += [True] * await catch_up(product.name, product.found.reactions)
            done += await run_due(product.name)
        done += [True] * await mail.deliver_due()
        if not done:
            break
    failing = [item for each in products for item in (await _failing(each.name)).items()]
    failed = [text for id, text in failing if id not in before]
    if raising and failed:
        raise WorkFailed("; ".join(failed))


async def _failing(product: str) -> dict[str, str]:
    """The jobs that failed and are to be tried again, or are dead: what they are called, and why."""
    failing = {"state": {"$in": ["queued", "dead"]}, "last_error": {"$ne": None}}
    found = state.database(product)["jobs"].find(failing)
    return {f"{row['_id']} {row['tries']}": f"{row['name']}: {row['last_error']}" async for row in found}
