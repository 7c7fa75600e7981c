"""What may be read: nothing is fetched without saying who asks, and what they may not see does not exist."""

from asyncio import gather
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import NotFound
from msingi.kit.search import best_of, words_of
from msingi.products.accounts.contract import known_people
from msingi.products.tasks import rules
from msingi.products.tasks.models import (
    Comment,
    Member,
    Project,
    Reminder,
    Role,
    Task,
    comments,
    members,
    projects,
    relations,
    reminders,
    tasks,
)
from msingi.products.tasks.schemas import MemberView, ProjectView, RelationsView, TaskLine, TaskView

SORTS = ("position", "-created_at", "updated_at", "due", "priority", "title")
NEWEST = ("-created_at", *(sort for sort in SORTS if sort != "-created_at"))


class SeenProject(NamedTuple):
    """A project, and the member that sees it."""

    project: Project
    member: Member


class SeenTask(NamedTuple):
    """A task, and the member that sees it."""

    task: Task
    member: Member


# ---- who sees what


def member_id(project_id: str, user_id: str) -> str:
    return f"{project_id}:{user_id}"


async def member(project_id: str, actor: Actor) -> Member:
    """The actor as a member of a project. Raises NotFound for whoever is none."""
    return await members.get(member_id(project_id, actor.id))


async def project(project_id: str, actor: Actor) -> SeenProject:
    here, found = await gather(member(project_id, actor), projects.get(project_id))
    return SeenProject(found, here)


async def task(task_id: str, actor: Actor) -> SeenTask:
    found = await tasks.get(task_id)
    return SeenTask(found, await member(found.project_id, actor))


async def may_follow(project_id: str, actor: Actor) -> None:
    """Raise NotFound unless the actor may follow a project's live topic."""
    await member(project_id, actor)


async def roles(actor: Actor) -> dict[str, Role]:
    """The projects that the actor sees, and what they are in each."""
    mine = await members.many({"user_id": actor.id}, limit=2 * rules.MOST_PROJECTS)
    return {each.project_id: each.role for each in mine}


# ---- projects


async def own_projects(actor: Actor, page: Paging) -> Page[ProjectView]:
    mine = await roles(actor)
    found = await projects.page({"_id": {"$in": list(mine)}}, page, sorts=("-created_at", "updated_at", "name"))
    return found.map(lambda each: ProjectView.of(each, role=mine[each.id]))


async def members_of(project_id: str, page: Paging) -> Page[MemberView]:
    found = await members.page({"project_id": project_id}, page, sorts=("created_at", "role"))
    names = {each.id: each.name for each in await known_people([each.user_id for each in found.items]) or ()}
    return found.map(lambda each: shown_member(each, names.get(each.user_id)))


def shown_member(each: Member, name: str | None = None) -> MemberView:
    return MemberView.of(each) if name is None else MemberView.of(each, name=name)


async def all_members(project_id: str) -> list[Member]:
    return await members.many({"project_id": project_id}, sort=[("created_at", 1), ("_id", 1)])


# ---- tasks


async def tasks_of(here: Member, actor: Actor, where: Where, text: str, page: Paging) -> Page[TaskView]:
    """A page of one project's tasks."""
    return await _tasks({"project_id": here.project_id}, _meant(where, actor), text, page, SORTS)


async def own_tasks(actor: Actor, where: Where, text: str, page: Paging) -> Page[TaskView]:
    """A page of the tasks of all the actor's projects."""
    seen = {"project_id": {"$in": list(await roles(actor))}}
    return await _tasks(seen, _meant(where, actor), text, page, NEWEST)


async def _tasks(seen: Where, where: Where, text: str, page: Paging, sorts: Sequence[str]) -> Page[TaskView]:
    wanted = {"$and": [seen, where]} if where else seen
    if not text.strip():
        return await tasks.page_of(TaskView, wanted, page, sorts=sorts)
    words = words_of(text)
    if not words:
        return Page([], None)  # nothing but signs: no task holds that as a word
    wanted = {"$and": [wanted, {"words": {"$all": words}}]}
    return (
        await tasks.page_of(TaskView, wanted, page, sorts=sorts)
        if page.sort
        else await best_of(TaskView, tasks, wanted, words, page, "title_words")
    )


def _meant(where: Where, actor: Actor) -> Where:
    """The filter with `me` as the asker, `null` as an empty list, and labels as they are stored."""
    return {"$and": [_meant_clause(clause, actor) for clause in where["$and"]]} if where else {}


def _meant_clause(clause: Where, actor: Actor) -> Where:
    return {field: _meant_value(field, value, actor) for field, value in clause.items()}


def _meant_value(field: str, value: Any, actor: Actor) -> Any:
    if field not in ("assignees", "labels"):
        return value
    if isinstance(value, dict):
        return {operator: _meant_value(field, given, actor) for operator, given in value.items()}
    if isinstance(value, list):
        return [_meant_value(field, each, actor) for each in value]
    if value is None:
        return []
    if field == "labels":
        return value.strip().lower()
    return actor.id if value == "me" else value


