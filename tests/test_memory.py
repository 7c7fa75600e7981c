"""What the house's processes have loaded before anybody asks them, what they share, and what a load leaves behind."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from tests.serving import Served, own_databases, serving, wait_until

from msingi import cli, supervise

# What draws papers, reads and writes sheets and calendars, knows passkeys; and what libraries of ours would load only
# because something else installed it.
LATER = ("fpdf", "fontTools", "uharfbuzz", "openpyxl", "xlsxwriter", "icalendar", "webauthn", "OpenSSL", "PIL")
NEVER = ("aiohttp", "requests", "websocket", "pycurl", "rich", "pygments", "pydantic", "attr", "opentelemetry")
LOADED = """
import json, sys, threading
from msingi import web
web.load()
print(json.dumps([len(sys.modules), threading.active_count(), *(name for name in sys.argv[1:] if name in sys.modules)]))
"""
MOST_MODULES = 1950  # 2,750 before anybody looked
MEGABYTE = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="only there is memory counted by who shares it")


def test_what_few_requests_need_is_loaded_when_they_come_and_no_thread_is_begun() -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MSINGI_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *LATER, *NEVER],
        env=kept | {"MSINGI_ENV": "test", "MSINGI_SECRET": "0" * 64},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    modules, threads, *loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    assert threads == 1  # a copy would have none of the others
    assert 1000 < modules < MOST_MODULES


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Served]:
    """All products, as `msingi up` starts them, with one web process."""
    few = {"parts": ["house"], "fresh": True, "MSINGI_PROCESSES": "1"}
    with serving(tmp_path, **own_databases(24), **few) as running:  # type: ignore[arg-type]
        yield running


@linux
def test_processes_share_most_of_what_they_hold_and_a_crowd_at_the_door_leaves_little_behind(house: Served) -> None:
    copies = house.copies()
    (web,) = psutil.Process(copies["web"]).children()
    worker = psutil.Process(copies["worker"])
    for each in (web, worker):
        held = each.memory_full_info()
        assert held.uss < held.rss / 2
    house.sign_in("ann").close()
    wait_until(lambda: web.cpu_percent(1) < 2, 20)
    before = web.memory_full_info().uss
    with ThreadPoolExecutor(6) as crowd:
        for client in crowd.map(lambda _: house.sign_in("bob"), range(24)):
            client.close()
    wait_until(lambda: web.memory_full_info().uss < before + 8 * MEGABYTE, 20)  # 19 MiB for one password


@linux
def test_one_command_serves_and_works_says_all_and_stops_both_in_order(tmp_path: Path) -> None:
    own = own_databases(24)
    with (
        serving(tmp_path / "house", **own, parts=[], MSINGI_PROCESSES="1") as planted,
        open(tmp_path / "said", "wb") as said,
    ):
        command = cli.ours("serve", "--worker")
        process = subprocess.Popen(command, env=planted.environ, stdout=said, stderr=said, start_new_session=True)
        try:
            wait_until(lambda: supervise.answers("127.0.0.1", planted.settings.port), 60)
            wait_until(lambda: b"worker_started" in (tmp_path / "said").read_bytes(), 30)
            copies = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
        told = (tmp_path / "said").read_text()
        steps = [told.index(each) for each in ("stopping the web server", "web_stopped", "stopping the worker")]
        assert steps == sorted(steps)
        assert "worker_stopped" in told
        assert len(copies) == 3  # the server, its process, the worker
        wait_until(lambda: not any(each.is_running() for each in copies), 10)


@linux
def test_a_house_that_is_killed_takes_its_processes_along(house: Served) -> None:
    copies = psutil.Process(house.running["house"].pid).children(recursive=True)
    house.running["house"].kill()
    wait_until(lambda: not any(each.is_running() and each.status() != "zombie" for each in copies), 10)
    assert len(copies) == 3
    assert not supervise.answers("127.0.0.1", house.settings.port)
