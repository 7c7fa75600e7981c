"""A whole house for the tests of this folder, served by processes of its own."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving import Served, serving


def own_databases(offset: int) -> dict[str, str]:
    """Of the run's servers: databases that no other test of this or another test process uses."""
    number = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) + offset
    redis = os.environ["MSINGI_TEST_REDIS"].rstrip("/").removesuffix("/0")
    return {
        "mongo_url": os.environ["MSINGI_TEST_MONGO"],
        "redis_url": f"{redis}/{number}",
        "MSINGI_DATABASE": f"h{number}",
    }


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """All products, two web processes and a worker."""
    with serving(tmp_path_factory.mktemp("served"), **own_databases(8)) as house:
        yield house


@pytest.fixture(scope="session")
def served_house(served: Served) -> str:
    """The address of that house."""
    return served.url


@pytest.fixture(params=["accounts", "notes", "tasks"])
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """One product by itself, in one web process."""
    with serving(tmp_path, **own_databases(16), products=[request.param], parts=["web"], MSINGI_PROCESSES="1") as house:
        yield house
