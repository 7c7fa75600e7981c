"""Thousands of Socket.IO clients in one process, and how soon the last of them hears what was published.

Each is a protocol of uvloop's that speaks as much of a websocket as it needs: one that costs little, since a thousand
of them hear every change and their time would be told as the server's. Changes are published one after the other.
"""

import asyncio
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

from bench import meter
from bench.wire import PATIENCE, Answer, Connection, Wrong, connected

AT_ONCE = 50  # sockets that are opened at the same time
FEWEST = 3  # changes, however long they take
UPGRADE = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(frozen=True)
class Party:
    """Who follows what, and the requests that publish: each is sent once, until the seconds are over."""

    host: str
    port: int
    topic: str
    tokens: Sequence[str]  # of each follower
    raws: Sequence[bytes]
    seconds: float
    pids: Sequence[int]  # of the server, to see what it uses meanwhile
    databases: Sequence[int]


@dataclass
class Told:
    """Seconds from each request until the last had heard of it; answers to check; CPU seconds used; memory held."""

    latencies: list[float] = field(default_factory=list)
    samples: list[Answer] = field(default_factory=list)
    seconds: float = 0.0
    server: float = 0.0
    databases: float = 0.0
    client: float = 0.0  # of a core
    held: float = 0.0  # MB of the server, with all sockets open


def publish(party: Party) -> Told:
    """Open the sockets, publish, and see when the last of them has heard. Raises Wrong."""
    needed = len(party.tokens) + 100
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < needed:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard < needed:
            raise Wrong(f"{len(party.tokens)} sockets need more files than this system lets a process open ({hard})")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return uvloop.run(_publish(party))


async def _publish(party: Party) -> Told:
    room = Room(len(party.tokens))
    sockets = await _gathered(party, room)
    answers: asyncio.Queue[Answer | str] = asyncio.Queue()
    publisher = await connected(party, lambda _, answer: answers.put_nowait(answer), answers.put_nowait)
    told, used = Told(held=meter.megabytes(party.pids)), time.process_time()
    server, databases = meter.cpu_seconds(party.pids), meter.cpu_seconds(party.databases)
    began = time.perf_counter()
    try:
        for number, request in enumerate(party.raws):
            await _one(number, request, publisher, answers, room, told)
            if number + 1 >= FEWEST and time.perf_counter() - began > party.seconds:
                break
    finally:
        told.seconds = time.perf_counter() - began
        publisher.close()
        for each in sockets:
            each.close()
    told.server, told.databases = meter.cpu_seconds(party.pids) - server, meter.cpu_seconds(party.databases) - databases
    told.client = (time.process_time() - used) / told.seconds
    return told


async def _one(
    number: int, request: bytes, publisher: Connection, answers: "asyncio.Queue[Answer | str]", room: "Room", told: Told
) -> None:
    began = time.perf_counter()
    publisher.ask(number, request)
    answer = await asyncio.wait_for(answers.get(), PATIENCE)
    if isinstance(answer, str):
        raise Wrong(answer)
    told.samples.append(answer)
    if answer.status >= 300:
        raise Wrong(f"not published: {answer.status}: {answer.body[:300]!r}")
    said = json.loads(answer.body)
    told.latencies.append(await room.all_heard((said["id"], said["version"])) - began)


async def _gathered(party: Party, room: "Room") -> list["Follower"]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def opened(token: str) -> Follower:
        async with gate:
            _, follower = await asyncio.get_running_loop().create_connection(
                lambda: Follower(party, token, room), party.host, party.port
            )
            await asyncio.wait_for(follower.ready, PATIENCE)
            return follower

    return list(await asyncio.gather(*map(opened, party.tokens)))


class Room:
    """Who has heard of what: how many of each version of a thing, and when the last did."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.heard: dict[tuple[str, int], int] = {}
        self.at: dict[tuple[str, int], float] = {}
        self.news = asyncio.Event()
        self.fault = ""
        self._known: tuple[bytes, tuple[str, int] | None] = (b"", None)

    def hear(self, message: bytes) -> None:
        """All followers get the same bytes: they are read once."""
        if message != self._known[0]:
            self._known = message, _about(json.loads(message[message.index(b"[") :]))
        key = self._known[1]
        if key is None:
            return
        self.heard[key] = self.heard.get(key, 0) + 1
        if self.heard[key] == self.count:
            self.at[key] = time.perf_counter()
            self.news.set()

    def fail(self, reason: str) -> None:
        self.fault = self.fault or reason
        self.news.set()

    async def all_heard(self, key: tuple[str, int]) -> float:
        """When the last heard of it. Raises Wrong if somebody does not."""
        try:
            async with asyncio.timeout(PATIENCE):
                while key not in self.at and not self.fault:
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise Wrong(f"{self.heard.get(key, 0)} of {self.count} sockets heard of {key}") from None
        if self.fault:
            raise Wrong(self.fault)
        return self.at.pop(key)


def _about(message: Any) -> tuple[str, int] | None:
    name, said = message[0], message[1] if len(message) > 1 else {}
    if name != "message" or said.get("kind") != "task_changed":
        return None
    return said["data"]["task_id"], said["data"]["version"]


class Follower(asyncio.Protocol):
    """One socket: it is upgraded, says who it is, subscribes, and then tells the room what it hears."""

    def __init__(self, party: Party, token: str, room: Room) -> None:
        self.party, self.token, self.room = party, token, room
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer, self.is_open, self.closing = bytearray(), False, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no children of it
        self.transport.write(UPGRADE.format(host=self.party.host, port=self.party.port).encode())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_open:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if b" 101 " not in self.buffer[:20]:
                self._refused(bytes(self.buffer[:200]))
                return
            del self.buffer[: end + 4]
            self.is_open = True
        for message in frames(self.buffer):
            self._read(message)

    def _read(self, message: bytes) -> None:
        if message.startswith(b"42"):
            self.room.hear(message)
        elif message == b"2":
            self._say("3")
        elif message.startswith(b"0"):
            self._say("40" + json.dumps({"token": self.token}))
        elif message.startswith(b"40"):
            self._say("420" + json.dumps(["subscribe", {"topic": self.party.topic}]))
        elif message.startswith(b"430"):
            if json.loads(message[3:])[0].get("ok"):
                self.ready.set_result(None)
            else:
                self._refused(message)
        else:
            self._refused(message)

    def _refused(self, said: bytes) -> None:
        if not self.ready.done():
            self.ready.set_exception(Wrong(f"a socket was refused: {said[:200]!r}"))

    def _say(self, text: str) -> None:
        self.transport.write(framed(text.encode()))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closing:
            self._refused(b"the server closed it")
            self.room.fail(f"the server closed a socket ({error or 'without a word'})")

    def close(self) -> None:
        self.closing = True
        self.transport.close()


def framed(payload: bytes) -> bytes:
    """A text frame as a client sends it: masked, here with noughts, which leave it as it is."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + payload


def frames(buffer: bytearray) -> list[bytes]:
    """The whole text frames at the beginning, which are taken away; others are skipped."""
    found, start = [], 0
    while len(buffer) >= start + 2:
        size, head = buffer[start + 1] & 0x7F, 2
        if size >= 126:
            head += 2 if size == 126 else 8
            if len(buffer) < start + head:
                break
            size = int.from_bytes(buffer[start + 2 : start + head], "big")
        if len(buffer) < start + head + size:
            break
        if buffer[start] & 0x0F == 1:
            found.append(bytes(buffer[start + head : start + head + size]))
        start += head + size
    del buffer[:start]
    return found
