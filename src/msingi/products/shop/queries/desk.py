"""What waits for those who work in the shop, the longest waiting first."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from msingi.kit.clock import now
from msingi.kit.db import Paging, Where
from msingi.products.shop.models.catalogue import Words, products
from msingi.products.shop.models.orders import Order, orders
from msingi.products.shop.queries import catalogue

SHOWN = 8
COUNTED = 1000  # nobody needs to know it more exactly
STUCK = timedelta(days=3)
LIKE = 100  # goods that a search for stock is about, at most
TO_SEND: Where = {"state": {"$in": ["confirmed", "partly_shipped"]}}
SHORT: Where = {"state": "short"}
COMING_BACK: Where = {"returns.0": {"$exists": True}, "returns.state": {"$in": ["asked", "approved"]}}


class Waiting(Struct, frozen=True):
    """Some orders, and how many there are of their kind; at most COUNTED are counted."""

    orders: Sequence[Order]
    count: int


async def to_send() -> Waiting:
    """Paid orders of which something has not left."""
    return await _waiting(TO_SEND)


async def short() -> Waiting:
    """Orders that were paid when the goods were gone."""
    return await _waiting(SHORT)


async def coming_back() -> Waiting:
    """Orders of which somebody wants to send something back, and it is not here yet."""
    return await _waiting(COMING_BACK)


async def _waiting(where: Where) -> Waiting:
    found = await orders.many(where, sort=[("_id", 1)], limit=SHOWN)
    return Waiting(found, await orders.count(where, limit=COUNTED) if len(found) == SHOWN else len(found))


def is_stuck(order: Order) -> bool:
    """Whether an order waits longer than it should."""
    return waits_since(order) < now() - STUCK


def waits_since(order: Order) -> datetime:
    """When its waiting began: the last thing that happened to it."""
    return order.timeline[-1].at if order.timeline else order.created_at


# ---- what things are called


async def numbers_of(order_ids: Iterable[str]) -> dict[str, str]:
    """The numbers of these orders; of what is no order's id there is none."""
    found = orders.raw.find({"_id": {"$in": sorted({*order_ids})}}, {"number": 1})
    return {row["_id"]: row["number"] async for row in found}


class Called(Struct, frozen=True):
    """What people know a variant by."""

    sku: str
    title: Words
    options: dict[str, str] = {}
    tracked: bool = True


async def called(variant_ids: Iterable[str]) -> dict[str, Called]:
    """What these variants are called; who is sold no more is not there."""
    wanted = {*variant_ids}
    found = await products.many({"variants.id": {"$in": sorted(wanted)}}, limit=max(len(wanted), 1))
    return {
        each.id: Called(each.sku, product.title, each.options, each.tracked)
        for product in found
        for each in product.variants
        if each.id in wanted
    }


async def variants_like(text: str) -> list[str]:
    """The tracked variants of the goods that a text is about: by words, slug or SKU."""
    found = await catalogue.all_products(None, None, text, Paging(limit=LIKE))
    by_sku = await products.many({"variants.sku": {"$in": [text, text.upper()]}}, limit=1)
    exact = [each.id for product in by_sku for each in product.variants if each.sku.upper() == text.upper()]
    return exact or [each.id for product in found.items for each in product.variants if each.tracked]
