"""Letters that somebody asked for, each written once, at its time."""

from datetime import datetime

from msingi.kit import db, mail
from msingi.kit.clock import now
from msingi.kit.events import emit
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts.contract import Person
from msingi.products.tasks import queries, rules
from msingi.products.tasks.contract import ReminderPastDue
from msingi.products.tasks.models import Reminder, Task, members, reminders, tasks
from msingi.products.tasks.queries import SeenTask
from msingi.products.tasks.schemas import NewReminder


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
    await tasks.raw.update_one({"_id": task.id}, {"$inc": {"reminders": 1}}, session=db.session())
    return await tasks.get(task.id)


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
    """Those whose time has come, the longest waiting first."""
    return await reminders.many({"state": "waiting", "at": {"$lte": now()}}, sort=[("at", 1)], limit=200)


@atomic
async def send(reminder_id: str, person: Person | None) -> None:
    """Write the letter, and note that it is written: both or neither, so it is written once.

    Quiet about what is done, gone, or no longer theirs to see; and about people of whom nothing is known.
    """
    reminder = await reminders.find({"_id": reminder_id, "state": "waiting", "at": {"$lte": now()}})
    if reminder is None:
        return
    task = await tasks.find({"_id": reminder.task_id, "status": "open"})
    sees = await members.exists({"_id": queries.member_id(reminder.project_id, reminder.user_id)})
    if task is None or not sees or person is None or not person.email:
        await reminders.change(reminder.id, {"$set": {"state": "dropped"}})
        return
    await reminders.change(reminder.id, {"$set": {"state": "sent", "sent_at": now()}})
    due = rules.in_words(task.due, task.recurrence.time_zone if task.recurrence else "UTC")
    await mail.send(
        "reminder",
        to=person.email,
        language=person.language,
        product="tasks",
        title=task.title,
        due=due,
        task_id=task.id,
    )


@guarded
async def forget(user_id: str) -> None:
    """Somebody is no more, and is reminded of nothing."""
    await reminders.remove_many({"user_id": user_id})
