"""Files, on a disk or in S3: each under the hash of what it holds, so that it never changes and is kept once.

What arrives goes piece by piece into a temporary object, whose type is read from its first bytes, and gets its name
when it is whole; so a crash leaves nothing but a temporary object, which `run` sweeps. Routes that take a file say so
on their decorator line: `upload=("image/png", …)`, `max_body=…`, and `idempotency="off"`, since a key would have the
whole body held in memory.
"""

import asyncio
import hashlib
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import Any

import obstore
import puremagic
import structlog
from litestar import Request
from litestar.response import Stream
from msgspec import Struct
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from msingi.kit import state
from msingi.kit.clock import now
from msingi.kit.config import Settings
from msingi.kit.errors import Busy, Invalid, Malformed, NotFound, Problem, TooLarge, UnsupportedMedia
from msingi.kit.http import Path as InPath
from msingi.kit.http import get
from msingi.kit.ids import new_id

AnyRequest = Request[Any, Any, Any]
log = structlog.get_logger("files")

OTHER = "application/octet-stream"
# The types that the house tells by content, and how the names of such files end.
KINDS: Mapping[str, str] = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "video/mp4": "mp4",
    "audio/mpeg": "mp3",
    "text/plain": "txt",
    OTHER: "bin",
}
TYPES = {ending: kind for kind, ending in KINDS.items()}
SPELLINGS = TYPES | {"jpeg": "image/jpeg", "jpe": "image/jpeg", "jfif": "image/jpeg"}  # endings, as puremagic has them
SHOWN = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/avif"})  # all else is to be saved
NAME = re.compile(rf"[0-9a-f]{{64}}\.({'|'.join(TYPES)})")
KEPT, ARRIVING = "files", "arriving"  # where files and temporary objects are
PRIVATE = "private"  # where those are that no address leads to
PRIVATE_NAME = re.compile(r"[a-z]+(/[A-Za-z0-9_-]{1,100})+(\.[a-z0-9]{1,5})?")
HEAD = 4096  # bytes in which a type shows itself
PIECE = 256 * 1024  # bytes that are sent, or read, at a time
TOGETHER = 2**20  # bytes of an arriving file that are stored at a time
MOST_PIECES = 64  # of those that go to a disk by one call
THREADS = 2  # of a process, that hash and store: with six, uploads waited for each other's turn at the interpreter
DISK_BUFFER, S3_BUFFER = 2**20, 5 * 2**20  # S3 takes no smaller part, save for the last
MOST_ARRIVING = 32  # uploads that a process takes in at the same time
MOST_PARTS = 16
LEFT_AFTER = timedelta(days=1)  # no upload takes that long
FIRST, EVERY = 60.0, 3600.0  # seconds before the first sweep of a worker, and between two
FOREVER = "public, max-age=31536000, immutable"
RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


class FileMissing(Invalid):
    """There is no file in the request, or it is empty."""


class OneFileOnly(Invalid):
    """One file at a time: the form holds several."""


class RangeNotSatisfiable(Problem):
    """The file has {size} bytes, none of them in that range."""

    status = 416


class File(Struct, frozen=True):
    """A file that is kept. `size` in bytes."""

    name: str
    kind: str
    size: int


class Storage:
    """Where this process keeps files, and how many it takes in at the moment."""

    def __init__(self, settings: Settings) -> None:
        self.folder = None if settings.files.startswith("s3://") else Path(settings.files).absolute()
        self.store = LocalStore(self.folder, mkdir=True) if self.folder else _bucket(settings.files)
        self.buffer = DISK_BUFFER if self.folder else S3_BUFFER
        self.arriving = asyncio.Semaphore(MOST_ARRIVING)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")

    def attributes(self, kind: str) -> Any:
        """What a bucket says of a file to whoever asks it directly, such as a CDN. A disk says nothing."""
        if self.folder:
            return None
        return {"Content-Type": kind, "Cache-Control": FOREVER, "Content-Disposition": _disposition(kind)}


