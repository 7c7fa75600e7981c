"""Whether the figures are what the orders say, and what of them is still to be added up."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct, structs, to_builtins

from msingi.kit import state
from msingi.kit.clock import now
from msingi.kit.db import Row
from msingi.kit.drift import Drift
from msingi.products.shop.models.orders import Order, orders
from msingi.products.shop.models.reports import Figures, Sale, Sold, product_days, sales, sales_days
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.rules import reports as rules

TAG = "shop.sales"  # of answers that are kept: what they are drawn from was added up anew
AT_ONCE = 500  # orders that are looked at together
ADDED_UP_IN = timedelta(minutes=1)  # after which an order without its row, or a row that is in no sum, is worth a word


def zone() -> ZoneInfo:
    """Where the shop's days begin."""
    return ZoneInfo(state.part(ShopSettings).zone)


def sale_of(order: Order) -> Sale:
    """What an order means to the figures, as it is kept."""
    found = rules.meaning(order, zone())
    return Sale(id=order.id, currency=order.currency, seen=order.version, days=found.days, products=found.products)


class Waiting(Struct, frozen=True):
    """A row whose days are to be added up: at that state of it, or a later one."""

    id: str
    seen: int
    days: list[tuple[str, str]]  # the currency and the day of each


async def waiting(limit: int) -> list[Waiting]:
    """Rows that are in no sum yet, or not as they are now, the oldest first."""
    fields = {"seen": 1, "currency": 1, "days.day": 1}
    found = sales.raw.find({"counted": False}, fields, sort=[("updated_at", 1)], limit=limit)
    return [
        Waiting(row["_id"], row["seen"], [(row["currency"], each["day"]) for each in row["days"]])
        async for row in found
    ]


async def all_days() -> list[tuple[str, str]]:
    """The currency and the day of all rows and of all sums."""
    of_rows: list[Row] = [
        {"$unwind": "$days"},
        {"$group": {"_id": {"currency": "$currency", "day": "$days.day"}}},
    ]
    rows = await (await sales.raw.aggregate(of_rows, allowDiskUse=True)).to_list()
    found = {(row["_id"]["currency"], row["_id"]["day"]) for row in rows}
    found |= {(row["currency"], row["day"]) async for row in sales_days.raw.find({}, {"currency": 1, "day": 1})}
    return sorted(found)


async def batches() -> AsyncIterator[tuple[list[Order], dict[str, Sale]]]:
    """All orders, some at a time, each with the row that is kept of it."""
    batch: list[Order] = []
    async for order in orders.each({}, sort=[("_id", 1)]):
        batch.append(order)
        if len(batch) == AT_ONCE:
            yield batch, await _rows_of(batch)
            batch = []
    if batch:
        yield batch, await _rows_of(batch)


async def _rows_of(batch: Sequence[Order]) -> dict[str, Sale]:
    found = await sales.many({"_id": {"$in": [each.id for each in batch]}}, limit=len(batch))
    return {each.id: each for each in found}


async def of_no_order() -> list[str]:
    """Rows of orders that are not there."""
    look = {"from": orders.name, "localField": "_id", "foreignField": "_id", "pipeline": [{"$project": {"_id": 1}}]}
    lost: list[Row] = [{"$lookup": look | {"as": "order"}}, {"$match": {"order": []}}, {"$project": {"_id": 1}}]
    return [row["_id"] async for row in await sales.raw.aggregate(lost)]


# ---- adding up


def day_pipeline(currency: str, day: str) -> list[Row]:
    """A day's sums, from all its rows."""
    sums = {name: {"$sum": f"$days.{name}"} for name in rules.FIGURES}
    return [
        {"$match": {"currency": currency, "days.day": day}},
        {"$project": {"seen": 1, "days": 1}},
        {"$unwind": "$days"},
        {"$match": {"days.day": day}},
        {"$group": {"_id": None, **sums, "seen": {"$sum": "$seen"}}},
        {"$project": {**_as_sums(rules.FIGURES), "_id": f"{currency}|{day}"}},
    ]


