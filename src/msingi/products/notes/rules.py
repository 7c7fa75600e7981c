"""Decisions, pure: what may become of a note, and how its texts are cleaned, rendered and compared."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from msgspec import structs

from msingi.kit.errors import Conflict, Invalid, Problem
from msingi.kit.search import words_of
from msingi.products.notes.models import Note, Revision

MOST_NOTES = 10_000
DAYS_IN_TRASH = timedelta(days=30)
DAYS_OF_TOMBSTONES = timedelta(days=180)

Decide = Callable[[Note], Note]


class NoteInTrash(Conflict):
    """This note is in the trash: it can be read, not changed; restore it first."""


class NoteChanged(Conflict):
    """The note changed while you were at it; `theirs` is how it is now, `base` what you began with."""


class ResyncRequired(Problem):
    """This cursor is too old, or of a store that is no more; forget it and start again without one."""

    status = 410


class TitleIsBlank(Invalid):
    """A title needs more than blanks."""


class TagIsBlank(Invalid):
    """A tag needs more than blanks."""


class BadExportFormat(Invalid):
    """Notes are exported as `zip` or `json`, not as {given}."""


class BadState(Invalid):
    """`state` is one of active, archived, trashed and all, not {given}."""

    @property
    def code(self) -> str:
        return "bad_filter"


class Outdated(Exception):
    """The note is no longer at the version that the change was decided on."""

    def __init__(self, note: Note) -> None:
        super().__init__()
        self.note = note


def new_note(owner: str, title: str, body: str = "", tags: Sequence[str] = ()) -> Note:
    """A note as it is kept: trimmed, its tags clean, its words known to the search."""
    return _with_words(Note(owner=owner, title=_title(title), body=body, tags=_tags(tags)))


def edit(given: Mapping[str, Any], version: int | None) -> Decide:
    """Change title, body or tags to what is given; what says nothing new changes nothing."""
    fresh = {**given}
    if "title" in given:
        fresh["title"] = _title(given["title"])
    if "tags" in given:
        fresh["tags"] = _tags(given["tags"])

    def decide(note: Note) -> Note:
        _check(note, version)
        return _changed(note, **fresh)

    return decide


def restore(revision: Revision, version: int | None) -> Decide:
    """Say again what an old revision said."""
    return edit({"title": revision.title, "body": revision.body, "tags": revision.tags}, version)


def pin(pinned: bool, version: int | None) -> Decide:
    """Pin it, or not."""

    def decide(note: Note) -> Note:
        _check(note, version)
        return _changed(note, pinned=pinned)

    return decide


def archive(archived: bool, version: int | None) -> Decide:
    """Put it in the archive, or take it out."""

    def decide(note: Note) -> Note:
        _check(note, version)
        return _changed(note, state="archived" if archived else "active")

    return decide


def trash(at: datetime, version: int | None) -> Decide:
    """Put it in the trash, from where it comes back as it was."""

    def decide(note: Note) -> Note:
        check_version(note, version)
        if note.state == "trashed":
            return note
        return _changed(note, state="trashed", state_before_trash=note.state, trashed_at=at)

    return decide


def untrash(version: int | None) -> Decide:
    """Take it out of the trash."""

    def decide(note: Note) -> Note:
        check_version(note, version)
        if note.state != "trashed":
            return note
        return _changed(note, state=note.state_before_trash, trashed_at=None)

    return decide


def check_version(note: Note, version: int | None) -> None:
    """Raise Outdated if the change was decided on another version."""
    if version is not None and version != note.version:
        raise Outdated(note)


def _check(note: Note, version: int | None) -> None:
    check_version(note, version)
    if note.state == "trashed":
        raise NoteInTrash


def _changed(note: Note, **fresh: Any) -> Note:
    """The note with these fields; itself, if they say nothing new."""
    if all(getattr(note, name) == value for name, value in fresh.items()):
        return note
    return _with_words(structs.replace(note, **fresh))


def _with_words(note: Note) -> Note:
    best = words_of(note.title, *note.tags)
    return structs.replace(note, words=words_of(note.title, *note.tags, note.body), best_words=best)


def _title(text: str) -> str:
    if not text.strip():
        raise TitleIsBlank
    return text.strip()


def _tags(tags: Sequence[str]) -> list[str]:
    clean = [clean_tag(tag) for tag in tags]
    if "" in clean:
        raise TagIsBlank
    return list(dict.fromkeys(clean))


def clean_tag(tag: str) -> str:
    """A tag as it is kept."""
    return tag.strip().lower()


_markdown = MarkdownIt("commonmark", {"html": False})


@lru_cache(maxsize=256)
def rendered(body: str) -> str:
    """Markdown as HTML that runs nothing, whatever it says: raw HTML is text, and what is left is sanitised."""
    return nh3.clean(_markdown.render(body), link_rel="noopener noreferrer nofollow")


def unified_diff(before: str, after: str) -> str:
    """As `diff -u` writes it, without file names; empty if they are equal."""
    lines = difflib.unified_diff(_lines(before), _lines(after), n=3)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    # Not splitlines: form feeds and Unicode separators are letters to `diff`.
    parts = text.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
