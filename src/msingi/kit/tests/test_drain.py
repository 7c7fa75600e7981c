"""A process that is asked to stop lets nobody down: over a real Granian, under load."""

import asyncio
import collections
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from msingi.kit import drain
from msingi.kit.tests.served import Server, serving, wait_until


class Load:
    """Clients that ask some hundred times a second, and count what they get."""

    def __init__(self, server: Server, paths: list[str]) -> None:
        self.server = server
        self.got: collections.Counter[int | str] = collections.Counter()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(path,)) for path in paths]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, path: str) -> None:
        with self.server.client() as client:
            while not self.over.wait(0.005):
                try:
                    self.got[client.get(path).status_code] += 1
                except httpx.HTTPError as error:
                    self.got[type(error).__name__] += 1


def test_c17_workers_that_are_stopped_one_after_the_other_fail_no_request() -> None:
    with (
        serving(workers=2, options=["--respawn-failed-workers"]) as server,
        Load(server, ["/small", "/small", "/big", "/slow"]) as load,
    ):
        wait_until(lambda: load.got[200] > 50)
        for number, worker in enumerate(server.workers()):
            if number:
                time.sleep(6)  # Granian takes two deaths within 5.5 seconds for a crash loop, and gives up
            began = time.monotonic()
            os.kill(worker, signal.SIGTERM)
            wait_until(lambda gone=worker: gone not in server.workers() and len(server.workers()) == 2, 20)
            assert time.monotonic() - began < 20
            answered = load.got[200]
            wait_until(lambda so_far=answered: load.got[200] > so_far + 50)
    assert set(load.got) == {200}
    assert load.got[200] > 200


def test_c17_a_reload_fails_no_request() -> None:
    with serving(workers=2) as server, Load(server, ["/small", "/small", "/big", "/slow"]) as load:
        before = set(server.workers())
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(server.workers()) == 2 and not before & set(server.workers()), 30)
    assert set(load.got) == {200}


def test_c17_a_stopping_process_says_so_ends_its_streams_and_answers_what_it_began(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with serving({"MARK": str(mark)}) as server, server.client() as client:
        replies: dict[str, httpx.Response] = {}
        slow = threading.Thread(target=lambda: replies.update(slow=httpx.get(server.url + "/slow", timeout=10)))
        with client.stream("GET", "/ticks") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data: begin")
            slow.start()
            time.sleep(0.3)  # until the slow request is under way
            began = time.monotonic()
            os.kill(server.workers()[0], signal.SIGTERM)
            last = [line for line in lines if line][-1]
        assert last == "data: end"
        ready = httpx.get(server.url + "/ready", timeout=5)
        assert (ready.status_code, ready.json()["status"]) == (503, "draining")
        assert ready.headers["connection"] == "close"
        slow.join()
        assert replies["slow"].status_code == 200
        server.process.wait(20)
        assert time.monotonic() - began < 20
    assert mark.read_text() == "told"


def test_c17_a_process_in_which_something_hangs_ends_all_the_same_and_says_where_it_stood() -> None:
    with serving({"HANGS": "60", "LATEST": "2"}) as server:
        began = time.monotonic()
        os.kill(server.workers()[0], signal.SIGTERM)
        server.process.wait(20)
        assert time.monotonic() - began < 10
        assert "Timeout (0:00:02)!" in server.output.read_text()


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> drain.Draining:
    """The drain of a process that nobody stops for real."""
    monkeypatch.setattr(drain, "_now", drain.Draining())
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    return drain._now


async def test_a_race_is_won_by_the_work_or_by_the_end(stopping: drain.Draining) -> None:
    async def work() -> str:
        return "done"

    cancelled: list[bool] = []

    async def endless() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "never"

    assert await drain.race(work()) == "done"
    waiting = asyncio.ensure_future(drain.race(endless()))
    await asyncio.sleep(0)
    drain.begin(notice=0)
    assert await waiting is None
    assert await drain.race(endless()) is None
    await asyncio.sleep(0)
    assert cancelled == [True]


async def test_one_who_fails_to_leave_keeps_nobody_else(stopping: drain.Draining) -> None:
    told: list[str] = []

    async def fails() -> None:
        raise RuntimeError

    async def leaves() -> None:
        told.append("left")

    drain.on_drain(fails)
    drain.on_drain(leaves)
    drain.begin(notice=0)
    drain.begin(notice=0)
    assert stopping.task is not None
    await stopping.task
    assert told == ["left"]
    assert drain.draining()


async def test_a_task_that_a_cancellation_got_lost_in_is_told_once_more() -> None:
    lost: list[str] = []

    async def deaf() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            lost.append("the first")
        await asyncio.sleep(60)

    async def broken() -> None:
        raise ValueError("of its own")

    tasks = [asyncio.create_task(deaf()), asyncio.create_task(broken())]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await drain.end(tasks, again=0.05)
    assert lost == ["the first"]
    assert all(task.done() for task in tasks)
