"""What other products may know of accounts."""

from collections.abc import Iterable

from msgspec import Struct

from msingi.kit.events import Event
from msingi.kit.peers import Question


class UserRegistered(Event, frozen=True, tag="accounts.registered"):
    """Somebody has an account now."""

    user_id: str


class PasswordChanged(Event, frozen=True, tag="accounts.password_changed"):
    """Somebody has a new password; all their earlier sessions ended."""

    user_id: str


class UserDisabled(Event, frozen=True, tag="accounts.disabled"):
    """Somebody may not sign in any more; all their sessions ended."""

    user_id: str


class UserErased(Event, frozen=True, tag="accounts.erased"):
    """An account is gone for good: whoever keeps something of theirs lets go of it."""

    user_id: str


class Person(Struct, frozen=True):
    """What one product may know of somebody who has to do with another."""

    id: str
    name: str
    email: str


class PeopleAsked(Struct, frozen=True):
    ids: list[str]


PEOPLE: Question[PeopleAsked, list[Person]] = Question("accounts.people", PeopleAsked, list[Person])


async def people(ids: Iterable[str]) -> list[Person]:
    """Those of these who have an account, in no order. Raises NobodyAnswers where accounts is not running."""
    wanted = sorted(set(ids))
    return await PEOPLE.ask(ids=wanted) if wanted else []
