"""A receiver of webhooks that misbehaves when it is told to, and a guard that lets it be reached. For tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct

from msingi.kit import state
from msingi.kit.fetch import Guard

HOST = "shop.receiver.test"


class Got(Struct, frozen=True):
    """A message as it came over the wire. Header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


def answer(status: int = 200, body: bytes = b"ok", *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


HANGS_UP = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"  # in the middle of its answer
Answer = Callable[[Got], bytes | None]


class Receiver:
    """A server that keeps what it got. `answer` makes each answer; None never answers."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answer: Answer = lambda got: answer()
        self.port = 0
        self.open = self.most_open = 0
        self.closing = asyncio.Event()
        self.may_answer = asyncio.Event()  # cleared, it keeps all waiting who want an answer
        self.may_answer.set()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/hooks?token=of-the-receiver"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            got = await _read(reader)
            self.got.append(got)
            said = self.answer(got)
            await self.may_answer.wait()
            if said is None:
                await self.closing.wait()
            else:
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Got:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Got(first.split(" ")[1], headers, await reader.readexactly(int(headers["content-length"])))


@asynccontextmanager
async def receiving(inside: Sequence[str] = ("10.0.0.1",)) -> AsyncIterator[Receiver]:
    """A receiver that listens, reached by a name. Addresses `inside` are refused, as private ones are."""
    receiver = Receiver()
    listening = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = listening.sockets[0].getsockname()[1]

    async def resolve(host: str, port: int) -> Sequence[str]:
        return {HOST: ["127.0.0.1"], "inner.test": ["10.0.0.1"]}.get(host, [host])

    parts = state.current().parts
    before = parts.get(Guard)
    parts[Guard] = Guard(resolve, lambda address: address not in inside, frozenset({receiver.port}))
    try:
        yield receiver
    finally:
        receiver.closing.set()
        listening.close()
        del parts[Guard]
        if before is not None:
            parts[Guard] = before
