"""What happened to people's access, and by whom: each sign-in, each refusal, each act of somebody with power (L1)."""

from typing import Any, Literal

from msgspec import field

from msingi.kit import unit
from msingi.kit.actors import Actor
from msingi.kit.db import Collection, Doc
from msingi.kit.observe import request_id

Outcome = Literal["done", "refused"]


class Entry(Doc, kw_only=True):
    """One thing that happened: what kind (`accounts.signed_in`), by whom, and to what or whom."""

    kind: str
    outcome: Outcome = "done"
    actor: str = ""
    acting: str = ""  # who acted in the actor's name, if somebody did
    session: str = ""
    about: str = ""
    request: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


entries = Collection(Entry, "audit", indexes=["actor -_id", "about -_id", "kind -_id"])
entries.product = "kit"


def stores() -> list[Collection[Any]]:
    """The collection that this module needs, in the kit's own database."""
    return [entries]


async def note(
    kind: str, *, actor: Actor | str | None, about: str = "", outcome: Outcome = "done", **facts: Any
) -> Entry:
    """Write it down: in an @atomic action together with what happened, outside of one by itself.

    `about` is the id of who or what it happened to. `facts` are what JSON can say, with no secret and no address of
    anybody's in it. A @guarded action has room for one write only: make it @atomic.
    """
    who = actor if isinstance(actor, Actor) else Actor(id=actor or "")
    entry = Entry(
        kind=kind,
        outcome=outcome,
        actor=who.id,
        acting=who.acting,
        session=who.session,
        about=about,
        request=request_id.get(),
        facts=facts,
    )
    if unit.current.get() is None:
        async with unit.alone():
            return await entries.add(entry)
    return await entries.add(entry)
