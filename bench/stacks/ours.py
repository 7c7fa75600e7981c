"""The house as `make up` starts it, and the bare server that it stands on."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import httpx
from tests.serving import serving

from bench.stacks.faces import CannotStart, Stack
from bench.stacks.world import GENEROUS, Place, Running
from msingi import preflight

ROOT = Path(__file__).parents[2]


def _nothing(folder: Path) -> None:
    """What these run on is what this process runs on."""


@contextmanager
def _the_house(place: Place, processes: int) -> Iterator[Running]:
    """All products, so many web processes and a worker, each with its access log; limits as high as the peers'."""
    with ExitStack() as stack:
        house = serving(
            place.folder / "house",
            place.mongo_url,
            place.redis_url,
            parts=["house"],
            fresh=True,  # a copy would share its memory with what it was copied from, and nobody counts that one
            MSINGI_DATABASE=place.database,
            MSINGI_ENV="development",
            MSINGI_PROCESSES=str(processes),
            MSINGI_ANONYMOUS_LIMIT=GENEROUS,
            MSINGI_MEMBER_LIMIT=GENEROUS,
            MSINGI_FILES=str(place.folder / "files"),
        )
        try:
            served = stack.enter_context(house)
            key = _signing_key(served.environ)
        except (AssertionError, subprocess.SubprocessError) as reason:
            raise CannotStart(f"the house does not come up: {reason}") from reason
        yield Running(
            url=served.url,
            pids=[served.running["house"].pid],
            versions=_versions(),
            worker_pids=[served.copies()["worker"]],
            stack="msingi",
            place=place,
            tasks_in=f"{place.database}_tasks",
            key=key,
            admin_password=served.password,
        )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: version(name) for name in ("litestar", "granian", "pymongo", "msgspec", "redis")
    }


def _signing_key(environ: Mapping[str, str]) -> bytes:
    """The key that the house's accounts sign with, so that tokens can be made without asking it for each."""
    command = [sys.executable, "-m", "bench.stacks.signing_key"]
    told = subprocess.run(command, env=environ, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    return bytes.fromhex(told.stdout.split()[-1])


@contextmanager
def _the_bare_server(place: Place, processes: int) -> Iterator[Running]:
    port = preflight.free_port("127.0.0.1")
    command = [sys.executable, "-m", "granian", "--interface", "asginl", "--no-access-log", "--no-ws"]
    command += ["--loop", "uvloop", "--http", "1", "--log-level", "warning"]
    command += ["--port", str(port), "--workers", str(processes), "bench.stacks.nothing:app"]
    place.folder.mkdir(parents=True, exist_ok=True)
    with open(place.folder / "bare.log", "ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_ready(url, process)
        yield Running(
            url, [process.pid], {"granian": version("granian"), "uvloop": version("uvloop")}, stack="bare", place=place
        )
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a server to stop, again after a second; then kill what is left of its session.

    A process of it that is just being born misses the signal, and would stay when the others are gone.
    """
    try:
        for _ in range(15):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
                return
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_ready(url: str, process: "subprocess.Popen[bytes]", seconds: float = 60.0) -> None:
    """Wait until a server says that it is healthy. Raises CannotStart."""
    with httpx.Client(base_url=url, timeout=1, trust_env=False) as client:
        for _ in range(int(seconds / 0.1)):
            if process.poll() is not None:
                raise CannotStart(f"its server ended with {process.returncode}")
            with suppress(httpx.HTTPError):
                if client.get("/health").status_code == 200:
                    return
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
    raise CannotStart(f"{url} did not answer in {seconds:.0f} s")


msingi = Stack("msingi", "Msingi", _nothing, _the_house)
bare = Stack("bare", "bare Granian", _nothing, _the_bare_server, frozenset({"hello"}))
