"""What goes over the wire: forms come in, views go out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from msingi.kit.db import Form, View
from msingi.products.tasks.models import Recurrence, Role, Status


def trimmed(most: int, example: str) -> Meta:
    """Text with something in it, and no longer than this without the blanks at both ends."""
    said = f"1 to {most} characters, not counting blanks at both ends"
    return Meta(min_length=1, pattern=rf"^\s*\S([\s\S]{{0,{most - 2}}}\S)?\s*$", description=said, examples=[example])


Name = Annotated[str, trimmed(100, "The farm")]
About = Annotated[str, Meta(max_length=10_000)]
Title = Annotated[str, trimmed(200, "Buy hay")]
Description = Annotated[str, Meta(max_length=20_000)]
Label = Annotated[str, Meta(min_length=1, pattern=r"^\s*[^\s,]([^,]{0,48}[^\s,])?\s*$", examples=["hens"])]
Labels = Annotated[list[Label], Meta(max_length=20, examples=[["hens"]])]
Priority = Annotated[int, Meta(ge=0, le=5, examples=[3])]
Moment = Annotated[datetime, Meta(tz=True, examples=["2026-02-02T05:00:00Z"])]
Id = Annotated[str, Meta(min_length=1, max_length=64)]
Assignees = Annotated[list[Id], Meta(max_length=20)]
Body = Annotated[str, Meta(min_length=1, max_length=10_000)]


# ---- forms


class NewProject(Form):
    name: Name
    description: About = ""


class ProjectPatch(Form):
    name: Name | UnsetType = UNSET
    description: About | UnsetType = UNSET


class MemberForm(Form):
    role: Literal["viewer", "editor", "admin"]


class RecurrenceForm(Form):
    """A rule of RFC 5545 without `RRULE:` and DTSTART, in a time zone. It leaves out its `exdates`."""

    rule: Annotated[str, Meta(min_length=1, max_length=500, examples=["FREQ=WEEKLY;BYDAY=MO"])]
    time_zone: Annotated[str, Meta(max_length=64, examples=["Africa/Nairobi"])] = "UTC"
    exdates: Annotated[list[Moment], Meta(max_length=100)] | UnsetType = UNSET
    counted_from: Literal["due", "completion"] | UnsetType = UNSET


class NewTask(Form):
    title: Title
    description: Description = ""
    labels: Labels = []
    priority: Priority = 0
    due: Moment | None = None
    recurrence: RecurrenceForm | None = None
    assignees: Assignees = []
    parent_id: Id | None = None


class TaskPatch(Form):
    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    due: Moment | UnsetType | None = UNSET
    recurrence: RecurrenceForm | UnsetType | None = UNSET
    assignees: Assignees | UnsetType = UNSET
    parent_id: Id | UnsetType | None = UNSET


class Move(Form):
    """After one task or before one: exactly one of the two."""

    after: Id | UnsetType = UNSET
    before: Id | UnsetType = UNSET


class CommentForm(Form):
    body: Body


class NewReminder(Form):
    """At a time, or counted from `due`: exactly one of the two."""

    at: Moment | UnsetType = UNSET
    minutes_before_due: Annotated[int, Meta(ge=0, le=525_600, examples=[30])] | UnsetType = UNSET


# ---- views


class Kept(View):
    """What everything stored shows."""

    created_at: datetime
    updated_at: datetime
    version: int


class ProjectView(Kept):
    id: str
    name: str
    description: str
    owner_id: str
    role: Role


class MemberView(Kept):
    user_id: str
    role: Role
    name: str | UnsetType = UNSET


class TaskView(Kept):
    id: str
    project_id: str
    title: str
    description: str
    labels: list[str]
    priority: int
    due: datetime | None
    recurrence: Recurrence | None
    assignees: list[str]
    parent_id: str | None
    position: str
    status: Status
    completed_at: datetime | None
    completed_by: str | None
    next_id: str | None
    created_by: str


class TaskLine(View):
    """A task in a word, where it is about others."""

    id: str
    title: str
    status: Status


class RelationsView(Struct):
    blocks: list[TaskLine]
    blocked_by: list[TaskLine]


class CommentView(Kept):
    id: str
    task_id: str
    author_id: str
    body: str


class ReminderView(Kept):
    id: str
    task_id: str
    at: datetime | None
    minutes_before_due: int | None
    channel: Literal["email"]
    sent_at: datetime | None
