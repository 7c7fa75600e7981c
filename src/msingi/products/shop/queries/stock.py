"""What there is, and where, by the database's clock; and whether it is what its history says."""

from asyncio import gather
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from msingi.kit import events, state
from msingi.kit.db import CARRIED, Page, Paging, Row, Where
from msingi.kit.drift import Drift
from msingi.kit.errors import NotFound
from msingi.products.shop.contract import StockMoved
from msingi.products.shop.models.catalogue import products
from msingi.products.shop.models.stock import (
    UNSOLD,
    Level,
    Location,
    MovementRow,
    Stock,
    free,
    held,
    locations,
    movements,
    stock_id,
    stocks,
)
from msingi.products.shop.rules.stock import Place, Sums, drifts, is_low, level, receipt
from msingi.products.shop.schemas.stock import PickUpView, StockView, VariantAvailability, VariantStockView

LOW: Where = {"low_at": {"$gt": 0}, "$expr": {"$lte": [UNSOLD, "$low_at"]}}
HAS_ENDED: Where = {"holds.0": {"$exists": True}, "$expr": {"$lte": [{"$min": "$holds.until"}, "$$NOW"]}}
NEWEST = ("-created_at",)


# ---- what can be sold


class Left(Struct, frozen=True):
    """So many can be sold of a variant there."""

    variant_id: str
    location_id: str
    left: int


async def left(variant_ids: Iterable[str], *, location_id: str | None = None) -> dict[str, int]:
    """How many can be sold now of each variant, at all open locations or at one, by the database's clock."""
    found = dict.fromkeys(variant_ids, 0)
    for each in await _left_by_place(list(found), await open_locations(location_id)):
        found[each.variant_id] += each.left
    return found


async def open_locations(location_id: str | None = None) -> list[Location]:
    """Where goods are sold from, in the order to ask them."""
    where: Where = {"closed": False, **({"_id": location_id} if location_id else {})}
    return await locations.many(where, sort=[("priority", 1), ("_id", 1)])


async def _left_by_place(variant_ids: Sequence[str], places: Sequence[Location]) -> list[Left]:
    there = {"variant_id": {"$in": variant_ids}, "location_id": {"$in": [each.id for each in places]}}
    shown = {"_id": 0, "variant_id": 1, "location_id": 1, "left": free()}
    return await stocks.aggregate([{"$match": there | {"on_hand": {"$gt": 0}}}, {"$project": shown}], Left)


async def availability(variant_ids: Sequence[str]) -> list[VariantAvailability]:
    """What guests are told of each variant: roughly how much there is, and where it can be fetched.

    Of what is not sold there is none, as of what nobody has heard of.
    """
    sold, places = await gather(_sold(variant_ids), open_locations())
    tracked = [each for each, is_tracked in sold.items() if is_tracked]
    rows = await _left_by_place(tracked, places) if tracked else []
    there = {(each.variant_id, each.location_id): each.left for each in rows}

    def at(variant: str, place: Location) -> Level:
        return level(there.get((variant, place.id), 0)) if sold[variant] else "in_stock"

    def told(variant: str) -> VariantAvailability:
        if variant not in sold:
            return VariantAvailability(variant, "none", [])
        whole = sum(there.get((variant, each.id), 0) for each in places)
        fetched = [PickUpView(each.id, each.name, each.town, at(variant, each)) for each in places if each.pick_up]
        return VariantAvailability(variant, level(whole) if sold[variant] else "in_stock", fetched)

    return [told(each) for each in variant_ids]


async def _sold(variant_ids: Sequence[str]) -> dict[str, bool]:
    """Which of these variants are sold at all, and whether they can run out."""
    found = await products.many({"variants.id": {"$in": list(variant_ids)}, "availability": "published"})
    return {each.id: each.tracked for product in found for each in product.variants if each.id in variant_ids}


# ---- for those who take it


