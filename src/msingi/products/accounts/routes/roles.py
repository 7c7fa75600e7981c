"""Roles, and the permissions that they carry."""

from msingi.kit import roles as kept
from msingi.kit.auth import Actor
from msingi.kit.errors import Stale
from msingi.kit.http import Body, Given, Path, delete, get, patch, post
from msingi.kit.replies import KitResponse, created
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import roles
from msingi.products.accounts.schemas.roles import (
    NewRole,
    PermissionsView,
    PermissionView,
    RolePatch,
    RolesView,
    RoleView,
)

MANAGE = "roles:manage"


@get("/permissions", permission=MANAGE)
async def list_permissions() -> PermissionsView:
    """Every permission there is, whose it is, and which roles carry it."""
    found, there = kept.known_permissions(), await queries.roles.all_roles()
    return PermissionsView(
        items=[
            PermissionView(name=name, product=product, roles=[each.name for each in there if name in each.permissions])
            for name, product in sorted(found.items())
        ]
    )


@get("/roles", permission=MANAGE)
async def list_roles() -> RolesView:
    """Every role there is."""
    return RolesView(items=await queries.roles.all_roles())


@post(
    "/roles",
    permission=MANAGE,
    step_up=True,
    problems=[rules.roles.RoleExists, rules.roles.RoleInUse, rules.roles.UnknownPermission, rules.roles.AboveYou],
)
async def add_role(data: Body[NewRole], actor: Given[Actor]) -> KitResponse[RoleView]:
    """Make a role."""
    role = await roles.add(data, actor)
    return created(role, f"/v1/accounts/roles/{role.name}")


@get("/roles/{role_name:str}", permission=MANAGE)
async def show_role(role_name: Path[str]) -> RoleView:
    """One of them."""
    return await queries.roles.role(role_name)


@patch(
    "/roles/{role_name:str}",
    permission=MANAGE,
    step_up=True,
    problems=[rules.roles.UnknownPermission, rules.roles.KeptPermission, rules.roles.AboveYou, Stale],
)
async def change_role(
    role_name: Path[str], data: Body[RolePatch], actor: Given[Actor], if_match: Given[int | None]
) -> RoleView:
    """Let a role carry something else, at once for everybody who holds it."""
    return await roles.change(role_name, data, if_match, actor)


@delete(
    "/roles/{role_name:str}",
    permission=MANAGE,
    step_up=True,
    problems=[rules.roles.RoleInUse, rules.roles.AboveYou, Stale],
)
async def remove_role(role_name: Path[str], actor: Given[Actor], if_match: Given[int | None]) -> None:
    """Remove a role; one that the code knows is again what the code makes of it."""
    await roles.remove(role_name, if_match, actor)


routes = [list_permissions, list_roles, add_role, show_role, change_role, remove_role]
