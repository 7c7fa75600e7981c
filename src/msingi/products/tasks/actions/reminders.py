"""Letters that somebody asked for, each written once, at its time."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from msingi.kit import mail
from msingi.kit.clock import now
from msingi.kit.events import emit
from msingi.kit.mail import BadAddress, Letter
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts.contract import Person
from msingi.products.tasks import queries, rules
from msingi.products.tasks.contract import ReminderPastDue
from msingi.products.tasks.models import Reminder, Task, reminders, tasks
from msingi.products.tasks.queries import SeenTask
from msingi.products.tasks.schemas import NewReminder

AT_ONCE = 200  # that are looked for together


@atomic
async def add(seen: SeenTask, form: NewReminder) -> Reminder:
    """Ask for a letter."""
    task = await _held(seen.task)
    reminder = rules.reminder_of(task, seen.member, form.at, form.minutes_before_due)
    own = {"task_id": task.id, "user_id": seen.member.user_id}
    if await reminders.count(own, limit=rules.MOST_REMINDERS) >= rules.MOST_REMINDERS:
        raise rules.Full(most=rules.MOST_REMINDERS)
    if reminder.at is not None and reminder.at <= now():
        await emit(ReminderPastDue(reminder_id=reminder.id))
    return await reminders.add(reminder)


async def _held(task: Task) -> Task:
    """The task as it is now, written to unseen (its version stays), so that whoever moves `due` meanwhile conflicts."""
    return await tasks.touch(task.id, "reminders")


@atomic
async def remove(reminder: Reminder, if_match: int | None) -> None:
    """Ask for it no longer."""
    newest = await reminders.get(reminder.id)
    rules.check_version(newest, if_match)
    await reminders.remove(newest)


async def follow(task: Task) -> None:
    """Let the reminders that are counted from `due` move with it. Belongs in the action that moves it."""
    counted = await reminders.many({"task_id": task.id, "minutes_before_due": {"$ne": None}}, limit=10_000)
    for reminder in counted:
        changes = rules.moved(reminder, task.due, now())
        if changes:
            await reminders.change(reminder.id, {"$set": changes})


async def hand_on(task: Task, following: Task, due: datetime) -> None:
    """Let the reminders counted from `due` go along with the task that follows. Belongs in the action that makes it."""
    counted = await reminders.many({"task_id": task.id, "minutes_before_due": {"$ne": None}}, limit=10_000)
    copies = [rules.handed_on(each, following, due, each.minutes_before_due or 0) for each in counted]
    if copies:
        await reminders.add_many(copies)


async def due() -> list[Reminder]:
    """Those whose time has come, the longest waiting first; AT_ONCE at most."""
    return await reminders.many({"state": "waiting", "at": {"$lte": now()}}, sort=[("at", 1)], limit=AT_ONCE)


@atomic
async def send(reminder_ids: Sequence[str], people: Mapping[str, Person]) -> None:
    """Write the letters, and note that they are written: all or none, so each is written once.

    Quiet about what is done, gone, or no longer theirs to see; and about people who are not known, or have no address.
    """
    waiting = {"_id": {"$in": list(reminder_ids)}, "state": "waiting", "at": {"$lte": now()}}
    found = await reminders.many(waiting, limit=0)
    about = await queries.open_among(each.task_id for each in found)
    seeing = await queries.members_among((each.project_id, each.user_id) for each in found)
    written: dict[str, Letter] = {}
    for each in found:
        task, person = about.get(each.task_id), people.get(each.user_id)
        if task and person and person.email and (each.project_id, each.user_id) in seeing:
            with suppress(BadAddress):
                written[each.id] = _letter(task, person)
    await _note(list(written), {"state": "sent", "sent_at": now()})
    await _note([each.id for each in found if each.id not in written], {"state": "dropped"})
    await mail.send_all(list(written.values()))


def _letter(task: Task, person: Person) -> Letter:
    due = rules.in_words(task.due, task.recurrence.time_zone if task.recurrence else "UTC")
    said = {"title": task.title, "due": due, "task_id": task.id}
    return mail.letter("reminder", person.email, language=person.language, product="tasks", **said)


async def _note(reminder_ids: Sequence[str], what: Mapping[str, Any]) -> None:
    if reminder_ids:
        await reminders.change_many({"_id": {"$in": list(reminder_ids)}}, {"$set": what})


@guarded
async def forget(user_id: str) -> None:
    """Somebody is no more, and is reminded of nothing."""
    await reminders.remove_many({"user_id": user_id})