def _bucket(url: str) -> S3Store:
    """`s3://bucket` or `s3://bucket/prefix`; obstore reads the AWS_… variables, save for one when given options."""
    # A reply may take long, to a slow reader; a bucket that says nothing for half a minute is gone.
    patience: Any = {"timeout": "1h", "read_timeout": "30s", "connect_timeout": "3s"}
    patience["allow_http"] = os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"
    trying: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
    return S3Store.from_url(url, client_options=patience, retry_config=trying)


def storage() -> Storage:
    """This process's one storage."""
    return state.part(Storage, lambda: Storage(state.settings()))


def _in_thread(work: Callable[..., None], *arguments: Any) -> asyncio.Future[None]:
    """Work at a disk, in a thread of the storage's own: a disk that is slow holds up nothing but files."""
    return asyncio.get_running_loop().run_in_executor(storage().threads, work, *arguments)


def url_of(name: str) -> str:
    """Where a file can be had: at `CDN_URL`, if there is one, else under this house."""
    return f"{state.settings().cdn_url.rstrip('/')}/files/{name}"


# ---- what arrives


class Arrival:
    """A file that has come whole and has no name yet. `digest` is the SHA-256 of its bytes, in hexadecimal."""

    def __init__(self, place: str, kind: str, size: int, digest: str) -> None:
        self.place, self.kind, self.size, self.digest = place, kind, size, digest

    def read(self) -> AsyncIterator[bytes]:
        """Its bytes, piece by piece."""
        return _read(self.place)

    async def keep(self) -> File:
        """Give it its name: from now on it is a file. What is there already, under the same name, is the same."""
        file = File(f"{self.digest}.{KINDS[self.kind]}", self.kind, self.size)
        with _reachable():
            if not await _is_there(file):
                await obstore.rename_async(storage().store, self.place, _place(file.name))
        return file


@asynccontextmanager
async def arriving(request: AnyRequest) -> AsyncIterator[Arrival]:
    """The one file of a request: its body as it is, or the one part of a `multipart/form-data` that is a file.

    The route's `upload` are the types it may have, its `max_body` how many bytes. At the end it is gone, unless it was
    kept. Raises TooLarge (413), UnsupportedMedia (415), FileMissing, OneFileOnly (422), Malformed (400), Busy (503).
    """
    opt = request.route_handler.opt
    arrival = Writing(opt["upload"], opt.get("max_body") or state.settings().max_body)
    if storage().arriving.locked():
        raise Busy(retry_after=2)
    try:
        async with storage().arriving:
            await _take_in(request, arrival)
        yield Arrival(arrival.place, arrival.kind, arrival.size, arrival.hash.hexdigest())
    finally:
        await arrival.clear_away()


async def _take_in(request: AnyRequest, writing: "Writing") -> None:
    body = request.stream()
    try:
        with _reachable():
            async with aclosing(_pieces(body, request.headers.get("content-type", ""))) as pieces:
                async for piece in pieces:
                    await writing.write(piece)
            await writing.close()
    except (UnsupportedMedia, OneFileOnly):
        async for _ in body:  # many clients read no reply before they have sent all
            pass
        raise


async def _pieces(body: AsyncIterator[bytes], content_type: str) -> AsyncGenerator[bytes, None]:
    """The bytes of the file, as they come. Of a form's other parts nothing is kept, nor of the name the file had."""
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        async for chunk in body:
            yield chunk
        return
    files, is_file = 0, False
    with _readable(), PushMultipartParser(options.get("boundary", ""), max_segment_count=MOST_PARTS) as parser:
        async for chunk in body:
            for event in parser.parse(chunk) if chunk else ():
                if isinstance(event, MultipartSegment):
                    is_file = event.filename is not None
                    files += is_file
                    if files > 1:
                        raise OneFileOnly
                elif event and is_file:
                    yield event


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except MultipartError as fault:
        raise Malformed(reason=f"the form is broken: {fault}") from None


