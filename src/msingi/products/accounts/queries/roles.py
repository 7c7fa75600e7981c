"""Roles and permissions as they are now."""

from msingi.kit import actors
from msingi.kit import roles as kept
from msingi.kit.errors import NotFound
from msingi.products.accounts import rules
from msingi.products.accounts.schemas.roles import RoleView


async def all_roles() -> list[RoleView]:
    """Every role there is, by name."""
    rows = {row.id: row for row in await kept.roles.many({})}
    return [_now(name, rows.get(name)) for name in sorted(built_in() | rows.keys())]


async def role(name: str) -> RoleView:
    """One role. Raises NotFound."""
    row = await kept.roles.find({"_id": name})
    if row is None and name not in built_in():
        raise NotFound
    return _now(name, row)


async def role_names() -> set[str]:
    """The names of all roles."""
    return {row.id for row in await kept.roles.many({})} | built_in()


def built_in() -> set[str]:
    """The roles that the code knows."""
    return {rules.roles.EVERYBODYS, rules.roles.ADMIN} | kept.default_grants().keys()


def _now(name: str, row: kept.Role | None) -> RoleView:
    keeps = actors.kept_by(name)
    given = kept.default_grants().get(name, frozenset()) if row is None else frozenset(row.permissions)
    return RoleView(
        name=name,
        about=row.about if row else "",
        permissions=sorted(given | keeps),
        keeps=sorted(keeps),
        built_in=name in built_in(),
        changed=row is not None,
        updated_at=row.updated_at if row else None,
        version=row.version if row else 0,
    )
