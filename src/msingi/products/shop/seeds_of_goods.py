"""Goods to begin with: a few that tests know by name, two hundred to click through, or as many as load asks for."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

from msgspec.structs import replace

from msingi.kit import cache, state
from msingi.kit.clock import now
from msingi.kit.db import Row
from msingi.kit.ids import new_id
from msingi.kit.search import words_of
from msingi.kit.unit import atomic
from msingi.products.shop.goods import CATEGORIES, GOODS, SYNONYMS, Good
from msingi.products.shop.models.catalogue import (
    Category,
    Option,
    Product,
    Synonym,
    Variant,
    Words,
    categories,
    products,
    synonyms,
)
from msingi.products.shop.rules import catalogue as rules

AT_ONCE = 5000  # generated products in one piece
BULK = 20_000  # more than so many at a time are written before their indexes
KINDS = {"g": "size", "kg": "size", "ml": "size", "l": "size"}
COLOURS = ("red", "blue", "green", "white", "indigo", "orange", "yellow", "purple", "teal", "black", "gold")
QUALITIES = ("Fine", "Plain", "Strong", "Light", "Soft", "Bright", "Old", "New", "Small", "Large", "Quick", "Slow")
TOWNS = (
    *("Nairobi", "Mombasa", "Kisumu", "Nakuru", "Eldoret", "Nyeri", "Meru", "Lamu", "Malindi", "Kitale", "Thika"),
    *("Arusha", "Moshi", "Mbeya", "Tanga", "Kampala", "Jinja", "Gulu", "Kigali", "Huye", "Musanze", "Bujumbura"),
)


async def plant_goods() -> None:
    """The small world in tests, the two hundred goods else."""
    await (_plant_small_world() if state.settings().env == "test" else _plant_all())


# ---- the small world of the tests


@atomic
async def _plant_small_world() -> None:
    tree = [
        Category(id="drinks", slug="drinks", name=Words("Drinks", "Vinywaji")),
        Category(
            id="hot-drinks", slug="hot-drinks", name=Words("Tea and coffee", "Chai na kahawa"), parent_id="drinks"
        ),
        Category(id="clothes", slug="clothes", name=Words("Clothes", "Mavazi"), position=1),
        Category(id="home", slug="home", name=Words("Home", "Nyumbani"), position=2),
    ]
    tree[1].path = ["drinks"]
    await categories.add_many(tree)
    await products.add_many([rules.derived(each) for each in some_goods()])
    await synonyms.add(Synonym(id="tea", words=["tea", "chai"]))


def some_goods() -> list[Product]:
    """What tests know by name: the id of a product is its slug, that of a variant its SKU in small letters."""
    return [
        _known(
            "tea", "Kericho Gold tea", "Majani ya Kericho Gold", "drinks", {"tea-250": 12000}, 250, brand="Kericho Gold"
        ),
        _known(
            "coffee", "Nyeri coffee beans", "Kahawa ya Nyeri", "drinks", {"coffee-500": 65000}, 500, brand="Dormans"
        ),
        _known("kikoi", "Lamu kikoi", "Kikoi cha Lamu", "clothes", {"kikoi-red": 150000, "kikoi-blue": 150000}, 380),
        _known("stove", "Charcoal stove", "Jiko la makaa", "home", {"stove-1": 249900}, 5000, brand="BURN"),
        _known("radio", "FM radio", "Redio ya FM", "home", {"radio-1": 189900}, 500, brand="Sonitec"),
        _known("repair", "Repair of a radio", "Ukarabati wa redio", "home", {"repair-1": 50000}, 0),
        _known("secret", "Secret of the house", "Siri ya nyumba", "home", {"secret-1": 99900}, 100),
    ]


def _known(id: str, en: str, sw: str, category: str, prices: dict[str, int], grams: int, *, brand: str = "") -> Product:
    several = len(prices) > 1
    variants = [
        Variant(
            id=sku,
            sku=sku.upper(),
            prices={"KES": price, **({"USD": 120} if id == "tea" else {})},
            options={"colour": sku.rpartition("-")[2]} if several else {},
            weight=grams,
            tracked=id != "repair",
        )
        for sku, price in prices.items()
    ]
    return Product(
        id=id,
        slug=id,
        title=Words(en, sw),
        availability="draft" if id == "secret" else "published",
        category_id=category,
        category_ids=[category],
        brand=brand,
        attributes={"origin": "Kenya"} if brand else {},
        options=[Option("colour", [each.options["colour"] for each in variants])] if several else [],
        variants=variants,
    )


# ---- two hundred goods


async def _plant_all() -> None:
    await _plant_tree()
    made = [rules.derived(each) for each in all_goods()]
    for at in range(0, len(made), 50):
        await _add(made[at : at + 50])


@atomic
async def _add(some: Sequence[Product]) -> None:
    await products.add_many(some)


@atomic
async def _plant_tree() -> None:
    """What of the tree and of the synonyms is not there yet."""
    for category in tree():
        if not await categories.exists({"_id": category.id}):
            await categories.add(category)
    for words in SYNONYMS:
        if not await synonyms.exists({"_id": words[0]}):
            await synonyms.add(Synonym(id=words[0], words=words))


def tree() -> list[Category]:
    made: dict[str, Category] = {}
    for position, (slug, (en, sw, parent)) in enumerate(CATEGORIES.items()):
        path = [*made[parent].path, parent] if parent else []
        made[slug] = Category(id=slug, slug=slug, name=Words(en, sw), parent_id=parent, path=path, position=position)
    return list(made.values())


def all_goods() -> list[Product]:
    """The goods of goods.py as products on sale, the first of them the oldest."""
    paths = {each.id: [*each.path, each.id] for each in tree()}
    taken: set[str] = set()
    made = []
    for number, good in enumerate(GOODS):
        slug = rules.slug_of(good.en)
        slug = slug if slug not in taken else f"{slug}-{number}"
        taken.add(slug)
        at = now() - timedelta(hours=6 * (len(GOODS) - number))
        product = _product(good, slug, paths[good.category])
        made.append(replace(product, created_at=at, updated_at=at))
    return made


def _product(good: Good, slug: str, path: list[str]) -> Product:
    several = len(good.prices) > 1 or "" not in good.prices
    name = "colour" if set(good.prices) <= set(COLOURS) else "size"
    variants = [
        Variant(
            id=new_id(),
            sku=f"{slug}-{rules.slug_of(value)}"[:64].upper() if several else slug.upper()[:64],
            options={name: value} if several else {},
            prices={"KES": price * 100},
            weight=grams,
            tracked=good.category != "services",
        )
        for (value, price), grams in zip(good.prices.items(), good.grams, strict=True)
    ]
    return Product(
        slug=slug,
        title=Words(good.en, good.sw),
        availability="published",
        category_id=path[-1],
        category_ids=path,
        brand=good.brand,
        tags=list(good.tags),
        attributes=dict(good.attributes),
        options=[Option(name, list(good.prices))] if several else [],
        variants=variants,
    )


# ---- as many as load asks for


async def plant_many(size: int) -> int:
    """Add generated products until there are `size` of them, the same each time; returns how many were added.

    It writes past the checks of the database and tells nobody, at some thousands a second. A great number is written
    without indexes, which are then made: meanwhile the shop cannot be used.
    """
    await _plant_tree()
    last = await products.find({"slug": {"$gte": "g-0", "$lt": "g-:"}}, sort=[("slug", -1)])
    begin = int(last.id[1:]) + 1 if last else 0
    wants_bulk = size - begin > max(BULK, await products.raw.estimated_document_count())
    for index in products.indexes if wants_bulk else ():
        await products.raw.drop_index(index.name)
    await _insert(begin, size)
    if wants_bulk:
        await products.prepare()
    await cache.forget_everything()
    return max(0, size - begin)


async def _insert(begin: int, size: int) -> None:
    """Write the products of some numbers; while the database takes some, the next ones are made."""
    paths = {each.id: [*each.path, each.id] for each in tree()}
    writing: asyncio.Task[object] | None = None
    for at in range(begin, size, AT_ONCE):
        rows = await asyncio.to_thread(_rows, at, min(at + AT_ONCE, size), paths)
        if writing is not None:
            await writing
        writing = asyncio.create_task(products.raw.insert_many(rows, ordered=False, bypass_document_validation=True))
    if writing is not None:
        await writing


def _rows(begin: int, end: int, paths: dict[str, list[str]]) -> list[Row]:
    return [products.dump(generated(number, paths)) for number in range(begin, end)]


def generated(number: int, paths: dict[str, list[str]]) -> Product:
    """The product of a number: one of the goods, by another name, at another price.

    What follows from what it is (rules.derived) is put together from what follows from its good, since a million of
    them are made of two hundred.
    """
    chance = random.Random(number)
    at = chance.randrange(len(GOODS))
    good, kind = GOODS[at], _kind(at)
    quality, town = chance.choice(QUALITIES), chance.choice(TOWNS)
    shillings = max(10, int(next(iter(good.prices.values())) * chance.uniform(0.5, 2)))
    name, lowest, path = f"g{number:08}", {"KES": shillings * 100}, paths[good.category]
    sold = int(chance.paretovariate(1.2)) - 1
    said = dict.fromkeys((quality.lower(), *kind.en, "of", town.lower()))
    title_terms = dict.fromkeys((*said, *kind.sw, town.lower()))
    return Product(
        id=name,
        slug=f"g-{number:08}",
        title=Words(f"{quality} {good.en} of {town}", f"{good.sw}, {town}"),
        availability="published",
        category_id=good.category,
        category_ids=path,
        brand=good.brand,
        tags=list(good.tags),
        attributes=dict(good.attributes),
        variants=[Variant(id=f"{name}-1", sku=name.upper(), prices=lowest, weight=good.grams[0])],
        sold=sold,
        rank=sold,
        lowest=lowest,
        shelves=rules.shelves_of(lowest, path),
        terms=list(dict.fromkeys((*title_terms, *kind.terms, name))),
        title_terms=list(title_terms),
        title_key=" ".join(said)[: rules.LONGEST_KEY],
    )


class Kind(NamedTuple):
    """What follows from a good alone: the folded words of its names, and what else it is found by."""

    en: list[str]
    sw: list[str]
    terms: list[str]


@lru_cache(maxsize=len(GOODS))
def _kind(at: int) -> Kind:
    good = GOODS[at]
    product = Product(slug="", title=Words(""), brand=good.brand, tags=list(good.tags), attributes=good.attributes)
    return Kind(words_of(good.en), words_of(good.sw), rules.terms_of(product, []))
