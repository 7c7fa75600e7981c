"""Roles, and what they carry: a box for each permission, by product."""

from collections.abc import Iterable
from typing import Any

from litestar import Response
from litestar.datastructures import FormMultiDict
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.kit import pages
from msingi.kit import roles as kept
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.errors import Problem
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.products.accounts import queries
from msingi.products.accounts.actions import roles
from msingi.products.accounts.models.people import Role
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show
from msingi.products.accounts.schemas.roles import About, NewRole, Permissions, RolePatch, RoleView

HERE = "/admin/roles"
MANAGE = "roles:manage"
HOLDERS = 20
REMOVE = Question("Delete this role?", "Nobody may hold it any more when it goes.", "Delete it")
RESET = Question(
    "Set this role back?",
    "It carries again what the code gives it, at once for everybody who holds it.",
    "Set it back",
)


class New(Struct):
    """A role that there is not yet."""

    name: Role
    about: About = ""
    permissions: Permissions = []


class Carried(Struct):
    """What a role carries from now on."""

    version: int
    about: About = ""
    permissions: Permissions = []


@page_at("/admin/roles", permission=MANAGE)
async def show_roles(request: AnyRequest) -> Response[str]:
    """Every role there is."""
    return show("roles", request, roles=await queries.roles.all_roles())


# A role's name begins with a letter, so none is in the way of this address.
@page_at("/admin/roles/_new", permission=MANAGE, step_up=True)
async def show_new_role(request: AnyRequest) -> Response[str]:
    """Make one."""
    return await _new(request)


@form_at("/admin/roles/_new", permission=MANAGE, step_up=True)
async def make_role_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """It is there."""
    try:
        form = await pages.form_of(request, New)
        asked = NewRole(name=form.name, permissions=form.permissions, about=form.about.strip())
        role = await roles.add(asked, actor)
    except Problem as problem:
        return await _new(request, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{role.name}", "role_made")


async def _new(request: AnyRequest, problem: Problem | None = None) -> Response[str]:
    typed = await request.form() if problem else FormMultiDict({})
    held = typed.getall("permissions", [])
    return show("new_role", request, problem, groups=_groups(held), typed=typed, held=held, keeps=[])


def _groups(carried: Iterable[str]) -> dict[str, list[str]]:
    """All permissions by the product that they are of; last those that no code of this process knows."""
    known = kept.known_permissions()
    groups: dict[str, list[str]] = {}
    for name, product in sorted(known.items(), key=lambda each: (each[1], each[0])):
        groups.setdefault(product, []).append(name)
    unknown = sorted(set(carried) - known.keys())
    return {**groups, "": unknown} if unknown else groups


@page_at("/admin/roles/{role_name:str}", permission=MANAGE)
async def show_role_on_page(request: AnyRequest, role_name: Path[str], actor: Given[Actor]) -> Response[str]:
    """One of them, and who holds it."""
    role = await queries.roles.role(role_name)
    carried = set(role.permissions)
    groups = {group: [each for each in names if each in carried] for group, names in _groups(carried).items()}
    holders = (
        await queries.people.users({"roles": role_name}, "", Paging(limit=HOLDERS))
        if actor.may("users:manage")
        else None
    )
    return show("role", request, role=role, groups=groups, holders=holders)


@page_at("/admin/roles/{role_name:str}/permissions", permission=MANAGE, step_up=True)
async def show_permissions(request: AnyRequest, role_name: Path[str]) -> Response[str]:
    """The boxes."""
    return await _permissions(request, await queries.roles.role(role_name))


@form_at("/admin/roles/{role_name:str}/permissions", permission=MANAGE, step_up=True)
async def change_role_on_page(request: AnyRequest, role_name: Path[str], actor: Given[Actor]) -> Response[Any]:
    """They are ticked as they shall be."""
    role = await queries.roles.role(role_name)
    try:
        form = await pages.form_of(request, Carried)
        asked = sorted({*form.permissions, *role.keeps})  # boxes that cannot be emptied are not sent
        await roles.change(role_name, RolePatch(permissions=asked, about=form.about.strip()), form.version, actor)
    except Problem as problem:
        return await _permissions(request, role, pages.to_show(problem))
    return pages.gone_well(f"{HERE}/{role_name}")


async def _permissions(request: AnyRequest, role: RoleView, problem: Problem | None = None) -> Response[str]:
    return show(
        "edit_role",
        request,
        problem,
        role=role,
        groups=_groups(role.permissions),
        held=role.permissions,
        keeps=role.keeps,
    )


@page_at("/admin/roles/{role_name:str}/removal", permission=MANAGE, step_up=True)
async def show_role_removal(request: AnyRequest, role_name: Path[str]) -> Response[str]:
    """Ask before it goes."""
    return _removal(request, await queries.roles.role(role_name))


@form_at("/admin/roles/{role_name:str}/removal", permission=MANAGE, step_up=True)
async def remove_role_on_page(request: AnyRequest, role_name: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It is gone, or again what the code makes of it."""
    await pages.form_of(request, Nothing)
    role = await queries.roles.role(role_name)
    try:
        await roles.remove(role_name, None, actor)
    except Problem as problem:
        return _removal(request, role, pages.to_show(problem))
    return pages.gone_well(HERE, "role_reset" if role.built_in else "role_removed")


def _removal(request: AnyRequest, role: RoleView, problem: Problem | None = None) -> Response[str]:
    question = RESET if role.built_in else REMOVE
    return ask(question, request, f"{HERE}/{role.name}", about=role.name, problem=problem)


routes: list[ControllerRouterHandler] = [
    show_roles,
    show_new_role,
    make_role_on_page,
    show_role_on_page,
    show_permissions,
    change_role_on_page,
    show_role_removal,
    remove_role_on_page,
]