async def places(order_id: str, variant_ids: Sequence[str], location_id: str | None) -> dict[str, list[Place]]:
    """The open locations that have any of these variants, in the order to ask them, and what an order holds there."""
    own = {"variant_id": 1, "location_id": 1, "holds": {"$elemMatch": {"order_id": order_id}}}
    where: Where = {"variant_id": {"$in": list(variant_ids)}, "on_hand": {"$gt": 0}}
    open_ones, rows = await gather(open_locations(location_id), stocks.raw.find(where, own).to_list())
    there = {row["_id"]: sum(each["quantity"] for each in row.get("holds", ())) for row in rows}
    return {
        variant: [Place(each.id, there[id]) for each in open_ones if (id := stock_id(variant, each.id)) in there]
        for variant in variant_ids
    }


class Standing(Struct, frozen=True):
    """How an order stands with a stock: whether it was given to it once, and until when it holds some."""

    is_allocated: bool
    held_until: datetime | None = None


async def standing(order_id: str, stock: str) -> Standing:
    """How an order stands with a stock.

    The event that allocates has an id that is known before, and goes from the stock to the outbox (where it stays for
    a week), and from there into the movements. It is looked for in this order, so it is not missed on its way.
    """
    id = receipt(order_id, stock)
    seen = await stocks.raw.find_one(
        {"_id": stock}, {"holds": {"$elemMatch": {"order_id": order_id}}, CARRIED: {"$elemMatch": {"_id": id}}}
    )
    if seen is None:
        raise NotFound
    until = next((each["until"] for each in seen.get("holds", ())), None)
    if seen.get(CARRIED):
        return Standing(True, until)
    told, written = await gather(events.outbox("shop").exists({"_id": id}), movements.exists({"_id": id}))
    return Standing(told or written, until)


async def is_crowded(variant_id: str, most: int) -> bool:
    """Whether somewhere so many holds stand on it that no more can."""
    return await stocks.exists({"variant_id": variant_id, f"holds.{most - 1}": {"$exists": True}})


async def held_now(stock: str) -> int:
    """How much of a stock is held, by the database's clock."""
    return (await _held([stock])).get(stock, 0)


async def with_ended_holds() -> list[str]:
    """Stocks on which holds stand that have ended, some at a time."""
    found = stocks.raw.find({"location_id": {"$gt": ""}, **HAS_ENDED}, {"_id": 1}, limit=1000)
    return [row["_id"] async for row in found]


# ---- for staff


async def location(location_id: str) -> Location:
    return await locations.get(location_id)


async def all_locations(where: Where, paging: Paging) -> Page[Location]:
    return await locations.page(where, paging, sorts=("priority", "name", "-created_at"))


async def all_stock(where: Where, low: bool | None, paging: Paging) -> Page[StockView]:
    """Stocks of all variants at all places; with `low` those that somebody is to be told of, or those that not."""
    also: Where = {} if low is None else LOW if low else {"$nor": [LOW]}
    page = await stocks.page(where, paging, sorts=("_id", "on_hand", "-updated_at"), also=also)
    return Page(await shown(page.items), page.next)


async def stock(variant_id: str, location_id: str) -> StockView:
    """One stock. Raises NotFound."""
    return (await shown([await stocks.get(stock_id(variant_id, location_id))]))[0]


async def stock_of(variant_id: str) -> VariantStockView:
    """All that there is of a variant. Raises NotFound for one that nobody knows."""
    found = await stocks.many({"variant_id": variant_id}, sort=[("location_id", 1)])
    if not found:
        await check_variant(variant_id)
    items = await shown(found)
    names = ("on_hand", "allocated", "held", "available")
    sums = {name: sum(getattr(each, name) for each in items) for name in names}
    return VariantStockView(variant_id=variant_id, items=items, **sums)


async def check_variant(variant_id: str) -> None:
    """Raise NotFound for a variant that no product has."""
    if not await products.exists({"variants.id": variant_id}):
        raise NotFound


