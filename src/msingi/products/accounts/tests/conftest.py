"""Passwords that cost nothing to hash, and time, for tests that count in steps of an authenticator app."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from msingi.kit import clock
from msingi.products.accounts import hashing

CHEAP = hashing.Costs(memory=64, passes=1)


@pytest.fixture
def mid_step() -> Iterator[None]:
    """Let it be the middle of a step of 30 seconds, so that none ends while a test goes on."""
    with clock.shifted(timedelta(seconds=(15 - clock.seconds()) % 30)):
        yield


@pytest.fixture
def true_costs() -> None:
    """For who asks for it, hashing a password costs what it does outside."""


@pytest.fixture(autouse=True)
def costs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For everybody else it costs a twentieth of a millisecond, not 14."""
    if "true_costs" not in request.fixturenames:
        monkeypatch.setattr(hashing, "costs", CHEAP)
