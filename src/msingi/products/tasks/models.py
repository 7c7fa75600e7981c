"""What is stored. Whoever sees a project has a Member row in it; its Graph is the door to its relations."""

from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from msingi.kit.db import Collection, Doc, Index

Role = Literal["viewer", "editor", "admin", "owner"]
Status = Literal["open", "done"]


class Project(Doc):
    name: str
    owner_id: str
    description: str = ""


class Member(Doc):
    """A person in a project. The id says both, so nobody is in it twice."""

    project_id: str
    user_id: str
    role: Role


class Graph(Doc):
    """Written by every edit of a project's relations and parents, so that two at once conflict and one runs again."""

    edits: int = 0


class Recurrence(Struct, frozen=True, forbid_unknown_fields=True):
    """A rule of RFC 5545, and the zone on whose wall its clock hangs."""

    rule: str
    time_zone: str
    exdates: list[datetime] | UnsetType = UNSET
    counted_from: Literal["due", "completion"] | UnsetType = UNSET


class Task(Doc):
    project_id: str
    title: str
    created_by: str
    position: str
    description: str = ""
    labels: list[str] = []
    priority: int = 0
    due: datetime | None = None
    recurrence: Recurrence | None = None
    assignees: list[str] = []
    parent_id: str | None = None
    status: Status = "open"
    completed_at: datetime | None = None
    completed_by: str | None = None
    next_id: str | None = None
    words: list[str] = []  # of title and description, for the search
    title_words: list[str] = []  # those that count for more
    chain: str | None = None  # what the tasks of one recurrence share
    link: int = 1  # its place in the chain, from 1
    chain_start: datetime | None = None  # the due date that the rule is counted from
    reminders: int = 0  # raised with each reminder, so that one made while `due` moves does not miss the move


class Relation(Doc):
    """The blocker is to be done before the blocked can begin. The id says both."""

    project_id: str
    blocker: str
    blocked: str


class Comment(Doc):
    project_id: str
    task_id: str
    author_id: str
    body: str


class Reminder(Doc):
    """One letter to one person about one task: counted from `due`, or at a time."""

    project_id: str
    task_id: str
    user_id: str
    at: datetime | None
    minutes_before_due: int | None = None
    channel: Literal["email"] = "email"
    state: Literal["waiting", "sent", "dropped"] = "waiting"
    sent_at: datetime | None = None


projects = Collection(Project, "projects", indexes=["owner_id"])
members = Collection(Member, "members", indexes=["user_id", "project_id created_at _id"])
graphs = Collection(Graph, "graphs")
tasks = Collection(
    Task,
    "tasks",
    indexes=[
        Index("project_id position", unique=True),
        Index("chain link", unique=True, where={"chain": {"$type": "string"}}),
        # Each order that a list can have ends in the id, by which those that are alike in it are told apart.
        "project_id position _id",
        "project_id parent_id position _id",
        "project_id -created_at -_id",
        "project_id status -created_at -_id",
        "project_id updated_at _id",
        "project_id due _id",
        "project_id priority _id",
        "project_id words",
        "assignees",
    ],
)
relations = Collection(Relation, "relations", indexes=["project_id", "blocker", "blocked"])
comments = Collection(Comment, "comments", indexes=["task_id created_at _id", "project_id"])
reminders = Collection(
    Reminder, "reminders", indexes=["state at", "task_id user_id at _id", "project_id user_id", "user_id"]
)

STORES: list[Collection[Any]] = [projects, members, graphs, tasks, relations, comments, reminders]
