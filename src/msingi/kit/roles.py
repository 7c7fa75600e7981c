"""What an admin made of the roles while the house runs: it takes the place of what the code grants them.

Tokens carry the names of roles, never permissions, so that a change acts at once on everybody. A role that cannot be
understood carries nothing, and while nothing could be read at all, nobody may do anything that wants a permission.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msingi.kit import actors, state
from msingi.kit.db import Collection, Doc
from msingi.kit.followed import Followed, Rows

# What the house itself grants, whatever products it serves.
HOUSE = "house"
HOUSE_GRANTS: Mapping[str, Sequence[str]] = {
    "admin": ["jobs:manage", "limits:manage", "metrics:read"],
    "service": ["questions:ask", "revocations:read"],
}


class Role(Doc):
    """A role that an admin made, or one of the code's that they changed. Its id is its name."""

    permissions: list[str]
    about: str = ""


def _learn(rows: Rows[Role] | None) -> None:
    actors.know(None if rows is None else {name: row.permissions if row else () for name, row in rows.items()})


roles = Collection(Role, "roles")
followed = Followed(roles, _learn)
on_change = followed.on_change


def known_permissions() -> dict[str, str]:
    """Every permission that the code of this process knows, and which product it comes from."""
    found: dict[str, str] = {}
    for product, grants in _sources():
        for permissions in grants.values():
            found |= {permission: product for permission in permissions if permission not in found}
    return found


def default_grants() -> dict[str, frozenset[str]]:
    """The roles that the code knows, and what it grants them."""
    found: dict[str, frozenset[str]] = {}
    for _, grants in _sources():
        for role, permissions in grants.items():
            found[role] = found.get(role, frozenset()) | frozenset(permissions)
    return found


def _sources() -> list[tuple[str, Mapping[str, Sequence[str]]]]:
    products: Sequence[Any] = state.current().products
    return [(HOUSE, HOUSE_GRANTS), *((product.name, product.grants) for product in products)]
