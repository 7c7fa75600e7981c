"""Tasks, their lists, and reminders of them."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from auth import Actor, Signed
from beanie import UpdateResponse
from fastapi import APIRouter, Header, Query, Response
from live import tell
from models import Member, Outbox, Reminder, Task, now, transaction
from problems import Forbidden, Full, NotFound, Problem, Stale
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pymongo.asynchronous.client_session import AsyncClientSession

MOST_REMINDERS = 20
WORD = re.compile(r"\w+")
router = APIRouter(prefix="/v1/tasks")
Limit = Annotated[int, Query(ge=1, le=100)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1, max_length=50)]


class View(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    created_at: datetime
    updated_at: datetime
    version: int
    id: str


class TaskView(View):
    project_id: str
    title: str
    description: str
    labels: list[str]
    priority: int
    due: datetime | None
    recurrence: dict[str, Any] | None
    assignees: list[str]
    parent_id: str | None
    position: str
    status: str
    completed_at: datetime | None
    completed_by: str | None
    next_id: str | None
    created_by: str


class TaskPage(BaseModel):
    items: list[TaskView]
    next: str | None = None


class ReminderView(View):
    task_id: str
    at: datetime | None
    minutes_before_due: int | None
    channel: str
    sent_at: datetime | None


class ReminderPage(BaseModel):
    items: list[ReminderView]
    next: str | None = None


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TaskPatch(Form):
    title: Title | None = None
    description: Annotated[str, Field(max_length=20_000)] | None = None
    labels: Annotated[list[Label], Field(max_length=20)] | None = None
    priority: Annotated[int, Field(ge=0, le=5)] | None = None


class NewReminder(Form):
    at: AwareDatetime | None = None
    minutes_before_due: Annotated[int, Field(ge=0, le=525_600)] | None = None

    @model_validator(mode="after")
    def one_of_two(self) -> "NewReminder":
        if (self.at is None) == (self.minutes_before_due is None):
            raise ValueError("Say at or minutes_before_due: exactly one of the two")
        return self


async def member_of(project: str, actor: Actor) -> Member:
    member = await Member.get(f"{project}:{actor.id}")
    if member is None:
        raise NotFound
    return member


async def seen(task_id: str, actor: Actor) -> tuple[Task, Member]:
    task = await Task.get(task_id)
    if task is None:
        raise NotFound
    return task, await member_of(task.project_id, actor)


def version_of(if_match: str | None) -> int | None:
    if if_match is None:
        return None
    found = re.fullmatch(r'"(\d+)"', if_match)
    if not found:
        raise Problem(400, "bad_if_match", "If-Match holds the version of an ETag.")
    return int(found[1])


def packed(task: Task) -> str:
    return urlsafe_b64encode(json.dumps([task.created_at.isoformat(), task.id]).encode()).decode().rstrip("=")


def beyond(cursor: str, way: int) -> dict[str, Any]:
    try:
        at, id = json.loads(urlsafe_b64decode(cursor + "==="))
        time = datetime.fromisoformat(at)
    except (ValueError, TypeError):
        raise Problem(422, "bad_cursor", "This cursor does not belong to this list.") from None
    step = "$lt" if way < 0 else "$gt"
    return {"$or": [{"created_at": {step: time}}, {"created_at": time, "_id": {step: str(id)}}]}


@router.get("/projects/{project}/tasks")
async def list_tasks(
    project: str,
    actor: Signed,
    status: Literal["open", "done"] | None = None,
    sort: Literal["created_at", "-created_at"] = "-created_at",
    limit: Limit = 20,
    after: Annotated[str | None, Query(max_length=500)] = None,
    q: Annotated[str, Query(max_length=200)] = "",
) -> TaskPage:
    member = await member_of(project, actor)
    where: dict[str, Any] = {"project_id": member.project_id} | ({"status": status} if status else {})
    if words := WORD.findall(q):
        search = " ".join(f'"{word}"' for word in words)  # all of them, not any
        best: Any = [("score", {"$meta": "textScore"}), ("_id", -1)]
        found = await Task.find({**where, "$text": {"$search": search}}).sort(best).limit(limit).to_list()
        return TaskPage(items=[TaskView.model_validate(each) for each in found])
    way = -1 if sort.startswith("-") else 1
    where |= beyond(after, way) if after else {}
    order: Any = [("created_at", way), ("_id", way)]
    found = await Task.find(where).sort(order).limit(limit + 1).to_list()
    items = found[:limit]
    following = packed(items[-1]) if len(found) > limit else None
    return TaskPage(items=[TaskView.model_validate(each) for each in items], next=following)


@router.get("/{task_id}")
async def show_task(task_id: str, actor: Signed, response: Response) -> TaskView:
    task, _ = await seen(task_id, actor)
    response.headers["ETag"] = f'"{task.version}"'
    return TaskView.model_validate(task)


@router.patch("/{task_id}")
async def edit_task(
    task_id: str, actor: Signed, form: TaskPatch, response: Response, if_match: Annotated[str | None, Header()] = None
) -> TaskView:
    wanted = version_of(if_match)
    found, member = await seen(task_id, actor)
    task: Task | None = found
    if member.role == "viewer":
        raise Forbidden
    changes = form.model_dump(exclude_none=True)
    while task is not None:
        if wanted is not None and wanted != task.version:
            raise Stale
        changed: Any = await Task.find_one({"_id": task.id, "version": task.version}).update_one(
            {"$set": {**changes, "updated_at": now()}, "$inc": {"version": 1}},
            response_type=UpdateResponse.NEW_DOCUMENT,
        )
        if changed is not None:
            await tell(changed, "task_changed")
            response.headers["ETag"] = f'"{changed.version}"'
            return TaskView.model_validate(changed)
        task = await Task.get(task_id)  # somebody was faster
    raise NotFound


@router.get("/{task_id}/reminders")
async def list_reminders(task_id: str, actor: Signed, limit: Limit = 20) -> ReminderPage:
    task, _ = await seen(task_id, actor)
    order: Any = [("at", 1), ("_id", 1)]
    found = await Reminder.find({"task_id": task.id, "user_id": actor.id}).sort(order).limit(limit).to_list()
    return ReminderPage(items=[ReminderView.model_validate(each) for each in found])


@router.post("/{task_id}/reminders", status_code=201)
async def add_reminder(task_id: str, actor: Signed, form: NewReminder, response: Response) -> ReminderView:
    """The task's counter, the reminder and the event that tells of it: all or none."""
    task, member = await seen(task_id, actor)
    if form.at is None and task.due is None:
        raise Problem(422, "reminder_needs_due", "The task has no due date.")
    at = form.at or task.due - timedelta(minutes=form.minutes_before_due or 0)  # type: ignore[operator]
    own = {"task_id": task.id, "user_id": member.user_id}

    async def work(session: AsyncClientSession) -> Reminder:
        held = await Task.find_one({"_id": task.id}, session=session).update_one(
            {"$inc": {"reminders": 1}}, session=session
        )
        if not held.matched_count:
            raise NotFound
        if await Reminder.find(own, session=session).limit(MOST_REMINDERS).count() >= MOST_REMINDERS:
            raise Full(MOST_REMINDERS)
        made = Reminder(**own, project_id=task.project_id, at=at, minutes_before_due=form.minutes_before_due)
        await made.insert(session=session)
        if at <= made.created_at:
            event = Outbox(name="reminder_past_due", payload={"reminder_id": made.id})
            await event.insert(session=session)
        return made

    reminder = await transaction(work)
    response.headers.update({"Location": f"/v1/tasks/{task.id}/reminders", "ETag": '"1"'})
    return ReminderView.model_validate(reminder)