async def names(variant_id: str, location_id: str) -> dict[str, str]:
    """What people call a variant and a place: `title`, `title_sw`, `sku`, `place`."""
    product = await products.find({"variants.id": variant_id})
    place = await locations.find({"_id": location_id})
    sku = next((each.sku for each in product.variants if each.id == variant_id), "") if product else ""
    title, title_sw = (product.title.en, product.title.sw) if product else ("", "")
    called = {"title": title or variant_id, "title_sw": title_sw or title or variant_id, "sku": sku or variant_id}
    return {**called, "place": place.name if place else location_id}


async def shown(found: Sequence[Stock]) -> list[StockView]:
    """Stocks with what is held of them now."""
    holding = await _held([each.id for each in found])
    return [_shown(each, holding.get(each.id, 0)) for each in found]


def _shown(stock: Stock, holding: int) -> StockView:
    unsold = stock.on_hand - stock.allocated
    view: StockView = StockView.of(stock, held=holding, available=unsold - holding, low=is_low(unsold, stock.low_at))
    return view


class _Held(Struct):
    id: str = field(name="_id")
    held: int = 0


async def _held(ids: Sequence[str]) -> dict[str, int]:
    rows = await stocks.aggregate([{"$match": {"_id": {"$in": ids}}}, {"$project": {"held": held()}}], _Held)
    return {each.id: each.held for each in rows}


async def all_movements(where: Where, paging: Paging) -> Page[MovementRow]:
    """What happened to stocks, the newest first."""
    return await movements.page(where, paging, sorts=NEWEST)


# ---- is it so?


async def verify() -> list[Drift]:
    """Each stock whose figures are not what its movements add up to, or that promises more than it has.

    All is read at one moment, and movements that are still on their way as events count.
    """
    async with state.mongo().start_session(snapshot=True) as moment:

        async def rows(collection: Any, pipeline: Sequence[Row]) -> list[Row]:
            found: list[Row] = await (await collection.aggregate(pipeline, session=moment)).to_list()
            return found

        derived: dict[str, Sums] = {}
        outbox = events.outbox("shop").raw
        for collection, pipeline in ((movements.raw, WRITTEN), (outbox, TOLD), (stocks.raw, RIDING)):
            for row in await rows(collection, pipeline):
                derived[row["_id"]] = derived.get(row["_id"], Sums()) + Sums(row["on_hand"], row["allocated"])
        there = await rows(stocks.raw, [{"$project": {"on_hand": 1, "allocated": 1, "held": held()}}])
    found = {row["_id"]: Sums(row["on_hand"], row["allocated"]) for row in there}
    promised = {row["_id"]: row["allocated"] + row["held"] for row in there}
    over = [Drift("stock_promised", id, found[id].on_hand, much) for id, much in promised.items()]
    return [*drifts(derived, found), *(each for each in over if each.found > each.expected)]


def _added(prefix: str = "") -> Row:
    sums = {name: {"$sum": f"${prefix}{name}"} for name in ("on_hand", "allocated")}
    return {"$group": {"_id": f"${prefix}stock_id", **sums}}


def _not_in(store: str) -> list[Row]:
    look = {"from": store, "localField": "_id", "foreignField": "_id", "as": store}
    return [{"$lookup": look}, {"$match": {store: []}}]


MOVED = {"type": StockMoved.__struct_config__.tag}
WRITTEN: list[Row] = [_added()]
TOLD: list[Row] = [{"$match": MOVED}, *_not_in("movements"), _added("body.")]
RIDING: list[Row] = [
    {"$match": {f"{CARRIED}.0": {"$exists": True}}},
    {"$unwind": f"${CARRIED}"},
    {"$replaceWith": f"${CARRIED}"},
    {"$match": MOVED},
    *_not_in("outbox"),
    *_not_in("movements"),
    _added("body."),
]
