"""A small application for test_live.py: boards that can be followed, and tokens that say plainly who asks."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from msingi.kit import config, drain, live, replies, state
from msingi.kit.actors import Actor
from msingi.kit.errors import NotFound
from msingi.kit.live import Key, Topic
from msingi.kit.product import Product
from msingi.kit.tests.waiting import beside


async def board_for(id: str, actor: Actor) -> None:
    """Boards that Redis lists as hidden do not exist for anybody; who asks leaves the number of the process behind."""
    await state.redis().sadd("processes", os.getpid())  # type: ignore[misc]
    if await state.redis().sismember("hidden", id):  # type: ignore[misc]
        raise NotFound


async def opens(id: str, key: str) -> None:
    """A board that is not locked has one key."""
    if key != f"key of {id}" or await state.redis().sismember("locked", id):  # type: ignore[misc]
        raise NotFound


async def identify(token: str) -> Actor | None:
    """`ann` is Ann, `ann:2` is Ann for two seconds from now, and whoever begins with a dash is nobody."""
    name, _, seconds = token.partition(":")
    if not name or name.startswith("-"):
        return None
    return Actor(id=name, session=f"s-{name}", expires_at=int(time.time() + int(seconds)) if seconds else 0)


class Door(ASGIMiddleware):
    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        token = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        scope["user"] = await identify(token)
        await next_app(scope, receive, send)


topics = [
    Topic("boards/{id}", see=board_for, key=Key("X-Board-Key", opens)),
    Topic("walls/{id}", see=board_for),
]
products = [Product(name="boards", title="Boards", summary="What is to be seen.", topics=topics)]


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    async with state.running(config.load(config.Settings, os.environ), products):
        drain.install()
        async with beside(live.run_tailer):
            yield


def serve() -> Any:
    """What Granian serves."""
    inner = Litestar(
        [live.sse_handler("boards", topics)],
        middleware=[Door()],
        exception_handlers=replies.HANDLERS,
        lifespan=[lifespan],
        openapi_config=None,
    )
    return live.SocketServer(identify, inner)
