"""What other products may know of accounts."""

from collections.abc import Iterable

from msgspec import Struct

from msingi.kit.events import Event
from msingi.kit.peers import NobodyAnswers, Question


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


class OrganisationMade(Event, frozen=True, tag="accounts.organisation_made"):
    """There is one more organisation; who made it owns it."""

    organisation_id: str
    user_id: str


class OrganisationRemoved(Event, frozen=True, tag="accounts.organisation_removed"):
    """An organisation is gone, and nobody is in it any more: whoever keeps something of it lets go of it."""

    organisation_id: str


class MemberJoined(Event, frozen=True, tag="accounts.member_joined"):
    """Somebody came into an organisation."""

    organisation_id: str
    user_id: str
    role: str


class MemberLeft(Event, frozen=True, tag="accounts.member_left"):
    """Somebody left an organisation, or was removed from it."""

    organisation_id: str
    user_id: str


class MemberRoleChanged(Event, frozen=True, tag="accounts.member_role_changed"):
    """Somebody in an organisation is something else in it now."""

    organisation_id: str
    user_id: str
    role: str


class Person(Struct, frozen=True):
    """What one product may know of somebody who has to do with another."""

    id: str
    name: str
    email: str
    language: str = "en"


class PeopleAsked(Struct, frozen=True):
    ids: list[str]


PEOPLE: Question[PeopleAsked, list[Person]] = Question("accounts.people", PeopleAsked, list[Person])


async def people(ids: Iterable[str]) -> list[Person]:
    """Those of these who have an account, in no order. Raises NobodyAnswers where accounts is not running."""
    wanted = sorted(set(ids))
    return await PEOPLE.ask(ids=wanted) if wanted else []


async def known_people(ids: Iterable[str]) -> list[Person] | None:
    """Those of these who have an account; None where nobody knows, since accounts is not running."""
    try:
        return await people(ids)
    except NobodyAnswers:
        return None


class Belonging(Struct, frozen=True):
    """What somebody is in an organisation: `owner`, `admin` or `member`."""

    organisation_id: str
    organisation: str
    slug: str
    user_id: str
    role: str


class BelongingsAsked(Struct, frozen=True):
    ids: list[str]
    organisation: str | None = None


BELONGINGS: Question[BelongingsAsked, list[Belonging]] = Question(
    "accounts.belongings", BelongingsAsked, list[Belonging]
)


async def organisations_of(ids: Iterable[str]) -> list[Belonging]:
    """The organisations that these people are in, in no order. Raises NobodyAnswers where accounts is not running."""
    wanted = sorted(set(ids))
    return await BELONGINGS.ask(ids=wanted) if wanted else []


async def role_in(organisation_id: str, user_id: str) -> str | None:
    """What somebody is in an organisation; None if nothing, or there is no such one. Raises NobodyAnswers."""
    found = await BELONGINGS.ask(ids=[user_id], organisation=organisation_id)
    return found[0].role if found else None
