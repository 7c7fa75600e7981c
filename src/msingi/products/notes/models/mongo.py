"""Notes in MongoDB: each change is one transaction of the note, its revision and the owner's counter."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from weakref import WeakValueDictionary

import msgspec

from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import NotFound
from msingi.kit.search import best_first
from msingi.kit.unit import atomic
from msingi.products.notes.models import (
    Note,
    Revision,
    Shelf,
    Tag,
    Tombstone,
    new_shelf,
    notes,
    revisions,
    shelves,
    tombstones,
)
from msingi.products.notes.models.history import CONTENT, TooManyNotes, in_order, revision_of, tombstone_of

SORTS = ("-created_at", "updated_at", "title")


class MongoStore:
    """The store of `make up`.

    A person's writes meet at their counter, where transactions at once would only undo each other; so within a process
    they queue, a person at a time. What two processes do at once MongoDB sorts out.
    """

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def _queue(self, owner: str) -> asyncio.Lock:
        return self._queues.setdefault(owner, asyncio.Lock())

    async def get(self, owner: str, id: str) -> Note:
        return await notes.get(id, when={"owner": owner})

    async def page(self, owner: str, where: Where, words: Sequence[str], paging: Paging) -> Page[Note]:
        mine = {"$and": [{"owner": owner, **({"words": {"$all": list(words)}} if words else {})}, where]}
        if words and paging.sort is None:
            return await best_first(notes, mine, words, paging, "best_words")
        return await notes.page(mine, paging, sorts=SORTS)

    async def each(self, owner: str) -> AsyncIterator[Note]:
        async for note in notes.each({"owner": owner}, sort=[("_id", 1)]):
            yield note

    async def tags(self, owner: str) -> list[Tag]:
        return await notes.aggregate(
            [
                {"$match": {"owner": owner, "state": {"$ne": "trashed"}}},
                {"$unwind": "$tags"},
                {"$group": {"_id": "$tags", "count": {"$sum": 1}}},
                {"$sort": {"_id": 1}},
                {"$project": {"_id": 0, "tag": "$_id", "count": 1}},
            ],
            Tag,
        )

    async def create(self, note: Note, limit: int) -> Note:
        async with self._queue(note.owner):
            return await self._create(note, limit)

    @atomic
    async def _create(self, note: Note, limit: int) -> Note:
        shelf = await self._counted(note.owner, 1)
        if shelf.notes > limit:
            raise TooManyNotes(limit=limit)
        kept = await notes.add(msgspec.structs.replace(note, sequence=shelf.sequence))
        await revisions.add(revision_of(kept))
        return kept

    async def save(self, owner: str, id: str, decide: Callable[[Note], Note]) -> Note:
        async with self._queue(owner):
            return await self._save(owner, id, decide)

    @atomic
    async def _save(self, owner: str, id: str, decide: Callable[[Note], Note]) -> Note:
        note = await self.get(owner, id)
        wanted = decide(note)
        if wanted is note:
            return note
        shelf = await self._counted(owner, 0)
        fresh = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
        different = {name: value for name, value in fresh.items() if value != getattr(note, name)}
        to = {"$set": {**different, "sequence": shelf.sequence}}
        saved = await notes.change(id, to, when={"version": note.version})
        if different.keys() & CONTENT:
            await revisions.add(revision_of(saved))
        return saved

    async def remove(self, owner: str, id: str, check: Callable[[Note], object]) -> None:
        async with self._queue(owner):
            await self._remove(owner, id, check)

    @atomic
    async def _remove(self, owner: str, id: str, check: Callable[[Note], object]) -> None:
        note = await self.get(owner, id)
        check(note)
        shelf = await self._counted(owner, -1)
        await notes.remove(note)
        await revisions.remove_many({"note_id": id})
        await tombstones.add(tombstone_of(note, shelf.sequence))

    async def revisions(self, note: Note, paging: Paging) -> Page[Revision]:
        return await revisions.page({"note_id": note.id}, paging, sorts=("-number",))

    async def revision(self, note: Note, at_most: int) -> Revision | None:
        return await revisions.find({"note_id": note.id, "number": {"$lte": at_most}}, sort=[("number", -1)])

    async def shelf(self, owner: str) -> Shelf | None:
        return await shelves.find({"_id": owner})

    async def changed(self, owner: str, after: int, limit: int) -> list[Note | Tombstone]:
        mine, order = {"owner": owner, "sequence": {"$gt": after}}, [("sequence", 1)]
        saved = await notes.many(mine, sort=order, limit=limit)
        gone = await tombstones.many(mine, sort=order, limit=limit)
        return in_order(saved, gone)[:limit]

    async def trashed_before(self, when: datetime, limit: int) -> list[Note]:
        return await notes.many({"state": "trashed", "trashed_at": {"$lt": when}}, limit=limit)

    @atomic
    async def forget_tombstones(self, before: datetime) -> int:
        old = await tombstones.many({"created_at": {"$lt": before}}, sort=[("sequence", 1)], limit=500)
        for stone in old:
            await shelves.change(stone.owner, {"$max": {"swept": stone.sequence}})
        return await tombstones.remove_many({"_id": {"$in": [stone.id for stone in old]}})

    @atomic
    async def erase(self, owner: str) -> None:
        for store in (notes, revisions, tombstones):
            await store.remove_many({"owner": owner})
        await shelves.remove_many({"_id": owner})

    async def _counted(self, owner: str, notes: int) -> Shelf:
        """The owner's next number: who writes at the same moment waits here, so numbers appear in their order."""
        step = {"$inc": {"sequence": 1, "notes": notes}}
        try:
            return await shelves.change(owner, step)
        except NotFound:
            await shelves.add(new_shelf(owner))
            return await shelves.change(owner, step)
