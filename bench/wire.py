"""HTTP/1.1 as a load has to speak it: connections of uvloop's that ask one request at a time and read its answer."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

PATIENCE = 30.0  # seconds that an answer is waited for
IDLE = 3.0  # seconds after which a connection is not used again: servers close them, some after five
BODILESS = (204, 304)


class Wrong(Exception):
    """An answer was wrong, or none came."""


@dataclass(frozen=True)
class Answer:
    """One answer, whole; `number` is the request's."""

    number: int
    status: int
    headers: Mapping[str, str]
    body: bytes


class Place(Protocol):
    """Where a server listens."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


Take = Callable[["Connection", Answer], None]


async def connected(job: "Place", take: "Take", fail: Callable[[str], None]) -> "Connection":
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(lambda: Connection(take, fail), job.host, job.port)
    except OSError as error:
        raise Wrong(f"nobody answers at {job.host}:{job.port}: {error}") from None
    return connection


class Connection(asyncio.Protocol):
    """Asks one request at a time and reads its answer: a length that was told, or chunks."""

    def __init__(self, take: "Take", fail: Callable[[str], None]) -> None:
        self.take, self.fail = take, fail
        self.number, self.asked, self.buffer = -1, 0, bytearray()
        self.closing, self.is_asking, self.used_at = False, False, time.perf_counter()

    def is_stale(self) -> bool:
        return self.closing or time.perf_counter() - self.used_at > IDLE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no children of it

    def ask(self, number: int, request: bytes) -> None:
        self.number, self.is_asking = number, True
        self.asked += 1
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        found = parsed(self.buffer)
        if found:
            status, headers, body = found
            self.buffer.clear()
            self.is_asking, self.used_at = False, time.perf_counter()
            self.take(self, Answer(self.number, status, headers, body))

    def connection_lost(self, error: Exception | None) -> None:
        if self.is_asking and not self.closing:
            self.fail(f"the server closed a connection instead of answering ({error or 'without a word'})")
        self.closing = True

    def close(self) -> None:
        self.closing = True
        self.transport.close()


def parsed(buffer: bytearray) -> tuple[int, dict[str, str], bytes] | None:
    """Status, headers and body of an answer; None as long as it is not there whole."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    status = int(first[9:12])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = _body(buffer, end + 4, status, headers)
    return None if body is None else (status, headers, body)


def _body(buffer: bytearray, start: int, status: int, headers: Mapping[str, str]) -> bytes | None:
    if "chunked" in headers.get("transfer-encoding", ""):
        return _unchunked(buffer, start)
    size = 0 if status in BODILESS else int(headers.get("content-length", 0))
    return bytes(buffer[start : start + size]) if len(buffer) >= start + size else None


def _unchunked(buffer: bytearray, start: int) -> bytes | None:
    parts: list[bytes] = []
    while (line := buffer.find(b"\r\n", start)) >= 0:
        size = int(buffer[start:line].split(b";")[0], 16)
        start = line + 2 + size + 2
        if len(buffer) < start:
            return None
        if not size:
            return b"".join(parts)
        parts.append(bytes(buffer[line + 2 : line + 2 + size]))
    return None
