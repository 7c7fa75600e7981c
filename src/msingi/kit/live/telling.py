"""Saying something on a topic, without anybody's answer waiting for it."""

import asyncio
from functools import partial
from typing import Any

import msgspec

from msingi.kit import breaker, drain, state, unit

STREAM = "live"
KEPT = 20_000  # messages that the stream holds, about
LARGEST = 16_000  # bytes of one message's data: times KEPT, what the stream may take of Redis
WAITING = 10_000  # messages that this process keeps while Redis is away
SOON = 0.05  # seconds that telling may keep its caller
PAUSE = 0.5  # seconds from one try to the next while Redis is away
LOOK_AGAIN = "!look-again"  # a kind of the kit's own: does everybody still see this topic?
LOST = "!lost"  # another: messages were lost before they reached the stream
Entry = dict[str, bytes]


async def tell(topic: str, kind: str, data: Any = None) -> None:
    """Tell all who follow `topic` of something, once the unit under way has committed; without a unit, now.

    `data` is what JSON can say, at most 16 kB of it: enough to show what changed, not the whole state. Raises
    ValueError if it is larger, or if `kind` begins with `!`.
    """
    if kind.startswith("!"):
        raise ValueError(f"{kind} is a kind of the kit's own")
    raw = msgspec.json.encode(data)
    if len(raw) > LARGEST:
        raise ValueError(f"{len(raw)} bytes are too many to tell on {topic}")
    await _after_commit({"topic": topic.encode(), "kind": kind.encode(), "data": raw})


async def recheck(topic: str) -> None:
    """Let every connection on `topic` prove anew that its actor may see it: say so when somebody loses the right."""
    await _after_commit({"topic": topic.encode(), "kind": LOOK_AGAIN.encode(), "data": b"null"})


async def _after_commit(entry: Entry) -> None:
    if unit.current.get() is None:
        await state.part(Teller).say(entry)
    else:
        unit.after_commit(lambda: state.part(Teller).say(entry))


class Teller:
    """What this process has yet to say, in order. While Redis is away it waits here, up to a limit."""

    def __init__(self) -> None:
        self.waiting: list[Entry] = []
        self.task: asyncio.Task[None] | None = None

    async def say(self, entry: Entry) -> None:
        """Put it in line, and wait a moment for it to be said."""
        self._put([*self.waiting, entry])
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._send())
        await asyncio.wait({self.task}, timeout=SOON)

    def _put(self, entries: list[Entry]) -> None:
        too_many = len(entries) > WAITING
        self.waiting = [{"topic": b"", "kind": LOST.encode(), "data": b"null"}] if too_many else entries

    async def aclose(self) -> None:
        """The process ends: what could not be said by now is not said."""
        if self.task:
            await drain.end([self.task])

    async def _send(self) -> None:
        while self.waiting:
            batch, self.waiting = self.waiting[:100], self.waiting[100:]
            if not await breaker.ask(partial(_add, batch), False):
                self._put([*batch, *self.waiting])
                await asyncio.sleep(PAUSE)


async def _add(batch: list[Entry]) -> bool:
    async with state.redis().pipeline(transaction=False) as pipe:
        for entry in batch:
            pipe.xadd(STREAM, entry, maxlen=KEPT, approximate=True)  # type: ignore[arg-type]
        await pipe.execute()
    return True
