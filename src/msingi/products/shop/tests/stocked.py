"""Goods to sell and stock to take from, and eyes on it: what the tests of stock share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from msgspec import Struct, field

from msingi.kit import events
from msingi.kit.product import Product as Manifest
from msingi.kit.tests.waiting import beside
from msingi.kit.unit import atomic
from msingi.products.shop.jobs import stock as jobs
from msingi.products.shop.models.catalogue import Product, Variant, Words, products
from msingi.products.shop.models.stock import held, locations, stocks
from msingi.products.shop.product import product
from msingi.products.shop.seeds_of_stock import plant_stock

GOODS = {
    "tea": ["tea-250"],
    "coffee": ["coffee-500"],
    "kikoi": ["kikoi-red", "kikoi-blue"],
    "stove": ["stove-1"],
    "radio": ["radio-1"],
    "repair": ["repair-1"],
    "secret": ["secret-1"],
}


def manifest() -> Manifest:
    """The shop with the work that stock asks for."""
    return product if jobs in product.work else replace(product, work=[*product.work, jobs])


async def plant() -> None:
    """Goods and stock, if the seeds have none."""
    if not await products.exists({"_id": "tea"}):
        await _plant_goods()
    if not await locations.exists({}):
        await plant_stock()
    await events.forget(["shop"])


@atomic
async def _plant_goods() -> None:
    for id, variants in GOODS.items():
        kinds = [Variant(id=each, sku=each.upper(), tracked=id != "repair") for each in variants]
        shown = "draft" if id == "secret" else "published"
        await products.add(Product(id=id, slug=id, title=Words(id.capitalize()), availability=shown, variants=kinds))  # type: ignore[arg-type]


class Figures(Struct, frozen=True):
    """A stock as it is, by the database's clock."""

    on_hand: int
    allocated: int
    held: int


class _Row(Struct):
    id: str = field(name="_id")
    on_hand: int
    allocated: int
    held: int


async def _rows(where: dict[str, object]) -> list[_Row]:
    return await stocks.aggregate([{"$match": where}, {"$set": {"held": held()}}], _Row)


async def figures(stock: str) -> Figures:
    row = (await _rows({"_id": stock}))[0]
    return Figures(row.on_hand, row.allocated, row.held)


async def check_all() -> None:
    """Nothing is less than nothing, and nothing is promised that is not there."""
    for row in await _rows({}):
        assert min(row.on_hand, row.allocated, row.held) >= 0, row
        assert row.allocated + row.held <= row.on_hand, row


@asynccontextmanager
async def watched() -> AsyncIterator[None]:
    """Look at every stock again and again meanwhile, from beside."""

    async def look() -> None:
        while True:
            await check_all()
            await asyncio.sleep(0.001)

    async with beside(look):
        yield
    await check_all()


async def end_holds(order_id: str = "") -> None:
    """Let the time of holds be over: of all orders, or of one."""
    past = {"$subtract": ["$$NOW", 1]}
    is_meant = {"$eq": ["$$this.order_id", order_id]} if order_id else True
    ended = {"$cond": [is_meant, past, "$$this.until"]}
    mapped = {"$map": {"input": "$holds", "in": {"$mergeObjects": ["$$this", {"until": ended}]}}}
    await stocks.raw.update_many({}, [{"$set": {"holds": mapped}}])


async def database_now() -> datetime:
    rows = await stocks.raw.database.aggregate([{"$documents": [{}]}, {"$project": {"now": "$$NOW"}}])
    found: datetime = (await rows.to_list())[0]["now"]
    return found
