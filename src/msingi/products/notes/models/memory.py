"""Notes in the memory of one process: the roadmap's first store, and proof that the interface is one.

Nothing here awaits between reading and writing, so within the process's one thread each call is whole by itself.
What it holds is gone with the process, and two processes hold different notes: run one.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

from msgspec import structs

from msingi.kit.clock import now
from msingi.kit.db import BadCursor, BadSort, Page, Paging, Where
from msingi.kit.errors import NotFound
from msingi.kit.search import cursor_at, place_of
from msingi.products.notes.models import Note, Revision, Shelf, Tag, Tombstone, new_shelf
from msingi.products.notes.models.history import CONTENT, TooManyNotes, in_order, revision_of, tombstone_of

SORTS = ("-created_at", "updated_at", "title")
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda has, want: has is not None and has > want,
    "$gte": lambda has, want: has is not None and has >= want,
    "$lt": lambda has, want: has is not None and has < want,
    "$lte": lambda has, want: has is not None and has <= want,
    "$ne": lambda has, want: not _is(has, want),
    "$in": lambda has, want: any(_is(has, each) for each in want),
    "$nin": lambda has, want: not any(_is(has, each) for each in want),
}


class MemoryStore:
    """Plain dictionaries."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Forget everything."""
        self.notes: dict[str, Note] = {}
        self.kept: dict[str, list[Revision]] = {}
        self.stones: dict[str, Tombstone] = {}
        self.shelves: dict[str, Shelf] = {}

    async def get(self, owner: str, id: str) -> Note:
        note = self.notes.get(id)
        if note is None or note.owner != owner:
            raise NotFound
        return note

    async def page(self, owner: str, where: Where, words: Sequence[str], paging: Paging) -> Page[Note]:
        mine = [note for note in self.notes.values() if note.owner == owner and fits(note, where)]
        found = [note for note in mine if set(words) <= set(note.words)]
        if words and paging.sort is None:
            return _best(found, words, paging)
        return _sorted(found, paging)

    async def each(self, owner: str) -> AsyncIterator[Note]:
        for note in sorted(self.notes.values(), key=lambda note: note.id):
            if note.owner == owner:
                yield note

    async def tags(self, owner: str) -> list[Tag]:
        counts: dict[str, int] = {}
        for note in self.notes.values():
            if note.owner == owner and note.state != "trashed":
                for tag in note.tags:
                    counts[tag] = counts.get(tag, 0) + 1
        return [Tag(tag, counts[tag]) for tag in sorted(counts)]

    async def create(self, note: Note, limit: int) -> Note:
        if sum(each.owner == note.owner for each in self.notes.values()) >= limit:
            raise TooManyNotes(limit=limit)
        return self._keep(structs.replace(note, sequence=self._number(note.owner)), revise=True)

    async def save(self, owner: str, id: str, decide: Callable[[Note], Note]) -> Note:
        note = await self.get(owner, id)
        wanted = decide(note)
        if wanted is note:
            return note
        revise = any(getattr(wanted, name) != getattr(note, name) for name in CONTENT)
        number = self._number(owner)
        fresh = structs.replace(wanted, version=note.version + 1, updated_at=now(), sequence=number)
        return self._keep(fresh, revise)

    async def remove(self, owner: str, id: str, check: Callable[[Note], object]) -> None:
        note = await self.get(owner, id)
        check(note)
        del self.notes[id]
        self.kept.pop(id, None)
        self.stones[id] = tombstone_of(note, self._number(owner))

    async def revisions(self, note: Note, paging: Paging) -> Page[Revision]:
        newest_first = self.kept.get(note.id, [])[::-1]
        if paging.sort not in (None, "number", "-number"):
            raise BadSort(given=paging.sort, sorts="number")
        if paging.after is not None:
            if not paging.after.isdigit():
                raise BadCursor
            newest_first = [each for each in newest_first if each.number < int(paging.after)]
        items = newest_first[: paging.limit]
        return Page(items, str(items[-1].number) if len(newest_first) > paging.limit else None)

    async def revision(self, note: Note, at_most: int) -> Revision | None:
        before = [each for each in self.kept.get(note.id, []) if each.number <= at_most]
        return before[-1] if before else None

    async def shelf(self, owner: str) -> Shelf | None:
        return self.shelves.get(owner)

    async def changed(self, owner: str, after: int, limit: int) -> list[Note | Tombstone]:
        saved = [note for note in self.notes.values() if note.owner == owner and note.sequence > after]
        gone = [stone for stone in self.stones.values() if stone.owner == owner and stone.sequence > after]
        return in_order(saved, gone)[:limit]

    async def trashed_before(self, when: datetime, limit: int) -> list[Note]:
        return [note for note in self.notes.values() if note.trashed_at is not None and note.trashed_at < when][:limit]

    async def forget_tombstones(self, before: datetime) -> int:
        old = [stone for stone in self.stones.values() if stone.created_at < before]
        for stone in old:
            shelf = self.shelves[stone.owner]
            self.shelves[stone.owner] = structs.replace(shelf, swept=max(shelf.swept, stone.sequence))
            del self.stones[stone.id]
        return len(old)

    async def erase(self, owner: str) -> None:
        for id in [note.id for note in self.notes.values() if note.owner == owner]:
            del self.notes[id]
            self.kept.pop(id, None)
        self.stones = {id: stone for id, stone in self.stones.items() if stone.owner != owner}
        self.shelves.pop(owner, None)

    def _keep(self, note: Note, revise: bool) -> Note:
        self.notes[note.id] = note
        if revise:
            self.kept.setdefault(note.id, []).append(revision_of(note))
        return note

    def _number(self, owner: str) -> int:
        shelf = self.shelves.get(owner) or new_shelf(owner)
        self.shelves[owner] = structs.replace(shelf, sequence=shelf.sequence + 1)
        return shelf.sequence + 1


