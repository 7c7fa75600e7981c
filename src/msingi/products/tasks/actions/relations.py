"""What blocks what, and what is part of what: no circle, however many draw at the same moment.

Every such edit writes the project's graph document first. Two that overlap cannot both commit: MongoDB lets one run
again, and it then sees what the other drew.
"""

from msingi.kit.auth import Actor
from msingi.kit.errors import allow
from msingi.kit.unit import atomic, guarded
from msingi.products.tasks import queries, rules
from msingi.products.tasks.actions.telling import tell
from msingi.products.tasks.graph import closes_a_circle
from msingi.products.tasks.models import Relation, Task, graphs, relations, tasks
from msingi.products.tasks.queries import SeenTask


async def hold(project_id: str) -> None:
    """Be the only one to edit a project's graph until the transaction under way ends. Raises NotFound."""
    await graphs.change(project_id, {"$inc": {"edits": 1}})


async def check_fits_under(parent_id: str, project_id: str, task_id: str = "") -> None:
    """Raise unless a task (a new one, without `task_id`) may be part of this parent. Belongs in a transaction."""
    await hold(project_id)
    parent = await tasks.get(parent_id)
    rules.check_same_project(parent.project_id, project_id)
    if task_id and closes_a_circle(await queries.parts(project_id), parent_id, task_id):
        raise rules.WouldBeACircle


async def relate(seen: SeenTask, other_id: str, actor: Actor) -> None:
    """Let a task block another."""
    allow(rules.may_edit(seen.member))
    other = (await queries.task(other_id, actor)).task
    rules.check_same_project(other.project_id, seen.task.project_id)
    if not await relations.exists({"_id": _id(seen.task.id, other_id)}):
        await _relate(seen.task, other)


@atomic
async def _relate(task: Task, other: Task) -> None:
    project_id = task.project_id
    await hold(project_id)
    if await relations.exists({"_id": _id(task.id, other.id)}):
        return
    for each in (task, other):
        await tasks.get(each.id)
    if await relations.count({"project_id": project_id}, limit=rules.MOST_RELATIONS) >= rules.MOST_RELATIONS:
        raise rules.Full(most=rules.MOST_RELATIONS)
    if closes_a_circle(await queries.blocking(project_id), task.id, other.id):
        raise rules.WouldBeACircle
    drawn = Relation(id=_id(task.id, other.id), project_id=project_id, blocker=task.id, blocked=other.id)
    await relations.add(drawn)
    for each in (task, other):
        await tell("task_changed", each)


async def unrelate(seen: SeenTask, other_id: str, actor: Actor) -> None:
    """Let a task block another no longer."""
    allow(rules.may_edit(seen.member))
    other = (await queries.task(other_id, actor)).task
    if await _unrelate(seen.task, other):
        for each in (seen.task, other):
            await tell("task_changed", each)


@guarded
async def _unrelate(task: Task, other: Task) -> int:
    return await relations.remove_many({"_id": _id(task.id, other.id)})


def _id(blocker: str, blocked: str) -> str:
    return f"{blocker}:{blocked}"
