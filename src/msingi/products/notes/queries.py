"""What may be read: always one's own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from msingi.kit.auth import Actor
from msingi.kit.db import BadCursor, Page, Paging, Where, packed, unpacked
from msingi.kit.errors import NotFound
from msingi.kit.search import words_of
from msingi.products.notes import rules
from msingi.products.notes.models import Note, Revision, Shelf, Tag, Tombstone
from msingi.products.notes.models.store import store
from msingi.products.notes.schemas import (
    EXCERPT,
    ChangesView,
    Deleted,
    Difference,
    DiffView,
    NoteItem,
    NoteView,
    RevisionItem,
    RevisionView,
    Saved,
    TagsDifference,
)

LARGE = 5000  # characters of Markdown beyond which rendering leaves the event loop


async def note(note_id: str, actor: Actor) -> Note:
    return await store().get(actor.id, note_id)


async def notes(actor: Actor, state: str, where: Where, text: str, page: Paging) -> Page[NoteItem]:
    if state not in ("active", "archived", "trashed", "all"):
        raise rules.BadState(given=state)
    in_state = {} if state == "all" else {"state": state}
    words = words_of(text)
    if text.strip() and not words:
        return Page([], None)  # nothing but punctuation: no note holds that as a word
    found = await store().page(actor.id, {"$and": [in_state, where]}, words, page)
    return found.map(item)


async def tags(actor: Actor) -> list[Tag]:
    return await store().tags(actor.id)


async def revisions(note: Note, page: Paging) -> Page[RevisionItem]:
    found = await store().revisions(note, page)
    return found.map(lambda each: RevisionItem(version=each.number, title=each.title, created_at=each.created_at))


async def revision(note: Note, number: int) -> Revision:
    # The bounds first: the database knows no numbers beyond 64 bits.
    found = await store().revision(note, number) if 0 < number <= note.version else None
    if found is None or found.number != number:
        raise NotFound
    return found


async def diff(note: Note, before: int | None, after: int | None) -> DiffView:
    new = await revision(note, after) if after is not None else await _newest(note, note.version)
    old = await revision(note, before) if before is not None else await _newest(note, new.number - 1)
    return DiffView(
        before=old.number,
        after=new.number,
        title=Difference(old.title, new.title),
        tags=TagsDifference(old.tags, new.tags),
        body=rules.unified_diff(old.body, new.body),
    )


async def _newest(note: Note, at_most: int) -> Revision:
    found = await store().revision(note, at_most)
    if found is None:
        raise NotFound
    return found


async def base_of(note: Note, version: int) -> RevisionView | None:
    """What the note said at a version, if it ever was at that."""
    found = await store().revision(note, version) if version <= note.version else None
    return shown_revision(found) if found else None


def shown_revision(each: Revision) -> RevisionView:
    """A revision whole."""
    return RevisionView(
        version=each.number, title=each.title, body=each.body, tags=each.tags, created_at=each.created_at
    )


async def changes(actor: Actor, cursor: str | None, limit: int) -> ChangesView:
    """What changed since a cursor, by the owner's own numbers, which appear in their order: nothing is skipped."""
    shelf = await store().shelf(actor.id)
    mark = shelf.mark if shelf else ""
    after = _number_of(cursor, shelf)
    found = await store().changed(actor.id, after, limit + 1)
    more, found = len(found) > limit, found[:limit]
    last = found[-1].sequence if found else after
    items = [_plain(await _change(each)) for each in found]
    return ChangesView(items=items, cursor=packed("since", mark, last), more=more)


def _number_of(cursor: str | None, shelf: Shelf | None) -> int:
    if not cursor:
        return 0
    kind, mark, number = unpacked(cursor, tuple[str, str, int])
    if kind != "since" or number < 0:
        raise BadCursor
    if number == 0:
        return 0
    if shelf is None or mark != shelf.mark or number < shelf.swept or number > shelf.sequence:
        raise rules.ResyncRequired
    return number


async def _change(each: Note | Tombstone) -> Saved | Deleted:
    if isinstance(each, Note):
        return Saved(id=each.id, version=each.version, note=await shown(each))
    return Deleted(id=each.id, version=each.note_version, deleted_at=each.created_at)


def _plain(each: Saved | Deleted) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(each)
    return found


async def everything(actor: Actor) -> AsyncIterator[NoteView]:
    """All of one's notes in all states, one after the other."""
    async for each in store().each(actor.id):
        yield await shown(each)


async def person(user_id: str) -> Any:
    """All that there is of somebody, for them to take away."""
    return {"notes": [msgspec.to_builtins(await shown(each)) async for each in store().each(user_id)]}


def item(note: Note) -> NoteItem:
    """A note as lists show it."""
    view: NoteItem = NoteItem.of(note, excerpt=note.body[:EXCERPT])
    return view


async def shown(note: Note) -> NoteView:
    """A note whole. Long Markdown is rendered beside the event loop, not in it."""
    html = rules.rendered(note.body) if len(note.body) < LARGE else await asyncio.to_thread(rules.rendered, note.body)
    view: NoteView = NoteView.of(note, excerpt=note.body[:EXCERPT], html=html)
    return view
