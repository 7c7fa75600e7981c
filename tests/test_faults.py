"""Everything is killed under load: what was acknowledged is there, what was asked once is done once.

On a MongoDB and a Redis of this file's own. What each part does when something dies is shown beside it in the kit; here
it is shown of the house, as people see it.
"""

import collections
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import psutil
import pytest
import redis
from tests.serving import Served, serving, wait_until

from msingi.kit import embedded


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Servers]:
    """A MongoDB and a Redis that may be killed."""
    servers = embedded.start(tmp_path_factory.mktemp("databases"))
    try:
        yield servers
    finally:
        servers.release()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, databases: embedded.Servers) -> Iterator[Served]:
    """All products on those."""
    folder = tmp_path_factory.mktemp("faults")
    with serving(folder, databases.mongo_url, databases.redis_url) as served:
        yield served


class Writers:
    """People who write notes without a pause; each note is asked for again, with one key, until it is acknowledged.

    A note that a killed process was at is left alone: until its lease is over it is answered with 409.
    """

    def __init__(self, house: Served, count: int = 4) -> None:
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.acknowledged: dict[str, str] = {}  # title → id
        self.statuses: collections.Counter[int | str] = collections.Counter()
        self.refused: list[httpx.Response] = []
        self.clients = [house.newcomer() for _ in range(count)]
        self.threads = [
            threading.Thread(target=self._write, args=(number, each)) for number, each in enumerate(self.clients)
        ]

    def __enter__(self) -> "Writers":
        for thread in self.threads:
            thread.start()
        try:
            self.more()
        except AssertionError as late:
            self.__exit__(late)
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()
        if any(failure):
            self._leave()

    def _leave(self) -> None:
        for client in self.clients:
            client.close()

    def _write(self, writer: int, client: httpx.Client) -> None:
        number = 0
        while not self.over.is_set():
            self._once(client, f"{writer}-{number}")
            number += 1

    def _once(self, client: httpx.Client, title: str) -> None:
        """Ask until it is acknowledged, or somebody is at it, or the test is over."""
        while not self.over.is_set():
            status: int | str
            try:
                reply = client.post("/v1/notes", json={"title": title}, headers={"Idempotency-Key": title})
                status = reply.status_code
            except httpx.TransportError as error:
                status = type(error).__name__
            with self.lock:
                self.statuses[status] += 1
                if status == 201:
                    self.acknowledged[title] = reply.json()["id"]
                    return
                if isinstance(status, int):
                    self.refused.append(reply)
            if status == 409:
                return
            time.sleep(0.05)

    def more(self, notes: int = 20) -> None:
        """Wait until so many more are acknowledged."""
        so_far = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) >= so_far + notes, 40)

    def ask_again(self) -> None:
        """Each key once more: it is answered as it was, and nothing is made."""
        for title, id in list(self.acknowledged.items())[-20:]:
            client = self.clients[int(title.partition("-")[0])]
            reply = client.post("/v1/notes", json={"title": title}, headers={"Idempotency-Key": title})
            assert (reply.status_code, reply.json()["id"]) == (201, id)

    def kept(self) -> dict[str, list[str]]:
        """What is there in the end: the ids by title."""
        found: dict[str, list[str]] = collections.defaultdict(list)
        for client in self.clients:
            path: str | None = "/v1/notes?limit=100"
            while path:
                page = client.get(path).raise_for_status().json()
                for note in page["items"]:
                    found[note["title"]].append(note["id"])
                path = f"/v1/notes?limit=100&after={page['next']}" if page["next"] else None
        self._leave()
        return found


def test_d1_no_acknowledged_note_is_lost_when_mongod_is_killed_and_the_house_recovers_by_itself(
    house: Served, databases: embedded.Servers
) -> None:
    with Writers(house) as writers:
        os.kill(databases.pids["mongo"], signal.SIGKILL)
        wait_until(lambda: writers.refused)  # answered while it is away, not left hanging
        revive(databases)
        writers.more()
    kept = writers.kept()
    assert writers.acknowledged
    assert {title: [id] for title, id in writers.acknowledged.items()}.items() <= kept.items()
    assert all(len(ids) == 1 for ids in kept.values())
    assert {reply.status_code for reply in writers.refused} <= {409, 503}  # 409: the first try is still under way
    away = [reply for reply in writers.refused if reply.status_code == 503]
    assert away
    assert all(int(reply.headers["retry-after"]) >= 1 and reply.json()["code"] == "busy" for reply in away)
    assert house.is_ready()