def fits(note: Note, where: Where) -> bool:
    """Whether a note fits a filter, of those that `kit.http.Filters` makes."""
    for name, wanted in where.items():
        if name == "$and":
            if not all(fits(note, each) for each in wanted):
                return False
            continue
        has = getattr(note, name)
        if isinstance(wanted, dict):
            if not all(COMPARE[operator](has, value) for operator, value in wanted.items()):
                return False
        elif not _is(has, wanted):
            return False
    return True


def _is(has: Any, want: Any) -> bool:
    return want in has if isinstance(has, list) else bool(has == want)


def _best(found: list[Note], words: Sequence[str], paging: Paging) -> Page[Note]:
    """By how many of the words stand in the title or the tags, then the newest first."""
    ranked = sorted(((len(set(note.best_words) & set(words)), note.id, note) for note in found), reverse=True)
    if paging.after is not None:
        place = place_of(paging.after)
        ranked = [each for each in ranked if each[:2] < place]
    shown = ranked[: paging.limit]
    more = len(ranked) > paging.limit
    return Page([note for _, _, note in shown], cursor_at(*shown[-1][:2]) if more else None)


def _sorted(found: list[Note], paging: Paging) -> Page[Note]:
    """The cursor is the order and the id of the last note; its place is found again by the note's own value."""
    sort = paging.sort or SORTS[0]
    key = sort.removeprefix("-")
    if key not in {each.lstrip("-") for each in SORTS}:
        raise BadSort(given=sort, sorts=", ".join(each.lstrip("-") for each in SORTS))
    ranked = sorted(found, key=lambda note: (getattr(note, key), note.id), reverse=sort.startswith("-"))
    if paging.after is not None:
        by, _, place = paging.after.partition(".")
        value, _, last = place.rpartition(".")
        if by != sort or not last:
            raise BadCursor
        after = (_unhexed(value), last)
        ranked = [note for note in ranked if _beyond((_text(note, key), note.id), after, sort.startswith("-"))]
    if len(ranked) <= paging.limit:
        return Page(ranked, None)
    edge = ranked[paging.limit - 1]
    return Page(ranked[: paging.limit], f"{sort}.{_text(edge, key).encode().hex()}.{edge.id}")


def _text(note: Note, key: str) -> str:
    value = getattr(note, key)
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else str(value)


def _beyond(place: tuple[str, str], after: tuple[str, str], downwards: bool) -> bool:
    return place < after if downwards else place > after


def _unhexed(value: str) -> str:
    try:
        return bytes.fromhex(value).decode()
    except ValueError:
        raise BadCursor from None
