"""A task: made, changed, moved, removed."""

from typing import Any

from msgspec.structs import replace

from msingi.kit.again import on_the_newest, until_it_fits
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import allow
from msingi.kit.ids import new_id
from msingi.kit.unit import atomic, guarded
from msingi.products.tasks import queries, rules
from msingi.products.tasks.actions import reminders as reminding
from msingi.products.tasks.actions.relations import check_fits_under, hold
from msingi.products.tasks.actions.telling import tell
from msingi.products.tasks.graph import reached
from msingi.products.tasks.models import Member, Task, comments, members, relations, reminders, tasks
from msingi.products.tasks.ordering import between
from msingi.products.tasks.queries import SeenTask
from msingi.products.tasks.schemas import Move, NewTask, TaskPatch


async def add(here: Member, new: NewTask, actor: Actor) -> Task:
    """Make a task, last in its project."""
    allow(rules.may_edit(here))
    given = rules.tidied(new.given())
    await _check_others(here.project_id, given, actor)
    if await tasks.count({"project_id": here.project_id}, limit=rules.MOST_TASKS) >= rules.MOST_TASKS:
        raise rules.Full(most=rules.MOST_TASKS)
    make = _add_part if given["parent_id"] else _add
    return await until_it_fits(lambda: make(here, given))


@guarded
async def _add(here: Member, given: dict[str, Any]) -> Task:
    position = between(await queries.last_position(here.project_id), None)
    at = now()
    blank = Task(project_id=here.project_id, created_by=here.user_id, title="", position=position)
    whole = rules.what_follows(blank, rules.differences(blank, given), new_id())
    task = await tasks.add(replace(blank, **whole, created_at=at, updated_at=at))
    await tell("task_added", task)
    return task


@atomic
async def _add_part(here: Member, given: dict[str, Any]) -> Task:
    await check_fits_under(given["parent_id"], here.project_id)
    return await _add(here, given)


async def edit(seen: SeenTask, patch: TaskPatch, actor: Actor, if_match: int | None) -> Task:
    """Change what the patch says, and nothing if it says nothing new."""
    allow(rules.may_edit(seen.member))
    wanted = rules.tidied(patch.given())
    await _check_others(seen.task.project_id, wanted, actor)

    async def write(task: Task) -> Task:
        rules.check_version(task, if_match)
        changes = rules.what_follows(task, rules.differences(task, wanted), new_id())
        if not changes:
            return task
        # What others hang on is changed together with them; all else decides by itself.
        return await (_change_with_others if {"due", "parent_id"} & changes.keys() else _change)(task, changes)

    return await on_the_newest(tasks, seen.task, if_match, write)


@guarded
async def _change(task: Task, changes: dict[str, Any]) -> Task:
    changed = await tasks.change(task.id, {"$set": changes}, when={"version": task.version})
    await tell("task_changed", changed)
    return changed


@atomic
async def _change_with_others(task: Task, changes: dict[str, Any]) -> Task:
    if changes.get("parent_id"):
        await check_fits_under(changes["parent_id"], task.project_id, task.id)
    changed = await _change(task, changes)
    if "due" in changes:
        await reminding.follow(changed)
    return changed


async def _check_others(project_id: str, given: dict[str, Any], actor: Actor) -> None:
    """Raise unless the people and the parent that a form names may be named."""
    wanted = given.get("assignees") or []
    if wanted:
        ids = [queries.member_id(project_id, each) for each in wanted]
        there = {each.user_id for each in await members.many({"_id": {"$in": ids}})}
        for each in wanted:
            if each not in there:
                raise rules.NotAMember(user=each)
    if given.get("parent_id"):
        parent = (await queries.task(given["parent_id"], actor)).task
        rules.check_same_project(parent.project_id, project_id)


async def move(seen: SeenTask, form: Move, actor: Actor, if_match: int | None) -> Task:
    """Put a task right after another, or right before it."""
    allow(rules.may_edit(seen.member))
    rules.check_move(seen.task, form.after, form.before)
    after = isinstance(form.after, str)
    target = (await queries.task(str(form.after if after else form.before), actor)).task
    rules.check_same_project(target.project_id, seen.task.project_id)

    async def write(task: Task) -> Task:
        rules.check_version(task, if_match)
        beside = await tasks.get(target.id)
        next_to = await queries.neighbour(task.project_id, beside.position, after=after)
        if next_to is not None and next_to.id == task.id:  # it is there: by us, or by somebody a moment ago
            rules.check_version(next_to, if_match)
            return next_to
        beyond = next_to.position if next_to else None
        return await _move(task, between(beside.position, beyond) if after else between(beyond, beside.position))

    return await on_the_newest(tasks, seen.task, if_match, write)


@guarded
async def _move(task: Task, position: str) -> Task:
    moved = await tasks.change(task.id, {"$set": {"position": position}}, when={"version": task.version})
    await tell("task_moved", moved)
    return moved


async def remove(seen: SeenTask, if_match: int | None) -> None:
    """Remove a task with its subtasks, and all that hangs on them."""
    allow(rules.may_edit(seen.member))
    await _remove(seen.task, if_match)


@atomic
async def _remove(task: Task, if_match: int | None) -> None:
    await hold(task.project_id)
    rules.check_version(await tasks.get(task.id), if_match)
    ids = [task.id, *reached(await queries.parts(task.project_id), task.id)]
    await tasks.remove_many({"_id": {"$in": ids}})
    await relations.remove_many({"$or": [{"blocker": {"$in": ids}}, {"blocked": {"$in": ids}}]})
    for store in (comments, reminders):
        await store.remove_many({"task_id": {"$in": ids}})
    await tell("task_removed", task)
