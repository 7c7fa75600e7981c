"""The goods, the stock and the pricing that tests of carts and prices begin with, where the seeds lack them."""

from typing import Any

from msingi.kit.db import Collection, Doc
from msingi.kit.unit import atomic
from msingi.products.shop.models.catalogue import Product, Variant, Words, products
from msingi.products.shop.models.pricing import coupons, shipping_methods, tax_rates
from msingi.products.shop.models.stock import Location, Stock, locations, stocks
from msingi.products.shop.seeds_of_pricing import COUPONS, SHIPPING_METHODS, TAX_RATES

GOODS: dict[str, list[tuple[str, dict[str, int], dict[str, Any]]]] = {
    "tea": [("tea-250", {"KES": 12_000, "USD": 120}, {"weight": 250})],
    "coffee": [("coffee-500", {"KES": 65_000}, {"weight": 500})],
    "kikoi": [("kikoi-red", {"KES": 150_000}, {}), ("kikoi-blue", {"KES": 150_000}, {})],
    "stove": [("stove-1", {"KES": 249_900}, {"weight": 5_000})],
    "radio": [("radio-1", {"KES": 189_900}, {})],
    "repair": [("repair-1", {"KES": 50_000}, {"tracked": False})],
    "secret": [("secret-1", {"KES": 1_000}, {})],
}
STOCK = {
    "nairobi": {"tea-250": 100, "coffee-500": 10, "kikoi-red": 5, "kikoi-blue": 1, "stove-1": 3},
    "mombasa": {"tea-250": 20},
}


def product_of(id: str) -> Product:
    variants = [Variant(id=variant, sku=variant.upper(), prices=prices, **more) for variant, prices, more in GOODS[id]]
    return Product(
        id=id,
        slug=id,
        title=Words(en=id.capitalize(), sw={"tea": "Chai"}.get(id, "")),
        availability="draft" if id == "secret" else "published",
        category_ids=["drinks"] if id in ("tea", "coffee") else [],
        variants=variants,
    )


@atomic
async def plant_what_is_missing() -> None:
    """The fixed facts that all tests of the shop agree on."""
    await _plant(products, [product_of(id) for id in GOODS])
    await _plant(locations, [Location(id=each, name=each.capitalize(), town=each.capitalize()) for each in STOCK])
    await _plant(
        stocks,
        [
            Stock(id=f"{variant}.{place}", variant_id=variant, location_id=place, on_hand=count)
            for place, counts in STOCK.items()
            for variant, count in counts.items()
        ],
    )
    await _plant(tax_rates, TAX_RATES)
    await _plant(shipping_methods, SHIPPING_METHODS)
    await _plant(coupons, COUPONS)


async def _plant(store: Collection[Any], docs: list[Any]) -> None:
    there = {each.id for each in await store.many({"_id": {"$in": [each.id for each in docs]}})}
    missing: list[Doc] = [each for each in docs if each.id not in there]
    if missing:
        await store.add_many(missing)


async def reprice(variant: str, price: int, currency: str = "KES") -> None:
    """Give a variant another price, as somebody in the catalogue would."""
    await products.raw.update_one({"variants.id": variant}, {"$set": {f"variants.$.prices.{currency}": price}})
