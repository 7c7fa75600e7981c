"""What an answer alone does not tell: when a job is done, and when those who follow a topic have heard of a change."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench.stacks.faces import Request
from bench.stacks.world import CONNECTIONS_EACH, LIVE, World

PATIENCE = 60.0  # seconds
TOPIC = f"tasks/projects/{LIVE}"
AT_ONCE = 50  # sockets that are opened at the same time
SOCKETS = "/socket.io/?EIO=4&transport=websocket"


# ---- jobs


async def wait_done(client: aiohttp.ClientSession, request: Request, answer: bytes, every: float = 0.005) -> float:
    """Ask until the reminder that `answer` is about was sent; returns `time.perf_counter()` then.

    Looks every so many seconds, so what comes of it is at most that much too late. Raises TimeoutError.
    """
    id, headers = json.loads(answer)["id"], {"authorization": request.headers["authorization"]}
    async with asyncio.timeout(PATIENCE):
        while True:
            async with client.get(f"{request.path}?limit=100", headers=headers) as reply:
                items = (await reply.json())["items"]
            if any(each["id"] == id and each["sent_at"] for each in items):
                return time.perf_counter()
            await asyncio.sleep(every)


# ---- sockets


@dataclass
class Followers:
    """Those who follow the live project. `heard` holds, by task and version, when each of them heard of it."""

    count: int
    heard: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    _whole: dict[tuple[str, int], asyncio.Event] = field(default_factory=dict)

    async def all_heard(self, task: str, version: int) -> list[float]:
        """When each heard of this version of a task, as `time.perf_counter()`. Raises TimeoutError."""
        key = task, version
        if len(self.heard.get(key, ())) < self.count:
            async with asyncio.timeout(PATIENCE):
                await self._whole.setdefault(key, asyncio.Event()).wait()
        return self.heard.pop(key)

    def hear(self, message: Any) -> None:
        """Note what one of them was told."""
        if message["kind"] != "task_changed":
            return
        key = message["data"]["task_id"], message["data"]["version"]
        times = self.heard.setdefault(key, [])
        times.append(time.perf_counter())
        if len(times) == self.count and key in self._whole:
            self._whole.pop(key).set()


@asynccontextmanager
async def following(world: World, count: int) -> AsyncIterator[Followers]:
    """So many Socket.IO connections (websocket only) that follow the live project; CONNECTIONS_EACH of one person.

    The world needs people enough: `plant(running, size, followers=…)`.
    """
    followers, gate = Followers(count), asyncio.Semaphore(AT_ONCE)
    people = world.followers
    if count > len(people) * CONNECTIONS_EACH:
        raise ValueError(f"{count} sockets need {-(-count // CONNECTIONS_EACH)} people, and there are {len(people)}")
    tokens = [world.token(each) for each in people[: -(-count // CONNECTIONS_EACH)]]
    tasks: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as stack:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        client = await stack.enter_async_context(session)
        url = world.running.url.replace("http", "ws", 1) + SOCKETS

        async def opened(number: int) -> aiohttp.ClientWebSocketResponse:
            async with gate, asyncio.timeout(PATIENCE):
                return await _followed(client, url, tokens[number % len(tokens)])

        sockets: Sequence[aiohttp.ClientWebSocketResponse] = await asyncio.gather(*map(opened, range(count)))
        try:
            tasks = [asyncio.create_task(_listen(socket, followers)) for socket in sockets]
            yield followers
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(socket.close() for socket in sockets), return_exceptions=True)


async def _followed(client: aiohttp.ClientSession, url: str, token: str) -> aiohttp.ClientWebSocketResponse:
    """Open, greet, subscribe: `0{…}` from the server, `40{auth}` and its echo, `420[…]` and its answer `430[…]`."""
    socket = await client.ws_connect(url, compress=0, max_msg_size=0)
    await socket.receive_str()
    await socket.send_str("40" + json.dumps({"token": token}))
    greeted = await socket.receive_str()
    if not greeted.startswith("40"):
        raise RuntimeError(f"the server did not greet: {greeted}")
    await socket.send_str("420" + json.dumps(["subscribe", {"topic": TOPIC}]))
    while not (answer := await socket.receive_str()).startswith("430"):
        pass
    if not json.loads(answer[3:])[0].get("ok"):
        raise RuntimeError(f"the server did not let it follow: {answer}")
    return socket


async def _listen(socket: aiohttp.ClientWebSocketResponse, followers: Followers) -> None:
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            break
        text = message.data
        if text == "2":
            await socket.send_str("3")
        elif text.startswith("42"):
            name, said = json.loads(text[2:])
            if name == "message":
                followers.hear(said)
