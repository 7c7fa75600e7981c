"""Leases: which of several processes does what only one of them should do at a time."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog
from pymongo import ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, PyMongoError

from msingi.kit import drain, state
from msingi.kit.ids import new_id

log = structlog.get_logger("leases")


async def holding(name: str, act: Callable[[], Coroutine[Any, Any, None]], seconds: float = 5.0) -> bool:
    """Run `act` while this process holds the lease `name`; False if another holds it, or took it over meanwhile.

    The database's clock decides, so the clocks of the processes may differ. A holder that dies, or is cut off from
    the database, loses the lease after `seconds`; one that hangs may for a moment not know that it lost it, so `act`
    must bear being done twice. Raises what `act` raises, and PyMongoError.
    """
    holder = new_id()
    if not await _take(name, holder, seconds):
        return False
    work = asyncio.create_task(act())
    try:
        while not (await asyncio.wait({work}, timeout=seconds / 4))[0]:
            if not await _take(name, holder, seconds):
                log.warning("lease_lost", lease=name)
                return False
        await work
        return True
    finally:
        await drain.end([work])
        with suppress(PyMongoError):
            await _leases().delete_one({"_id": name, "holder": holder})


async def _take(name: str, holder: str, seconds: float) -> bool:
    """Take the lease if it is free, or ours already; say whether we hold it."""
    free = {"$or": [{"$eq": ["$holder", holder]}, {"$lt": ["$until", "$$NOW"]}]}  # a missing date is before any other
    until = {"$add": ["$$NOW", round(seconds * 1000)]}
    update: list[dict[str, Any]] = [
        {"$set": {"free": free}},
        {"$set": {"holder": {"$cond": ["$free", holder, "$holder"]}, "until": {"$cond": ["$free", until, "$until"]}}},
        {"$unset": "free"},
    ]
    try:
        held = await _leases().find_one_and_update(
            {"_id": name}, update, upsert=True, return_document=ReturnDocument.AFTER
        )
    except DuplicateKeyError:  # two at once made the first lease of this name, and the other was faster
        return False
    return bool(held and held["holder"] == holder)


def _leases() -> AsyncCollection[dict[str, Any]]:
    return state.database("kit")["leases"]
