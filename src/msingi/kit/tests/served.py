"""A small application behind the edge, on a real Granian: for tests of what only a real server shows."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
from litestar import Litestar, Request, Response, WebSocket, get, post, websocket
from litestar.params import JSONBody as Body
from litestar.response import Stream
from msgspec import Struct

from msingi.kit import drain, edge, health, observe, replies, revocations, state
from msingi.kit.config import Settings, load
from msingi.kit.errors import QuotaExceeded
from msingi.kit.reading import KitRequest
from msingi.kit.testing import BRIEFLY, NEARBY
from msingi.kit.tests import copies
from msingi.kit.tests.copies import Copy

PAGE = "<!doctype html><title>A page</title>"
BIG = {"lines": [f"line {number} of many that are much alike" for number in range(500)]}
AnyRequest = Request[Any, Any, Any]


class Crate(Struct, forbid_unknown_fields=True):
    """What `/crates` takes."""

    name: str
    weight: int
    tags: list[str] = []


@get("/small")
async def small() -> dict[str, str]:
    return {"hello": "world"}


@get("/big")
async def big() -> dict[str, Any]:
    return BIG


@get("/kept", response_headers={"ETag": '"3"', "Cache-Control": "public, max-age=60", "Vary": "Accept-Language"})
async def kept() -> dict[str, Any]:
    return BIG


@get("/page", media_type="text/html")
async def page() -> str:
    return PAGE


@get("/strict-page", media_type="text/html", response_headers={"Content-Security-Policy": "default-src 'self'"})
async def strict_page() -> str:
    return PAGE


@get("/boom")
async def boom() -> None:
    raise RuntimeError("the password is hunter2 in /etc/secret.conf")


@get("/busy")
async def busy() -> None:
    raise QuotaExceeded(quota=3, window=60, retry_after=7, headers={"Retry-After": "7"})


@get("/cookie")
async def cookie() -> Response[dict[str, str]]:
    reply = Response({"hello": "you"})
    reply.set_cookie("taste", "sweet")
    return reply


@get("/who")
async def who(request: AnyRequest) -> dict[str, Any]:
    scope = request.scope
    client = scope.get("client") or ("", 0)
    state_of = scope["state"]
    names = [name for name, _ in request.headers.items() if name.startswith("x-forwarded")]
    host = request.headers.get("host")
    return {"client": client[0], "scheme": scope["scheme"], "host": host, "names": names, "id": state_of["request_id"]}


@post("/crates")
async def add_crate(data: Body[Crate]) -> Crate:
    return data


@post("/anything")
async def take_anything(data: Body[dict[str, Any]]) -> dict[str, Any]:
    return data


@post("/weigh")
async def weigh(request: AnyRequest) -> dict[str, int]:
    return {"bytes": len(await request.body())}


@post("/weigh-much", max_body=8_000_000)
async def weigh_much(request: AnyRequest) -> dict[str, int]:
    return {"bytes": len(await request.body())}


@post("/wave")
async def wave() -> dict[str, str]:
    """Reads no body, whatever comes."""
    return {"hello": "back"}


@get("/slow")
async def slow() -> dict[str, int]:
    await asyncio.sleep(1.5)
    return {"pid": os.getpid()}


@get("/ticks")
async def ticks() -> Stream:
    return Stream(_ticks(), media_type="text/event-stream")


async def _ticks() -> AsyncIterator[str]:
    yield f"data: {'begin' * 500}\n\n"
    while not drain.draining():
        await drain.race(asyncio.sleep(60))
    yield "data: end\n\n"


@websocket("/talk")
async def talk(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.close()


@asynccontextmanager
async def _alive(settings: Settings) -> AsyncIterator[None]:
    observe.configure(settings)
    async with state.running(settings):
        drain.install()
        drain.on_drain(_say_farewell)
        hearing = asyncio.create_task(revocations.run_watch())
        yield
        hearing.cancel()
        await asyncio.sleep(float(os.environ.get("HANGS", 0)))


async def _say_farewell() -> None:
    if "MARK" in os.environ:
        Path(os.environ["MARK"]).write_text("told")


PLAIN = [small, big, kept, page, strict_page, boom, busy, cookie, who, slow, ticks]
TAKING = [add_crate, take_anything, weigh, weigh_much, wave]
ROUTES = [*PLAIN, *TAKING, talk, *health.routes]


def build() -> edge.App:
    """What Granian loads. Settings come from the environment."""
    settings = load(Settings, os.environ)
    edge.BODY_SECONDS = float(os.environ.get("BODY_SECONDS", edge.BODY_SECONDS))
    drain.LATEST = float(os.environ.get("LATEST", drain.LATEST))
    return edge.Edge(bare(settings), settings)


def bare(settings: Settings) -> Any:
    """The application without the edge."""
    return Litestar(
        route_handlers=ROUTES,
        lifespan=[lambda app: _alive(settings)],
        exception_handlers=replies.HANDLERS,
        request_class=KitRequest,
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
    )


@dataclass
class Server:
    """A running Granian."""

    port: int
    process: Copy
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20, **{"limits": BRIEFLY, **NEARBY, **more})

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        return [msgspec.json.decode(line) for line in self.output.read_bytes().splitlines() if line.startswith(b"{")]

    def workers(self) -> list[int]:
        """The ids of its living workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(each) for each in children if b"resource_tracker" not in _command(each)]

    def exchange(self, request: bytes, seconds: float = 5.0) -> tuple[bytes, bool]:
        """Send raw bytes; returns all that comes back until silence, and whether the server closed the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(request)
            return read_until_silence(connection)


def read_until_silence(connection: socket.socket, silence: float = 1.0) -> tuple[bytes, bool]:
    """What arrives until nothing does for a while, and whether the other side closed."""
    got = b""
    while True:
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            return got, False
        except ConnectionResetError:
            return got, True
        if not piece:
            return got, True
        got += piece
        connection.settimeout(silence)


@contextmanager
def serving(
    environ: dict[str, str] | None = None,
    *,
    workers: int = 1,
    options: list[str] | None = None,
    app: str = "msingi.kit.tests.served:build",
) -> Iterator[Server]:
    """Granian with the small application, or another, on a free port, stopped at the end."""
    port = _free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", str(workers), "--workers-kill-timeout", "20"]
    command += ["--backpressure", "500", *(options or []), app]
    known = {"MSINGI_ENV": "test", "MSINGI_PUBLIC_URL": "http://msingi.test"}
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        output = Path(folder, "output")
        with output.open("wb") as file:
            process = copies.copy(command, os.environ | known | (environ or {}), file)
        server = Server(port, process, output)
        try:
            wait_until(lambda: _answers(server), 30)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until(done: Any, seconds: float = 10.0) -> Any:
    """Poll until `done()` is true, and return it; fail after some seconds."""
    end = time.monotonic() + seconds
    while True:
        result = done()
        if result:
            return result
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def _answers(server: Server) -> bool:
    assert server.process.poll() is None, server.output.read_text()
    try:
        return httpx.get(server.url + "/health", timeout=2, **NEARBY).status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
