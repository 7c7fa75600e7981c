"""Which days a report is about, and in steps of what."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import get_args

from msgspec import Struct

from msingi.products.shop.rules.reports import FIRST, LONGEST, Step

MOST_STEPS = 100  # more bars nobody can tell apart
DAYS_IN: Mapping[Step, int] = {"day": 1, "week": 7, "month": 28}


class Span(Struct, frozen=True):
    """From a day to another, which is included."""

    since: date
    until: date
    step: Step

    @property
    def days(self) -> int:
        return (self.until - self.since).days + 1

    @property
    def before(self) -> "Span":
        """The same length of time right before."""
        return Span(self.since - timedelta(days=self.days), self.since - timedelta(days=1), self.step)


PRESETS: dict[str, str] = {
    "7-days": "7 days",
    "30-days": "30 days",
    "13-weeks": "13 weeks",
    "12-months": "12 months",
}
USUAL = "30-days"


def preset(name: str, today: date) -> Span:
    """One of PRESETS, as of today; whole weeks and months, save for the one that has not ended."""
    if name == "7-days":
        return Span(today - timedelta(days=6), today, "day")
    if name == "13-weeks":
        return Span(today - timedelta(days=today.weekday() + 12 * 7), today, "week")
    if name == "12-months":
        return Span(_months_before(today, 11), today, "month")
    return Span(today - timedelta(days=29), today, "day")


def _months_before(day: date, months: int) -> date:
    """The first of the month so many months before."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, 1)


def own(since: str, until: str, today: date) -> Span | None:
    """The days that somebody typed, the other way round if need be, none of the future and no more than LONGEST."""
    days = [_day(since), _day(until)]
    if days[0] is None or days[1] is None:
        return None
    first, last = sorted(min(each, today) for each in days if each)
    first = max(first, last - timedelta(days=LONGEST - 1))
    return Span(first, last, finest((last - first).days + 1))


def _day(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if found >= FIRST else None


def finest(days: int, asked: str = "day") -> Step:
    """The step that was asked for, or the next longer one of which there are no more than MOST_STEPS."""
    steps: tuple[Step, ...] = get_args(Step)
    wanted = steps.index(asked) if asked in steps else 0
    return next((each for each in steps[wanted:] if days <= MOST_STEPS * DAYS_IN[each]), "month")
