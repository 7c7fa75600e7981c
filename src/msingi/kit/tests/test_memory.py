"""What is kept out of a process, and what goes back to the system: each in a process of its own."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from msingi.kit import memory

RESIDENT = """
import sys
from pathlib import Path
from msingi.kit import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def left_by(work):
    before = resident()
    work()
    return resident() - before
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's heap that is looked after")


def said_by(program: str) -> Any:
    """What a process prints last, as JSON."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_what_is_kept_out_cannot_be_imported_meanwhile_and_can_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rarely_used.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with memory.without("rarely_used"), pytest.raises(ImportError):
        __import__("rarely_used")
    assert "rarely_used" not in sys.modules
    __import__("rarely_used")
    del sys.modules["rarely_used"]


def test_what_is_loaded_already_stays_and_a_failure_inside_leaves_nothing_behind() -> None:
    with suppress(ZeroDivisionError), memory.without("json", "no_such_library"):
        assert sys.modules["json"] is json
        raise ZeroDivisionError
    assert sys.modules["json"] is json
    assert "no_such_library" not in sys.modules


@linux
@pytest.mark.parametrize(("thrifty", "least", "most"), [(True, -(2**20), 3 * 2**20), (False, 15 * 2**20, 64 * 2**20)])
def test_what_a_thread_took_for_a_password_goes_back_only_where_threads_share_a_heap(
    thrifty: bool, least: int, most: int
) -> None:
    left = said_by(f"""{RESIDENT}
from concurrent.futures import ThreadPoolExecutor
from argon2 import PasswordHasher
if {thrifty}:
    memory.be_thrifty()
hasher = PasswordHasher(memory_cost=19_456, time_cost=1, parallelism=1)
thread = ThreadPoolExecutor(1)
thread.submit(bytes, 200).result()

def work():
    for _ in range(3):
        thread.submit(hasher.hash, "a long walk").result()
    memory.give_back()

print(left_by(work))
""")
    assert least <= left <= most


@linux
def test_when_a_load_is_over_its_garbage_and_the_free_pages_among_what_is_kept_go_back() -> None:
    most, left = said_by(f"""{RESIDENT}
import asyncio, gc, json, time
gc.disable()
memory.be_thrifty()
memory.LOOKS_EVERY = 0.05
kept = []

class Holder:
    pass

def load():
    for number in range(20_000):
        holder = Holder()
        holder.itself, holder.page = holder, bytearray(3000)
        if number % 100 == 0:
            kept.append(bytes(3000))
    while time.process_time() < memory.WORKED + 0.1:
        pass

async def main():
    before = resident()
    watch = asyncio.create_task(memory.run_watch())
    await asyncio.sleep(0)
    load()
    most = resident() - before
    end = time.monotonic() + 20
    while resident() - before > most / 3 and time.monotonic() < end:
        await asyncio.sleep(0.05)
    watch.cancel()
    print(json.dumps([most, resident() - before]))

asyncio.run(main())
""")
    assert most > 50 * 2**20
    assert left < most / 3
