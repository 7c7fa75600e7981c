"""The end of a process: asked to stop, it first tells everybody, lets them go, and only then stops.

Granian by itself drops websockets without a close frame and waits for streams for ever. So SIGTERM is taken over:
`/ready` answers 503, streams and sockets are told to end, and after a moment a SIGINT to oneself, which is still
Granian's, stops the server once the requests under way are answered. What hangs keeps nobody: a process that is
still there after LATEST seconds tells where each thread stands, and ends.
"""

import asyncio
import faulthandler
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
Farewell = Callable[[], Awaitable[Any]]
log = structlog.get_logger("drain")

NOTICE = 1.0  # seconds in which a balancer sees the 503 of /ready, and streams and sockets end
PATIENCE = 5.0  # seconds that those who are told may take
LATEST = 15.0  # seconds after which the process ends, as Granian's --workers-kill-timeout ends one that it stops itself


class Draining:
    """Whether this process is about to stop, and who wants to know."""

    def __init__(self) -> None:
        self.begun = False
        self.signal = asyncio.Event()
        self.farewells: list[Farewell] = []
        self.task: asyncio.Task[None] | None = None


_now = Draining()


def draining() -> bool:
    """Whether this process has been asked to stop: it takes no new work that lasts."""
    return _now.begun


def on_drain(farewell: Farewell) -> None:
    """Call this when the process is asked to stop: to end streams, close sockets, stop fetching jobs."""
    _now.farewells.append(farewell)


async def race(work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None if the process is asked to stop before it is done; then `work` is cancelled."""
    if _now.begun:
        work.close()
        return None
    task, end = asyncio.ensure_future(work), asyncio.ensure_future(_now.signal.wait())
    try:
        await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        end.cancel()
        task.cancel()


async def end(tasks: Iterable["asyncio.Future[Any]"], again: float = 5.0) -> None:
    """Cancel tasks and wait until they have ended; those that have not after `again` seconds are told once more.

    A cancellation can get lost: before Python 3.12 `asyncio.wait_for`, through which the database's driver waits, gives
    its result instead if that came at the same moment. Whoever waited for such a task waited for ever.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=again)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that nobody is warned of it


def install(notice: float = NOTICE) -> None:
    """Take over SIGTERM on the running loop. In the lifespan of a web process; elsewhere than in the main thread,
    where no signal arrives, it does nothing."""
    global _now
    before, _now = _now, Draining()
    _now.farewells = before.farewells if not before.begun else []
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, _end, notice)


def _end(notice: float) -> None:
    if not _now.begun:
        faulthandler.dump_traceback_later(LATEST, exit=True)
    begin(notice)


def begin(notice: float = NOTICE) -> None:
    """The first time it begins the end, after that nothing."""
    if _now.begun:
        return
    _now.begun = True
    _now.signal.set()
    log.info("drain_began", pid=os.getpid())
    _now.task = asyncio.get_running_loop().create_task(_leave(notice))


async def _leave(notice: float) -> None:
    told = [asyncio.ensure_future(_bid(farewell)) for farewell in _now.farewells]
    await asyncio.sleep(notice)
    if told:
        await asyncio.wait(told, timeout=PATIENCE)
    os.kill(os.getpid(), signal.SIGINT)


async def _bid(farewell: Farewell) -> None:
    try:
        await farewell()
    except Exception:  # one who fails to leave keeps nobody else
        log.warning("farewell_failed", exc_info=True)
