"""The real thing as processes: Granian and a worker as `msingi up` starts them, on databases that a test names."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
import psutil
import redis
from pymongo import MongoClient

from msingi import catalog, cli, preflight, supervise
from msingi.kit import config
from msingi.kit.testing import BRIEFLY, NEARBY
from msingi.kit.tests import copies
from msingi.kit.tests.copies import Copy


def imported_by(products: Sequence[str]) -> tuple[str, ...]:
    """What the processes of a house of these products import. They know of no other: who asks a peer depends on it."""
    return (*copies.KIT, *(f"msingi.products.{name}.product" for name in products), "msingi.console.routes")


HOUSE = imported_by(catalog.NAMES)
HIGH = "1000000/minute"


@dataclass
class Served:
    """A house of processes: where it is, who may come in, and how to kill it."""

    folder: Path
    environ: dict[str, str]
    password: str
    running: dict[str, "subprocess.Popen[bytes] | Copy"] = field(default_factory=dict)
    loaded: Sequence[str] = ()  # what its processes find imported; nothing, and they begin from nothing

    @property
    def settings(self) -> config.Settings:
        return config.load(config.Settings, self.environ)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def mongo(self) -> "MongoClient[dict[str, Any]]":
        """Its databases, to look behind the scenes; for the caller to close."""
        return MongoClient(self.settings.mongo_url, tz_aware=True)

    # ---- who comes in

    def client(self, token: str | None = None, **more: Any) -> httpx.Client:
        """Somebody at the door, with a token or without."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, limits=BRIEFLY, **NEARBY, **more)

    def sign_in(self, name: str = "ann") -> httpx.Client:
        """One of the demo people (ann, bob, eve, admin), signed in."""
        return self._signed_in(f"{name}@msingi.test", self.password)

    def newcomer(self) -> httpx.Client:
        """Somebody who has just registered, signed in."""
        person = _somebody()
        with self.client() as client:
            client.post("/v1/accounts/register", json=person).raise_for_status()
        return self._signed_in(person["email"], person["password"])

    def another_admin(self) -> httpx.Client:
        """An admin whom nobody misses, signed in."""
        person = _somebody()
        with self.sign_in("admin") as admin:
            admin.post("/v1/accounts/users", json=person | {"roles": ["user", "admin"]}).raise_for_status()
        return self._signed_in(person["email"], person["password"])

    def _signed_in(self, email: str, password: str) -> httpx.Client:
        with self.client() as client:
            reply = client.post("/v1/accounts/sign-in", json={"email": email, "password": password})
            return self.client(reply.raise_for_status().json()["access_token"])

    # ---- its processes

    def start(self, part: str) -> None:
        """Start `web` or `worker`, or `house`, which is both; its output goes to `<folder>/<part>.log`."""
        commands = {"web": cli.granian(self.settings), "worker": cli.ours("worker")}
        command = commands.get(part) or cli.house("--logs", str(self.folder))
        with open(self.folder / f"{part}.log", "ab") as output:
            self.running[part] = self._begun(command, output)
        if part != "worker":
            wait_until(self.is_ready, 60)

    def prepare(self) -> None:
        """Make collections and indexes, and plant the demo people and things."""
        with open(self.folder / "prepare.log", "ab") as output:
            code = self._begun(cli.ours("prepare", "--demo"), output).wait(60)
        assert code == 0, self.logs()

    def _begun(self, command: list[str], output: IO[bytes]) -> "subprocess.Popen[bytes] | Copy":
        if self.loaded:
            return copies.copy(command, self.environ, output, self.loaded)
        return subprocess.Popen(
            command,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def stop(self, part: str) -> None:
        """Ask `web` or `worker` to stop, then its whole group, as the supervisor does; at last SIGKILL.

        A process that is just being born misses the first SIGTERM.
        """
        process = self.running.pop(part)
        process.send_signal(signal.SIGTERM)
        try:
            for _ in range(8):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(supervise.REMINDED_EVERY)
                    return
                os.killpg(process.pid, signal.SIGTERM)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def web_processes(self) -> list[int]:
        """The process ids of Granian's workers."""
        children = psutil.Process(self.running["web"].pid).children()
        return [each.pid for each in children if "resource_tracker" not in " ".join(_command(each))]

    def copies(self) -> dict[str, int]:
        """The process ids of the `web` server and the `worker` that a house keeps."""
        children = psutil.Process(self.running["house"].pid).children()
        return {each.name().removeprefix("msingi "): each.pid for each in children}

    def is_ready(self) -> bool:
        assert all(each.poll() is None for part, each in self.running.items() if part != "worker"), self.logs()
        return _answers(f"{self.url}/ready")

    def logs(self) -> str:
        """All that its processes have said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))


def _somebody() -> dict[str, str]:
    return {"email": f"p{secrets.token_hex(6)}@msingi.test", "password": secrets.token_hex(12), "name": "New"}


@contextmanager
def serving(
    folder: Path,
    mongo_url: str,
    redis_url: str,
    *,
    products: Sequence[str] = (),
    parts: Sequence[str] = ("web", "worker"),
    empty: bool = True,
    fresh: bool = False,
    **environ: str,
) -> Iterator[Served]:
    """These products (or all) with their demo people, on databases that are emptied; everything is ended at the end.

    `fresh` processes import what they need themselves, as those of `msingi up` do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics").mkdir(exist_ok=True)
    port, password = preflight.free_port("127.0.0.1"), preflight.make_password()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MSINGI_", "MONGO", "REDIS"))}
    known = {
        "MSINGI_ENV": "test",
        "MSINGI_SECRET": secrets.token_hex(32),
        "MSINGI_PORT": str(port),
        "MSINGI_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "MSINGI_PRODUCTS": ",".join(products),
        "MSINGI_ANONYMOUS_LIMIT": HIGH,
        "MSINGI_MEMBER_LIMIT": HIGH,
        "MSINGI_DEMO_PASSWORD": password,
        "MONGO_URL": mongo_url,
        "REDIS_URL": redis_url,
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        "PYTHONUNBUFFERED": "1",
    }
    loaded = () if fresh else imported_by(products or catalog.NAMES)
    served = Served(folder, kept | known | environ, password, loaded=loaded)
    try:
        if empty:
            _empty(served.settings)
        served.prepare()
        for part in reversed(parts):
            served.start(part)
        yield served
    finally:
        for part in list(served.running):
            served.stop(part)


@contextmanager
def sandbox(folder: Path, told: Mapping[str, str], *options: str) -> Iterator[str]:
    """The stand-in of payment providers as a process of its own, as `msingi up` starts it; its address."""
    port = preflight.free_port("127.0.0.1")
    with open(folder / "sandbox.log", "ab") as output:
        command = [sys.executable, "-m", "msingi.kit.payments.sandbox", "--port", str(port), *options]
        process = copies.copy(command, {**os.environ, **told, "MSINGI_ENV": "test"}, output)
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/health"), 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, **NEARBY).status_code == 200
    except httpx.TransportError:
        return False


def _empty(settings: config.Settings) -> None:
    """Databases of an earlier run that were left on a server which outlives it."""
    with MongoClient[dict[str, Any]](settings.mongo_url) as mongo:
        for name in mongo.list_database_names():
            if name.startswith(f"{settings.database}_"):
                mongo.drop_database(name)
    with redis.Redis.from_url(settings.redis_url) as client:
        client.flushdb()


def wait_until(done: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Poll until `done()` is true, and return it; fail after some seconds."""
    end = time.monotonic() + seconds
    while not (result := done()):
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)
    return result


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # it has just died
        return []


def own_databases(offset: int) -> dict[str, str]:
    """Of the run's servers: databases that no other test of this or another test process uses."""
    number = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) + offset
    redis = os.environ["MSINGI_TEST_REDIS"].rstrip("/").removesuffix("/0")
    return {
        "mongo_url": os.environ["MSINGI_TEST_MONGO"],
        "redis_url": f"{redis}/{number}",
        "MSINGI_DATABASE": f"h{number}",
    }
