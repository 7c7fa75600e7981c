"""What is kept of a note when it changes, and when it goes."""

from msingi.kit.errors import Conflict
from msingi.products.notes.models import Note, Revision, Tombstone

CONTENT = frozenset({"title", "body", "tags"})  # what a change of is kept as a revision


class TooManyNotes(Conflict):
    """There are {limit} notes already, which is the most; remove some first."""


def revision_of(note: Note) -> Revision:
    """What a note says now, to keep."""
    return Revision(
        id=f"{note.id}:{note.version}",
        created_at=note.updated_at,
        note_id=note.id,
        owner=note.owner,
        number=note.version,
        title=note.title,
        body=note.body,
        tags=note.tags,
    )


def tombstone_of(note: Note, sequence: int) -> Tombstone:
    """What stays of a note that is removed for good."""
    return Tombstone(id=note.id, owner=note.owner, sequence=sequence, note_version=note.version + 1)


def in_order(saved: list[Note], gone: list[Tombstone]) -> list[Note | Tombstone]:
    """Both together, by the owner's numbers."""
    both: list[Note | Tombstone] = [*saved, *gone]
    return sorted(both, key=lambda each: each.sequence)
