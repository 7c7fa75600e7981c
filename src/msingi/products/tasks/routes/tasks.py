"""Tasks: listed, made, changed, completed, moved."""

from datetime import datetime
from typing import Literal

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import Stale
from msingi.kit.http import Body, Filters, Given, Path, Query, delete, get, patch, post, put
from msingi.kit.replies import KitResponse, created
from msingi.products.tasks import queries, recurrence, rules
from msingi.products.tasks.actions import completion, tasks
from msingi.products.tasks.models import Member
from msingi.products.tasks.queries import SeenTask
from msingi.products.tasks.schemas import Move, NewTask, TaskPatch, TaskView

KNOWN = {
    "status": Literal["open", "done"],
    "priority": int,
    "due": datetime,
    "created_at": datetime,
    "updated_at": datetime,
    "completed_at": datetime,
    "label": ("labels", str),
    "assignee": ("assignees", str),
    "parent": ("parent_id", str),
}
IN_ONE, IN_ALL = Filters(**KNOWN), Filters(**KNOWN, project=("project_id", str))
FAULTS = [rules.NotAMember, rules.RecurrenceNeedsDue, recurrence.BadRule, recurrence.UnknownZone, rules.OtherProject]


async def task_in_path(task_id: Path[str], actor: Given[Actor]) -> SeenTask:
    return await queries.task(task_id, actor)


@get("/", filters=IN_ALL, also=("q",))
async def list_own_tasks(
    actor: Given[Actor], page: Given[Paging], where: Given[Where], q: Query[str] = ""
) -> Page[TaskView]:
    """The tasks of all one's projects, the newest first."""
    return await queries.own_tasks(actor, where, q, page)


@get("/projects/{project_id:str}/tasks", filters=IN_ONE, also=("q",))
async def list_tasks(
    member: Given[Member], actor: Given[Actor], page: Given[Paging], where: Given[Where], q: Query[str] = ""
) -> Page[TaskView]:
    """The tasks of a project, in its order."""
    return await queries.tasks_of(member, actor, where, q, page)


@post("/projects/{project_id:str}/tasks", problems=[*FAULTS, rules.Full])
async def add_task(member: Given[Member], data: Body[NewTask], actor: Given[Actor]) -> KitResponse[TaskView]:
    """Make a task, last in its project."""
    task = await tasks.add(member, data, actor)
    return created(TaskView.of(task), f"/v1/tasks/{task.id}")


@get("/{task_id:str}")
async def show_task(task: Given[SeenTask]) -> TaskView:
    """One task."""
    return TaskView.of(task.task)


@patch("/{task_id:str}", problems=[*FAULTS, rules.WouldBeACircle, Stale])
async def edit_task(
    task: Given[SeenTask], data: Body[TaskPatch], actor: Given[Actor], if_match: Given[int | None]
) -> TaskView:
    """Change a task."""
    return TaskView.of(await tasks.edit(task, data, actor, if_match))


@delete("/{task_id:str}", problems=[Stale])
async def remove_task(task: Given[SeenTask], if_match: Given[int | None]) -> None:
    """Remove a task with its subtasks, and all that hangs on them."""
    await tasks.remove(task, if_match)


@put("/{task_id:str}/completion", problems=[rules.Blocked, Stale])
async def complete_task(
    task: Given[SeenTask], if_match: Given[int | None], unless_blocked: Query[bool] = False
) -> TaskView:
    """Complete a task; one that recurs is followed by its next. `unless_blocked`: not while others come first."""
    return TaskView.of(await completion.complete(task, if_match, unless_blocked=unless_blocked))


@delete("/{task_id:str}/completion", status_code=200, problems=[Stale])
async def reopen_task(task: Given[SeenTask], if_match: Given[int | None]) -> TaskView:
    """Open a task again."""
    return TaskView.of(await completion.reopen(task, if_match))


@put("/{task_id:str}/position", problems=[rules.OneOfTwo, rules.NotBesideItself, rules.OtherProject, Stale])
async def move_task(
    task: Given[SeenTask], data: Body[Move], actor: Given[Actor], if_match: Given[int | None]
) -> TaskView:
    """Put a task right after another, or right before it."""
    return TaskView.of(await tasks.move(task, data, actor, if_match))


routes = [
    list_own_tasks,
    list_tasks,
    add_task,
    show_task,
    edit_task,
    remove_task,
    complete_task,
    reopen_task,
    move_task,
]
dependencies = {"task": task_in_path}
