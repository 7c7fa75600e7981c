"""Topics as Server-Sent Events: one request follows up to a hundred of them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from litestar import Request
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from msingi.kit import drain, limits, state
from msingi.kit.actors import Actor
from msingi.kit.errors import Busy, Problem, SignInFirst
from msingi.kit.live.hub import BACKLOG, TOPICS_EACH, Hub, Listener, Message, TooManyTopics, position_of
from msingi.kit.live.topics import LONGEST, NoSuchTopic, Topic, check_may_follow, find

BEAT = 15.0  # seconds between two signs of life
RETRY = 2000  # milliseconds that a browser waits before it comes back
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
AnyRequest = Request[Any, Any, Any]


def sse_handler(product: str, topics: Sequence[Topic]) -> HTTPRouteHandler:
    """The route `/v1/<product>/live?topic=…&topic=…`.

    Each message is an event of the default type: `{"id", "topic", "kind", "data"}`. `resync` means: messages may be
    missing, read the state again. `gone` means: you may not see this topic any more. A reader that comes back with
    `Last-Event-ID` (or `?after=`) gets what it missed. Keys of topics come in their headers, never in the address,
    which is kept in logs and histories; a page that has to show one reads the stream with `fetch`.
    """

    async def follow_live(request: AnyRequest) -> Stream:
        """What happens in each `?topic=`, as Server-Sent Events; `Last-Event-ID` brings what was missed."""
        reader = _reader(request)
        wanted = set(request.query_params.getall("topic", []))
        looks = state.part(Hub).looks
        reader.keys = await _check(product, wanted, reader.actor, request)
        after = request.headers.get("last-event-id") or request.query_params.get("after") or None
        if after:
            position_of(after)
        if drain.draining():
            raise Busy(retry_after=1)
        state.part(Hub).check_room(reader)
        return Stream(_flow(reader, wanted, after, looks), media_type="text/event-stream", headers=HEADERS)

    return HTTPRouteHandler(
        f"/v1/{product}/live",
        http_method=HttpMethod.GET,
        name=f"live {product}",
        tags=[product],
        product=product,
        public=any(topic.key for topic in topics),
    )(follow_live)


def _reader(request: AnyRequest) -> "Reader":
    actor = request.scope.get("user")
    return Reader(actor if isinstance(actor, Actor) else None, limits.client_of(request.scope))


async def _check(product: str, topics: set[str], actor: Actor | None, request: AnyRequest) -> dict[str, str]:
    """The keys that were shown, by topic. Raises a Problem unless all of these topics may be followed."""
    if not 1 <= len(topics) <= TOPICS_EACH:
        raise SignInFirst if actor is None else TooManyTopics(most=TOPICS_EACH)
    keys = {topic: _key_of(product, topic, request.headers) for topic in topics}
    if actor is None and not all(keys.values()):
        raise SignInFirst
    for topic, key in keys.items():
        await check_may_follow(topic, actor, key)
    return keys


def _key_of(product: str, topic: str, headers: Mapping[str, str]) -> str:
    if topic.split("/")[0] != product:
        raise NoSuchTopic(topic=topic[:LONGEST])
    key = find(topic).topic.key
    return headers.get(key.header, "") if key else ""


class Reader(Listener):
    """One stream of events. What its reader does not take in time is not kept."""

    def __init__(self, actor: Actor | None, address: str = "") -> None:
        super().__init__(actor, address)
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.ended = False

    def send(self, message: Message) -> None:
        self._say(message.event)

    def resync(self, id: str) -> None:
        self._say(b"id: %s\nevent: resync\ndata: {}\n\n" % id.encode())

    def lose(self, topic: str) -> None:
        self._say(b"event: gone\ndata: %s\n\n" % msgspec.json.encode({"topic": topic}))

    def close(self) -> None:
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
    try:
        here.check_room(reader)  # once more: many may have been let through at the same moment
    except Problem:
        return
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
