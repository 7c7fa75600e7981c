"""Servers as users of Node and of FastAPI write them, in `bench/peers`: installed into a folder and started there."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pymongo import MongoClient

from bench.stacks.faces import CannotInstall, CannotStart, Stack
from bench.stacks.ours import end, wait_ready
from bench.stacks.world import ISSUER, Place, Running, new_key
from msingi import preflight
from msingi.kit.tokens import SigningKey, audience_of

SOURCES = Path(__file__).parents[1] / "peers"
INSTALLED: dict[str, Path] = {}  # where each is, once it is
LIMIT = "10000000"  # requests a minute
INSTALLED_WITHIN = 900.0  # seconds
LOCKS = {"package.json", "package-lock.json", "requirements.txt"}


@dataclass(frozen=True)
class Peer:
    """Where a peer's sources are, and the commands of its web server (with processes) and its worker."""

    name: str
    fetch: Callable[[Path], None]
    web: Callable[[Path, int, int], list[str]]  # of the installed folder, the port and the processes
    worker: Callable[[Path], list[str]]
    versions: Callable[[Path], dict[str, str]]

    def install(self, folder: Path) -> None:
        """Have all it needs in a folder of its own under `folder`, once. Raises CannotInstall."""
        sources = sorted(each for each in (SOURCES / self.name).glob("*") if each.is_file())
        needs = b"".join(each.read_bytes() for each in sources if each.name in LOCKS)
        into = folder / f"{self.name}-{sha256(needs).hexdigest()[:12]}"
        if not (into / ".whole").exists():
            shutil.rmtree(into, ignore_errors=True)
            into.mkdir(parents=True)
            self.fetch(into)
            (into / ".whole").touch()
        for each in sources:  # its own files may have changed since
            shutil.copy2(each, into)
        INSTALLED[self.name] = into

    @contextmanager
    def start(self, place: Place, processes: int) -> Iterator[Running]:
        """Its web server and its worker, on databases that are emptied. Raises CannotStart."""
        if self.name not in INSTALLED:
            raise CannotStart(f"{self.name} was not installed")
        folder = INSTALLED[self.name]
        _empty(place)
        port, key = preflight.free_port("127.0.0.1"), new_key()
        environ = _environ(place, port, processes, key)
        with ExitStack() as stack:
            web = stack.enter_context(self._process("web", folder, self.web(folder, port, processes), environ, place))
            url = f"http://127.0.0.1:{port}"
            try:
                wait_ready(url, web)
            except CannotStart as reason:
                said = (place.folder / f"{self.name}-web.log").read_text(errors="replace")[-2000:]
                raise CannotStart(f"{reason}\n{said}") from reason
            worker = stack.enter_context(self._process("worker", folder, self.worker(folder), environ, place))
            yield Running(
                url=url,
                pids=[web.pid],
                versions=self.versions(folder),
                worker_pids=[worker.pid],
                stack=self.name,
                place=place,
                tasks_in=place.database,
                key=key,
            )

    @contextmanager
    def _process(
        self, part: str, folder: Path, command: Sequence[str], environ: dict[str, str], place: Place
    ) -> "Iterator[subprocess.Popen[bytes]]":
        with open(place.folder / f"{self.name}-{part}.log", "ab") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            end(process)


def _environ(place: Place, port: int, processes: int, key: bytes) -> dict[str, str]:
    """What a peer is told: the same for all of them."""
    (place.folder / "files").mkdir(parents=True, exist_ok=True)
    private = Ed25519PrivateKey.from_private_bytes(key)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(place.folder),
        "NODE_ENV": "production",
        "PORT": str(port),
        "PROCESSES": str(processes),
        "MONGO_URL": place.mongo_url,
        "REDIS_URL": place.redis_url,
        "DATABASE": place.database,
        "FILES": str(place.folder / "files"),
        "LIMIT": LIMIT,
        "ISSUER": ISSUER,
        "AUDIENCE": audience_of(ISSUER),
        "JWT_PRIVATE": private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "JWT_PUBLIC": private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        "JWT_KID": SigningKey.from_bytes(key).public.kid,
    }


def _empty(place: Place) -> None:
    place.folder.mkdir(parents=True, exist_ok=True)
    with MongoClient[dict[str, Any]](place.mongo_url) as mongo:
        mongo.drop_database(place.database)
    with redis.Redis.from_url(place.redis_url) as client:
        client.flushdb()


def _fetched(command: Sequence[str], into: Path) -> None:
    """Run an installer. Raises CannotInstall with the end of what it said."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=into, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=INSTALLED_WITHIN
        )
    except FileNotFoundError as missing:
        raise CannotInstall(f"there is no {command[0]} here") from missing
    except subprocess.TimeoutExpired as late:
        raise CannotInstall(f"{' '.join(command[:3])} took longer than {time.monotonic() - began:.0f} s") from late
    if done.returncode:
        raise CannotInstall(f"{' '.join(command[:3])}: {(done.stderr or done.stdout).strip()[-1000:]}")


# ---- Node


def _node(name: str, title: str, packages: Sequence[str]) -> Stack:
    def fetch(into: Path) -> None:
        for each in ("package.json", "package-lock.json"):
            shutil.copy2(SOURCES / name / each, into)
        _fetched(["npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts"], into)

    def versions(folder: Path) -> dict[str, str]:
        found = {"node": subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()}
        for each in packages:
            with suppress(OSError):
                found[each] = json.loads((folder / "node_modules" / each / "package.json").read_text())["version"]
        return found

    peer = Peer(
        name,
        fetch,
        lambda folder, port, processes: ["node", "server.js"],
        lambda folder: ["node", "worker.js"],
        versions,
    )
    return Stack(name, title, peer.install, peer.start)


SHARED = ("mongodb", "ioredis", "bullmq", "socket.io")
express = _node("express", "Express 5 + Mongoose", ("express", "mongoose", *SHARED))
fastify = _node("fastify", "Fastify 5 + mongodb", ("fastify", *SHARED))


# ---- FastAPI


def _fetch_fastapi(into: Path) -> None:
    shutil.copy2(SOURCES / "fastapi" / "requirements.txt", into)
    _fetched([sys.executable, "-m", "venv", str(into / "venv")], into)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    _fetched([str(into / "venv/bin/python"), *install, "-r", "requirements.txt"], into)


def _fastapi_versions(folder: Path) -> dict[str, str]:
    script = "import sys, json; from importlib.metadata import version as v; " + (
        "print(json.dumps({n: v(n) for n in sys.argv[1:]} | {'python': sys.version.split()[0]}))"
    )
    names = ("fastapi", "beanie", "pymongo", "uvicorn", "arq", "python-socketio")
    done = subprocess.run([str(folder / "venv/bin/python"), "-c", script, *names], capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def _uvicorn(folder: Path, port: int, processes: int) -> list[str]:
    command = [str(folder / "venv/bin/python"), "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(processes), "--loop", "uvloop", "--http", "httptools", "--ws", "websockets"]
    return [*command, "--no-server-header", "--no-access-log", "--log-level", "warning"]


_fastapi = Peer(
    "fastapi",
    _fetch_fastapi,
    _uvicorn,
    lambda folder: [str(folder / "venv/bin/python"), "-m", "worker"],
    _fastapi_versions,
)
fastapi = Stack("fastapi", "FastAPI + Beanie", _fastapi.install, _fastapi.start)
