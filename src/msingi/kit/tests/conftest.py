"""A kit without products: just a process that holds its connections."""

from collections.abc import AsyncIterator

import pytest_asyncio

from msingi.kit import state
from msingi.kit.testing import test_settings


@pytest_asyncio.fixture(loop_scope="session")
async def running() -> AsyncIterator[state.State]:
    """Open connections, an empty Redis, and at the end no database left behind."""
    async with state.running(test_settings()) as opened:
        await opened.redis.flushdb()
        yield opened
        for name in await opened.mongo.list_database_names():
            if name.startswith(f"{opened.settings.database}_"):
                await opened.mongo.drop_database(name)
