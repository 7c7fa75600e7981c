"""Search by whole words: exact, the same in every store, and in pages that neither repeat nor skip.

A document keeps its words in a list with a multikey index, so that `{"words": {"$all": […]}}` finds those that hold
every word. MongoDB's text index would take any of them, or treat them as one phrase, and knows no Swahili.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import TypeVar

from msingi.kit import lanes
from msingi.kit.db import (
    BadCursor,
    Collection,
    Doc,
    Page,
    Paging,
    Row,
    View,
    Where,
    is_storable,
    packed,
    session,
    unpacked,
)
from msingi.kit.shown import shown

MOST_WORDS = 5000  # of one document that count
LONGEST = 64  # letters of a word that count
D = TypeVar("D", bound=Doc)
W = TypeVar("W", bound=View)
_word = re.compile(r"\w+(?:['’ʼ]\w+)*")


def words_of(*texts: str) -> list[str]:
    """The different words of some texts, in their order: without case, accents and the apostrophe of ng'ombe."""
    found: dict[str, None] = {}
    for text in texts:
        for match in _word.finditer(text):
            found[_folded(match.group())] = None
            if len(found) > MOST_WORDS:
                break
    found.pop("", None)
    return list(found)[:MOST_WORDS]


def _folded(word: str) -> str:
    if word.isascii():  # most are: the same as below, ten times as fast
        return word.lower().replace("'", "")[:LONGEST]
    # Twice, since some letters fold into others only once they are taken apart, and the other way round.
    for _ in range(2):
        word = unicodedata.normalize("NFKD", word).casefold()
    return "".join(part for part in word if (part.isalnum() and part != "ʼ") or part == "_")[:LONGEST]


async def best_first(store: Collection[D], where: Where, words: Sequence[str], paging: Paging, field: str) -> Page[D]:
    """A page of what fits `where`: first those with most of the words in `field`, of these the newest.

    Raises BadCursor.
    """
    rows, following = await _best(store, where, words, paging, field)
    return Page(store.load_all(rows), following)


async def best_of(
    view: type[W], store: Collection[D], where: Where, words: Sequence[str], paging: Paging, field: str
) -> Page[W]:
    """The same as views that show nothing but what is stored: the words themselves are then not sent."""
    rows, following = await _best(store, where, words, paging, field, shown(store.kind, view).fields)
    return Page(store.show_all(view, rows), following)


async def _best(
    store: Collection[D], where: Where, words: Sequence[str], paging: Paging, field: str, fields: Row | None = None
) -> tuple[list[Row], str | None]:
    """The rows of a page, and the cursor of the one that follows."""
    score = {"$size": {"$setIntersection": [f"${field}", {"$literal": list(words)}]}}
    pipeline: list[Where] = [{"$match": where}, {"$set": {"score": score}}]
    if paging.after is not None:
        best, last = place_of(paging.after)
        pipeline.append({"$match": {"$or": [{"score": {"$lt": best}}, {"score": best, "_id": {"$lt": last}}]}})
    pipeline += [{"$sort": {"score": -1, "_id": -1}}, {"$limit": paging.limit + 1}]
    if fields:
        pipeline.append({"$project": {**fields, "score": 1}})
    inside = session()
    rows = await lanes.aggregate(store.raw, pipeline, paging.limit + 1) if inside is None else None
    if rows is None:
        rows = await (await store.raw.aggregate(pipeline, session=inside)).to_list()
    more = len(rows) > paging.limit
    del rows[paging.limit :]
    return rows, cursor_at(rows[-1]["score"], rows[-1]["_id"]) if more else None


def cursor_at(score: int, id: str) -> str:
    """The cursor of the page that follows a document in such a list."""
    return packed("best", score, id)


def place_of(after: str) -> tuple[int, str]:
    """The score and the id that a cursor holds. Raises BadCursor."""
    kind, score, last = unpacked(after, tuple[str, int, str])
    if kind != "best" or not is_storable(score):
        raise BadCursor
    return score, last
