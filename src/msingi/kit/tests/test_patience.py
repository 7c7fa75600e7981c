"""Deadlines: who is silent is given up, and who answers a process that was too busy to read is not."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import redis.asyncio as aioredis
from redis.asyncio.connection import SSLConnection
from redis.exceptions import TimeoutError as Silent

from msingi.kit import state
from msingi.kit.patience import _Patient, patient_pool


@pytest_asyncio.fixture(loop_scope="session")
async def hours() -> AsyncIterator[asyncio.Event]:
    """Until it is set, this process stalls again and again for longer than the deadline."""
    over = asyncio.Event()

    async def stall() -> None:
        while not over.is_set():
            await asyncio.sleep(0.001)
            time.sleep(0.3)  # noqa: ASYNC251  (this is the stall)

    stalling = asyncio.create_task(stall())
    yield over
    over.set()
    await stalling


async def test_what_this_process_is_late_by_itself_is_no_silence_of_redis(
    running: state.State, hours: asyncio.Event
) -> None:
    pool = patient_pool(running.settings.redis_url, 0.25, max_connections=4)
    client = aioredis.Redis(connection_pool=pool)
    answers = await asyncio.gather(*(client.get("nothing") for _ in range(8)), return_exceptions=True)
    hours.set()
    await pool.aclose()
    assert answers == [None] * 8


async def test_who_never_answers_is_given_up() -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = patient_pool(f"redis://127.0.0.1:{port}/0", 0.05, max_connections=2)
    async with server:
        with pytest.raises(Silent):
            await aioredis.Redis(connection_pool=pool).get("nothing")
        await pool.aclose()


def test_a_connection_that_is_encrypted_has_the_same_deadline() -> None:
    pool = patient_pool("rediss://redis.example:6380/1", 0.25, max_connections=3)
    assert issubclass(pool.connection_class, _Patient)
    assert issubclass(pool.connection_class, SSLConnection)
    assert (pool.connection_class.deadline, pool.connection_kwargs["db"]) == (0.25, 1)
