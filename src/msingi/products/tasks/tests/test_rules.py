"""Decisions, without a database: what comes next, where it stands, what goes round."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from msingi.kit.search import words_of
from msingi.products.tasks import rules
from msingi.products.tasks.graph import closes_a_circle, reached
from msingi.products.tasks.models import Member, Recurrence, Reminder, Role, Task
from msingi.products.tasks.ordering import between
from msingi.products.tasks.recurrence import (
    MISFITS,
    WEEKDAYS,
    BadRule,
    UnknownZone,
    check_zone,
    next_after,
    read_rule,
)

TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2032, 1, 1))  # noqa: DTZ001  (on a wall, anywhere)
ZONES = ["UTC", "Africa/Nairobi", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def following(rule: str, start: datetime, zone: str = "UTC", **more: datetime) -> datetime | None:
    return next_after(read_rule(rule), zone, start=start, after=more.get("after", start))


def task(**fields: object) -> Task:
    known = {"project_id": "farm", "title": "Buy hay", "created_by": "ann", "position": "a0"}
    return Task(**{**known, **fields})  # type: ignore[arg-type]


# ---- recurrence


@pytest.mark.parametrize(
    ("rule", "start", "then"),
    [
        ("FREQ=DAILY", "2026-02-02T08:00", "2026-02-03T08:00"),
        ("FREQ=HOURLY;INTERVAL=6", "2026-02-02T20:00", "2026-02-03T02:00"),
        ("FREQ=HOURLY;BYHOUR=8,20", "2026-02-02T08:30", "2026-02-02T20:30"),
        ("FREQ=WEEKLY;BYDAY=MO,TH", "2026-02-02T08:00", "2026-02-05T08:00"),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", "2026-02-02T08:00", "2026-02-16T08:00"),
        ("FREQ=MONTHLY", "2026-01-31T08:00", "2026-03-31T08:00"),
        ("FREQ=MONTHLY;BYMONTHDAY=-1", "2026-01-31T08:00", "2026-02-28T08:00"),
        ("FREQ=MONTHLY;BYDAY=-1FR", "2026-01-30T08:00", "2026-02-27T08:00"),
        ("FREQ=MONTHLY;BYDAY=MO,1TU", "2026-02-02T08:00", "2026-02-03T08:00"),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "2026-01-30T08:00", "2026-02-27T08:00"),
        ("FREQ=WEEKLY;BYDAY=MO,TH;BYSETPOS=1", "2026-02-05T08:00", "2026-02-09T08:00"),
        ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "2026-05-11T08:00", "2027-05-17T08:00"),
        ("FREQ=YEARLY;BYWEEKNO=-52;BYDAY=TU", "2024-01-02T08:00", "2024-12-31T08:00"),  # of 2025
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "2024-02-29T08:00", "2028-02-29T08:00"),
        ("FREQ=YEARLY;BYDAY=20MO", "2026-05-18T08:00", "2027-05-17T08:00"),
        ("freq=daily;byhour=6,18", "2026-02-02T06:00", "2026-02-02T18:00"),
    ],
)
def test_rules_of_the_rfc_come_when_they_say(rule: str, start: str, then: str) -> None:
    assert following(rule, at(start)) == at(then)


@pytest.mark.parametrize(
    ("until", "start", "then"),
    [
        ("20260203", "2026-02-02T23:00", "2026-02-03T23:00"),
        ("20260202", "2026-02-02T23:00", None),
        ("20260203T080000Z", "2026-02-02T08:00", "2026-02-03T08:00"),
        ("20260203T075959Z", "2026-02-02T08:00", None),
        ("20260203T080000", "2026-02-02T08:00", "2026-02-03T08:00"),
    ],
)
def test_until_is_the_last_time_that_counts(until: str, start: str, then: str | None) -> None:
    assert following(f"FREQ=DAILY;UNTIL={until}", at(start)) == (at(then) if then else None)


@st.composite
def rules_of_the_rfc(draw: st.DrawFn) -> str:
    freq = draw(st.sampled_from(["HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = {"FREQ": freq, "INTERVAL": str(draw(st.integers(1, 5)))}

    def some(name: str, numbers: st.SearchStrategy[int]) -> None:
        if name not in MISFITS[freq] and draw(st.integers(0, 3)) == 0:
            parts[name] = ",".join(map(str, draw(st.lists(numbers, min_size=1, max_size=3))))

    some("BYMONTH", st.integers(1, 12))
    some("BYMONTHDAY", st.integers(1, 31) | st.integers(-31, -1))
    some("BYYEARDAY", st.integers(1, 366) | st.integers(-366, -1))
    # The 52nd week from the end may be the first, of which days lie in the year before: dateutil overlooks those.
    some("BYWEEKNO", st.integers(1, 53) | st.integers(-50, -1))
    some("BYHOUR", st.integers(0, 23))
    days = draw(st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=3) | st.just([]))
    counted = freq in ("MONTHLY", "YEARLY") and "BYWEEKNO" not in parts and draw(st.booleans())
    if days:
        parts["BYDAY"] = ",".join(f"{draw(st.sampled_from([1, 2, -1])) if counted else ''}{day}" for day in days)
    # dateutil takes the rest of the first week for a whole one, and counts positions in that.
    if freq not in ("WEEKLY", "HOURLY") and len(parts) > 2 and draw(st.booleans()):
        parts["BYSETPOS"] = str(draw(st.sampled_from([1, 2, -1])))
    parts["WKST"] = draw(st.sampled_from(WEEKDAYS))
    return ";".join(f"{name}={value}" for name, value in parts.items())


@settings(max_examples=300, deadline=None)
@given(
    rule=rules_of_the_rfc(),
    start=TIMES,
    later=st.integers(0, 900),
)
def test_the_walk_agrees_with_dateutil(rule: str, start: datetime, later: int) -> None:
    begin = start.replace(microsecond=0, tzinfo=UTC)
    after = begin + timedelta(days=later)
    ours = following(rule, begin, after=after)
    assume(ours is not None)  # where ours gives up, dateutil would look until the year 9999
    try:
        assert rrulestr(rule, dtstart=begin).after(after) == ours
    except ValueError:
        assume(False)  # an hourly rule that dateutil calls empty


@settings(max_examples=150, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    start=TIMES,
    rule=st.sampled_from(
        ["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=SU,WE", "FREQ=MONTHLY;BYMONTHDAY=1,15", "FREQ=DAILY;INTERVAL=9"]
    ),
    steps=st.integers(1, 60),
)
def test_a_chain_keeps_its_time_on_the_wall_over_every_change_of_clocks(
    zone: str, start: datetime, rule: str, steps: int
) -> None:
    """Each is due later than the one before, at the same time on the wall, unless that time is skipped that day."""
    there = ZoneInfo(zone)
    first = start.replace(second=0, microsecond=0, tzinfo=there).astimezone(UTC)
    wall = first.astimezone(there)
    done = task(due=first, recurrence=Recurrence(rule=rule, time_zone=zone), chain="c", chain_start=first)
    for _ in range(steps):
        due = rules.next_due(done, first)
        assert due is not None
        assert done.due is not None
        assert due > done.due
        now_there = due.astimezone(there)
        skipped = now_there.replace(hour=wall.hour, minute=wall.minute, fold=0)
        exists = skipped.astimezone(UTC).astimezone(there).replace(tzinfo=None) == skipped.replace(tzinfo=None)
        if exists:
            assert (now_there.hour, now_there.minute) == (wall.hour, wall.minute)
        done = rules.successor(done, "next", due, "a1")


def test_eight_in_berlin_stays_eight_when_summer_time_begins() -> None:
    before, after = at("2026-03-23T08:00", "Europe/Berlin"), at("2026-03-30T08:00", "Europe/Berlin")
    assert following("FREQ=WEEKLY;BYDAY=MO", before, "Europe/Berlin") == after
    assert after - before == timedelta(days=7, hours=-1)


def test_a_time_that_the_clocks_skip_moves_for_that_day_only() -> None:
    """Half past two does not exist in Berlin on 29 March 2026; on the 30th it does again."""
    rule = Recurrence(rule="FREQ=DAILY", time_zone="Europe/Berlin")
    first = at("2026-03-28T02:30", "Europe/Berlin")
    done = task(due=first, recurrence=rule, chain="c", chain_start=first)
    skipped = rules.next_due(done, first)
    assert skipped == at("2026-03-29T03:30", "Europe/Berlin")
    after = rules.next_due(rules.successor(done, "n", skipped, "a1"), first)
    assert after == at("2026-03-30T02:30", "Europe/Berlin")


def test_count_is_the_length_of_the_chain() -> None:
    due = at("2026-02-02T08:00")
    rule = Recurrence(rule="FREQ=DAILY;COUNT=3", time_zone="UTC")
    link = task(due=due, recurrence=rule, chain="c", chain_start=due)
    second = rules.successor(link, "2", at("2026-02-03T08:00"), "a1")
    third = rules.successor(second, "3", at("2026-02-04T08:00"), "a2")
    assert rules.next_due(second, due) == third.due
    assert rules.next_due(third, due) is None


def test_a_date_that_is_left_out_is_passed_over() -> None:
    rule = Recurrence(rule="FREQ=DAILY", time_zone="UTC", exdates=[at("2026-02-03T08:00"), at("2026-02-04T08:00")])
    assert rules.next_due(task(due=at("2026-02-02T08:00"), recurrence=rule), at("2026-02-02T09:00")) == at(
        "2026-02-05T08:00"
    )


def test_a_task_counted_from_completion_waits_for_its_time_after_that() -> None:
    rule = Recurrence(rule="FREQ=DAILY;INTERVAL=3", time_zone="Africa/Nairobi", counted_from="completion")
    late = task(due=at("2026-02-02T08:00", "Africa/Nairobi"), recurrence=rule)
    completed = at("2026-02-10T22:00", "Africa/Nairobi")
    assert rules.next_due(late, completed) == at("2026-02-13T08:00", "Africa/Nairobi")


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=DAILY;INTERVAL=7;BYDAY=TU",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=3",
        "FREQ=YEARLY;INTERVAL=10000",
        "FREQ=HOURLY;INTERVAL=10000;BYMONTH=2;BYMONTHDAY=31",
    ],
)
def test_i6_a_rule_that_never_comes_is_given_up(rule: str) -> None:
    assert following(rule, at("2026-02-02T08:00")) is None


def test_a_rule_near_the_end_of_the_calendar_ends() -> None:
    for rule in ("FREQ=DAILY", "FREQ=HOURLY", "FREQ=WEEKLY", "FREQ=MONTHLY", "FREQ=YEARLY"):
        assert following(rule, at("9899-12-31T23:00")) is not None
    for rule in ("FREQ=WEEKLY", "FREQ=MONTHLY", "FREQ=YEARLY"):
        assert following(f"{rule};INTERVAL=9999", at("9899-12-31T23:00")) is None


@pytest.mark.parametrize(
    "rule",
    [
        *("", "weekly", "FREQ=", "FREQ=FORTNIGHTLY", "FREQ=DAILY;", "FREQ=DAILY;FREQ=DAILY", "FREQ=DAILY;COLOUR=RED"),
        *("FREQ=MINUTELY", "FREQ=SECONDLY", "FREQ=DAILY;BYMINUTE=0,30", "FREQ=HOURLY;BYSECOND=1,2"),
        *("FREQ=DAILY;INTERVAL=0", "FREQ=DAILY;INTERVAL=-1", "FREQ=DAILY;INTERVAL=1e9", "FREQ=DAILY;COUNT=0"),
        *("FREQ=DAILY;BYMONTH=13", "FREQ=MONTHLY;BYMONTHDAY=0", "FREQ=DAILY;BYHOUR=24", "FREQ=DAILY;BYHOUR=-1"),
        *("FREQ=DAILY;COUNT=2;UNTIL=20260101", "FREQ=DAILY;UNTIL=tomorrow", "FREQ=DAILY;UNTIL=20261301"),
        *("FREQ=WEEKLY;BYDAY=XX", "FREQ=WEEKLY;BYDAY=1MO", "FREQ=MONTHLY;BYDAY=0MO", "FREQ=WEEKLY;WKST=X"),
        *("FREQ=DAILY;BYSETPOS=1", "FREQ=WEEKLY;BYMONTHDAY=1", "FREQ=MONTHLY;BYWEEKNO=1", "RRULE:FREQ=DAILY"),
        *("FREQ=DAILY\nDTSTART:20260101", "FREQ=DAILY;BYMONTH=١"),
    ],
)
def test_what_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(BadRule):
        read_rule(rule)


@given(st.text(max_size=60) | st.from_regex(r"FREQ=[A-Z]+(;[A-Z]+=[0-9A-Z,+-]{0,8}){0,4}"))
def test_i1_any_text_is_a_rule_or_is_refused(text: str) -> None:
    with suppress(BadRule):
        read_rule(text)


@pytest.mark.parametrize("name", ["", "Nairobi", "../../etc/passwd", "Africa", "Africa/Nairobi\0", "UTC+3"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(UnknownZone):
        check_zone(name)


def test_a_task_that_recurs_needs_a_due() -> None:
    weekly = Recurrence(rule="FREQ=WEEKLY", time_zone="UTC")
    with pytest.raises(rules.RecurrenceNeedsDue):
        rules.what_follows(task(), {"recurrence": weekly}, "chain")
    with pytest.raises(rules.RecurrenceNeedsDue):
        rules.what_follows(task(due=at("2026-02-02T08:00"), recurrence=weekly), {"due": None}, "chain")


def test_a_new_rule_begins_a_new_chain_and_a_moved_due_goes_on_with_the_old() -> None:
    weekly, daily = (Recurrence(rule=f"FREQ={each}", time_zone="UTC") for each in ("WEEKLY", "DAILY"))
    third = task(due=at("2026-02-02T08:00"), recurrence=weekly, chain="old", link=3)
    moved = rules.what_follows(third, {"due": at("2026-02-03T08:00")}, "new")
    assert moved == {"due": at("2026-02-03T08:00"), "chain_start": at("2026-02-03T08:00")}
    changed = rules.what_follows(third, {"recurrence": daily}, "new")
    assert (changed["chain"], changed["link"], changed["chain_start"]) == ("new", 1, third.due)
    stopped = rules.what_follows(third, {"recurrence": None}, "new")
    assert (stopped["chain"], stopped["link"]) == (None, 1)


# ---- order


@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.integers(0, 1_000_000), max_size=120))
def test_however_things_are_put_between_others_all_keep_their_place(places: list[int]) -> None:
    order: list[str] = []
    for place in places:
        index = place % (len(order) + 1)
        low = order[index - 1] if index else None
        high = order[index] if index < len(order) else None
        order.insert(index, between(low, high))
    assert order == sorted(order)
    assert len(set(order)) == len(order)


@pytest.mark.parametrize("side", ["low", "high"])
def test_a_thousand_moves_to_the_same_place_leave_positions_short(side: str) -> None:
    low = between(None, None)
    high = between(low, None)
    for _ in range(1000):
        middle = between(low, high)
        assert low < middle < high
        low, high = (middle, high) if side == "low" else (low, middle)
    assert len(middle) < 400


def test_two_who_take_the_same_place_get_different_positions() -> None:
    assert len({between("a0", "a1") for _ in range(200)}) > 195


# ---- circles


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=40),
)
def test_arrows_that_close_no_circle_never_lead_back(pairs: list[tuple[int, int]]) -> None:
    arrows: dict[str, list[str]] = {}
    for source, target in pairs:
        if not closes_a_circle(arrows, str(source), str(target)):
            arrows.setdefault(str(source), []).append(str(target))
    assert all(start not in reached(arrows, start) for start in map(str, range(9)))


def test_a_long_chain_is_followed_without_recursion() -> None:
    arrows = {str(number): [str(number + 1)] for number in range(20_000)}
    assert closes_a_circle(arrows, "20000", "0")
    assert not closes_a_circle(arrows, "0", "20000")


# ---- who may do what


@pytest.mark.parametrize(
    ("role", "edits", "manages"),
    [("viewer", False, False), ("editor", True, False), ("admin", True, True), ("owner", True, True)],
)
def test_z1_roles_may_do_what_the_table_says(role: Role, edits: bool, manages: bool) -> None:
    member = Member(project_id="farm", user_id="bob", role=role)
    assert (rules.may_edit(member), rules.may_manage(member)) == (edits, manages)
    assert rules.may_remove_member(member, "bob")
    assert rules.may_remove_member(member, "ann") is manages


def test_a_project_goes_to_whoever_has_been_there_longest_with_most_rights() -> None:
    def one(user: str, role: Role, day: int) -> Member:
        return Member(project_id="farm", user_id=user, role=role, created_at=datetime(2026, 1, day, tzinfo=UTC))

    others = [one("a", "viewer", 1), one("b", "admin", 3), one("c", "admin", 2), one("d", "editor", 1)]
    assert (heir := rules.heir(others))
    assert heir.user_id == "c"
    assert rules.heir([]) is None


# ---- what is kept


def test_labels_are_trimmed_lower_and_different_in_their_order() -> None:
    assert rules.tidied({"labels": [" Hens", "cows ", "HENS"]}) == {"labels": ["hens", "cows"]}


@pytest.mark.parametrize(
    "when", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=ZoneInfo("Asia/Tokyo"))]
)
def test_i1_a_time_that_no_calendar_holds_is_refused(when: datetime) -> None:
    with pytest.raises(rules.TimeOutOfRange):
        rules.moment(when)


def test_a_search_goes_by_whole_words_without_case_and_accents() -> None:
    assert words_of("Buy HAY, buy ng'ombe & café!") == ["buy", "hay", "ngombe", "cafe"]
    assert words_of('.* {"$gt": ""}') == ["gt"]
    assert words_of("... - \" '") == []


def test_a_sent_reminder_waits_again_only_for_a_later_time() -> None:
    now = at("2026-02-02T08:00")
    sent = Reminder(
        project_id="farm", task_id="hay", user_id="bob", at=at("2026-02-02T07:00"), minutes_before_due=60, state="sent"
    )
    later = at("2026-02-03T08:00")
    assert rules.moved(sent, later, now) == {"at": at("2026-02-03T07:00"), "state": "waiting", "sent_at": None}
    assert rules.moved(sent, at("2026-02-02T08:30"), now) == {}
    assert rules.moved(sent, None, now) == {}
