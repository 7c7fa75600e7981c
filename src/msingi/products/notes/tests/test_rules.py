"""What may become of a note, without a database."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msingi.kit.search import words_of
from msingi.products.notes import rules
from msingi.products.notes.models import Note

HENS = rules.new_note("ann", " Hen house ", "Buy wire", ["Farm", "farm ", "to-buy"])
AT = datetime(2026, 3, 1, tzinfo=UTC)


def test_titles_are_trimmed_and_tags_are_lower_case_and_once() -> None:
    assert (HENS.title, HENS.tags) == ("Hen house", ["farm", "to-buy"])


@pytest.mark.parametrize(
    ("form", "problem"), [({"title": "  "}, rules.TitleIsBlank), ({"tags": [" "]}, rules.TagIsBlank)]
)
def test_blanks_are_no_title_and_no_tag(form: dict[str, Any], problem: type[Exception]) -> None:
    with pytest.raises(problem):
        rules.new_note(**{"owner": "ann", "title": "Hens", **form})


def test_a_patch_that_says_nothing_new_gives_the_very_same_note() -> None:
    assert rules.edit({"title": "Hen house", "tags": ["FARM", "to-buy"]}, None)(HENS) is HENS
    assert rules.edit({}, None)(HENS) is HENS


def test_a_note_in_the_trash_can_only_be_taken_out() -> None:
    gone = rules.trash(AT, None)(rules.archive(True, None)(HENS))
    assert (gone.state, gone.trashed_at) == ("trashed", AT)
    for decide in (rules.edit({"title": "x"}, None), rules.pin(True, None), rules.archive(False, None)):
        with pytest.raises(rules.NoteInTrash):
            decide(gone)
    back = rules.untrash(None)(gone)
    assert (back.state, back.trashed_at) == ("archived", None)
    assert rules.untrash(None)(back) is back


def test_what_was_decided_on_another_version_is_not_done() -> None:
    with pytest.raises(rules.Outdated):
        rules.pin(True, 7)(HENS)


def test_searches_know_no_case_no_accents_and_no_apostrophes() -> None:
    assert words_of("Ng'ombe wa Café, NG’OMBE! x_1 2") == ["ngombe", "wa", "cafe", "x_1", "2"]
    assert words_of("... — !") == []


HOSTILE = [
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    '<img src=x onerror="alert(1)">',
    "<a href='data:text/html,<script>1</script>'>x</a>",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    '[x](https://a.example "onmouseover=alert(1)")',
]


@pytest.mark.parametrize("body", HOSTILE)
def test_i4_hostile_markdown_runs_nothing(body: str) -> None:
    html = rules.rendered(body)
    assert "<script" not in html
    assert "<img src=x" not in html
    assert 'href="javascript' not in html
    assert 'href="data' not in html


@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from([*HOSTILE, "[", "](", "<", "`", "\n", "&lt;"]), max_size=8).map("".join)
)
def test_i4_no_text_whatever_becomes_a_script_or_a_handler(body: str) -> None:
    html = rules.rendered(body).lower()
    assert "<script" not in html
    tags = [part.split(">")[0] for part in html.split("<")[1:]]
    assert not any(" on" in tag and "=" in tag.split(" on", 1)[1][:20] and "http" not in tag for tag in tags)


@given(st.lists(st.sampled_from(["a\n", "b\n", "c", "", "\x0c\n", "é\n"]), max_size=6), st.data())
def test_a_diff_applied_to_the_old_text_gives_the_new(parts: list[str], data: st.DataObject) -> None:
    before = "".join(parts)
    after = "".join(data.draw(st.permutations(parts))) + data.draw(st.sampled_from(["", "z", "z\n"]))
    assert _patched(before, rules.unified_diff(before, after)) == after


def _patched(before: str, diff: str) -> str:
    """Apply a unified diff the simple way: its hunks hold the lines and where they stand."""
    if not diff:
        return before
    old = before.split("\n")
    lines = [f"{line}\n" for line in old[:-1]] + ([old[-1]] if old[-1] else [])
    result, at = [], 0
    rows = diff.split("\n")[:-1]
    for number, row in enumerate(rows):
        ends = number + 1 < len(rows) and rows[number + 1].startswith("\\")
        text = row[1:] + ("" if ends else "\n")
        if row.startswith(("---", "+++")) and number < 2:
            continue
        if row.startswith("@@"):
            start = row.split()[1][1:].split(",")
            first = int(start[0]) - (0 if len(start) > 1 and start[1] == "0" else 1)
            result += lines[at:first]
            at = first
        elif row.startswith(" "):
            result.append(lines[at])
            at += 1
        elif row.startswith("-"):
            assert lines[at] == text
            at += 1
        elif row.startswith("+"):
            result.append(text)
    return "".join(result + lines[at:])


def test_a_diff_is_as_diff_u_writes_it() -> None:
    diff = rules.unified_diff("one\n", "one\ntwo\n")
    assert diff.splitlines()[2:] == ["@@ -1 +1,2 @@", " one", "+two"]
    assert rules.unified_diff("same", "same") == ""


def test_a_new_note_is_found_by_title_tags_and_body() -> None:
    assert isinstance(HENS, Note)
    assert HENS.words == ["hen", "house", "farm", "to", "buy", "wire"]
    assert HENS.best_words == ["hen", "house", "farm", "to", "buy"]
