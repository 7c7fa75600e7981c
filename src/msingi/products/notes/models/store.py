"""Where notes are kept: one interface, in MongoDB or in the memory of one process (`NOTES_STORE`)."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct, field

from msingi.kit import state
from msingi.kit.db import Page, Paging, Where
from msingi.products.notes.models import Note, Revision, Shelf, Tag, Tombstone
from msingi.products.notes.models.memory import MemoryStore
from msingi.products.notes.models.mongo import MongoStore

# A decision is pure: it gets the note as it is and gives it as it shall be (itself: nothing changes), or raises.
Decide = Callable[[Note], Note]


class NotesSettings(Struct, frozen=True, kw_only=True):
    """What notes are told by the environment."""

    store: Literal["memory", "mongo"] = field(name="NOTES_STORE", default="mongo")


class Store(Protocol):
    """Each call is done whole or not at all, and is safe against others at the same moment."""

    async def get(self, owner: str, id: str) -> Note:
        """The note. Raises NotFound, also for a note of somebody else."""
        ...

    async def page(self, owner: str, where: Where, words: Sequence[str], paging: Paging) -> Page[Note]:
        """Notes that fit `where` and hold all `words`; with words and no order asked for, the best come first."""
        ...

    def each(self, owner: str) -> AsyncIterator[Note]:
        """All notes, in the order they were made."""
        ...

    async def tags(self, owner: str) -> list[Tag]:
        """The tags of notes that are not in the trash, sorted."""
        ...

    async def create(self, note: Note, limit: int) -> Note:
        """Keep a new note and its first revision. Raises TooManyNotes when the owner has `limit` already."""
        ...

    async def save(self, owner: str, id: str, decide: Decide) -> Note:
        """Change a note as `decide` says; what changes its words is kept as a revision."""
        ...

    async def remove(self, owner: str, id: str, check: Callable[[Note], object]) -> None:
        """Remove a note with its revisions, if `check` does not raise; a tombstone stays."""
        ...

    async def revisions(self, note: Note, paging: Paging) -> Page[Revision]:
        """Its revisions, newest first."""
        ...

    async def revision(self, note: Note, at_most: int) -> Revision | None:
        """The newest revision whose number is at most this: the one in force at that version."""
        ...

    async def shelf(self, owner: str) -> Shelf | None:
        """The owner's counter, if they ever wrote anything."""
        ...

    async def changed(self, owner: str, after: int, limit: int) -> list[Note | Tombstone]:
        """At most `limit` notes and tombstones whose number is greater than `after`, by number."""
        ...

    async def trashed_before(self, when: datetime, limit: int) -> list[Note]:
        """Notes of anybody that lie in the trash since before then."""
        ...

    async def forget_tombstones(self, before: datetime) -> int:
        """Drop tombstones older than that, and note on each shelf how far; returns how many."""
        ...

    async def erase(self, owner: str) -> None:
        """Remove everything of a person."""
        ...


def store() -> Store:
    """The store that the settings name."""
    return state.part(MemoryStore) if state.part(NotesSettings).store == "memory" else state.part(MongoStore)