async def subtasks(parent: Task, page: Paging) -> Page[TaskView]:
    """The tasks that are parts of this one."""
    parts = {"project_id": parent.project_id, "parent_id": parent.id}
    return await tasks.page_of(TaskView, parts, page, sorts=SORTS)


async def all_tasks(project_id: str) -> AsyncIterator[Task]:
    """Every task of a project, in its order."""
    async for each in tasks.each({"project_id": project_id}, sort=[("position", 1)]):
        yield each


async def neighbour(project_id: str, position: str, *, after: bool) -> Task | None:
    """The task right after (or before) a position."""
    beyond, way = ("$gt", 1) if after else ("$lt", -1)
    return await tasks.find({"project_id": project_id, "position": {beyond: position}}, sort=[("position", way)])


async def last_position(project_id: str) -> str | None:
    last = await tasks.find({"project_id": project_id}, sort=[("position", -1)])
    return last.position if last else None


# ---- relations


async def relations_of(task: Task) -> RelationsView:
    ahead, behind = await gather(
        relations.many({"blocker": task.id}, limit=rules.MOST_RELATIONS),
        relations.many({"blocked": task.id}, limit=rules.MOST_RELATIONS),
    )
    ids = [*(each.blocked for each in ahead), *(each.blocker for each in behind)]
    found = {each.id: each for each in await tasks.many({"_id": {"$in": ids}}, limit=len(ids) or 1)}
    return RelationsView(
        blocks=[TaskLine.of(found[each.blocked]) for each in ahead if each.blocked in found],
        blocked_by=[TaskLine.of(found[each.blocker]) for each in behind if each.blocker in found],
    )


async def open_blockers(task: Task) -> list[str]:
    """The tasks that are to be done before this one and are not."""
    before = await relations.many({"blocked": task.id}, limit=rules.MOST_RELATIONS)
    ids = [each.blocker for each in before]
    return [each.id for each in await tasks.many({"_id": {"$in": ids}, "status": "open"}, limit=20)]


class Arrow(msgspec.Struct):
    """One end of something and the other."""

    source: str
    target: str


async def blocking(project_id: str) -> dict[str, list[str]]:
    """What blocks what in a project."""
    fields = {"source": "$blocker", "target": "$blocked"}
    return _arrows(await relations.aggregate([{"$match": {"project_id": project_id}}, {"$project": fields}], Arrow))


async def parts(project_id: str) -> dict[str, list[str]]:
    """What is part of what in a project: each parent with its subtasks."""
    wanted = {"project_id": project_id, "parent_id": {"$type": "string"}}
    fields = {"source": "$parent_id", "target": "$_id"}
    return _arrows(await tasks.aggregate([{"$match": wanted}, {"$project": fields}], Arrow))


def _arrows(found: list[Arrow]) -> dict[str, list[str]]:
    arrows: dict[str, list[str]] = {}
    for each in found:
        arrows.setdefault(each.source, []).append(each.target)
    return arrows


# ---- comments and reminders


async def comment(comment_id: str, task: Task) -> Comment:
    return await comments.get(comment_id, when={"task_id": task.id})


async def comments_on(task: Task, page: Paging) -> Page[Comment]:
    return await comments.page({"task_id": task.id}, page, sorts=("created_at",))


async def reminder(reminder_id: str, seen: SeenTask) -> Reminder:
    """One of the member's own reminders."""
    found = await reminders.get(reminder_id)
    if (found.task_id, found.user_id) != (seen.task.id, seen.member.user_id):
        raise NotFound
    return found


async def open_among(task_ids: Iterable[str]) -> dict[str, Task]:
    """Those of these tasks that are open."""
    found = await tasks.many({"_id": {"$in": sorted(set(task_ids))}, "status": "open"}, limit=0)
    return {each.id: each for each in found}


async def members_among(pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of these pairs of a project and a person that are a membership."""
    wanted = sorted({member_id(*each) for each in pairs})
    return {(each.project_id, each.user_id) for each in await members.many({"_id": {"$in": wanted}}, limit=0)}


async def reminders_on(seen: SeenTask, page: Paging) -> Page[Reminder]:
    own = {"task_id": seen.task.id, "user_id": seen.member.user_id}
    return await reminders.page(own, page, sorts=("at", "created_at"))


async def person(user_id: str) -> dict[str, Any]:
    """All that there is of somebody, for them to take away: what they own, made, wrote or were given to do."""
    theirs: Where = {"$or": [{"created_by": user_id}, {"assignees": user_id}, {"completed_by": user_id}]}
    mine = [each.project_id async for each in members.each({"user_id": user_id})]
    theirs = {"project_id": {"$in": mine}, **theirs}
    return {
        "projects": [msgspec.to_builtins(each) async for each in projects.each({"owner_id": user_id})],
        "memberships": [msgspec.to_builtins(each) async for each in members.each({"user_id": user_id})],
        "tasks": [_without_words(each) async for each in tasks.each(theirs)],
        "comments": [msgspec.to_builtins(each) async for each in comments.each({"author_id": user_id})],
        "reminders": [msgspec.to_builtins(each) async for each in reminders.each({"user_id": user_id})],
    }


def _without_words(task: Task) -> Any:
    return {name: value for name, value in msgspec.to_builtins(task).items() if name not in ("words", "title_words")}
