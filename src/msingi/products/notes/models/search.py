"""What a search goes by: whole words, without regard to case, accents and the apostrophes of ng'ombe."""

import re
import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

import msgspec

from msingi.kit.db import BadCursor, Page
from msingi.products.notes.models import Note

MOST_WORDS = 5000
_word = re.compile(r"\w+(?:['’ʼ]\w+)*")


def words_of(*texts: str) -> list[str]:
    """The different words of some texts, each once, at most MOST_WORDS of them."""
    found: dict[str, None] = {}
    for text in texts:
        for match in _word.finditer(text):
            found[_folded(match.group())] = None
            if len(found) >= MOST_WORDS:
                return list(found)
    return list(found)


def _folded(word: str) -> str:
    parts = unicodedata.normalize("NFKD", word.casefold())
    return "".join(part for part in parts if part.isalnum() or part == "_")[:64]


def searched(found: list[Note], words: Sequence[str], limit: int) -> Page[Note]:
    """A page of a search, from one note more than it may hold."""
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    place = msgspec.json.encode(["best", score_of(last, words), last.id])
    return Page(found[:limit], urlsafe_b64encode(place).decode().rstrip("="))


def score_of(note: Note, words: Sequence[str]) -> int:
    """How many of the words stand in the title or the tags."""
    return len(set(note.best_words) & set(words))


def place_in_search(after: str) -> tuple[int, str]:
    """The score and the id of the last note of the page before. Raises BadCursor."""
    try:
        kind, score, last = msgspec.json.decode(urlsafe_b64decode(after + "==="), type=tuple[str, int, str])
    except (msgspec.MsgspecError, ValueError):
        raise BadCursor from None
    if kind != "best":
        raise BadCursor
    return score, last
