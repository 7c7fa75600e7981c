"""When a task comes again: a rule of RFC 5545, walked on the clock on the wall of a time zone.

The walk is our own because python-dateutil's does not end: asked for a 31st of February it looks at every day until
the year 9999, for seconds, at the wish of any caller. This one gives up after MOST_STEPS; the tests hold it against
the other.
"""

import re
from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from msgspec import Struct
from msgspec.structs import replace

from msingi.kit.errors import Invalid

MOST_STEPS = 20_000  # days (or hours, in an hourly rule) that are looked at before a rule counts as ended: 54 years
LAST_YEAR = 9990
FREQUENCIES = ("HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
# What RFC 5545 (3.3.10) says must not stand beside a frequency.
MISFITS = {
    "HOURLY": {"BYWEEKNO"},
    "DAILY": {"BYWEEKNO", "BYYEARDAY"},
    "WEEKLY": {"BYWEEKNO", "BYYEARDAY", "BYMONTHDAY"},
    "MONTHLY": {"BYWEEKNO", "BYYEARDAY"},
    "YEARLY": set(),
}
RANGES = {  # the smallest and the largest number, and whether it may be counted from the end
    "BYSECOND": (0, 59, False),
    "BYMINUTE": (0, 59, False),
    "BYHOUR": (0, 23, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYMONTH": (1, 12, False),
    "BYSETPOS": (1, 366, True),
}
KNOWN = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *RANGES}
Numbers = tuple[int, ...]


class BadRule(Invalid):
    """This is no rule that a task can come again by: {reason}."""


class UnknownZone(Invalid):
    """There is no time zone of that name; one is called Africa/Nairobi."""


class Rule(Struct, frozen=True):
    """An RRULE, read. An empty list of numbers means that the rule does not say."""

    freq: str
    interval: int = 1
    count: int | None = None
    until: str = ""
    week_start: int = 0
    months: Numbers = ()
    weeks: Numbers = ()
    year_days: Numbers = ()
    month_days: Numbers = ()
    weekdays: tuple[tuple[int, int], ...] = ()  # which one in the month or year (0: each), and its number from Monday
    hours: Numbers = ()
    minutes: Numbers = ()
    seconds: Numbers = ()
    positions: Numbers = ()


# ---- what comes next


def next_after(
    rule: Rule, zone: str, *, start: datetime, after: datetime, without: Iterable[datetime] = ()
) -> datetime | None:
    """The first occurrence later than `after` of a rule that began at `start`; None if it has ended.

    `without` are occurrences that are left out. COUNT is the caller's to count: a chain of tasks knows its place in it.
    """
    there = ZoneInfo(zone)
    left_out = set(without)
    wall, around = (at.astimezone(there).replace(tzinfo=None) for at in (start, after))
    for occurrence in _walk(_settled(rule, wall), wall, around):
        instant = occurrence.replace(tzinfo=there).astimezone(UTC)
        if rule.until and _is_over(rule.until, instant, occurrence):
            return None
        if instant > after and instant not in left_out:
            return instant
    return None


def _is_over(until: str, instant: datetime, wall: datetime) -> bool:
    """Whether this is later than UNTIL, which is a day, a time on the wall, or (with a Z) an instant."""
    if len(until) == 8:
        return wall.strftime("%Y%m%d") > until
    limit = datetime.strptime(until.rstrip("Z"), "%Y%m%dT%H%M%S")  # noqa: DTZ007  (its zone is said by the Z)
    return instant > limit.replace(tzinfo=UTC) if until.endswith("Z") else wall > limit


def _settled(rule: Rule, start: datetime) -> Rule:
    """The rule with all that it leaves to its start: a weekly one comes on the weekday of the first, and so on."""
    said = rule.weeks or rule.year_days or rule.month_days or rule.weekdays
    implied: dict[str, Any] = {}
    if not said and rule.freq == "YEARLY":
        implied = {"months": rule.months or (start.month,), "month_days": (start.day,)}
    elif not said and rule.freq == "MONTHLY":
        implied = {"month_days": (start.day,)}
    elif not said and rule.freq == "WEEKLY":
        implied = {"weekdays": ((0, start.weekday()),)}
    if rule.freq != "HOURLY":
        implied["hours"] = rule.hours or (start.hour,)
    minutes, seconds = rule.minutes or (start.minute,), rule.seconds or (start.second,)
    return replace(rule, minutes=minutes, seconds=seconds, **implied)


def _walk(rule: Rule, start: datetime, around: datetime) -> Iterator[datetime]:
    """The occurrences in order, from a period before `around` on."""
    periods = _hours(rule, start, around) if rule.freq == "HOURLY" else _days(rule, start, around)
    for occurrences in periods:
        for occurrence in _picked(occurrences, rule.positions):
            at = occurrence.replace(microsecond=start.microsecond)
            if at >= start:
                yield at


def _picked(occurrences: list[datetime], positions: Numbers) -> list[datetime]:
    if not positions or not occurrences:
        return occurrences
    places = (place - 1 if place > 0 else len(occurrences) + place for place in positions)
    return [occurrences[place] for place in sorted(set(places)) if 0 <= place < len(occurrences)]


def _days(rule: Rule, start: datetime, around: datetime) -> Iterator[list[datetime]]:
    """What each day, week, month or year holds."""
    times = [time(*each) for each in product(sorted(rule.hours), sorted(rule.minutes), sorted(rule.seconds))]
    steps = 0
    for first, days in _spans(rule, start.date(), around.date()):
        if steps > MOST_STEPS or first.year > LAST_YEAR:
            return
        steps += days
        every = (first + timedelta(days=number) for number in range(days))
        yield [datetime.combine(day, at) for day in every if _fits(rule, day) for at in times]


def _spans(rule: Rule, start: date, around: date) -> Iterator[tuple[date, int]]:
    """The periods of a rule, each as its first day and its length, from one before `around` on."""
    step = rule.interval
    if rule.freq in ("DAILY", "WEEKLY"):
        length = 7 if rule.freq == "WEEKLY" else 1
        first = start - timedelta(days=(start.weekday() - rule.week_start) % 7 if length == 7 else 0)
        skipped = max(0, (around - first).days // (length * step) - 1)
        for number in range(skipped, skipped + MOST_STEPS):
            days = number * step * length
            if first.toordinal() + days >= date(LAST_YEAR, 12, 1).toordinal():
                return
            yield first + timedelta(days=days), length
    elif rule.freq == "MONTHLY":
        begun = start.year * 12 + start.month - 1
        skipped = max(0, (around.year * 12 + around.month - 1 - begun) // step - 1)
        for number in range(begun + skipped * step, LAST_YEAR * 12, step):
            yield date(number // 12, number % 12 + 1, 1), monthrange(number // 12, number % 12 + 1)[1]
    else:
        skipped = max(0, (around.year - start.year) // step - 1)
        for year in range(start.year + skipped * step, LAST_YEAR, step):
            yield date(year, 1, 1), _length_of_year(year)


def _hours(rule: Rule, start: datetime, around: datetime) -> Iterator[list[datetime]]:
    """What each hour of an hourly rule holds. Days that do not fit are passed over in one step."""
    hour = start.replace(minute=0, second=0, microsecond=0)
    step = timedelta(hours=rule.interval)
    hour += max(0, (around - hour) // step - 1) * step
    for _ in range(MOST_STEPS):
        if hour.year > LAST_YEAR:
            return
        if not _fits(rule, hour.date()):
            tomorrow = datetime.combine(hour.date() + timedelta(days=1), time())
            hour += -((hour - tomorrow) // step) * step
            continue
        if not rule.hours or hour.hour in rule.hours:
            yield [hour.replace(minute=each, second=more) for each in rule.minutes for more in rule.seconds]
        hour += step


def _fits(rule: Rule, day: date) -> bool:
    """Whether a day is one of the rule's."""
    if rule.months and day.month not in rule.months:
        return False
    if rule.month_days and not _counted(day.day, monthrange(day.year, day.month)[1], rule.month_days):
        return False
    if rule.year_days and not _counted(day.timetuple().tm_yday, _length_of_year(day.year), rule.year_days):
        return False
    if rule.weeks and not _counted(*_week(day, rule.week_start), rule.weeks):
        return False
    return not rule.weekdays or any(_is_weekday(rule, day, *each) for each in rule.weekdays)


def _counted(place: int, length: int, wanted: Numbers) -> bool:
    """Whether the place, counted from the start or (below zero) from the end, is among the wanted."""
    return place in wanted or place - length - 1 in wanted


def _week(day: date, week_start: int) -> tuple[int, int]:
    """The number of a day's week, and how many weeks that year has: a week is its fourth day's year's."""
    fourth = day + timedelta(days=3 - (day.weekday() - week_start) % 7)
    length = _length_of_year(fourth.year)
    last = length - (date(fourth.year, 12, 31).weekday() - week_start) % 7 + 3
    weeks = (last if last <= length else last - 7) + 6
    return (fourth.timetuple().tm_yday + 6) // 7, weeks // 7


def _is_weekday(rule: Rule, day: date, which: int, weekday: int) -> bool:
    if day.weekday() != weekday:
        return False
    if not which:
        return True
    if rule.freq == "MONTHLY" or rule.months:
        place, length = day.day, monthrange(day.year, day.month)[1]
    else:
        place, length = day.timetuple().tm_yday, _length_of_year(day.year)
    return which == (place + 6) // 7 if which > 0 else -which == (length - place) // 7 + 1


def _length_of_year(year: int) -> int:
    return 337 + monthrange(year, 2)[1]


# ---- reading a rule


@lru_cache(maxsize=1024)
def read_rule(text: str) -> Rule:
    """The rule that a text says. Raises BadRule, also for one that comes more often than once an hour."""
    parts = _parts(text)
    freq = parts.get("FREQ", "")
    if freq not in FREQUENCIES:
        raise BadRule(reason=f"FREQ is one of {', '.join(FREQUENCIES)}")
    misfit = sorted(MISFITS[freq] & set(parts))
    if misfit:
        raise BadRule(reason=f"{misfit[0]} does not go with FREQ={freq}")
    numbers = {name: _numbers(name, parts[name]) if name in parts else () for name in RANGES}
    if len(numbers["BYMINUTE"]) > 1 or len(numbers["BYSECOND"]) > 1:
        raise BadRule(reason="it comes more often than once an hour")
    if numbers["BYSETPOS"] and not any(name.startswith("BY") and name != "BYSETPOS" for name in parts):
        raise BadRule(reason="BYSETPOS needs another BY… beside it")
    if "COUNT" in parts and "UNTIL" in parts:
        raise BadRule(reason="it ends by COUNT or by UNTIL, not by both")
    return Rule(
        freq=freq,
        interval=_number("INTERVAL", parts.get("INTERVAL", "1"), 10_000),
        count=_number("COUNT", parts["COUNT"], 100_000) if "COUNT" in parts else None,
        until=_until(parts.get("UNTIL", "")),
        week_start=_week_start(parts.get("WKST", "MO")),
        weekdays=_weekdays(parts["BYDAY"], freq, parts) if "BYDAY" in parts else (),
        months=numbers["BYMONTH"],
        weeks=numbers["BYWEEKNO"],
        year_days=numbers["BYYEARDAY"],
        month_days=numbers["BYMONTHDAY"],
        hours=numbers["BYHOUR"],
        minutes=numbers["BYMINUTE"],
        seconds=numbers["BYSECOND"],
        positions=numbers["BYSETPOS"],
    )


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in text.upper().split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value or name not in KNOWN:
            raise BadRule(reason=f"it has parts like FREQ=WEEKLY, named {', '.join(sorted(KNOWN))}")
        if name in parts:
            raise BadRule(reason=f"{name} stands there twice")
        parts[name] = value
    return parts


def _number(name: str, text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        raise BadRule(reason=f"{name} is a number from 1 to {most}")
    return int(text)


def _numbers(name: str, text: str) -> Numbers:
    low, high, backwards = RANGES[name]
    found = set()
    for each in text.split(","):
        if not re.fullmatch(r"[+-]?[0-9]{1,3}", each):
            raise BadRule(reason=f"{name} is a list of numbers")
        number = int(each)
        if not low <= (abs(number) if backwards else number) <= high:
            raise BadRule(reason=f"{name} goes from {low} to {high}{', also below zero' if backwards else ''}")
        found.add(number)
    return tuple(sorted(found))


def _weekdays(text: str, freq: str, parts: dict[str, str]) -> tuple[tuple[int, int], ...]:
    found = set()
    for each in text.split(","):
        read = re.fullmatch(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)", each)
        if not read or (read[1] and not 1 <= abs(int(read[1])) <= 53):
            raise BadRule(reason="BYDAY is a list such as MO,WE or -1FR")
        if read[1] and (freq not in ("MONTHLY", "YEARLY") or "BYWEEKNO" in parts):
            raise BadRule(reason="a counted weekday goes with a month or a year only")
        found.add((int(read[1] or 0), WEEKDAYS.index(read[2])))
    return tuple(sorted(found))


def _week_start(text: str) -> int:
    if text not in WEEKDAYS:
        raise BadRule(reason="WKST is one of MO, TU, WE, TH, FR, SA, SU")
    return WEEKDAYS.index(text)


def _until(text: str) -> str:
    """UNTIL as it is compared: only digits that are a day, or a day and a time."""
    if not text:
        return ""
    shape: Sequence[str] = ("%Y%m%d",) if re.fullmatch(r"[0-9]{8}", text) else ("%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ")
    for each in shape:
        try:
            datetime.strptime(text, each)  # noqa: DTZ007  (only whether it can be read)
        except ValueError:
            continue
        if re.fullmatch(r"[0-9]{8}(T[0-9]{6}Z?)?", text):
            return text
    raise BadRule(reason="UNTIL looks like 20261231 or 20261231T235959Z")


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def check_zone(name: str) -> None:
    """Raise UnknownZone unless this is the name of a time zone."""
    if name not in _zones():
        raise UnknownZone
