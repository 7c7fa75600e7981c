"""What the shop sold, drawn from days that are added up already; and the sheets that jobs write.

Days are those of the shop's time zone, `until` is included, and a span is at most `rules.reports.LONGEST` days.
"""

import asyncio
from collections.abc import Iterable
from datetime import date, timedelta

from msgspec import Struct, field

from msingi.kit.auth import Actor
from msingi.kit.cache import cached
from msingi.kit.clock import now
from msingi.kit.db import Page, Paging, Row
from msingi.kit.errors import NotFound
from msingi.products.shop.models.carts import carts
from msingi.products.shop.models.catalogue import Words, products
from msingi.products.shop.models.reports import Figures, SalesDay, Sheet, product_days, sales_days
from msingi.products.shop.models.reports import sheets as kept
from msingi.products.shop.models.stock import UNSOLD, locations, stocks
from msingi.products.shop.queries.orders import is_staff
from msingi.products.shop.queries.sales import TAG, of_days, zone
from msingi.products.shop.queries.stock import LOW
from msingi.products.shop.rules import reports as rules
from msingi.products.shop.rules.reports import Step
from msingi.products.shop.schemas.reports import Funnel, SalesPoint, SalesReport, StockAlert, TopProduct

__all__ = [
    "MOST",
    "Funnel",
    "SalesPoint",
    "SalesReport",
    "Sheet",
    "Step",
    "StockAlert",
    "TopProduct",
    "currencies",
    "funnel",
    "may_follow",
    "sales",
    "sheet",
    "sheets",
    "stock_alerts",
    "today",
    "top_products",
]

MOST = 100  # products, or alerts, of one answer


def today() -> date:
    """The day that it is in the shop."""
    return now().astimezone(zone()).date()


# ---- sales over time


@cached(minutes=10, tags=lambda *_: [TAG])
async def sales(since: date, until: date, currency: str, step: Step) -> SalesReport:
    """Sales over time. Raises BadSpan."""
    rules.checked_span(since, until, until)
    length = until - since + timedelta(days=1)
    rows = await _days(since - length, until, currency)
    now_rows = [each for each in rows if each.day >= since.isoformat()]
    before = [each for each in rows if each.day < since.isoformat()]
    by_step: dict[date, list[SalesDay]] = {each: [] for each in rules.steps(since, until, step)}
    for each in now_rows:
        by_step[rules.first_of(date.fromisoformat(each.day), step)].append(each)
    return SalesReport(
        currency=currency,
        step=step,
        since=since,
        until=until,
        points=[_point(day, some) for day, some in by_step.items()],
        total=_point(since, now_rows),
        before=_point(since - length, before),
    )


async def _days(since: date, until: date, currency: str) -> list[SalesDay]:
    where = of_days(currency, since.isoformat(), until.isoformat())
    return await sales_days.many(where, sort=[("_id", 1)], limit=2 * rules.LONGEST)


def _point(day: date, rows: Iterable[SalesDay]) -> SalesPoint:
    sums = rules.added(each.sums for each in rows)
    return SalesPoint(day=day, **{name: getattr(sums, name) for name in SHOWN})


SHOWN = [name for name in SalesPoint.__struct_fields__ if name != "day"]


@cached(minutes=10, tags=lambda *_: [TAG])
async def top_products(since: date, until: date, currency: str, limit: int = 10) -> list[TopProduct]:
    """The products that brought most, however they are called now. Raises BadSpan."""
    rules.checked_span(since, until, until)
    sums: Row = {name: {"$sum": f"$sums.{name}"} for name in rules.SOLD}
    look = {"from": products.name, "localField": "_id", "foreignField": "_id", "as": "found"}
    pipeline: list[Row] = [
        {"$match": of_days(currency, since.isoformat(), until.isoformat())},
        {"$group": {"_id": "$product_id", **sums}},
        {"$match": {"quantity": {"$gt": 0}}},
        {"$sort": {"revenue": -1, "_id": 1}},
        {"$limit": min(max(limit, 1), MOST)},
        {"$lookup": look | {"pipeline": [{"$project": {"slug": 1, "title": 1}}]}},
    ]
    return [each.shown() for each in await product_days.aggregate(pipeline, _Top)]


class _Called(Struct):
    slug: str
    title: Words