def test_c2_a_note_asked_for_again_after_its_web_process_was_killed_is_made_once(house: Served) -> None:
    with Writers(house) as writers:
        victim = max(house.web_processes(), key=lambda pid: len(psutil.Process(pid).net_connections()))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in house.web_processes() and len(house.web_processes()) == 2, 30)
        writers.more()
    writers.ask_again()
    kept = writers.kept()
    assert {title: [id] for title, id in writers.acknowledged.items()}.items() <= kept.items()
    assert all(len(ids) == 1 for ids in kept.values())
    assert {reply.status_code for reply in writers.refused} <= {409, 503}
    assert any(isinstance(status, str) for status in writers.statuses)  # somebody was cut off in the middle


def test_c4_with_all_of_redis_lost_sessions_live_and_no_job_is_lost(house: Served, databases: embedded.Servers) -> None:
    house.stop("worker")
    with house.sign_in("ann") as ann:
        project = ann.post("/v1/tasks/projects", json={"name": "Lost"}).raise_for_status().json()["id"]
        made = ann.post(f"/v1/tasks/projects/{project}/tasks", json={"title": "Remember"})
        task = made.raise_for_status().json()["id"]
        reminder = {"at": "2026-01-01T00:00:00Z"}  # past: to be sent at once
        ann.post(f"/v1/tasks/{task}/reminders", json=reminder).raise_for_status()
        with redis.Redis.from_url(databases.redis_url) as client:
            client.flushall()
        os.kill(databases.pids["redis"], signal.SIGKILL)
        assert ann.get("/v1/notes").status_code == 200
        revive(databases)
        assert ann.get("/v1/notes").status_code == 200
        house.start("worker")

        def is_sent() -> Any:
            return ann.get(f"/v1/tasks/{task}/reminders").json()["items"][0]["sent_at"]

        def letters() -> list[Any]:
            found = ann.get("/mail?to=ann@msingi.test", headers={"Accept": "application/json"}).json()["items"]
            return [letter for letter in found if "Remember" in letter["subject"] + letter["text"]]

        wait_until(is_sent, 40)
        wait_until(letters)
        assert len(letters()) == 1


def test_c5_with_redis_standing_still_people_still_read_write_and_sign_in(
    house: Served, databases: embedded.Servers
) -> None:
    with house.newcomer() as somebody, suspended(databases.pids["redis"]):
        note = somebody.post("/v1/notes", json={"title": "Still"}).raise_for_status().json()["id"]
        took = [timed(lambda: somebody.get(f"/v1/notes/{note}").raise_for_status()) for _ in range(30)]
        with house.sign_in("ann") as ann:
            assert ann.get("/v1/accounts/me").status_code == 200
        assert somebody.get("/ready").json()["status"] == "degraded"
    assert sorted(took)[-3] < 1.0
    wait_until(lambda: httpx.get(f"{house.url}/ready", trust_env=False).json()["status"] == "ready")


def test_c17_a_web_process_that_is_asked_to_stop_fails_no_request(house: Served) -> None:
    got: collections.Counter[int | str] = collections.Counter()
    over = threading.Event()

    def ask(client: httpx.Client) -> None:
        while not over.is_set():
            try:
                got[client.get("/v1/notes").status_code] += 1
            except httpx.HTTPError as error:
                got[type(error).__name__] += 1

    clients = [house.sign_in("ann") for _ in range(3)]
    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: got[200] > 50)
        victim = house.web_processes()[0]
        began = time.monotonic()
        os.kill(victim, signal.SIGTERM)
        wait_until(lambda: victim not in house.web_processes() and len(house.web_processes()) == 2, 20)
        assert time.monotonic() - began < 20
        so_far = got[200]
        wait_until(lambda: got[200] > so_far + 50)
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
    assert set(got) == {200}


def revive(databases: embedded.Servers) -> None:
    wait_until(databases.dead)
    databases.revive()


def timed(act: Callable[[], Any]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


class suspended:  # noqa: N801  (read as a word of the sentence)
    """A process that stands still meanwhile."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __enter__(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
