"""What may be read of the goods: by everybody what is for sale, by staff all of it."""

from collections.abc import AsyncIterator, Sequence

from msgspec import Struct

from msingi.kit.cache import cached
from msingi.kit.db import Page, Paging, Where
from msingi.kit.encoded import Encoded, encoded
from msingi.kit.errors import NotFound
from msingi.kit.money import Money
from msingi.kit.search import words_of
from msingi.products.shop.models.catalogue import (
    CURRENCIES,
    Category,
    Product,
    Synonym,
    Variant,
    Words,
    categories,
    products,
    synonyms,
)
from msingi.products.shop.rules import catalogue as rules
from msingi.products.shop.schemas.catalogue import CategoriesView, CategoryView, ProductView, VariantView

AVAILABILITIES = ("draft", "published", "archived")


class Offer(Struct, frozen=True, kw_only=True):
    """A variant that is for sale now, with its price in the currency that was asked for (minor units)."""

    product_id: str
    variant_id: str
    sku: str
    title: Words
    options: dict[str, str]
    price: int
    compare_at: int | None
    weight: int
    tracked: bool
    tax_class: str
    category_ids: list[str]
    picture: str | None


# ---- what can be bought


async def offers(variant_ids: Sequence[str], currency: str) -> dict[str, Offer]:
    """What of these is for sale in a currency, by variant. It is asked of the database: a price to pay is never old."""
    wanted = set(variant_ids)
    if not wanted:
        return {}
    where: Where = {"variants.id": {"$in": sorted(wanted)}, "availability": "published"}
    found = await products.many(where, limit=len(wanted))
    return {
        variant.id: _offer(product, variant, currency)
        for product in found
        for variant in product.variants
        if variant.id in wanted and variant.prices.get(currency, 0) > 0
    }


def _offer(product: Product, variant: Variant, currency: str) -> Offer:
    return Offer(
        product_id=product.id,
        variant_id=variant.id,
        sku=variant.sku,
        title=product.title,
        options=variant.options,
        price=variant.prices[currency],
        compare_at=variant.compare_at.get(currency) or None,
        weight=variant.weight,
        tracked=variant.tracked,
        tax_class=product.tax_class,
        category_ids=product.category_ids,
        picture=product.pictures[0].file if product.pictures else None,
    )


# ---- a product's page


@cached(minutes=60, tags=lambda product_id, currency: [f"product:{product_id}"])
async def page_of(product_id: str, currency: str) -> Encoded:
    """A published product's page. Raises NotFound."""
    return _page(await products.get(product_id, when={"availability": "published"}), currency)


@cached(minutes=60, tags=lambda slug, currency: [f"slug:{slug}"])
async def page_at(slug: str, currency: str) -> Encoded:
    """The same, by the name in its address."""
    found = await products.find({"slug": slug})
    if found is None or found.availability != "published":
        raise NotFound
    return _page(found, currency)


def _page(product: Product, currency: str) -> Encoded:
    return encoded(shown(product, currency))


def shown(product: Product, currency: str) -> ProductView:
    """A product as buyers see it, with its prices in one currency."""
    lowest = product.lowest.get(currency)
    variants = [
        VariantView.of(each, price=_money(each.prices.get(currency), currency), compare_at=_was(each, currency))
        for each in product.variants
    ]
    return ProductView.of(product, price=_money(lowest, currency), variants=variants)


def _money(amount: int | None, currency: str) -> Money | None:
    return Money(amount, currency) if amount else None


def _was(variant: Variant, currency: str) -> Money | None:
    """What it used to cost, if that was more."""
    before, price = variant.compare_at.get(currency, 0), variant.prices.get(currency, 0)
    return Money(before, currency) if before > price > 0 else None


# ---- for those who look after it


async def managed(product_id: str) -> Product:
    """Any product, whether it is for sale or not."""
    return await products.get(product_id)


async def all_products(availability: str | None, category_id: str | None, text: str, page: Paging) -> Page[Product]:
    """All products, the newest first: of an availability, of the branch of a category, with all of some words."""
    where: Where = {}
    if availability is not None:
        if availability not in AVAILABILITIES:
            return Page([], None)
        where["availability"] = availability
    if category_id is not None:
        where["category_id"] = {"$in": [each.id for each in await branch(category_id)]}
    words = words_of(text)
    if text.strip() and not words:
        return Page([], None)
    if words:
        where["terms"] = {"$all": words}
    return await products.page(where, page)


async def each_product() -> AsyncIterator[Product]:
    """Every product, in the order of their ids."""
    async for each in products.each({}, sort=[("_id", 1)]):
        yield each


async def currencies_in_use() -> list[str]:
    """The currencies that anything has a price in."""
    return [each for each in CURRENCIES if await products.exists({f"lowest.{each}": {"$gte": 1}})]


# ---- categories and synonyms


@cached(minutes=60, tags=lambda: ["categories"])
async def tree() -> CategoriesView:
    """The whole tree, parents before children."""
    found = await categories.many({}, limit=rules.MOST_CATEGORIES * 2)
    below: dict[str | None, list[Category]] = {}
    for each in sorted(found, key=lambda each: (each.position, each.name.en, each.id)):
        below.setdefault(each.parent_id, []).append(each)
    items: list[Category] = []
    waiting = list(reversed(below.get(None, [])))
    while waiting:
        category = waiting.pop()
        items.append(category)
        waiting.extend(reversed(below.get(category.id, [])))
    return CategoriesView(items=[CategoryView.of(each) for each in items])


@cached(minutes=60, tags=lambda: ["categories"])
async def tree_sent() -> Encoded:
    """The same as it goes out."""
    return encoded(await tree())


async def category(category_id: str) -> Category:
    return await categories.get(category_id)


async def category_named(name: str) -> str | None:
    """The id of the category that has this id or slug."""
    return next((each.id for each in (await tree()).items if name in (each.id, each.slug)), None)


async def branch(category_id: str) -> list[Category]:
    """A category and all that stand in it, at any depth."""
    return await categories.many(
        {"$or": [{"_id": category_id}, {"path": category_id}]}, limit=rules.MOST_CATEGORIES * 2
    )


async def synonym(synonym_id: str) -> Synonym:
    return await synonyms.get(synonym_id)


async def all_synonyms(page: Paging) -> Page[Synonym]:
    return await synonyms.page({}, page)


async def companies(words: Sequence[str]) -> list[list[str]]:
    """The groups of synonyms in which some of these words stand."""
    found = await synonyms.many({"words": {"$in": list(words)}}, limit=100)
    return [each.words for each in found]