class Writing:
    """A file on its way into a temporary object.

    Pieces are stored together, a megabyte at a time; on a disk by ourselves, with the hashing, in a thread: ten
    megabytes hold up the loop for 1 ms instead of 7 (docs/decisions/0021).
    """

    def __init__(self, kinds: Collection[str], limit: int) -> None:
        self.kinds, self.limit = kinds, limit
        self.place = f"{ARRIVING}/{new_id()}"
        self.kind, self.size, self.hash = "", 0, hashlib.sha256()
        self.held: list[bytes] = []
        self.held_size = 0
        folder = storage().folder
        self.path = folder / self.place if folder else None
        self.file: FileIO | None = None  # where it goes on a disk
        self.writer: Any = None  # and in a bucket
        self.storing: asyncio.Future[None] | None = None
        self.whole = False

    async def write(self, piece: bytes) -> None:
        """The next piece. Nothing is stored before it is known to be of a type that is taken."""
        self.size += len(piece)
        if self.size > self.limit:
            raise TooLarge(limit=self.limit)
        self.held.append(piece)
        self.held_size += len(piece)
        if not self.kind and self.size >= HEAD:
            self._judge()
        if self.held_size >= TOGETHER:
            await self._store()

    async def close(self) -> None:
        """That was all."""
        if not self.size:
            raise FileMissing
        if not self.kind:
            self._judge()
        await self._store(last=True)
        self.whole = True

    def _judge(self) -> None:
        self.kind = kind_of(b"".join(self.held)[:HEAD])
        if self.kind not in self.kinds:
            raise UnsupportedMedia(wanted=", ".join(self.kinds))

    async def _store(self, last: bool = False) -> None:
        pieces, self.held, self.held_size = self.held, [], 0
        if self.path is None:
            await self._send(pieces, last)
            return
        # Shielded: a thread cannot be called back, and what it makes is only removed when it has made it.
        self.storing = _in_thread(self._put, self.path, pieces, last)
        await asyncio.shield(self.storing)

    def _put(self, path: Path, pieces: Sequence[bytes], last: bool) -> None:
        try:
            if self.file is None:
                self.file = _created(path)
            for piece in pieces:
                self.hash.update(piece)
            if pieces:
                _write(self.file, pieces)
            if last:
                self.file.close()
        except OSError as error:
            raise _unreachable(error) from error

    async def _send(self, pieces: Sequence[bytes], last: bool) -> None:
        there = storage()
        if self.writer is None:
            self.writer = obstore.open_writer_async(
                there.store,
                self.place,
                buffer_size=there.buffer,
                max_concurrency=2,
                attributes=there.attributes(self.kind),
            )
        for piece in pieces:
            self.hash.update(piece)
            await self.writer.write(piece)
        if last:
            await self.writer.close()

    async def clear_away(self) -> None:
        """Remove what is left of it, if anything. Shielded: who goes away in the middle leaves nothing either."""
        if self.writer is not None or self.storing is not None:
            await asyncio.shield(asyncio.ensure_future(self._clear()))

    async def _clear(self) -> None:
        with suppress(BaseError, OSError):  # if that fails the sweep removes it
            if self.storing is not None:
                await asyncio.wait([self.storing])
                await _in_thread(self._unlink)
            elif self.whole:
                await obstore.delete_async(storage().store, self.place)
            else:
                await self.writer.__aexit__(RuntimeError, RuntimeError("not wanted"), None)

    def _unlink(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        if self.file is not None:
            self.file.close()


def _created(path: Path) -> FileIO:
    try:
        return FileIO(path, "xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileIO(path, "xb")


def _write(file: FileIO, pieces: Sequence[bytes]) -> None:
    """Write all pieces by one call to the system, which need not copy them together; it may take less than all."""
    if len(pieces) > MOST_PIECES:
        pieces = [b"".join(pieces)]
    left = sum(map(len, pieces)) - os.writev(file.fileno(), pieces)
    if left:
        rest = memoryview(b"".join(pieces))[-left:]
        while rest:
            rest = rest[file.write(rest) :]


def kind_of(head: bytes) -> str:
    """The type that a file's first bytes (some thousands) show, one of KINDS: never what its sender says it is.

    Where they could be of several types, it is the first of those that look likeliest. Text is what puremagic knows
    nothing of and what is readable as UTF-8; markup is text that browsers run, and so of no type that we know.
    """
    try:
        found = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return "text/plain" if _is_text(head) else OTHER
    likeliest = (each.extension.lstrip(".") for each in found if each.confidence == found[0].confidence)
    return next((SPELLINGS[ending] for ending in likeliest if ending in SPELLINGS), OTHER)


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", errors="ignore")
    whole = len(text.encode()) > len(head) - 4  # the last character may be cut through
    return whole and "<" not in text and all(each.isprintable() or each in "\t\r\n\ufeff" for each in text)


# ---- what is kept


async def put(content: bytes, kind: str, of: str = "") -> File:
    """Keep what the house made itself. Its name is the hash of `of` and `content`.

    With `of`, the id of what it belongs to, nothing else has a file of this name, and so it may be removed with that.
    """
    file = File(name_for(content, kind, of), kind, len(content))
    with _reachable():
        if not await _is_there(file):
            there = storage()
            await obstore.put_async(there.store, _place(file.name), content, attributes=there.attributes(kind))
    return file


def name_for(content: bytes, kind: str, of: str = "") -> str:
    """The name that `put` will give."""
    return f"{hashlib.sha256(of.encode() + content).hexdigest()}.{KINDS[kind]}"


def read(name: str) -> AsyncIterator[bytes]:
    """The bytes of a file, piece by piece. Raises NotFound."""
    return _read(_place(name))


async def remove(name: str) -> None:
    """Remove a file, if it is there."""
    with _reachable(), suppress(FileNotFoundError):
        await obstore.delete_async(storage().store, _place(name))


# ---- what is kept for some


async def keep_private(name: str, pieces: AsyncGenerator[bytes, None]) -> int:
    """Keep what comes piece by piece under a name that its keeper chose; returns its size in bytes.

    No address of the house leads to it: whoever hands it out asks first who wants it. It is there when it is whole, and
    then takes the place of what had that name; of what fails on the way nothing is there. Raises Busy.
    """
    there, place, size = storage(), f"{ARRIVING}/{new_id()}", 0
    whole = _private(name)
    to = obstore.open_writer_async(there.store, place, buffer_size=there.buffer, max_concurrency=2)
    with _reachable():
        async with aclosing(pieces), to as writer:
            async for piece in pieces:
                size += len(piece)
                await writer.write(piece)
        await obstore.rename_async(there.store, place, whole)
    return size


def read_private(name: str) -> AsyncIterator[bytes]:
    """The bytes of a private file, piece by piece. Raises NotFound."""
    return _read(_private(name))


async def remove_private(name: str) -> None:
    """Remove a private file, if it is there."""
    with _reachable(), suppress(FileNotFoundError):
        await obstore.delete_async(storage().store, _private(name))


def _private(name: str) -> str:
    """Where a private file of this name is. Raises NotFound."""
    if not PRIVATE_NAME.fullmatch(name):
        raise NotFound
    return f"{PRIVATE}/{name}"


# ---- what is left behind


async def run() -> None:
    """Sweep again and again: part of what a worker does."""
    await asyncio.sleep(FIRST)
    while True:
        with suppress(Busy):
            left = await sweep()
            if left:
                log.info("arrivals_swept", count=left)
        await asyncio.sleep(EVERY)


async def sweep(after: timedelta = LEFT_AFTER) -> int:
    """Remove temporary objects that were left behind, older than `after`; returns how many.

    Parts of uploads to a bucket that never ended are not seen here: give it a rule that aborts them.
    """
    there = storage()
    if there.folder:
        return await asyncio.to_thread(_sweep_folder, there.folder / ARRIVING, time.time() - after.total_seconds())
    with _reachable():
        old: list[str] = []
        async for some in obstore.list(there.store, ARRIVING):
            old += [each["path"] for each in some if each["last_modified"] < now() - after]
        if old:
            await obstore.delete_async(there.store, old)
    return len(old)


def _sweep_folder(folder: Path, before: float) -> int:
    """Of a killed process what it made itself stays half-written, under names (`…#1`) that the store does not list."""
    left = [each for each in folder.glob("*") if each.stat().st_mtime < before]
    for each in left:
        each.unlink(missing_ok=True)
    return len(left)


def _place(name: str) -> str:
    """Where a file of this name is. A name is checked, never followed. Raises NotFound."""
    if not NAME.fullmatch(name):
        raise NotFound
    return f"{KEPT}/{name}"


async def _is_there(file: File) -> bool:
    """Whether it is there, whole: a disk whose power failed may have kept the name without the content."""
    try:
        found = await obstore.head_async(storage().store, _place(file.name))
    except FileNotFoundError:
        return False
    return found["size"] == file.size


async def _read(place: str) -> AsyncIterator[bytes]:
    with _reachable():
        try:
            found = await obstore.get_async(storage().store, place)
        except FileNotFoundError:
            raise NotFound from None
        async for piece in found.stream(min_chunk_size=PIECE):
            yield bytes(piece)


@contextmanager
def _reachable() -> Iterator[None]:
    """A bucket or a disk that fails is a reason to try again later."""
    try:
        yield
    except BaseError as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> Problem:
    log.warning("files_unreachable", error=type(error).__name__, told=str(error)[:200])
    return Busy(retry_after=2)


# ---- what is handed out


@get("/files/{name:str}", public=True, identify=False, limit="off", include_in_schema=False)
async def serve_file(request: AnyRequest, name: InPath[str]) -> Stream:
    """A file, or the range of it that is asked for, to be kept for ever: under this name it never changes."""
    kind, headers = _headers_of(_place(name))
    if _holds(request.headers.get("if-none-match", ""), headers["ETag"]):
        return Stream(_nothing(), status_code=304, headers=headers, media_type=kind)
    wanted = _range_of(request.headers.get("range", ""))
    if request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        wanted = None
    found = await _open(_place(name), wanted)
    start, end = found.range
    size = found.meta["size"]
    headers["Content-Length"] = str(end - start)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    # The edge asks us for a GET in the place of a HEAD, and throws away what we would send.
    body = _nothing() if request.scope["state"].get("is_head") else found.stream(min_chunk_size=PIECE)
    return Stream(body, status_code=200 if wanted is None else 206, headers=headers, media_type=kind)


def _headers_of(place: str) -> tuple[str, dict[str, str]]:
    """The type, and what goes with it: nothing that anybody sent us runs in a browser under our name (I4)."""
    name = place.rpartition("/")[2]
    kind = TYPES[name.rpartition(".")[2]]
    return kind, {
        "ETag": f'"{name}"',
        "Cache-Control": FOREVER,
        "Accept-Ranges": "bytes",
        "Content-Disposition": _disposition(kind),
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "cross-origin",  # for shops whose pages are of another origin
        "X-Content-Type-Options": "nosniff",
    }


def _disposition(kind: str) -> str:
    return "inline" if kind in SHOWN else "attachment"


def _holds(header: str, tag: str) -> bool:
    return tag in {each.strip().removeprefix("W/") for each in header.split(",")}


def _range_of(header: str) -> Any:
    """The one range that a header asks for, as obstore takes it; None for several or for what cannot be read.

    RFC 9110 §14.2: what is not understood is passed over, and the whole is sent.
    """
    asked = RANGE.fullmatch(header.strip())
    if asked is None or asked[0] == "bytes=-":
        return None
    first, last = asked.groups()
    if not first:
        return {"suffix": int(last)}
    if not last:
        return {"offset": int(first)}
    return (int(first), int(last) + 1) if int(first) <= int(last) else None


async def _open(place: str, wanted: Any) -> Any:
    """A file to be read. Raises NotFound, RangeNotSatisfiable."""
    store = storage().store
    with _reachable():
        try:
            if wanted == {"suffix": 0}:
                raise await _out_of_range(place)
            return await obstore.get_async(store, place, options={"range": wanted} if wanted else None)
        except FileNotFoundError:
            raise NotFound from None
        except BaseError:
            if wanted and _first_of(wanted) >= (await obstore.head_async(store, place))["size"]:
                raise await _out_of_range(place) from None
            raise


def _first_of(wanted: Any) -> int:
    first: int = wanted[0] if isinstance(wanted, tuple) else wanted.get("offset", 0)
    return first


async def _out_of_range(place: str) -> Problem:
    size = (await obstore.head_async(storage().store, place))["size"]
    return RangeNotSatisfiable(size=size, headers={"Content-Range": f"bytes */{size}"})


async def _nothing() -> AsyncIterator[bytes]:
    for _ in ():
        yield b""


routes = [serve_file]
