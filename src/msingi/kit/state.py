"""What a running process holds: its settings and its connections, opened once and closed in order."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import redis.asyncio as aioredis
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from msingi.kit.config import Settings
from msingi.kit.patience import patient_pool

Row = dict[str, Any]
T = TypeVar("T")


@dataclass
class State:
    """One process's possessions. `parts` holds what other modules of the kit keep here, by their type."""

    settings: Settings
    mongo: AsyncMongoClient[Row]
    redis: "aioredis.Redis"
    products: Sequence[Any] = ()
    parts: dict[type, Any] = field(default_factory=dict)
    redis_run: str = ""  # which start of which Redis server the newest connection reached


_current: State | None = None


def current() -> State:
    """The process's state. Raises RuntimeError before `running` has opened it."""
    if _current is None:
        raise RuntimeError("nothing is running: enter `async with state.running(settings):` first")
    return _current


def is_running() -> bool:
    """Whether there is a state: rules and what they ask may be used without one."""
    return _current is not None


def settings() -> Settings:
    """The house's settings."""
    return current().settings


def mongo() -> AsyncMongoClient[Row]:
    """The MongoDB client, for sessions and change streams; documents go through kit.db."""
    return current().mongo


def redis() -> "aioredis.Redis":
    """The Redis client for quick commands (it gives up after 250 ms). Blocking ones want `slow_redis`."""
    return current().redis


def slow_redis() -> "aioredis.Redis":
    """A new client without a deadline, for blocking commands; whoever asks for it closes it."""
    return aioredis.Redis.from_url(settings().redis_url, socket_connect_timeout=2, health_check_interval=15)


def database(product: str) -> AsyncDatabase[Row]:
    """The one database of a product: `msingi_tasks`. Nobody else reads or writes there."""
    return mongo()[database_name(product)]


def database_name(product: str) -> str:
    """The name of a product's database."""
    return f"{settings().database}_{product}"


def part(kind: type[T], make: Callable[[], T] | None = None) -> T:
    """This process's one object of a kind, made at the first asking. At the end its `aclose`, if any, is called."""
    parts = current().parts
    if kind not in parts:
        parts[kind] = (make or kind)()
    found: T = parts[kind]
    return found


@asynccontextmanager
async def running(
    settings: Settings, products: Sequence[Any] = (), parts: Mapping[type, Any] | None = None
) -> AsyncIterator[State]:
    """Open what a process needs and close it at the end. Connects lazily: a database that is down is met later.

    `parts` are objects to hold from the start, such as the products' own settings.
    """
    global _current
    mongo: AsyncMongoClient[Row] = AsyncMongoClient(
        settings.mongo_url,
        appname="msingi",
        tz_aware=True,
        maxPoolSize=32,
        serverSelectionTimeoutMS=3000,
        connectTimeoutMS=3000,
        retryWrites=True,
        w="majority",
    )

    async def greet(connection: Any) -> None:
        # After a restart or a failover of Redis some writes may be lost: kit.cache trusts nothing from before.
        opened.redis_run = await _greet(connection)

    # Quick to give up: a Redis that hangs may cost a request a quarter of a second, not its answer. What this process
    # itself is late by does not count: in a burst Redis would be given up that has answered long ago.
    pool = patient_pool(
        settings.redis_url,
        deadline=0.25,
        max_connections=32,
        timeout=2,
        to_connect=1,  # a surge of new connections is no sign of a dead Redis
        redis_connect_func=greet,
    )
    redis = aioredis.Redis(connection_pool=pool)
    opened = State(settings, mongo, redis, products, dict(parts or {}))
    before, _current = _current, opened
    try:
        yield opened
    finally:
        for part in [*opened.parts.values()]:
            if hasattr(part, "aclose"):
                await part.aclose()
        _current = before
        await redis.aclose()
        await pool.aclose()
        await mongo.close()


async def _greet(connection: Any) -> str:
    """Say hello on a new connection; returns which run of Redis it reached."""
    await connection.on_connect()
    await connection.send_command("INFO", "server", check_health=False)
    told = re.search(rb"run_id:(\w+)", await connection.read_response(disable_decoding=True))
    return told[1].decode() if told else "unknown"
