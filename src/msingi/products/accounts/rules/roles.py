"""Decisions about roles: which there are, what they may carry, and who may hand them out."""

from collections.abc import Collection, Iterable

from msingi.kit.actors import Actor, permissions_of
from msingi.kit.errors import Conflict, Forbidden, Invalid

ADMIN = "admin"
EVERYBODYS = "user"


class UnknownRole(Invalid):
    """There is no such role: {roles}."""

    def __init__(self, roles: str) -> None:
        super().__init__(roles=roles, errors=[_error("/roles", f"there is no such role: {roles}")])


class UnknownPermission(Invalid):
    """There is no such permission: {permissions}."""

    def __init__(self, permissions: str) -> None:
        error = _error("/permissions", f"there is no such permission: {permissions}")
        super().__init__(permissions=permissions, errors=[error])


class RoleExists(Conflict):
    """There is a role with this name already."""


class RoleInUse(Conflict):
    """People hold this role; take it from them first."""


class KeptPermission(Conflict):
    """This role keeps {permissions}: somebody has to be able to undo what is done here."""


class AboveYou(Forbidden):
    """That reaches farther than what you may do yourself."""


def _error(pointer: str, message: str) -> dict[str, str]:
    return {"pointer": pointer, "in": "body", "message": message}


def check_roles(asked: Iterable[str], known: Collection[str]) -> None:
    """Raise UnknownRole for what is not among the known ones."""
    unknown = sorted(set(asked) - set(known))
    if unknown:
        raise UnknownRole(", ".join(unknown))


def check_permissions(asked: Iterable[str], known: Collection[str], kept: Collection[str]) -> None:
    """Raise UnknownPermission, or KeptPermission if one is missing that the role keeps."""
    asked = set(asked)
    unknown, missing = sorted(asked - set(known)), sorted(set(kept) - asked)
    if unknown:
        raise UnknownPermission(", ".join(unknown))
    if missing:
        raise KeptPermission(permissions=", ".join(missing))


def is_admin(actor: Actor) -> bool:
    """Whether an admin is there, and not a key or a program of theirs."""
    return ADMIN in actor.roles and actor.scopes is None


def reaches(actor: Actor, permissions: Iterable[str]) -> bool:
    """Whether an actor may decide on who has these permissions: admins on all, others on what they have themselves."""
    return is_admin(actor) or all(actor.may(permission) for permission in permissions)


def check_reach(actor: Actor | None, *roles: str) -> None:
    """Raise AboveYou unless the actor may decide on who holds these roles; None is the house itself.

    Who is an admin only admins decide, whatever that role was made to carry: an admin hands out everything.
    """
    if actor is None or is_admin(actor):
        return
    if ADMIN in roles or not reaches(actor, permissions_of(frozenset(roles))):
        raise AboveYou
