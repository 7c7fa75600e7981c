"""What a search goes by: whole words, without regard to case, accents and the apostrophes of ng'ombe."""

import re
import unicodedata

LONGEST = 64  # letters of a word that count
_word = re.compile(r"\w+(?:['’ʼ]\w+)*")


def words_of(*texts: str) -> list[str]:
    """The different words of some texts, each once, in the order in which they come."""
    return list(dict.fromkeys(_folded(match.group()) for text in texts for match in _word.finditer(text)))


def _folded(word: str) -> str:
    parts = unicodedata.normalize("NFKD", word.casefold())
    return "".join(part for part in parts if part.isalnum() or part == "_")[:LONGEST]
