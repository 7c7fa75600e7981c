"""Completing a task; and the task that follows, once, if it comes again."""

from msingi.kit.again import on_the_newest
from msingi.kit.clock import now
from msingi.kit.errors import allow
from msingi.kit.ids import new_id
from msingi.kit.unit import atomic, guarded
from msingi.products.tasks import queries, rules
from msingi.products.tasks.actions import reminders as reminding
from msingi.products.tasks.actions.telling import tell
from msingi.products.tasks.contract import TaskCompleted
from msingi.products.tasks.models import Task, tasks
from msingi.products.tasks.ordering import between
from msingi.products.tasks.queries import SeenTask


async def complete(seen: SeenTask, if_match: int | None, *, unless_blocked: bool = False) -> Task:
    """Complete a task. What is done already stays as it is."""
    allow(rules.may_edit(seen.member))
    by = seen.member.user_id

    async def write(task: Task) -> Task:
        rules.check_version(task, if_match)
        if task.status == "done":
            return task
        if unless_blocked and (blockers := await queries.open_blockers(task)):
            raise rules.Blocked(blocked_by=blockers)
        # A version guards either, so that what was decided on a recurrence holds for that one.
        return await (_go_on if task.recurrence and not task.next_id else _complete)(task, by)

    return await on_the_newest(tasks, seen.task, if_match, write)


@guarded
async def _complete(task: Task, by: str, next_id: str | None = None) -> Task:
    done = {"status": "done", "completed_at": now(), "completed_by": by, "next_id": next_id or task.next_id}
    told = TaskCompleted(task_id=task.id, project_id=task.project_id, by=by, next_id=next_id)
    completed = await tasks.change(task.id, {"$set": done}, when={"version": task.version}, tells=[told])
    await tell("task_completed", completed)
    return completed


@atomic
async def _go_on(task: Task, by: str) -> Task:
    """Complete it and make the one that follows: both or neither. The chain's unique index has the last word."""
    due = rules.next_due(task, now())
    if due is None:
        return await _complete(task, by)
    next_id = new_id()
    completed = await _complete(task, by, next_id)
    position = between(await queries.last_position(task.project_id), None)
    following = await tasks.add(rules.successor(completed, next_id, due, position))
    await reminding.hand_on(completed, following, due)
    await tell("task_added", following)
    return completed


async def reopen(seen: SeenTask, if_match: int | None) -> Task:
    """Open a task again. What followed from it stays."""
    allow(rules.may_edit(seen.member))

    async def write(task: Task) -> Task:
        rules.check_version(task, if_match)
        return task if task.status == "open" else await _reopen(task)

    return await on_the_newest(tasks, seen.task, if_match, write)


@guarded
async def _reopen(task: Task) -> Task:
    open_again = {"status": "open", "completed_at": None, "completed_by": None}
    opened = await tasks.change(task.id, {"$set": open_again}, when={"version": task.version})
    await tell("task_reopened", opened)
    return opened
