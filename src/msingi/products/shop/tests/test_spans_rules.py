"""Which days a report is about."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msingi.products.shop.rules.reports import LONGEST
from msingi.products.shop.rules.spans import MOST_STEPS, PRESETS, Span, finest, own, preset

TODAY = date(2026, 11, 21)  # a Saturday
DAYS = st.dates(date(2010, 1, 1), date(2100, 1, 1))


@pytest.mark.parametrize(
    ("name", "since", "step"),
    [
        ("7-days", date(2026, 11, 15), "day"),
        ("30-days", date(2026, 10, 23), "day"),
        ("13-weeks", date(2026, 8, 24), "week"),
        ("12-months", date(2025, 12, 1), "month"),
        ("nonsense", date(2026, 10, 23), "day"),
    ],
)
def test_a_preset_ends_today_and_begins_where_its_first_step_does(name: str, since: date, step: str) -> None:
    assert preset(name, TODAY) == Span(since, TODAY, step)  # type: ignore[arg-type]


@given(DAYS, st.sampled_from(list(PRESETS)))
def test_a_preset_never_has_too_many_steps_and_meets_what_was_before(today: date, name: str) -> None:
    span = preset(name, today)
    assert finest(span.days, span.step) == span.step
    assert span.before.days == span.days
    assert span.before.until + timedelta(days=1) == span.since


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        ("2026-11-01", "2026-11-05", (date(2026, 11, 1), date(2026, 11, 5))),
        ("2026-11-05", "2026-11-01", (date(2026, 11, 1), date(2026, 11, 5))),
        ("2026-11-01", "2031-11-05", (date(2026, 11, 1), TODAY)),
        ("2027-11-01", "2031-11-05", (TODAY, TODAY)),
        ("2001-01-01", "2026-11-21", (TODAY - timedelta(days=LONGEST - 1), TODAY)),
    ],
)
def test_days_that_somebody_typed_are_made_sense_of(since: str, until: str, found: tuple[date, date]) -> None:
    span = own(since, until, TODAY)
    assert span
    assert (span.since, span.until) == found


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0001-01-01", "2026-11-01T00:00"])
def test_what_is_no_day_is_no_span(text: str) -> None:
    assert own(text, "2026-11-01", TODAY) is None
    assert own("2026-11-01", text, TODAY) is None


def test_a_step_is_what_was_asked_for_or_the_next_that_can_be_told_apart() -> None:
    assert [finest(MOST_STEPS), finest(MOST_STEPS + 1), finest(7 * MOST_STEPS + 1)] == ["day", "week", "month"]
    assert [finest(30, "week"), finest(30, "month"), finest(30, "hour")] == ["week", "month", "day"]
    assert finest(LONGEST, "week") == "month"
