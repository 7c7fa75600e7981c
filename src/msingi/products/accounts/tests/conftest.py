"""Time, for tests that count in steps of an authenticator app."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from msingi.kit import clock


@pytest.fixture
def mid_step() -> Iterator[None]:
    """Let it be the middle of a step of 30 seconds, so that none ends while a test goes on."""
    with clock.shifted(timedelta(seconds=(15 - clock.seconds()) % 30)):
        yield
