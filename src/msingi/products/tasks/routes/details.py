"""What hangs on a task: subtasks, relations, comments, reminders."""

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging
from msingi.kit.http import Body, Given, Path, delete, get, patch, post, put
from msingi.kit.replies import KitResponse, created
from msingi.products.tasks import queries, rules
from msingi.products.tasks.actions import comments, relations, reminders
from msingi.products.tasks.models import Comment, Reminder
from msingi.products.tasks.queries import SeenTask
from msingi.products.tasks.schemas import (
    CommentForm,
    CommentView,
    NewReminder,
    RelationsView,
    ReminderView,
    TaskView,
)


async def comment_in_path(task: Given[SeenTask], comment_id: Path[str]) -> Comment:
    return await queries.comment(comment_id, task.task)


async def reminder_in_path(task: Given[SeenTask], reminder_id: Path[str]) -> Reminder:
    return await queries.reminder(reminder_id, task)


@get("/{task_id:str}/subtasks")
async def list_subtasks(task: Given[SeenTask], page: Given[Paging]) -> Page[TaskView]:
    """The tasks that are parts of this one, in order."""
    return await queries.subtasks(task.task, page)


@get("/{task_id:str}/relations")
async def show_relations(task: Given[SeenTask]) -> RelationsView:
    """What a task blocks, and what blocks it."""
    return await queries.relations_of(task.task)


@put(
    "/{task_id:str}/blocks/{other_id:str}",
    status_code=204,
    problems=[rules.WouldBeACircle, rules.OtherProject, rules.Full],
)
async def relate_tasks(task: Given[SeenTask], other_id: Path[str], actor: Given[Actor]) -> None:
    """Let a task block another: that one cannot begin before this one is done."""
    await relations.relate(task, other_id, actor)


@delete("/{task_id:str}/blocks/{other_id:str}")
async def unrelate_tasks(task: Given[SeenTask], other_id: Path[str], actor: Given[Actor]) -> None:
    """Let a task block another no longer."""
    await relations.unrelate(task, other_id, actor)


@get("/{task_id:str}/comments")
async def list_comments(task: Given[SeenTask], page: Given[Paging]) -> Page[CommentView]:
    """What was said about a task, the oldest first."""
    return (await queries.comments_on(task.task, page)).map(CommentView.of)


@post("/{task_id:str}/comments", problems=[rules.Full])
async def add_comment(task: Given[SeenTask], data: Body[CommentForm]) -> KitResponse[CommentView]:
    """Say something about a task."""
    comment = await comments.add(task, data)
    return created(CommentView.of(comment), f"/v1/tasks/{comment.task_id}/comments/{comment.id}")


@patch("/{task_id:str}/comments/{comment_id:str}")
async def edit_comment(
    task: Given[SeenTask], comment: Given[Comment], data: Body[CommentForm], if_match: Given[int | None]
) -> CommentView:
    """Change one's own comment."""
    return CommentView.of(await comments.edit(comment, data, task.member, if_match))


@delete("/{task_id:str}/comments/{comment_id:str}")
async def remove_comment(task: Given[SeenTask], comment: Given[Comment], if_match: Given[int | None]) -> None:
    """Remove one's own comment; admin and owner, anybody's."""
    await comments.remove(comment, task.member, if_match)


@get("/{task_id:str}/reminders")
async def list_reminders(task: Given[SeenTask], page: Given[Paging]) -> Page[ReminderView]:
    """One's own reminders of a task, the next first."""
    return (await queries.reminders_on(task, page)).map(ReminderView.of)


@post("/{task_id:str}/reminders", problems=[rules.OneOfTwo, rules.ReminderNeedsDue, rules.Full])
async def add_reminder(task: Given[SeenTask], data: Body[NewReminder]) -> KitResponse[ReminderView]:
    """Ask to be reminded of a task."""
    reminder = await reminders.add(task, data)
    return created(ReminderView.of(reminder), f"/v1/tasks/{reminder.task_id}/reminders")


@delete("/{task_id:str}/reminders/{reminder_id:str}")
async def remove_reminder(reminder: Given[Reminder], if_match: Given[int | None]) -> None:
    """Ask for it no longer."""
    await reminders.remove(reminder, if_match)


routes = [
    list_subtasks,
    show_relations,
    relate_tasks,
    unrelate_tasks,
    list_comments,
    add_comment,
    edit_comment,
    remove_comment,
    list_reminders,
    add_reminder,
    remove_reminder,
]
dependencies = {"comment": comment_in_path, "reminder": reminder_in_path}
