"""Projects, and who is in them."""

from typing import Annotated

from litestar.params import Parameter
from litestar.response import Stream

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging
from msingi.kit.http import Body, Given, Path, Query, delete, get, patch, post, put
from msingi.kit.replies import KitResponse, created
from msingi.products.tasks import exports, queries, rules
from msingi.products.tasks.actions import members, projects
from msingi.products.tasks.models import Member
from msingi.products.tasks.queries import SeenProject
from msingi.products.tasks.schemas import MemberForm, MemberView, NewProject, ProjectPatch, ProjectView


async def member_in_path(project_id: Path[str], actor: Given[Actor]) -> Member:
    return await queries.member(project_id, actor)


async def project_in_path(project_id: Path[str], actor: Given[Actor]) -> SeenProject:
    return await queries.project(project_id, actor)


@get("/projects")
async def list_projects(actor: Given[Actor], page: Given[Paging]) -> Page[ProjectView]:
    """The projects that one is in, the newest first."""
    return await queries.own_projects(actor, page)


@post("/projects", problems=[rules.Full])
async def found_project(data: Body[NewProject], actor: Given[Actor]) -> KitResponse[ProjectView]:
    """Make a project, and own it."""
    project = await projects.found(data, actor)
    return created(ProjectView.of(project, role="owner"), f"/v1/tasks/projects/{project.id}")


@get("/projects/{project_id:str}")
async def show_project(project: Given[SeenProject]) -> ProjectView:
    """One project."""
    return _shown(project)


@patch("/projects/{project_id:str}")
async def edit_project(
    project: Given[SeenProject], data: Body[ProjectPatch], if_match: Given[int | None]
) -> ProjectView:
    """Change name or description."""
    return _shown(SeenProject(await projects.edit(project, data, if_match), project.member))


@delete("/projects/{project_id:str}")
async def remove_project(project: Given[SeenProject], if_match: Given[int | None]) -> None:
    """Remove a project with all that is in it."""
    await projects.remove(project, if_match)


def _shown(seen: SeenProject) -> ProjectView:
    view: ProjectView = ProjectView.of(seen.project, role=seen.member.role)
    return view


@get("/projects/{project_id:str}/members")
async def list_members(member: Given[Member], page: Given[Paging]) -> Page[MemberView]:
    """Who is in a project, the longest first."""
    return await queries.members_of(member.project_id, page)


@put("/projects/{project_id:str}/members/{user_id:str}", problems=[rules.OwnerStays, rules.NoSuchUser, rules.Full])
async def let_member_in(
    member: Given[Member], user_id: Path[str], data: Body[MemberForm], if_match: Given[int | None]
) -> MemberView:
    """Add somebody, or give them another role."""
    return queries.shown_member(await members.let_in(member, user_id, data.role, if_match))


@delete("/projects/{project_id:str}/members/{user_id:str}", problems=[rules.OwnerStays])
async def remove_member(member: Given[Member], user_id: Path[str], if_match: Given[int | None]) -> None:
    """Remove somebody, or leave."""
    await members.remove(member, user_id, if_match)


@get("/projects/{project_id:str}/export", problems=[rules.BadFormat])
async def export_project(
    project: Given[SeenProject],
    format: Query[Annotated[str, Parameter(description="json, csv or ics")]] = "json",
) -> Stream:
    """A project to take away."""
    if format not in exports.MEDIA:
        raise rules.BadFormat
    headers = {"Content-Disposition": f'attachment; filename="project.{format}"'}
    return Stream(exports.export(project, format), media_type=exports.MEDIA[format], headers=headers)


routes = [
    list_projects,
    found_project,
    show_project,
    edit_project,
    remove_project,
    list_members,
    let_member_in,
    remove_member,
    export_project,
]
dependencies = {"member": member_in_path, "project": project_in_path}
