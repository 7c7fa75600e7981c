"""Decisions and problems: no database, no clock, no await."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from msgspec import UNSET, UnsetType

from msingi.kit.errors import Conflict, Invalid, Stale
from msingi.kit.search import words_of
from msingi.products.tasks.models import Comment, Member, Recurrence, Reminder, Task
from msingi.products.tasks.recurrence import check_zone, next_after, read_rule

# How much one place takes. They are looked at before a write, not counted with it: a few more do no harm.
MOST_PROJECTS = 500  # that one person owns
MOST_MEMBERS = 500
MOST_TASKS = 10_000  # of a project
MOST_RELATIONS = 10_000  # of a project
MOST_COMMENTS = 2_000  # on a task
MOST_REMINDERS = 20  # of one person, on a task
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9900, 1, 1, tzinfo=UTC)


class OwnerStays(Conflict):
    """The owner of a project stays its owner; delete the project instead."""


class NotAMember(Invalid):
    """{user} is no member of this project, so cannot be given its tasks."""


class NoSuchUser(Invalid):
    """There is nobody with that id."""


class RecurrenceNeedsDue(Invalid):
    """A task that comes again needs a `due`: the first time it comes."""


class ReminderNeedsDue(Invalid):
    """A reminder that is counted from `due` needs a task that has one."""


class TimeOutOfRange(Invalid):
    """Times lie between the years 1970 and 9900."""


class OtherProject(Invalid):
    """Both tasks must be in the same project."""


class OneOfTwo(Invalid):
    """Say `{first}` or `{second}`: exactly one of them."""


class NotBesideItself(Invalid):
    """A task cannot be put before or after itself."""


class WouldBeACircle(Conflict):
    """That would close a circle: what is to come first would wait for what comes after it."""


class Blocked(Conflict):
    """Other tasks are to be done first: {blocked_by}."""


class Full(Conflict):
    """There is room for {most} here, and they are there already."""


class BadFormat(Invalid):
    """An export is json, csv or ics."""


# ---- who may do what


def may_edit(member: Member) -> bool:
    """Make, change, move, complete, relate and delete tasks; write comments."""
    return member.role != "viewer"


def may_manage(member: Member) -> bool:
    """Change the project, and who is in it."""
    return member.role in ("admin", "owner")


def may_remove_member(member: Member, user_id: str) -> bool:
    """Anybody may leave."""
    return may_manage(member) or member.user_id == user_id


def may_edit_comment(member: Member, comment: Comment) -> bool:
    return may_edit(member) and comment.author_id == member.user_id


def may_remove_comment(member: Member, comment: Comment) -> bool:
    return may_manage(member) or may_edit_comment(member, comment)


def check_user_id(user_id: str) -> None:
    """Raise NoSuchUser for what cannot be anybody's id."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", user_id):
        raise NoSuchUser


def check_owner_stays(role: str) -> None:
    if role == "owner":
        raise OwnerStays


def heir(others: list[Member]) -> Member | None:
    """Who owns a project when its owner is no more: of those with most rights, the one who has been there longest."""
    rank = {"admin": 0, "editor": 1, "viewer": 2, "owner": 3}
    return min(others, key=lambda each: (rank[each.role], each.created_at, each.id), default=None)


# ---- what a task may hold


def tidied(given: dict[str, Any]) -> dict[str, Any]:
    """What a form gave, as it is stored: trimmed, without doubles, times in UTC, the rule read once."""
    tidy = dict(given)
    for name in ("title", "name", "body"):
        if name in tidy:
            tidy[name] = tidy[name].strip()
    if "labels" in tidy:
        tidy["labels"] = list(dict.fromkeys(label.strip().lower() for label in tidy["labels"]))
    if "assignees" in tidy:
        tidy["assignees"] = list(dict.fromkeys(tidy["assignees"]))
    if tidy.get("due") is not None:
        tidy["due"] = moment(tidy["due"])
    if tidy.get("recurrence") is not None:
        tidy["recurrence"] = recurrence_of(tidy["recurrence"])
    return tidy


def moment(at: datetime) -> datetime:
    """A time in UTC, in whole milliseconds. Raises TimeOutOfRange."""
    try:
        utc = at.astimezone(UTC)
    except OverflowError:
        raise TimeOutOfRange from None
    if not EARLIEST <= utc < LATEST:
        raise TimeOutOfRange
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def recurrence_of(form: Any) -> Recurrence:
    """A recurrence that can be kept, of a form with the same fields. Raises BadRule, UnknownZone."""
    rule = form.rule.strip().upper()
    read_rule(rule)
    check_zone(form.time_zone)
    exdates = [moment(each) for each in form.exdates] if form.exdates is not UNSET else UNSET
    return Recurrence(rule=rule, time_zone=form.time_zone, exdates=exdates, counted_from=form.counted_from)


