"""What is sealed under an older data key is sealed anew under the newest, row by row, while everything goes on."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from pymongo import UpdateOne

from msingi.kit import data_keys, leases, sealing, state
from msingi.kit.clock import now
from msingi.kit.db import Collection

BATCH = 500
LOOKED_AT = 30.0  # seconds between two looks whether there is a newer key
Row = dict[str, Any]
log = structlog.get_logger("resealing")


class Progress(Struct):
    """How far one collection is: rows looked at, rows sealed anew, rows that no key opens, which stay as they are."""

    store: str
    key: int
    after: str = ""
    seen: int = 0
    sealed: int = 0
    unreadable: int = 0
    done: bool = False


async def reseal(stores: Iterable[Collection[Any]]) -> list[Progress]:
    """Seal anew what these collections hold under an older key than the newest. Going on after a crash, or doing it
    twice at once, is harmless: a row is only written if it is still what was read.
    """
    await data_keys.load()
    newest = data_keys.ring().newest().number
    return [await _reseal(store, newest) for store in stores if store.sealed]


async def run(stores: Sequence[Collection[Any]]) -> None:
    """Seal anew whenever there is a newer key, for as long as the process lives; of several workers one does."""
    while True:
        await leases.holding("resealing", lambda: _catch_up(stores))
        await asyncio.sleep(LOOKED_AT)


async def _catch_up(stores: Sequence[Collection[Any]]) -> None:
    if data_keys.ring().newest().number > data_keys.FIRST:
        await reseal(stores)


async def progress() -> list[Progress]:
    """How far each collection is with the newest key, in the order of their names."""
    rows = await _kept().find({}, sort=[("_id", 1)]).to_list()
    return [msgspec.convert(row, Progress) for row in rows]


async def _reseal(store: Collection[Any], newest: int) -> Progress:
    where = {"_id": f"{store.product}.{store.name}/{newest:06d}"}
    kept = await _kept().find_one(where)
    at = msgspec.convert(kept, Progress) if kept else Progress(f"{store.product}.{store.name}", newest)
    while not at.done:
        rows = await store.raw.find({"_id": {"$gt": at.after}}, sort=[("_id", 1)], limit=BATCH).to_list()
        changes = [change for row in rows if (change := _anew_if_readable(store, row, at))]
        if changes:
            at.sealed += (await store.raw.bulk_write(changes, ordered=False)).modified_count
        at.seen += len(rows)
        at.after, at.done = (rows[-1]["_id"], False) if rows else (at.after, True)
        await _kept().update_one(where, {"$set": {**msgspec.to_builtins(at), "at": now()}}, upsert=True)
        log.info("resealed", **msgspec.structs.asdict(at))
    return at


def _anew_if_readable(store: Collection[Any], row: Row, at: Progress) -> UpdateOne | None:
    """One damaged row must not keep all others under an old key; that it was met is in the log."""
    try:
        return _anew(store, row, at.key)
    except sealing.CannotOpen:
        at.unreadable += 1
        return None


def _anew(store: Collection[Any], row: Row, newest: int) -> UpdateOne | None:
    """What seals a row's older fields anew, unless somebody changes them meanwhile: then the newest key is used."""
    name = f"{store.product}.{store.name}"
    older = {
        field: row[field]
        for field in store.sealed.decoders
        if (number := sealing.number_of(row.get(field))) is not None and number < newest
    }
    fresh: Row = {}
    for field, value in older.items():
        place = f"{name}/{row['_id']}/{field}"
        fresh[field] = sealing.seal_field(sealing.open_field(value, place, name), place, name)
    return UpdateOne({"_id": row["_id"], **older}, {"$set": fresh}) if fresh else None


def _kept() -> Any:
    return state.database("kit")["reseals"]
