"""A kit without products: just a process that holds its connections."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from msingi.kit import state
from msingi.kit.testing import test_settings
from msingi.kit.tests.own_redis import OwnRedis


@pytest_asyncio.fixture(loop_scope="session")
async def running() -> AsyncIterator[state.State]:
    """Open connections, an empty Redis, and at the end no database left behind."""
    async with state.running(test_settings()) as opened:
        await opened.redis.flushdb()
        yield opened
        for name in await opened.mongo.list_database_names():
            if name.startswith(f"{opened.settings.database}_"):
                await opened.mongo.drop_database(name)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis of the test's own."""
    redis = OwnRedis(tmp_path)
    redis.start()
    yield redis
    redis.kill()
