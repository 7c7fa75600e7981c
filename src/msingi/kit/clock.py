"""One clock: every time in the house is UTC, in whole milliseconds, and comes from here."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from time import time

_shift = timedelta(0)
_second = (0, "1970-01-01T00:00:00")  # the last one that was put into words


def shift() -> timedelta:
    """By how much this process believes it is later than it is."""
    return _shift


def now() -> datetime:
    """The time in UTC, cut to milliseconds, since MongoDB keeps no more than that."""
    at = datetime.now(UTC) + _shift
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def stamp() -> str:
    """The same time as text, for the logs: `2026-01-31T08:00:00.000+00:00`."""
    global _second
    second, thousandths = divmod(int(seconds() * 1000), 1000)
    said = _second  # threads log too
    if second != said[0]:
        said = _second = (second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}")
    return f"{said[1]}.{thousandths:03}+00:00"


def seconds() -> float:
    """The same time in seconds since 1970, for comparisons that are made with each request."""
    return time() + _shift.total_seconds()


@contextmanager
def shifted(by: timedelta) -> Iterator[None]:
    """Let this process believe, for a while, that it is `by` later (or earlier, if negative)."""
    global _shift
    before, _shift = _shift, _shift + by
    try:
        yield
    finally:
        _shift = before
