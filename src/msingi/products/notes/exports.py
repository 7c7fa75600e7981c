"""Everything to take away: a zip of Markdown files or one JSON document, written as it is read."""

import json
import re
import zipfile
from collections.abc import AsyncIterator
from typing import IO, cast

import msgspec

from msingi.kit.clock import now
from msingi.products.notes.schemas import NoteView

FRONT = ("id", "title", "tags", "state", "pinned", "created_at", "updated_at", "version")


async def as_json(notes: AsyncIterator[NoteView]) -> AsyncIterator[bytes]:
    """`{"exported_at": …, "notes": […]}`, a note at a time."""
    yield b'{"exported_at":' + msgspec.json.encode(now()) + b',"notes":['
    comma = b""
    async for note in notes:
        yield comma + msgspec.json.encode(note)
        comma = b","
    yield b"]}"


async def as_zip(notes: AsyncIterator[NoteView]) -> AsyncIterator[bytes]:
    """A file a note, so that memory holds one note at a time."""
    sink = _Sink()
    with zipfile.ZipFile(cast("IO[bytes]", sink), "w", zipfile.ZIP_DEFLATED) as archive:
        async for note in notes:
            archive.writestr(zipfile.ZipInfo(_name(note), note.updated_at.timetuple()[:6]), _markdown(note))
            yield sink.taken()
    yield sink.taken()


class _Sink:
    """Takes what a zip writes, without going back in it, and gives it away in pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self.pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Nothing to do: what was written is there."""

    def close(self) -> None:
        """Nothing to do: there is no file."""

    def taken(self) -> bytes:
        taken, self.pieces = b"".join(self.pieces), []
        return taken


def _name(note: NoteView) -> str:
    words = re.sub(r"[^\w]+", "-", note.title.lower()).strip("-")[:60]
    return f"{words or 'note'}-{note.id}.md"


def _markdown(note: NoteView) -> bytes:
    """Front matter whose values are JSON, which is YAML too; then the body, byte for byte."""
    plain = msgspec.to_builtins(note)
    front = "".join(f"{name}: {json.dumps(plain[name], ensure_ascii=False)}\n" for name in FRONT)
    return f"---\n{front}---\n{note.body}".encode()