def product_pipeline(currency: str, day: str) -> list[Row]:
    """A day's sums of each product."""
    sums = {name: {"$sum": f"$products.{name}"} for name in rules.SOLD}
    return [
        {"$match": {"currency": currency, "days.day": day}},
        {"$project": {"seen": 1, "products": 1}},
        {"$unwind": "$products"},
        {"$match": {"products.day": day}},
        {"$group": {"_id": "$products.product_id", **sums, "seen": {"$sum": "$seen"}}},
        {
            "$project": {
                **_as_sums(rules.SOLD),
                "_id": {"$concat": [f"{currency}|{day}|", "$_id"]},
                "product_id": "$_id",
            }
        },
    ]


def _as_sums(names: Sequence[str]) -> Row:
    return {"sums": {name: f"${name}" for name in names}, "seen": 1}


# ---- is it so?


async def verify() -> list[Drift]:
    """Each order whose row is not what the order says, and each day whose sums are not what its rows add up to."""
    found: list[Drift] = []
    async for batch, kept in batches():
        for order in batch:
            found += _row_drifts(order, kept.get(order.id))
    found += [Drift("sales_of_no_order", id, None, id) for id in await of_no_order()]
    moving = await _moving(found)
    for currency, day in await all_days():
        if (currency, day) not in moving:
            found += await _day_drifts(currency, day)
    return found


def _row_drifts(order: Order, kept: Sale | None) -> Iterator[Drift]:
    """A row that is of a later version than the order that was read is right; one that is behind may be on its way."""
    expected = sale_of(order)
    if kept is not None and kept.seen > expected.seen:
        return
    if (kept is None or kept.seen < expected.seen) and order.updated_at > now() - ADDED_UP_IN:
        return
    if kept is None:
        yield Drift("sales_of_order", expected.id, said(expected), None)
    elif said(kept) != said(expected):
        yield Drift("sales_of_order", expected.id, said(expected), said(kept))


def said(sale: Sale) -> Any:
    """What a row says, whatever version of the order it saw."""
    return to_builtins([sale.currency, sale.days, sale.products])


async def _moving(found: list[Drift]) -> set[tuple[str, str]]:
    """Days that are about to be added up anew. A row that waits too long is a drift."""
    moving: set[tuple[str, str]] = set()
    late = {"counted": False, "updated_at": {"$lt": now() - ADDED_UP_IN}}
    async for row in sales.raw.find(late, {"_id": 1}, limit=1000):
        found.append(Drift("sales_not_added_up", row["_id"], True, False))
    async for row in sales.raw.find({"counted": False}, {"currency": 1, "days.day": 1}):
        moving |= {(row["currency"], each["day"]) for each in row["days"]}
    return moving


async def _day_drifts(currency: str, day: str) -> list[Drift]:
    id = f"{currency}|{day}"
    rows = await (await sales.raw.aggregate(day_pipeline(currency, day))).to_list()
    expected = Figures(**rows[0]["sums"]) if rows else Figures()
    kept = await sales_days.find({"_id": id})
    found = list(_sum_drifts("sales_day", id, expected, kept.sums if kept else Figures()))
    by_product: dict[str, Sold] = {
        row["_id"]: Sold(**row["sums"]) async for row in await sales.raw.aggregate(product_pipeline(currency, day))
    }
    there = {each.id: each.sums async for each in product_days.each(of_day(currency, day))}
    for name in sorted(by_product.keys() | there.keys()):
        found += _sum_drifts("product_day", name, by_product.get(name, Sold()), there.get(name, Sold()))
    return found


def _sum_drifts(what: str, id: str, expected: Struct, found: Struct) -> Iterator[Drift]:
    wanted: Mapping[str, int] = structs.asdict(expected)
    for name, much in structs.asdict(found).items():
        if much != wanted[name]:
            yield Drift(f"{what}_{name}", id, wanted[name], much)


def of_day(currency: str, day: str) -> Row:
    """The products of a day: their ids begin alike, so that no other index is needed."""
    return of_days(currency, day, day)


def of_days(currency: str, since: str, until: str) -> Row:
    """The sums of some days, by their ids. `}` sorts right after `|`."""
    return {"_id": {"$gte": f"{currency}|{since}", "$lt": f"{currency}|{until}" + "}"}}
