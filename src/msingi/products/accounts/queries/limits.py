"""Limits as they are now."""

from datetime import datetime

from litestar import Litestar
from msgspec import Struct

from msingi.kit import limits
from msingi.kit.limits import GENERAL, ROLE, ChangedLimit, changed_limits
from msingi.products.accounts import rules
from msingi.products.accounts.queries import roles


class LimitNow(Struct, frozen=True):
    """A limit, what it is by default and what it is now. Version 0: nobody changed it."""

    name: str
    route: str
    default: str
    limit: str
    changed: bool = False
    updated_at: datetime | None = None
    version: int = 0

    @property
    def general(self) -> bool:
        """Whether it holds for all requests of a caller together."""
        return not self.route


async def all_limits(app: Litestar) -> list[LimitNow]:
    """The general limits first, then those of routes, each by name."""
    rows = {row.id: row for row in await changed_limits.many({})}
    found = {**_general(), **_routes(app)}
    found |= {name: _of_role() for name in rows if name.startswith(ROLE) and name not in found}
    return [_now(name, route, default, rows.get(name)) for name, (route, default) in found.items()]


async def limit(name: str, app: Litestar) -> LimitNow:
    """One limit. Raises NoSuchLimit."""
    row, found = await changed_limits.find({"_id": name}), {**_general(), **_routes(app)}
    if name in found:
        return _now(name, *found[name], row)
    if name.startswith(ROLE) and name.removeprefix(ROLE) in await roles.role_names():
        return _now(name, *_of_role(), row)
    raise rules.limits.NoSuchLimit


def _general() -> dict[str, tuple[str, str]]:
    said = limits.general_limits()
    return {name: ("", said[name]) for name in [*GENERAL, *sorted(said.keys() - set(GENERAL))]}


def _of_role() -> tuple[str, str]:
    """A role that no setting gives a limit has the member's."""
    return "", limits.general_limits()["member"]


def _routes(app: Litestar) -> dict[str, tuple[str, str]]:
    return dict(sorted(limits.route_limits(app).items()))


def _now(name: str, route: str, default: str, row: ChangedLimit | None) -> LimitNow:
    if row is None:
        return LimitNow(name, route, default, default)
    return LimitNow(name, route, default, row.limit, True, row.updated_at, row.version)
