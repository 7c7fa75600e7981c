"""One websocket that speaks Engine.IO 4: what is said goes straight to the server, and nobody waits for it.

A change that a thousand sockets hear is a thousand times the price of one send. To put it into a queue for a task that
awaits each send took 65 µs of CPU a socket, most of it the ways between threads; here it is handed over (1.5 µs of this
thread, and what the server and the system need to write it). Only what comes while an earlier send is still under way
waits here, and goes out in order as each is done.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import msgspec

from msingi.kit import ids

LARGEST = 64_000  # characters of a message that is taken
PING_EVERY = 20.0  # seconds; whoever has not answered one when the next is due is gone
LINGER = 0.5  # seconds in which the other side, told to go, closes by itself
CLOSING = 3.0  # seconds that a close may take; a reader that stands still is then cut off
PING, PONG, CLOSE, MESSAGE = "2", "3", "1", "4"
PASSED_OVER = ("2", "5", "6")  # of clients that would ping themselves, or change from another transport
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Hear = Callable[[str], Awaitable[bool]]


def frame_of(packet: str) -> Event:
    """A Socket.IO packet as the server takes it: the same for all who get it, so it is made once."""
    return {"type": "websocket.send", "text": MESSAGE + packet}


class Wire:
    """One connection, from its greeting to its end. It is used in the loop that runs it alone."""

    __slots__ = ("_beat", "_cut", "_flight", "_is_awaited", "_receive", "_send", "_task", "over", "waiting")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._flight: asyncio.Future[Any] | None = None  # the send that was handed over last
        self._task: asyncio.Task[Any] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._is_awaited = False  # whether a ping has no answer yet
        self.waiting: deque[Event] | None = None  # what was said while a send was under way
        self.over = False

    async def run(self, hear: Hear) -> None:
        """Open it, and pass on each message until it ends; `hear` says whether it goes on."""
        self._task = asyncio.current_task()
        left = False
        try:
            await self._send({"type": "websocket.accept"})
            self._fly({"type": "websocket.send", "text": _opening()})
            self._beat = asyncio.get_running_loop().call_later(PING_EVERY, self._ping)
            left = await self._listen(hear)
        except asyncio.CancelledError:
            if not self.over:
                raise
            _forget_cancelling(self._task)
        finally:
            self._stop()
        if not left:
            await self._close()

    async def _listen(self, hear: Hear) -> bool:
        """Whether the other side closed it; else it is for us to do."""
        while True:
            event = await self._receive()
            if event["type"] != "websocket.receive":
                return True
            text = event.get("text")
            if not text or len(text) > LARGEST or text[0] == CLOSE:
                return False
            if text[0] == MESSAGE:
                if not await hear(text[1:]):
                    return False
            elif text[0] == PONG:
                self._is_awaited = False
            elif text[0] not in PASSED_OVER:
                return False

    # ---- what is said

    def say(self, frame: Event) -> None:
        """Send it, after what was said before."""
        if self.over:
            return
        if self.waiting:
            self.waiting.append(frame)
        elif self._flight is None or self._flight.done():
            self._fly(frame)
        else:
            self.waiting = deque([frame])
            self._flight.add_done_callback(self._landed)

    @property
    def behind(self) -> int:
        """How many frames wait for the other side to read."""
        return len(self.waiting) if self.waiting else 0

    def forget(self) -> None:
        """What waits is not sent."""
        self.waiting = None

    def _fly(self, frame: Event) -> None:
        """Granian begins a send when it is asked to, and its answer is a future; a coroutine has to be driven."""
        try:
            sending = self._send(frame)
        except RuntimeError:  # a server that says at once that the connection is gone
            self.cut()
            return
        self._flight = sending if asyncio.isfuture(sending) else asyncio.ensure_future(_quietly(sending))

    def _landed(self, flight: Any) -> None:
        if flight is not self._flight:
            return  # it was asked twice, since what waited was forgotten meanwhile
        if self.over or not self.waiting:
            self.waiting = None
            return
        self._fly(self.waiting.popleft())
        if self.waiting and self._flight is not None:
            self._flight.add_done_callback(self._landed)
        else:
            self.waiting = None

    def _ping(self) -> None:
        if self._is_awaited:
            self.cut()
            return
        self._is_awaited = True
        self.say({"type": "websocket.send", "text": PING})
        self._beat = asyncio.get_running_loop().call_later(PING_EVERY, self._ping)

    # ---- how it ends

    def end(self, within: float = LINGER) -> None:
        """Close it, once the other side has had so many seconds to hear the last words and to close it itself."""
        if not self.over and self._cut is None:
            self._cut = asyncio.get_running_loop().call_later(within, self.cut)

    @property
    def is_ending(self) -> bool:
        """Whether the other side was told to go."""
        return self.over or self._cut is not None

    def cut(self) -> None:
        """Close it now. What is under way is not waited for."""
        if not self.over:
            self._stop()
            if self._task is not None:
                self._task.cancel()

    def _stop(self) -> None:
        self.over, self.waiting = True, None
        for timer in (self._beat, self._cut):
            if timer is not None:
                timer.cancel()
        if self._flight is not None:
            self._flight.cancel()  # if it is still under way: Granian's lock on the writing side has to be free
            self._flight = None

    async def _close(self) -> None:
        with suppress(Exception):  # whatever the server says of it, the connection is not used any more
            async with asyncio.timeout(CLOSING):
                await self._send({"type": "websocket.close", "code": 1000})


def _opening() -> str:
    """The first packet: an id that is used for nothing else, and how often it will be pinged."""
    beat = int(PING_EVERY * 1000)
    told = {"sid": ids.new_id(), "upgrades": [], "pingTimeout": beat, "pingInterval": beat, "maxPayload": LARGEST}
    return "0" + msgspec.json.encode(told).decode()


def _forget_cancelling(task: "asyncio.Task[Any] | None") -> None:
    """It was this wire that cancelled its own task, to wake it: what follows may wait again."""
    if task is not None:
        task.uncancel()


async def _quietly(sending: Awaitable[None]) -> None:
    with suppress(Exception):  # a connection that is gone ends where it is read
        await sending
