"""What is stored: notes, their revisions, and the tombstones of those removed for good.

A shelf is one person's counter. Each write of theirs takes the next number in the same transaction, so the numbers
become visible in their own order, and whoever reads on from a number misses nothing.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from msingi.kit.db import Collection, Doc, Index
from msingi.kit.ids import new_id

State = Literal["active", "archived", "trashed"]


class Note(Doc):
    owner: str
    title: str
    body: str = ""
    tags: list[str] = []
    pinned: bool = False
    state: State = "active"
    state_before_trash: State = "active"
    trashed_at: datetime | None = None
    sequence: int = 0  # the owner's number of the last write
    words: list[str] = []  # what a search finds it by
    best_words: list[str] = []  # those of them that stand in the title or the tags


class Revision(Doc):
    """What was saved as version `number` of a note."""

    note_id: str
    owner: str
    number: int
    title: str
    body: str
    tags: list[str]


class Tombstone(Doc):
    """That a note, whose id this is, was removed for good."""

    owner: str
    sequence: int
    note_version: int


class Shelf(Doc):
    """One person's counter of writes; the id is the person's."""

    sequence: int = 0
    notes: int = 0
    swept: int = 0  # tombstones up to this number are gone
    mark: str = ""  # differs from that of any shelf that stood here before


class Tag(Struct):
    """A tag, and how many notes have it."""

    tag: str
    count: int


def new_shelf(owner: str) -> Shelf:
    """The shelf of somebody who has none yet."""
    return Shelf(id=owner, mark=new_id())


notes = Collection(
    Note,
    "notes",
    indexes=[
        "owner state -created_at -_id",
        "owner state -updated_at -_id",
        "owner state title _id",
        Index("owner sequence"),
        Index("owner words"),
        Index("trashed_at", where={"state": "trashed"}),
    ],
)
revisions = Collection(Revision, "revisions", indexes=[Index("note_id number", unique=True), "owner"])
tombstones = Collection(Tombstone, "tombstones", indexes=["owner sequence", "created_at"])
shelves = Collection(Shelf, "shelves")
