"""Sheets: asked for here, written or read by a job that says how far it is, and fetched until they are swept.

A job may die at any line and be begun anew: each try writes a file of its own, and the sheet is done when it names one,
in a write that only the latest try can make.
"""

import time
from collections.abc import AsyncGenerator
from datetime import date, timedelta

import msgspec
import structlog

from msingi.kit import files, live
from msingi.kit.clock import now
from msingi.kit.db import Where
from msingi.kit.errors import Problem, Stale
from msingi.kit.jobs import job
from msingi.kit.unit import atomic, guarded
from msingi.products.shop import exports
from msingi.products.shop import sheets as tables
from msingi.products.shop.actions.importing import import_many
from msingi.products.shop.models.reports import UNDER_WAY, Format, Sheet, SheetFilters, SheetKind, sheets
from msingi.products.shop.queries import reports as queries
from msingi.products.shop.rules import catalogue
from msingi.products.shop.rules import reports as rules

LARGEST = 25_000_000  # bytes of a table that is read in the background
MOST_AT_ONCE = 5  # sheets of one person that wait or are under way
MOST_TRIES = 5
EACH = 0.5  # seconds between two words of how far it is
KEPT = timedelta(days=7)  # how long a sheet can be fetched
GIVEN_UP = timedelta(hours=6)  # after which a sheet that nobody works on has failed
log = structlog.get_logger("shop.sheets")


def topic_of(sheet_id: str) -> str:
    """Where it is told how a sheet comes on."""
    return f"shop/sheets/{sheet_id}"


# ---- asking


async def ask_export(
    kind: SheetKind,
    format: Format,
    by: str,
    *,
    since: date | None = None,
    until: date | None = None,
    currency: str = "",
) -> Sheet:
    """Have a sheet made; a job does it. Raises BadSheetFormat, BadSpan, TooManySheets.

    Of kinds that are of some days, those that are not said are the last 30.
    """
    if kind == "import" or format not in rules.FORMATS[kind]:
        raise catalogue.BadSheetFormat
    filters = SheetFilters(currency=currency)
    if kind in rules.SPANNED:
        since, until = rules.checked_span(since, until, queries.today())
        filters = SheetFilters(since=since, until=until, currency=currency)
    await _check_room(by)
    return await _add(Sheet(kind=kind, format=format, by=by, filters=filters))


async def ask_import(format: Format, body: bytes, by: str, *, dry_run: bool) -> Sheet:
    """Have goods brought up to date with a sheet; a job does it. Raises TooManySheets."""
    await _check_room(by)
    sheet = await _note(Sheet(kind="import", format=format, by=by, dry_run=dry_run))
    try:
        await files.keep_private(_source(sheet), _whole(body))
    except Problem:
        await _drop(sheet)
        raise
    await _start(sheet)
    return sheet


async def import_for_good(sheet_id: str, by: str) -> Sheet:
    """Do what a dry run told, with the very table that it read. Raises NotFound, TooManySheets."""
    dry = await sheets.get(sheet_id, {"kind": "import", "dry_run": True, "state": "done"})
    return await ask_import(dry.format, await _brought(dry), by, dry_run=False)


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def _check_room(by: str) -> None:
    if await sheets.count({"by": by, **UNDER_WAY}, limit=MOST_AT_ONCE) >= MOST_AT_ONCE:
        raise rules.TooManySheets(most=MOST_AT_ONCE)


@atomic
async def _add(sheet: Sheet) -> Sheet:
    added = await sheets.add(sheet)
    await make.later(added.id)
    return added


@guarded
async def _note(sheet: Sheet) -> Sheet:
    """A sheet whose table is on its way: noted first, so that what is left of it after a crash is swept with it."""
    return await sheets.add(sheet)


@atomic
async def _start(sheet: Sheet) -> None:
    await make.later(sheet.id)


async def remove(sheet_id: str) -> None:
    """Remove a sheet and its file. Raises NotFound, StillWritten."""
    sheet = await sheets.get(sheet_id)
    if sheet.state in ("queued", "running"):
        raise rules.StillWritten
    await _remove(sheet)


async def _remove(sheet: Sheet) -> None:
    """Its files first: a sheet that is there still is swept again."""
    for attempt in range(1, sheet.tries + 1):
        await files.remove_private(_file(sheet, attempt))
    if sheet.kind == "import":
        await files.remove_private(_source(sheet))
    await _drop(sheet)


@guarded
async def _drop(sheet: Sheet) -> None:
    await sheets.remove(sheet)


