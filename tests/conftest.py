"""A whole house for the tests of this folder, served by processes of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from tests.chromium import launched
from tests.serving import Served, own_databases, sandbox, serving


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """All products, two web processes and a worker; who is asked to pay by phone pays at once."""
    folder = tmp_path_factory.mktemp("served")
    with (
        sandbox(folder, {}, "--accept-after", "0") as phones,
        serving(folder, **own_databases(8), MSINGI_SHOP_SANDBOX_URL=phones) as house,
    ):
        yield house


@pytest.fixture(scope="session")
def served_house(served: Served) -> str:
    """The address of that house."""
    return served.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real one."""
    with launched() as running:
        yield running


@pytest.fixture(params=["accounts", "notes", "tasks", "shop"])
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """One product by itself, in one web process that never heard of another."""
    few: dict[str, Any] = {"products": [request.param], "parts": ["web"], "MSINGI_PROCESSES": "1", "fresh": True}
    with serving(tmp_path, **own_databases(16), **few) as house:
        yield house
