"""Who asks: an id, some roles, and the permissions that the roles carry."""

from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

_grants: dict[str, frozenset[str]] = {}


class Actor(Struct, frozen=True):
    """A signed-in person or service. It is handed on as an argument, never found in the air."""

    id: str
    name: str = ""
    roles: frozenset[str] = frozenset()
    session: str = ""  # the session that the token or cookie belongs to
    version: int = 0  # the account's token version when the token was made
    signed_in_at: int = 0  # when the person last proved who they are, in seconds since 1970
    expires_at: int = 0  # when the proof that was shown ends, in seconds since 1970; 0: not by itself
    methods: frozenset[str] = frozenset()  # how they proved it: `pwd`, `otp`, `hwk`, `fed`, `mfa` … (RFC 8176)
    acting: str = ""  # who acts in this person's name, if somebody else does
    client: str = ""  # the program of somebody else's, or the API key, that comes for this person
    scopes: frozenset[str] | None = None  # what such a program may do; None: whatever the person may

    @property
    def in_person(self) -> bool:
        """Whether it is the person: no program of somebody else's, no API key, nobody who acts for them."""
        return not (self.acting or self.client) and self.scopes is None

    def may(self, permission: str) -> bool:
        """Whether one of the actor's roles carries this permission, and whoever comes for them was granted it."""
        return permission in permissions_of(self.roles) and self.reaches(permission)

    def reaches(self, scope: str) -> bool:
        """Whether whoever comes for this person was granted this scope; the person reaches everything."""
        return self.scopes is None or scope in self.scopes


def grant(role: str, permissions: Iterable[str]) -> None:
    """Let a role carry permissions, beside those that it has."""
    _grants[role] = _grants.get(role, frozenset()) | frozenset(permissions)
    permissions_of.cache_clear()


@lru_cache(maxsize=1024)
def permissions_of(roles: frozenset[str]) -> frozenset[str]:
    """All that some roles carry together; a role that nobody granted anything carries nothing."""
    return frozenset().union(*(_grants.get(role, frozenset()) for role in roles))
