"""What may be done: each action is one call of the store, which does it whole or not at all."""

from datetime import datetime
from typing import Any

from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import NotFound
from msingi.products.notes import queries, rules
from msingi.products.notes.models import Note
from msingi.products.notes.models.store import store
from msingi.products.notes.schemas import NewNote, NotePatch


async def write(form: NewNote, actor: Actor) -> Note:
    return await store().create(rules.new_note(actor.id, form.title, form.body, form.tags), rules.MOST_NOTES)


async def edit(note: Note, patch: NotePatch, version: int | None) -> Note:
    return await _save(note, rules.edit(patch.given(), version), version, patch.given())


async def restore(note: Note, number: int, version: int | None) -> Note:
    revision = await queries.revision(note, number)
    return await _save(note, rules.restore(revision, version), version)


async def pin(note: Note, pinned: bool, version: int | None) -> Note:
    return await _save(note, rules.pin(pinned, version), version)


async def archive(note: Note, archived: bool, version: int | None) -> Note:
    return await _save(note, rules.archive(archived, version), version)


async def trash(note: Note, version: int | None) -> Note:
    return await _save(note, rules.trash(now(), version), version)


async def untrash(note: Note, version: int | None) -> Note:
    return await _save(note, rules.untrash(version), version)


async def remove(note: Note, version: int | None) -> None:
    try:
        await store().remove(note.owner, note.id, lambda current: rules.check_version(current, version))
    except rules.Outdated as outdated:
        raise await _clash(outdated.note, version, {}) from None


async def _save(note: Note, decide: rules.Decide, version: int | None, yours: dict[str, Any] | None = None) -> Note:
    try:
        return await store().save(note.owner, note.id, decide)
    except rules.Outdated as outdated:
        raise await _clash(outdated.note, version, yours or {}) from None


async def _clash(note: Note, version: int | None, yours: dict[str, Any]) -> rules.NoteChanged:
    base = await queries.base_of(note, version or 0)
    return rules.NoteChanged(base=base, theirs=await queries.shown(note), yours=yours)


async def empty_trash(at: datetime) -> int:
    """Remove for good what lies in the trash too long; a note that was taken out meanwhile stays."""
    removed = 0
    for note in await store().trashed_before(at - rules.DAYS_IN_TRASH, limit=500):
        try:
            await remove(note, note.version)
            removed += 1
        except (rules.NoteChanged, NotFound):
            continue
    return removed


async def forget_tombstones(at: datetime) -> int:
    return await store().forget_tombstones(at - rules.DAYS_OF_TOMBSTONES)


async def erase(owner: str) -> None:
    await store().erase(owner)
