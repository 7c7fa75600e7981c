"""Pictures that strangers send, made harmless: decoded and encoded anew in a program apart, in all sizes shown.

Nothing of what was sent is kept: not where the camera was (EXIF), not what hides behind the last pixel. A picture that
would unfold to too many pixels is refused by what its header says, before any is decoded.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from msingi.kit import files, state
from msingi.kit.errors import Busy, Invalid
from msingi.kit.files import Arrival, File

KINDS = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif")  # for a route's `upload`
WIDTHS = (320, 640, 1280)  # pixels
MOST_PIXELS = 50_000_000
SECONDS = 40.0  # for one picture
MOST_WAITING = 8  # one picture at a time in each process; this many more may wait for their turn
PROGRAM = str(Path(__file__).with_name("picture_maker.py"))
log = structlog.get_logger("pictures")


class BrokenPicture(Invalid):
    """This picture cannot be read; it may be cut off, or damaged."""


class TooManyPixels(Invalid):
    """A picture may have {limit} pixels at most; this one has {pixels}."""


class Piece(Struct, frozen=True):
    """One picture that was made, to be kept."""

    name: str
    kind: str
    width: int
    content: bytes


class Made(Struct, frozen=True):
    """What was made of a picture: the largest as WebP, narrower ones by their width, and a JPEG for old readers.

    `width` and `height` are the largest one's. All are named after their content and the picture that they come of, so
    that they can be removed with it.
    """

    width: int
    height: int
    largest: Piece
    sizes: dict[int, Piece]
    fallback: Piece

    @property
    def pieces(self) -> list[Piece]:
        return [self.largest, *self.sizes.values(), self.fallback]


class Desk:
    """Where pictures of this process wait for their turn."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(1)
        self.waiting = 0


async def make(arrival: Arrival) -> Made:
    """Make pictures of one that arrived; they are not kept yet. Raises BrokenPicture, TooManyPixels (422), Busy."""
    desk = state.part(Desk)
    if desk.waiting > MOST_WAITING:
        raise Busy(retry_after=3)
    desk.waiting += 1
    try:
        async with desk.free:
            told, content = await _worked_on(arrival.read())
    finally:
        desk.waiting -= 1
    return _made(told, content, arrival.digest)


async def keep(made: Made, of: str) -> list[File]:
    """Keep all that was made of the picture whose digest is `of`."""
    return [await files.put(each.content, each.kind, of) for each in made.pieces]


async def _worked_on(source: AsyncIterator[bytes]) -> tuple[dict[str, Any], bytes]:
    """What the program says to a picture, and what it made of it. Without an environment: it needs no secret."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        PROGRAM,
        *map(str, (MOST_PIXELS, *WIDTHS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        async with asyncio.timeout(SECONDS):
            said = await _talk(worker, source)
            await worker.wait()
    except TimeoutError:
        said = b""
    finally:
        await _end(worker)
    line, _, content = said.partition(b"\n")
    return (msgspec.json.decode(line) if line else {"fault": "broken", "reason": "it ended"}), content


async def _talk(worker: asyncio.subprocess.Process, source: AsyncIterator[bytes]) -> bytes:
    assert worker.stdin  # noqa: S101  (they were asked for)
    assert worker.stdout  # noqa: S101
    with suppress(BrokenPipeError, ConnectionResetError):  # it fell over: what it said, or did not, tells
        async for piece in source:
            worker.stdin.write(piece)
            await worker.stdin.drain()
        worker.stdin.write_eof()
    return await worker.stdout.read()


async def _end(worker: asyncio.subprocess.Process) -> None:
    """See to it that it is gone, also when nobody waits for it any longer."""
    if worker.returncode is None:
        with suppress(ProcessLookupError):
            worker.kill()
        await asyncio.shield(asyncio.ensure_future(worker.wait()))


def _made(told: dict[str, Any], content: bytes, of: str) -> Made:
    if told.get("fault") == "pixels":
        raise TooManyPixels(limit=MOST_PIXELS, pixels=told["pixels"])
    if "fault" in told:
        log.info("picture_refused", reason=told["reason"])
        raise BrokenPicture
    pieces, start = [], 0
    for each in told["pieces"]:
        part = content[start : start + each["bytes"]]
        start += each["bytes"]
        pieces.append(Piece(files.name_for(part, each["kind"], of), each["kind"], each["width"], part))
    largest, *sizes, fallback = pieces
    return Made(told["width"], told["height"], largest, {each.width: each for each in sizes}, fallback)
