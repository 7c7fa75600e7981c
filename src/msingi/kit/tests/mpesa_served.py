"""The stand-ins of payment providers as a process of their own, and a socket at which callbacks are heard."""

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from msingi.kit.payments.face import BadCallback, Fact
from msingi.kit.payments.mpesa import MPesa, in_sandbox
from msingi.kit.testing import NEARBY
from msingi.kit.tests import copies
from msingi.kit.tests.copies import Copy

SECRET = "the secret of the callbacks in tests"
QUICK = {"accept_after": 0.05, "expire_after": 0.3, "pay_out_after": 0.05}


class Sandbox:
    """A running sandbox."""

    def __init__(self, url: str, process: Copy) -> None:
        self.url, self.process = url, process

    async def control(self, **wish: Any) -> dict[str, Any]:
        """Ask for faults and settings; returns what the sandbox has seen."""
        async with httpx.AsyncClient(**NEARBY, timeout=20) as client:
            reply = await client.post(f"{self.url}/control", json=wish)
        assert reply.status_code == 200, reply.text
        told: dict[str, Any] = reply.json()
        return told

    async def faults(self, **kinds: Any) -> None:
        """Queue faults of M-Pesa: `push={"fault": "cut"}`, or a list of them."""
        queues = {f"mpesa.{kind}": each if isinstance(each, list) else [each] for kind, each in kinds.items()}
        await self.control(faults=queues)


class Ear:
    """Hears callbacks over HTTP as a shop would, and keeps the facts in the order in which they came."""

    def __init__(self) -> None:
        self.provider: MPesa | None = None
        self.hear: Callable[[str, bytes], Awaitable[None]] = self._read  # what is done with a callback
        self.facts: list[Fact] = []
        self.bodies: list[tuple[str, bytes]] = []
        self.refused = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")
                )
                status = await self._hear(head.split()[1].rpartition("/")[2], await reader.readexactly(length))
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _hear(self, segment: str, body: bytes) -> int:
        self.bodies.append((segment, body))
        try:
            await self.hear(segment, body)
        except BadCallback:
            self.refused += 1
            return 400
        return 200

    async def _read(self, segment: str, body: bytes) -> None:
        assert self.provider is not None
        self.facts += self.provider.hear({}, body, segment)

    async def until(self, count: int, seconds: float = 30.0) -> list[Fact]:
        """The facts, once there are so many."""
        await until(lambda: len(self.facts) >= count, seconds)
        return self.facts


async def until(done: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait until `done()`; fail after some seconds."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


@contextmanager
def serving() -> Iterator[Sandbox]:
    """The sandbox on a free port, stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "msingi.kit.payments.sandbox", "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:
        with Path(folder, "output").open("wb") as output:
            environ = os.environ | {"MSINGI_ENV": "test"}
            process = copies.copy(command, environ, output)
        sandbox = Sandbox(f"http://127.0.0.1:{port}", process)
        try:
            end = time.monotonic() + 30
            while not _alive(sandbox):
                assert time.monotonic() < end, Path(folder, "output").read_text()
                time.sleep(0.05)
            yield sandbox
        finally:
            process.terminate()
            process.wait(20)


def _alive(sandbox: Sandbox) -> bool:
    assert sandbox.process.poll() is None, "the sandbox ended at once"
    try:
        return httpx.get(f"{sandbox.url}/health", timeout=2, **NEARBY).status_code == 200
    except httpx.TransportError:
        return False


@asynccontextmanager
async def hearing() -> AsyncIterator[Ear]:
    """An ear on a free port."""
    ear = Ear()
    server = await asyncio.start_server(ear.serve, "127.0.0.1", 0)
    ear.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/heard"
    try:
        yield ear
    finally:
        server.close()


def paybill(sandbox: Sandbox, callbacks: str, **changes: str) -> MPesa:
    """The provider, with its account in the sandbox, or with something else about it."""
    made = in_sandbox(sandbox.url, callbacks=callbacks, callback_secret=SECRET)
    if not changes:
        return made
    given = {
        "url": made.url,
        "key": "sandbox",
        "secret": "sandbox",
        "passkey": made.passkey,
        "shortcode": made.shortcode,
        "callbacks": callbacks,
        "callback_secret": SECRET,
        "initiator": made.initiator,
        "credential": made.credential,
    }
    return MPesa(**{**given, **changes})


# ---- fixtures of those who ask it


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    with serving() as sandbox:
        yield sandbox


@pytest_asyncio.fixture(loop_scope="session")
async def sandbox(served: Sandbox) -> Sandbox:
    await served.control(reset=True, settings=QUICK)
    return served


@pytest_asyncio.fixture(loop_scope="session")
async def ear() -> AsyncIterator[Ear]:
    async with hearing() as made:
        yield made
