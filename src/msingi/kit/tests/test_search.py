"""Search by whole words: what counts as one, and pages of the best first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msingi.kit.db import BadCursor
from msingi.kit.search import LONGEST, cursor_at, place_of, words_of


def test_words_know_no_case_no_accents_and_no_apostrophes() -> None:
    assert words_of("Ng'ombe wa Café, NG’OMBE!", "café x_1") == ["ngombe", "wa", "cafe", "x_1"]
    assert words_of("... — !") == []
    assert words_of("ngʼombe ℂat") == ["ngombe", "cat"]
    assert words_of("a" * 100) == ["a" * LONGEST]


@settings(max_examples=1000)
@given(st.text())
def test_words_are_found_again_by_themselves(text: str) -> None:
    words = words_of(text)
    assert len(set(words)) == len(words)
    assert all(words_of(word) == [word] for word in words)


@given(st.integers(0, 5000), st.text(min_size=1, max_size=40))
def test_a_cursor_holds_its_place(score: int, id: str) -> None:
    assert place_of(cursor_at(score, id)) == (score, id)


@pytest.mark.parametrize(
    "after", ["", "x", "W10", "WyJiZXN0IiwgMV0", "WyJvdGhlciIsMSwiYSJd", "WyJiZXN0IiwxZTk5LCJhIl0"]
)
def test_a_cursor_of_nobodys_is_refused(after: str) -> None:
    with pytest.raises(BadCursor):
        place_of(after)
