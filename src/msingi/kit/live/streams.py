"""Topics as Server-Sent Events: one request follows up to a hundred of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from msingi.kit import drain, state
from msingi.kit.actors import Actor
from msingi.kit.errors import Busy, SignInFirst
from msingi.kit.live.hub import BACKLOG, TOPICS_EACH, Hub, Listener, Message, TooManyTopics, position_of
from msingi.kit.live.topics import NoSuchTopic, check_may_follow

BEAT = 15.0  # seconds between two signs of life
RETRY = 2000  # milliseconds that a browser waits before it comes back
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
AnyRequest = Request[Any, Any, Any]


def sse_handler(product: str) -> HTTPRouteHandler:
    """The route `/v1/<product>/live?topic=…&topic=…`.

    Each message is an event of the default type: `{"id", "topic", "kind", "data"}`. `resync` means: messages may be
    missing, read the state again. `gone` means: you may not see this topic any more. A reader that comes back with
    `Last-Event-ID` (or `?after=`) gets what it missed.
    """

    async def follow_live(request: AnyRequest) -> Stream:
        """What happens in each `?topic=`, as Server-Sent Events; `Last-Event-ID` brings what was missed."""
        actor = request.scope.get("user")
        if not isinstance(actor, Actor):
            raise SignInFirst
        topics = set(request.query_params.getall("topic", []))
        looks = state.part(Hub).looks
        await _check(product, topics, actor)
        after = request.headers.get("last-event-id") or request.query_params.get("after") or None
        if after:
            position_of(after)
        if drain.draining():
            raise Busy(retry_after=1)
        state.part(Hub).check_room(actor)
        return Stream(_flow(Reader(actor), topics, after, looks), media_type="text/event-stream", headers=HEADERS)

    return HTTPRouteHandler(
        f"/v1/{product}/live", http_method=HttpMethod.GET, name=f"live {product}", tags=[product], product=product
    )(follow_live)


async def _check(product: str, topics: set[str], actor: Actor) -> None:
    if not 1 <= len(topics) <= TOPICS_EACH:
        raise TooManyTopics(most=TOPICS_EACH)
    for topic in topics:
        if topic.split("/")[0] != product:
            raise NoSuchTopic(topic=topic[:200])
        await check_may_follow(topic, actor)


class Reader(Listener):
    """One stream of events. What its reader does not take in time is not kept."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor)
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.ended = False

    async def send(self, message: Message) -> None:
        self._say(message.event)

    async def resync(self, id: str) -> None:
        self._say(b"id: %s\nevent: resync\ndata: {}\n\n" % id.encode())

    async def lose(self, topic: str) -> None:
        self._say(b"event: gone\ndata: %s\n\n" % msgspec.json.encode({"topic": topic}))

    async def close(self) -> None:
        self.lines.put_nowait(None)
        self.ended = True

    def _say(self, line: bytes) -> None:
        if self.ended:
            return
        if self.lines.qsize() < BACKLOG:
            self.lines.put_nowait(line)
        else:
            self._give_up()

    def _give_up(self) -> None:
        """The reader is too slow: forget what waits, tell it to read anew, and end."""
        self.ended = True
        while not self.lines.empty():
            self.lines.get_nowait()
        here = state.part(Hub)
        here.leave(self)
        self.lines.put_nowait(b"id: %s\nevent: resync\ndata: {}\n\n" % here.position.encode())
        self.lines.put_nowait(None)


async def _flow(reader: Reader, topics: set[str], after: str | None, looks: int) -> AsyncIterator[bytes]:
    here = state.part(Hub)
    here.enter(reader)
    try:
        reached = await here.follow(reader, topics, after, looks)
        # The id without data tells a browser where it stands before the first message.
        yield b"retry: %d\n\n" % RETRY if after else b"retry: %d\nid: %s\n\n" % (RETRY, reached.encode())
        while True:
            try:
                line = await asyncio.wait_for(reader.lines.get(), BEAT)
            except TimeoutError:
                line = b": beat\n\n"
            if line is None:
                return
            yield line
    finally:
        here.leave(reader)