def differences(doc: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """Those of the wanted values that the document does not have yet."""
    return {name: value for name, value in wanted.items() if getattr(doc, name) != value}


def what_follows(task: Task, changes: dict[str, Any], chain: str) -> dict[str, Any]:
    """The changes, with what else they change: the words to search for, and where a recurrence is counted from.

    Raises RecurrenceNeedsDue. `chain` is the id that a new chain gets.
    """
    after = {name: changes.get(name, getattr(task, name)) for name in ("title", "description", "due", "recurrence")}
    if after["recurrence"] is not None and after["due"] is None:
        raise RecurrenceNeedsDue
    more: dict[str, Any] = {}
    if "title" in changes or "description" in changes:
        more |= indexed(after["title"], after["description"])
    if after["recurrence"] is None:
        more |= differences(task, {"chain": None, "link": 1, "chain_start": None})
    elif "recurrence" in changes:
        more |= {"chain": chain, "link": 1, "chain_start": after["due"]}
    elif "due" in changes:
        more |= {"chain_start": after["due"]}
    return changes | more


def indexed(title: str, description: str) -> dict[str, list[str]]:
    """The words that a search finds a task by."""
    return {"words": words_of(title, description), "title_words": words_of(title)}


def check_version(doc: Any, if_match: int | None) -> None:
    """Raise Stale if the caller decided on another version."""
    if if_match is not None and doc.version != if_match:
        raise Stale


def check_same_project(one: str, other: str) -> None:
    if one != other:
        raise OtherProject


def check_move(task: Task, after: str | UnsetType, before: str | UnsetType) -> None:
    """Raise OneOfTwo, or NotBesideItself."""
    if (after is UNSET) == (before is UNSET):
        raise OneOfTwo(first="after", second="before")
    if task.id in (after, before):
        raise NotBesideItself


# ---- what comes next


def next_due(task: Task, completed_at: datetime) -> datetime | None:
    """When a completed task comes again; None if it does not."""
    if task.recurrence is None or task.due is None:
        return None
    rule = read_rule(task.recurrence.rule)
    if rule.count is not None and task.link >= rule.count:
        return None
    start, after = task.chain_start or task.due, task.due
    if task.recurrence.counted_from == "completion":
        start = after = _same_time_on(completed_at, task.due, task.recurrence.time_zone)
    exdates = task.recurrence.exdates or ()
    return next_after(rule, task.recurrence.time_zone, start=start, after=after, without=exdates)


def _same_time_on(day: datetime, clock: datetime, zone: str) -> datetime:
    """The time on the wall that `clock` shows, on the day that `day` falls on there."""
    there = ZoneInfo(zone)
    wall = datetime.combine(day.astimezone(there).date(), clock.astimezone(there).time())
    return wall.replace(tzinfo=there).astimezone(UTC)


def successor(task: Task, id: str, due: datetime, position: str) -> Task:
    """The task that follows a completed one. What only the old one lived through stays with it."""
    same = ("project_id", "title", "description", "labels", "priority", "recurrence", "assignees", "parent_id")
    kept = {name: getattr(task, name) for name in (*same, "created_by", "words", "title_words", "chain")}
    start = due if task.recurrence and task.recurrence.counted_from == "completion" else task.chain_start or task.due
    return Task(id=id, due=due, position=position, link=task.link + 1, chain_start=start, **kept)


# ---- reminders


def reminder_of(task: Task, member: Member, at: datetime | UnsetType, minutes: int | UnsetType) -> Reminder:
    """The reminder that somebody asks for. Raises OneOfTwo, ReminderNeedsDue."""
    if (at is UNSET) == (minutes is UNSET):
        raise OneOfTwo(first="at", second="minutes_before_due")
    whose: dict[str, Any] = {"project_id": task.project_id, "task_id": task.id, "user_id": member.user_id}
    if isinstance(at, datetime):
        return Reminder(at=moment(at), **whose)
    if task.due is None:
        raise ReminderNeedsDue
    return Reminder(at=before(task.due, cast(int, minutes)), minutes_before_due=cast(int, minutes), **whose)


def before(due: datetime, minutes: int) -> datetime:
    """So many minutes before, or the earliest time there is."""
    return max(due - timedelta(minutes=minutes), EARLIEST)


def moved(reminder: Reminder, due: datetime | None, now: datetime) -> dict[str, Any]:
    """What changes in a reminder counted from `due` when that moves. A sent one is sent again, for a later time."""
    if due is None or reminder.minutes_before_due is None:
        return differences(reminder, {"at": None}) if reminder.state == "waiting" else {}
    at = before(due, reminder.minutes_before_due)
    if reminder.state == "waiting":
        return differences(reminder, {"at": at})
    return {"at": at, "state": "waiting", "sent_at": None} if at > now else {}


def handed_on(reminder: Reminder, following: Task, due: datetime, minutes: int) -> Reminder:
    """The same reminder, of the task that follows."""
    whose: dict[str, Any] = {"project_id": following.project_id, "task_id": following.id, "user_id": reminder.user_id}
    return Reminder(at=before(due, minutes), minutes_before_due=minutes, channel=reminder.channel, **whose)


def in_words(due: datetime | None, zone: str) -> str:
    """A time as a letter says it, on the clock of a zone: `2026-02-02 08:00 (Africa/Nairobi)`."""
    return f"{due.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} ({zone})" if due else ""
