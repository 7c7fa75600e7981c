"""The page of the last race: who may see it, and what stands there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from msingi.console import figures, routes
from msingi.console.figures import LeftOut, Row, Run, Taken
from msingi.kit import app as kit_app
from msingi.kit import tokens
from msingi.kit.testing import PEOPLE, lifespan, test_settings

PRODUCTION = {
    "MSINGI_ENV": "production",
    "MSINGI_DATABASE": "race-page",  # one that no other secret has sealed
    "MSINGI_SECRET": "a secret of forty-three different letters 0123456789",
    "MSINGI_PUBLIC_URL": "https://msingi.test",
}
RUN = Run(
    at=datetime(2026, 1, 2, tzinfo=UTC),
    machine="a machine, 2 cores",
    stacks={"msingi": "Msingi", "express": "Express <5>", "fastapi": "FastAPI"},
    versions={},
    options={},
    rows=[
        Row("hello", "read", "hello", "msingi", 1, [9000.0], [0.1], [0.0], 100.0, {"p50": 0.4, "p99": 2.0}),
        Row("hello", "read", "hello", "express", 1, [3000.0], [0.3], [0.0], 100.0, {"p50": 1.0, "p99": 40.0}),
    ],
    memory=[Taken("msingi", 1, 80.0, 100.0)],
    left_out=[LeftOut("fastapi", 0, "cannot be installed")],
    noise=["the host took 9% of the time"],
)


@asynccontextmanager
async def at_the_door(**changes: Any) -> AsyncIterator[tuple[httpx.AsyncClient, tokens.SigningKey]]:
    """A house without products, somebody at its door, and the key whose tokens it believes."""
    app = kit_app.build(test_settings(**changes), [], pages=routes.routes)
    base = changes.get("MSINGI_PUBLIC_URL", "http://msingi.test")
    async with (
        lifespan(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client,
    ):
        key = tokens.SigningKey.generate()
        tokens.ring().add(key.public)
        yield client, key


@pytest.fixture
def last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the last race is looked for."""
    path = tmp_path / "last.json"
    monkeypatch.setattr(figures.read, "__defaults__", (path,))
    return path


async def test_the_page_shows_what_the_file_says_and_whom_it_leaves_out(last: Path) -> None:
    async with at_the_door() as (client, _):
        assert "No race has been run here" in (await client.get("/bench")).text
        last.write_bytes(msgspec.json.encode(RUN))
        page = (await client.get("/bench")).text
    assert "9,000" in page
    assert '<td class="number">3.0</td>' in page  # three times Express
    assert "Express &lt;5&gt;" in page
    assert "Left out:" in page
    assert "FastAPI (0): cannot be installed" in page
    assert "too noisy to decide: the host took 9% of the time" in page
    assert page.count("<svg") == 4  # each of two charts, wide and narrow


async def test_in_production_the_page_is_for_whoever_may_read_the_metrics(last: Path) -> None:
    last.write_bytes(msgspec.json.encode(RUN))
    async with at_the_door(**PRODUCTION) as (client, key):
        stranger = await client.get("/bench", headers={"accept": "application/json"})
        assert "9,000" not in stranger.text
        assert stranger.status_code in (303, 401)
        seen = {}
        for name in ("ann", "admin"):
            headers = {"authorization": f"Bearer {tokens.token_for(PEOPLE[name], key)}"}
            reply = await client.get("/bench", headers=headers)
            seen[name] = (reply.status_code, "9,000" in reply.text)
    assert seen == {"ann": (403, False), "admin": (200, True)}