class _Top(Struct):
    id: str = field(name="_id")
    quantity: int
    returned: int
    revenue: int
    found: list[_Called]

    def shown(self) -> TopProduct:
        """With the name that it has now; one that is gone has none."""
        called = self.found[0] if self.found else _Called(slug="", title=Words(en=self.id))
        return TopProduct(
            product_id=self.id,
            slug=called.slug,
            title=called.title,
            quantity=self.quantity,
            returned=self.returned,
            revenue=self.revenue,
        )


async def currencies() -> list[str]:
    """In which something was sold, the most orders first."""
    pipeline: list[Row] = [
        {"$group": {"_id": "$currency", "orders": {"$sum": "$sums.orders"}}},
        {"$match": {"orders": {"$gt": 0}}},
        {"$sort": {"orders": -1, "_id": 1}},
    ]
    return [row["_id"] for row in await (await sales_days.raw.aggregate(pipeline)).to_list()]


# ---- how far buyers come


async def funnel(since: date, until: date) -> Funnel:
    """How many carts became orders, and how far these came, in all currencies. Raises BadSpan.

    The carts are those that became an order in the span, and those that were last changed in it and hold something
    still. A guest's cart is forgotten after 30 days, so of longer ago only the orders are known.
    """
    rules.checked_span(since, until, until)
    begin, end = rules.bounds(since, until, zone())
    left = {"updated_at": {"$gte": begin, "$lt": end}, "lines.0": {"$exists": True}}
    wanted = {"day": {"$gte": since.isoformat(), "$lte": until.isoformat()}}
    sums: Row = {name: {"$sum": f"$sums.{name}"} for name in rules.FIGURES}
    waiting, rows = await asyncio.gather(
        carts.count(left, limit=1_000_000),
        sales_days.aggregate(
            [{"$match": wanted}, {"$group": {"_id": None, **sums}}, {"$project": {"_id": 0}}], Figures
        ),
    )
    found = rows[0] if rows else Figures()
    return Funnel(
        carts=found.ordered + waiting,
        ordered=found.ordered,
        paid=found.paid,
        sent=found.sent,
        delivered=found.delivered,
    )


# ---- what runs low


async def stock_alerts(limit: int = 100) -> list[StockAlert]:
    """What runs low, the least first."""
    of_product = {"from": products.name, "localField": "variant_id", "foreignField": "variants.id", "as": "product"}
    of_place = {"from": locations.name, "localField": "location_id", "foreignField": "_id", "as": "place"}
    pipeline: list[Row] = [
        {"$match": LOW},
        {"$project": {"variant_id": 1, "location_id": 1, "low_at": 1, "unsold": UNSOLD}},
        {"$sort": {"unsold": 1, "_id": 1}},
        {"$limit": min(max(limit, 1), MOST)},
        {"$lookup": of_product | {"pipeline": [{"$project": {"title": 1, "variants.id": 1, "variants.sku": 1}}]}},
        {"$lookup": of_place | {"pipeline": [{"$project": {"name": 1}}]}},
    ]
    return [each.shown() for each in await stocks.aggregate(pipeline, _Low)]


class _Variant(Struct):
    id: str
    sku: str


class _Product(Struct):
    title: Words
    variants: list[_Variant]


class _Place(Struct):
    name: str


class _Low(Struct):
    variant_id: str
    location_id: str
    low_at: int
    unsold: int
    product: list[_Product]
    place: list[_Place]

    def shown(self) -> StockAlert:
        """With the names that people know."""
        skus = [one.sku for each in self.product for one in each.variants if one.id == self.variant_id]
        return StockAlert(
            variant_id=self.variant_id,
            sku=skus[0] if skus else self.variant_id,
            title=self.product[0].title if self.product else Words(en=self.variant_id),
            location_id=self.location_id,
            location_name=self.place[0].name if self.place else self.location_id,
            unsold=self.unsold,
            low_at=self.low_at,
        )


# ---- sheets


async def sheet(id: str) -> Sheet:
    """One sheet. Raises NotFound."""
    return await kept.get(id)


async def sheets(paging: Paging) -> Page[Sheet]:
    """All sheets, the newest first."""
    return await kept.page({}, paging, sorts=("-_id",))


async def may_follow(sheet_id: str, actor: Actor) -> None:
    """Raise NotFound unless the actor may follow how a sheet comes on."""
    if not await is_staff(actor, "shop:reports"):
        raise NotFound
    await kept.get(sheet_id)
