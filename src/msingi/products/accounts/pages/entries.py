"""Entries of the audit log as those who look after others read them: names for ids, words for kinds."""

from collections.abc import Iterable

from msgspec import Struct

from msingi.kit.audit import Entry
from msingi.products.accounts import queries
from msingi.products.accounts.contract import PeopleAsked
from msingi.products.accounts.pages import activity

# Where one's own list says "you", or says nothing of what only an admin does.
KINDS = activity.KINDS | {
    "accounts.consent_given": "A program was allowed to act in somebody's name",
    "accounts.export_asked": "A copy of somebody's data was asked for",
    "accounts.export_ready": "The copy of somebody's data was ready",
    "accounts.impersonation_began": "An admin began to act in somebody's name",
    "accounts.impersonation_ended": "An admin stopped acting in somebody's name",
    "accounts.program_let_in": "A program signed in in somebody's name",
    "accounts.reset_letter_sent": "An admin sent a letter to set a new password",
    "accounts.sessions_ended": "All sessions of somebody were ended",
    "accounts.signed_in": "Somebody signed in",
    "accounts.signed_out": "Somebody signed out",
    "accounts.stepped_up": "Somebody proved again who they are",
}


class Who(Struct, frozen=True):
    """Somebody or something in an entry: `person` if there is an account with that id, else `name` is the id."""

    id: str
    name: str
    person: bool


class Line(Struct, frozen=True):
    """An entry in words. Nobody (None) did what the house did by itself, or who did not sign in."""

    entry: Entry
    what: str
    actor: Who | None
    acting: Who | None
    about: Who | None


async def lines_of(entries: Iterable[Entry]) -> list[Line]:
    """These entries in words."""
    listed = list(entries)
    ids = {id for each in listed for id in (each.actor, each.acting, each.about)} - {""}
    names = {each.id: each.name for each in await queries.people.people(PeopleAsked(ids=sorted(ids)))}
    return [
        Line(
            entry=each,
            what=KINDS.get(each.kind, each.kind),
            actor=_who(each.actor, names),
            acting=_who(each.acting, names),
            about=_who(each.about, names),
        )
        for each in listed
    ]


def _who(id: str, names: dict[str, str]) -> Who | None:
    return Who(id, names.get(id, id), id in names) if id else None
