"""Who asks: an id, some roles, and the permissions that the roles carry."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from msgspec import Struct

from msingi.kit import clock

# Ways to prove who one is that count as fresh: a password, a passkey, and having been there when a provider asked anew
# (RFC 8176). Not a provider that may have asked nothing (`fed`), nor a number that may be another's by now (`sms`).
PROOFS = frozenset({"pwd", "hwk", "user"})
_grants: dict[str, frozenset[str]] = {}  # what the code grants
_kept: dict[str, frozenset[str]] = {}  # what no change takes from a role
_changed: Mapping[str, Iterable[str]] | None = {}  # what was made of roles since; None: nobody could read that yet


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

    def is_proven(self, seconds: int) -> bool:
        """Whether the person proved who they are here, in the last so many seconds."""
        return clock.seconds() - self.signed_in_at <= seconds and not PROOFS.isdisjoint(self.methods)

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


def keep(role: str, permissions: Iterable[str]) -> None:
    """Let a role carry permissions whatever is made of it later: so that nobody locks the house from inside."""
    _kept[role] = _kept.get(role, frozenset()) | frozenset(permissions)
    permissions_of.cache_clear()


def know(changed: Mapping[str, Iterable[str]] | None) -> None:
    """What roles carry instead of what was granted. With None no role carries anything until more is known."""
    global _changed
    _changed = changed
    permissions_of.cache_clear()


@lru_cache(maxsize=1024)
def permissions_of(roles: frozenset[str]) -> frozenset[str]:
    """All that some roles carry together; a role that nobody granted anything carries nothing."""
    return frozenset().union(*map(_carried_by, roles))


def _carried_by(role: str) -> frozenset[str]:
    if _changed is None:
        return frozenset()
    return frozenset(_changed.get(role, _grants.get(role, ()))) | kept_by(role)


def kept_by(role: str) -> frozenset[str]:
    """What this role carries whatever is made of it."""
    return _kept.get(role, frozenset())
