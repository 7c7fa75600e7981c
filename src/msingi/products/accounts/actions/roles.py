"""Roles: made, changed and removed while the house runs; every process knows within moments."""

from msingi.kit import actors, audit
from msingi.kit import roles as kept
from msingi.kit.auth import Actor
from msingi.kit.errors import AlreadyExists, Stale
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.schemas.roles import NewRole, RolePatch, RoleView


@atomic
async def add(form: NewRole, actor: Actor) -> RoleView:
    """A new role. Raises RoleExists, UnknownPermission, AboveYou; RoleInUse if somebody still holds one so named."""
    if form.name in await queries.roles.role_names():
        raise rules.roles.RoleExists
    if await accounts.exists({"roles": form.name}):
        raise rules.roles.RoleInUse
    _check(form.name, form.permissions, [], actor)
    try:
        await kept.roles.add(kept.Role(id=form.name, permissions=sorted(set(form.permissions)), about=form.about))
    except AlreadyExists:
        raise rules.roles.RoleExists from None
    return await _told("role_made", form.name, actor)


@atomic
async def change(name: str, patch: RolePatch, if_match: int | None, actor: Actor) -> RoleView:
    """Let a role carry something else, at once for everybody who holds it.

    Raises UnknownPermission, KeptPermission, AboveYou, Stale, NotFound.
    """
    before = await queries.roles.role(name)
    if if_match not in (None, before.version):
        raise Stale
    given = patch.given()
    if "permissions" in given:
        given["permissions"] = sorted(set(given["permissions"]))
        _check(name, given["permissions"], before.permissions, actor)
    if before.changed:
        await kept.roles.change(name, {"$set": given}, {"version": before.version})
    else:
        whole = {"permissions": before.permissions, "about": before.about, **given}
        await _add_changed(kept.Role(id=name, **whole))
    return await _told("role_changed", name, actor)


async def _add_changed(role: kept.Role) -> None:
    try:
        await kept.roles.add(role)
    except AlreadyExists:
        raise Stale from None


def _check(name: str, permissions: list[str], before: list[str], actor: Actor) -> None:
    """What it carried already it may go on to carry, even if the code does not know it any more."""
    known = kept.known_permissions().keys() | set(before)
    rules.roles.check_permissions(permissions, known, actors.kept_by(name))
    if not rules.roles.reaches(actor, {*permissions, *before}):
        raise rules.roles.AboveYou


@atomic
async def remove(name: str, if_match: int | None, actor: Actor) -> None:
    """Remove a role; one that the code knows is again what the code makes of it.

    Raises RoleInUse, AboveYou, Stale, NotFound.
    """
    before = await queries.roles.role(name)
    if if_match not in (None, before.version):
        raise Stale
    default = kept.default_grants().get(name, frozenset())
    if not rules.roles.reaches(actor, {*before.permissions, *default}):
        raise rules.roles.AboveYou
    if not before.built_in and await accounts.exists({"roles": name}):
        raise rules.roles.RoleInUse
    if await kept.roles.remove_many({"_id": name, "version": before.version}):
        kept.followed.changes()
        await audit.note("accounts.role_removed", actor=actor, about=name)
    elif before.changed:
        raise Stale


async def _told(what: str, name: str, actor: Actor) -> RoleView:
    after = await queries.roles.role(name)
    kept.followed.changes()
    await audit.note(f"accounts.{what}", actor=actor, about=name, permissions=after.permissions)
    return after
