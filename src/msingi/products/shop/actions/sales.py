"""The figures: an order's row is worked out when something happened to the order, and days are added up from rows.

A row is a function of its order, and a day one of its rows, so each may be worked out again at any time, twice, in any
order, and by two at once: the figures are the same. Days are added up by the clock, some seconds later, and never in
the transactions of those who buy.
"""

import asyncio
from collections.abc import Sequence

import structlog
from pymongo import ReplaceOne, UpdateOne

from msingi.kit import cache, leases
from msingi.kit.db import Row
from msingi.kit.errors import Busy
from msingi.kit.jobs import job
from msingi.kit.unit import atomic
from msingi.products.shop.models.orders import Order
from msingi.products.shop.models.reports import Sale, product_days, sales, sales_days
from msingi.products.shop.queries import sales as queries
from msingi.products.shop.queries.orders import database_now
from msingi.products.shop.queries.sales import Waiting

LEASE = "shop.sales"
TOGETHER = 10_000  # rows that are added up in one go
PATIENCE = 60  # seconds that a rebuilding waits for its turn
log = structlog.get_logger("shop.sales")


@atomic
async def work_out(order: Order) -> None:
    """Bring an order's row in line with the order. Rows never go back to an older version of it."""
    fresh = queries.sale_of(order)
    kept = await sales.find({"_id": order.id})
    if kept is None:
        await sales.add(fresh)
    elif kept.seen < fresh.seen and queries.said(kept) != queries.said(fresh):
        told = {"days": fresh.days, "products": fresh.products, "seen": fresh.seen, "counted": False}
        await sales.change(order.id, {"$set": told}, when={"seen": kept.seen})


# ---- days


async def add_up() -> int:
    """Add up the days of all rows that are in no sum yet, unless another process does; returns how many rows."""
    done = 0

    async def act() -> None:
        nonlocal done
        done = await _add_up_waiting()

    if await queries.waiting(1) and await leases.holding(LEASE, act, seconds=10):
        await cache.forget([queries.TAG])
    return done


async def _add_up_waiting() -> int:
    done = 0
    while found := await queries.waiting(TOGETHER):
        for currency, day in sorted({day for row in found for day in row.days}):
            await _merge(currency, day, GROWN)
        await _count(found)
        done += len(found)
    return done


async def _merge(currency: str, day: str, matched: str | list[Row]) -> None:
    """A day's sums and those of its products, in one pipeline each, which the database runs by itself."""
    about = {"currency": currency, "day": day, "version": 1, "created_at": "$$NOW", "updated_at": "$$NOW"}
    for pipeline, into in (
        (queries.day_pipeline(currency, day), sales_days.name),
        (queries.product_pipeline(currency, day), product_days.name),
    ):
        merge = {"into": into, "on": "_id", "whenMatched": matched, "whenNotMatched": "insert"}
        await (await sales.raw.aggregate([*pipeline, {"$set": about}, {"$merge": merge}])).to_list()


# Of two that add up the same day at once, each saw all that it marks as counted; the one that saw more says it.
GROWN: list[Row] = [
    {
        "$replaceWith": {
            "$cond": [
                {"$gt": ["$$new.seen", "$seen"]},
                {
                    "$mergeObjects": [
                        "$$new",
                        {"created_at": "$created_at", "version": {"$add": ["$version", 1]}},
                    ]
                },
                "$$ROOT",
            ]
        }
    }
]


async def _count(found: Sequence[Waiting]) -> None:
    """Note that they are in their sums: as they were seen, since one that changed meanwhile is not."""
    done = [UpdateOne({"_id": each.id, "seen": each.seen}, {"$set": {"counted": True}}) for each in found]
    await sales.raw.bulk_write(done, ordered=False)


# ---- from the beginning


@job(retries=3, timeout=4 * 3600, priority="low", unique=lambda: "all")
async def rebuild_sales() -> None:
    await rebuild()


@atomic
async def ask_rebuild() -> None:
    """Have all figures worked out again; one at a time."""
    await rebuild_sales.later()


async def rebuild() -> int:
    """Work out all rows and all days again; returns how many rows were not as they should be.

    For after a change of the time zone, a loss, or when `verify` names a drift. Figures of a day can be read
    throughout; while a day is being replaced, they may for a moment lack some of its products.
    """
    changed = 0

    async def act() -> None:
        nonlocal changed
        changed = await _rebuild()

    for _ in range(PATIENCE):
        if await leases.holding(LEASE, act, seconds=10):
            await cache.forget([queries.TAG])
            return changed
        await asyncio.sleep(1)
    raise Busy(retry_after=5)


async def _rebuild() -> int:
    gone = await queries.of_no_order()
    changed = len(gone)
    if gone:
        await sales.raw.delete_many({"_id": {"$in": gone}})
    async for batch, kept in queries.batches():
        changed += await _mend(batch, kept)
    for currency, day in await queries.all_days():
        await _replace(currency, day)
    await _add_up_waiting()
    log.info("sales_rebuilt", rows=changed)
    return changed


async def _mend(batch: Sequence[Order], kept: dict[str, Sale]) -> int:
    """Put right the rows of some orders; what a reaction wrote meanwhile, of a newer order, stays."""
    writes: list[ReplaceOne[Row] | UpdateOne] = []
    for order in batch:
        fresh, there = queries.sale_of(order), kept.get(order.id)
        row = sales.dump(fresh)
        if there is None:
            writes.append(UpdateOne({"_id": order.id}, {"$setOnInsert": row}, upsert=True))
        elif queries.said(there) != queries.said(fresh):
            writes.append(ReplaceOne({"_id": order.id, "seen": {"$lte": fresh.seen}}, row))
    if writes:
        await sales.raw.bulk_write(writes, ordered=False)
    return len(writes)


async def _replace(currency: str, day: str) -> None:
    """A day's sums anew, whatever was there; and what is left of it from before goes."""
    begun = await database_now()
    await _merge(currency, day, "replace")
    old = {"updated_at": {"$lt": begun}}
    await product_days.raw.delete_many(queries.of_day(currency, day) | old)
    await sales_days.raw.delete_many({"_id": f"{currency}|{day}", **old})
