"""A project to take away: JSON, CSV, iCalendar. Each is written task by task, so its size costs no memory."""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import msgspec

from msingi.kit.clock import now
from msingi.products.tasks import queries
from msingi.products.tasks.models import Task
from msingi.products.tasks.queries import SeenProject
from msingi.products.tasks.schemas import ProjectView, TaskView

COLUMNS = [
    *("id", "title", "description", "status", "priority", "due", "labels", "assignees"),
    *("parent_id", "recurrence", "position", "completed_at", "created_at", "updated_at"),
]
PRIORITIES = (0, 9, 7, 5, 3, 1)  # of ours, from 0 to 5, as RFC 5545 counts them
MEDIA = {"json": "application/json", "csv": "text/csv; charset=utf-8", "ics": "text/calendar; charset=utf-8"}
TOGETHER = 100  # tasks that go out in one piece


def export(seen: SeenProject, format: str) -> AsyncIterator[bytes]:
    """The bytes of an export, in pieces."""
    return {"json": _json, "csv": _csv, "ics": _ics}[format](seen)


async def _batches(project_id: str) -> AsyncIterator[list[Task]]:
    batch: list[Task] = []
    async for task in queries.all_tasks(project_id):
        batch.append(task)
        if len(batch) == TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


# ---- JSON


async def _json(seen: SeenProject) -> AsyncIterator[bytes]:
    project, here = seen
    members = [queries.shown_member(each) for each in await queries.all_members(project.id)]
    head = {"exported_at": now(), "project": ProjectView.of(project, role=here.role), "members": members}
    yield msgspec.json.encode(head)[:-1] + b',"tasks":['
    between = b""
    async for batch in _batches(project.id):
        yield between + b",".join(msgspec.json.encode(TaskView.of(task)) for task in batch)
        between = b","
    yield b"]}"


# ---- CSV (RFC 4180)


async def _csv(seen: SeenProject) -> AsyncIterator[bytes]:
    yield _lines([COLUMNS])
    async for batch in _batches(seen.project.id):
        yield _lines([_cells(task) for task in batch])


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()


def _cells(task: Task) -> list[str]:
    return [_cell(getattr(task, column)) for column in COLUMNS]


def _cell(value: object) -> str:
    """What stands in a cell. A quote in front keeps a spreadsheet from running it as a formula."""
    if value is None:
        text = ""
    elif isinstance(value, datetime):
        text = msgspec.json.encode(value).decode().strip('"')
    elif isinstance(value, list):
        text = ";".join(value)
    else:
        text = str(getattr(value, "rule", value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


# ---- iCalendar (RFC 5545)


async def _ics(seen: SeenProject) -> AsyncIterator[bytes]:
    yield b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Msingi//Tasks//EN\r\n"
    async for batch in _batches(seen.project.id):
        yield b"".join(_todo(task) for task in batch)
    yield b"END:VCALENDAR\r\n"


def _todo(task: Task) -> bytes:
    from icalendar import Todo, vRecur  # noqa: PLC0415  (most processes never write one, and it takes 2 MB)

    todo = Todo()
    todo.add("uid", task.id)
    todo.add("dtstamp", task.updated_at)
    todo.add("created", task.created_at)
    todo.add("summary", task.title)
    todo.add("status", "COMPLETED" if task.status == "done" else "NEEDS-ACTION")
    todo.add("priority", PRIORITIES[task.priority])
    if task.description:
        todo.add("description", task.description)
    if task.due:
        todo.add("due", task.due)
    if task.labels:
        todo.add("categories", task.labels)
    if task.recurrence:
        todo.add("rrule", vRecur.from_ical(task.recurrence.rule))
    if task.completed_at:
        todo.add("completed", task.completed_at)
    return bytes(todo.to_ical())
