"""`msingi up` from nothing to the end, with everything killed in between."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest


class Run:
    """One `msingi up` in a folder."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MSINGI_", "MONGO", "REDIS"))}
        self.folder = folder
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "msingi.cli", "up"],
            cwd=folder,
            env=kept | {"MSINGI_PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as output:
            self.lines.extend(iter(output.readline, ""))  # a list grows while it is read from

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def ready(self) -> "Run":
        until(lambda: "Ctrl-C" in self.said or self.process.poll() is not None, 90)
        assert self.process.poll() is None, self.said
        self.seconds = time.monotonic() - self.began
        found = re.search(r"Open +(http://localhost:(\d+))", self.said)
        assert found, self.said
        self.url, self.port = found[1], int(found[2])
        return self

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.reader.join(10)
        return code

    def family(self) -> dict[str, psutil.Process]:
        """The processes that it keeps, by what they are."""
        named: dict[str, psutil.Process] = {}
        marks = {"mongod ": "mongo", "redis-server": "redis", "msingi.house": "house"}
        for each in psutil.Process(self.process.pid).children(recursive=True):
            try:
                command, name, parent = " ".join(each.cmdline()), each.name(), each.parent()
            except psutil.Error:  # it has just died
                continue
            kind = next((kind for mark, kind in marks.items() if mark in command), None)
            if name.startswith("msingi "):  # a copy, which has its parent's command
                kind = name.removeprefix("msingi ")
                if kind == "web" and parent != named.get("house"):
                    kind = "web process"
            if kind:
                named[kind] = each
        return named

    def one(self, kind: str, after: psutil.Process | None = None) -> psutil.Process:
        """That process, once it is there: one that was killed is on its way again."""
        found: list[psutil.Process] = []

        def is_there() -> bool:
            each = self.family().get(kind)  # asked once: by the next time it may have died
            found[:] = [each] if each and each != after else []
            return bool(found)

        until(is_there)
        return found[0]


def until(condition: Callable[[], Any], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def works(run: Run) -> bool:
    """A whole round: sign in (MongoDB, Redis) and write a note."""
    try:
        token = sign_in(run)
        note = httpx.post(f"{run.url}/v1/notes", json={"title": "x"}, headers={"Authorization": f"Bearer {token}"})
    except (httpx.HTTPError, KeyError, ValueError):
        return False
    return note.status_code == 201


def sign_in(run: Run) -> str:
    form = {"email": "ann@msingi.test", "password": password_of(run)}
    token: str = httpx.post(f"{run.url}/v1/accounts/sign-in", json=form, timeout=10).json()["access_token"]
    return token


def password_of(run: Run) -> str:
    found = re.search(r"Password +(\S+)", run.said)
    assert found
    return found[1]


def has_ended(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


class Folder:
    """One folder, in which the house that runs is started anew only where a test ended it: a start takes its time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run: Run | None = None

    def running(self) -> Run:
        """The one that runs here; started if none does."""
        if self.run is None or self.run.process.poll() is not None:
            self.begin()
            assert self.run
            self.run.ready()
        return self.run

    def begin(self, port: int = 0) -> Run:
        """Start it here, and wait for nothing."""
        self.run = Run(self.path, port)
        return self.run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    folder = Folder(tmp_path_factory.mktemp("up"))
    try:
        yield folder
    finally:
        if folder.run and folder.run.process.poll() is None:
            folder.run.stop()


@pytest.fixture
def run(folder: Folder) -> Run:
    return folder.running()


def test_it_shows_its_steps_and_the_four_lines_work_as_printed(run: Run) -> None:
    for step in ("MongoDB is ready", "Redis is ready", "preparing collections", "starting the web server", "ready"):
        assert re.search(rf"^ +\d+\.\d s  .*{step}", run.said, re.MULTILINE), step
    assert all(f"{name}@msingi.test" in run.said for name in ("ann", "bob", "admin"))
    lines = [line for line in run.said.splitlines() if "curl " in line]
    assert len(lines) == 4
    done = subprocess.run(["bash", "-euc", "\n".join(lines)], capture_output=True, text=True, timeout=30, check=True)
    made, listed, sold = re.findall(r"\{.*?\}(?=\{\"items\"|$)", done.stdout)
    assert json.loads(made)["title"] == "Milk"
    assert "Milk" in [note["title"] for note in json.loads(listed)["items"]]
    assert 1 <= len(json.loads(sold)["items"]) <= 3
    assert "four lines to try" in Path(__file__).parent.parent.joinpath("README.md").read_text("utf-8")


def test_d4_its_secrets_are_for_their_owner_only(run: Run) -> None:
    kept = run.folder / ".msingi"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert (kept / "secret").stat().st_mode & 0o777 == 0o600
    secret = (kept / "secret").read_text().strip()
    assert len(secret) == 64
    for log in kept.glob("*.log"):
        assert secret not in log.read_text()
        assert password_of(run) not in log.read_text()


@pytest.mark.parametrize("victim", ["web", "web process", "worker", "house", "mongo", "redis"])
def test_whatever_is_killed_comes_back(run: Run, victim: str) -> None:
    killed = run.one(victim)
    copies = [each.pid for each in killed.children(recursive=True)]
    killed.kill()
    run.one(victim, after=killed)
    until(lambda: has_ended(copies))  # a web process that is left would keep the port
    until(lambda: works(run))


def test_it_says_what_died_and_that_it_is_started_again(run: Run) -> None:
    worker = run.one("worker")
    said = len(run.lines)
    worker.kill()
    until(lambda: "worker started again" in "".join(run.lines[said:]))
    assert re.search(r"worker died \(killed by SIGKILL\); starting it again in [\d.]+ s", "".join(run.lines[said:]))


def test_ctrl_c_stops_all_in_order_and_a_second_start_finds_everything_again(folder: Folder) -> None:
    first = folder.running()
    pids = [each.pid for each in first.family().values()]
    assert works(first)
    assert first.stop() == 0
    order = [first.said.index(f"stopping the {part}") for part in ("web server", "worker", "databases")]
    assert order == sorted(order)
    assert has_ended(pids)

    second = folder.begin(first.port).ready()
    assert second.url == first.url
    assert password_of(second) == password_of(first)
    titles = httpx.get(
        f"{second.url}/v1/notes", headers={"Authorization": f"Bearer {sign_in(second)}"}, timeout=10
    ).json()["items"]
    assert "x" in [note["title"] for note in titles]


def test_after_the_supervisor_itself_is_killed_the_next_start_takes_over_and_sigterm_stops_it(folder: Folder) -> None:
    first = folder.running()
    left = first.family()
    first.process.kill()
    first.process.wait()
    second = folder.begin(first.port).ready()
    try:
        first.reader.join(10)
        assert re.search(r"ended \d+ processes that an earlier run left behind", second.said)
        assert has_ended([left["web"].pid, left["web process"].pid, left["worker"].pid])
        assert psutil.pid_exists(left["mongo"].pid)  # adopted, not started again
        assert works(second)
    finally:
        assert second.stop(signal.SIGTERM) == 0
    assert has_ended([left["mongo"].pid, left["redis"].pid])