async def _brought(sheet: Sheet) -> bytes:
    """The table that an import reads."""
    return b"".join([piece async for piece in files.read_private(_source(sheet))])


def _source(sheet: Sheet) -> str:
    return f"imports/{sheet.id}.{sheet.format}"


def _file(sheet: Sheet, attempt: int) -> str:
    return f"sheets/{sheet.id}-{attempt}.{sheet.format}"


# ---- doing it


@job(retries=MOST_TRIES, timeout=3600, priority="low", unique=lambda sheet_id: sheet_id)
async def make(sheet_id: str) -> None:
    """Write, or read, a sheet. A sheet that is done, or gone, is left alone."""
    sheet = await sheets.find({"_id": sheet_id, **UNDER_WAY})
    if sheet is None:
        return
    if sheet.tries >= MOST_TRIES:
        await _fail(sheet, "gave_up")
        return
    sheet = await _begin(sheet)
    try:
        await (_import(sheet) if sheet.kind == "import" else _export(sheet))
    except Stale:
        log.info("sheet_taken_over", sheet=sheet.id, attempt=sheet.tries)
        await files.remove_private(_file(sheet, sheet.tries))
    except Problem as problem:
        if problem.status >= 500:
            raise
        await _fail(sheet, problem.code, str(problem))


@guarded
async def _begin(sheet: Sheet) -> Sheet:
    fresh = {"state": "running", "done": 0, "of": None, "tries": sheet.tries + 1}
    return await _change(sheet, fresh, {"tries": sheet.tries})


@guarded
async def _fail(sheet: Sheet, code: str, reason: str = "") -> None:
    await _change(sheet, {"state": "failed", "error": code, "reason": reason}, {"tries": sheet.tries})


async def _change(sheet: Sheet, fields: dict[str, object], when: Where) -> Sheet:
    """Change a sheet that is still to be done, as far as this try may, and tell it. Raises Stale."""
    changed = await sheets.change(sheet.id, {"$set": fields}, when={**UNDER_WAY, **when})
    await _tell(changed)
    return changed


async def _tell(sheet: Sheet) -> None:
    data = {"sheet_id": sheet.id, "state": sheet.state, "done": sheet.done, "of": sheet.of, "version": sheet.version}
    await live.tell(topic_of(sheet.id), "sheet_changed", data)


class Going:
    """How far one try is, told from time to time. Raises Stale when another try has taken over."""

    def __init__(self, sheet: Sheet, of: int | None) -> None:
        self.sheet, self.done, self.of = sheet, 0, of
        self.told_at = 0.0

    async def more(self, things: int) -> None:
        await self.reach(self.done + things, self.of)

    async def reach(self, done: int, of: int | None) -> None:
        self.done, self.of = done, of
        if time.monotonic() - self.told_at >= EACH:
            self.told_at = time.monotonic()
            await self._note({"done": done, "of": of})

    async def end(self, **fields: object) -> None:
        await self._note({"state": "done", "done": self.done, "of": self.done, **fields})

    @guarded
    async def _note(self, fields: dict[str, object]) -> None:
        await _change(self.sheet, fields, {"tries": self.sheet.tries})


async def _export(sheet: Sheet) -> None:
    going = Going(sheet, await exports.count(sheet.kind, sheet.filters))
    pieces = exports.written(sheet.kind, sheet.format, sheet.filters, going.more)
    name = _file(sheet, sheet.tries)
    size = await files.keep_private(name, pieces)
    await going.end(file=name, size=size)


async def _import(sheet: Sheet) -> None:
    going = Going(sheet, None)
    media = tables.CSV if sheet.format == "csv" else tables.XLSX
    told = await import_many(media, await _brought(sheet), dry_run=sheet.dry_run, progress=going.reach)
    await going.end(result=msgspec.to_builtins(told))


# ---- by the clock


async def sweep() -> int:
    """Remove sheets that were kept long enough, and give up those that nobody works on any more; returns how many."""
    for lost in await sheets.many({**UNDER_WAY, "updated_at": {"$lt": now() - GIVEN_UP}}, limit=100):
        await _give_up(lost)
    old = await sheets.many({"created_at": {"$lt": now() - KEPT}}, sort=[("created_at", 1)], limit=100)
    for each in old:
        await _remove(each)
    return len(old)


async def _give_up(sheet: Sheet) -> None:
    try:
        await _fail(sheet, "gave_up")
    except Stale:
        log.info("sheet_alive_after_all", sheet=sheet.id)
