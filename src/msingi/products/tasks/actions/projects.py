"""Projects, from the first to the last day."""

from typing import Any

from msingi.kit import live
from msingi.kit.again import on_the_newest
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.db import Collection
from msingi.kit.errors import allow
from msingi.kit.events import emit
from msingi.kit.unit import atomic, guarded
from msingi.products.tasks import queries, rules
from msingi.products.tasks.actions.telling import topic
from msingi.products.tasks.contract import ProjectRemoved
from msingi.products.tasks.models import (
    Graph,
    Member,
    Project,
    comments,
    graphs,
    members,
    projects,
    relations,
    reminders,
    tasks,
)
from msingi.products.tasks.queries import SeenProject
from msingi.products.tasks.schemas import NewProject, ProjectPatch


@atomic
async def found(new: NewProject, actor: Actor) -> Project:
    """Make a project, owned by whoever makes it."""
    if await projects.count({"owner_id": actor.id}, limit=rules.MOST_PROJECTS) >= rules.MOST_PROJECTS:
        raise rules.Full(most=rules.MOST_PROJECTS)
    at = now()
    given = rules.tidied(new.given())
    project = await projects.add(Project(owner_id=actor.id, created_at=at, updated_at=at, **given))
    await members.add(member_of(project.id, actor.id, "owner"))
    await graphs.add(Graph(id=project.id))
    return project


def member_of(project_id: str, user_id: str, role: Any) -> Member:
    at = now()
    whole = queries.member_id(project_id, user_id)
    return Member(id=whole, project_id=project_id, user_id=user_id, role=role, created_at=at, updated_at=at)


async def edit(seen: SeenProject, patch: ProjectPatch, if_match: int | None) -> Project:
    """Change name or description."""
    allow(rules.may_manage(seen.member))
    wanted = rules.tidied(patch.given())

    async def write(project: Project) -> Project:
        rules.check_version(project, if_match)
        changes = rules.differences(project, wanted)
        return await _change(project, changes) if changes else project

    return await on_the_newest(projects, seen.project, if_match, write)


@guarded
async def _change(project: Project, changes: dict[str, Any]) -> Project:
    return await projects.change(project.id, {"$set": changes}, when={"version": project.version})


async def remove(seen: SeenProject, if_match: int | None) -> None:
    """Remove a project. Nobody sees anything of it from then on; what was in it is cleared away by a job."""
    allow(seen.member.role == "owner")

    async def write(project: Project) -> None:
        rules.check_version(project, if_match)
        await close(project)

    await on_the_newest(projects, seen.project, if_match, write)


@atomic
async def close(project: Project) -> None:
    """Take a project and its members away, in one."""
    await projects.remove(project)
    await members.remove_many({"project_id": project.id})
    await emit(ProjectRemoved(project_id=project.id))
    await live.recheck(topic(project.id))


async def clear(project_id: str) -> None:
    """Remove whatever a removed project left behind. It may be done twice, or go on where it stopped."""
    for store in (reminders, comments, relations, tasks, members):
        await _empty(store, {"project_id": project_id})
    await _empty(graphs, {"_id": project_id})


@guarded
async def _empty(store: Collection[Any], where: dict[str, str]) -> None:
    await store.remove_many(where)


@atomic
async def hand_over(project: Project, heir: Member) -> None:
    """Give a project another owner, since the one it had is no more."""
    await members.remove_many({"_id": queries.member_id(project.id, project.owner_id)})
    await members.change(heir.id, {"$set": {"role": "owner"}})
    await projects.change(project.id, {"$set": {"owner_id": heir.user_id}}, when={"version": project.version})
