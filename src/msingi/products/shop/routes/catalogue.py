"""Goods, over HTTP: for everybody what is on sale, for whoever looks after it all of it."""

from collections.abc import Sequence
from typing import Any

from litestar.types import ControllerRouterHandler

from msingi.kit import state
from msingi.kit.by_address import by_address
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import AlreadyExists, Stale
from msingi.kit.http import BadFilter, Body, Filters, Given, Path, Query, delete, get, patch, post, put
from msingi.kit.replies import KitResponse, created, sent
from msingi.products.shop.actions import catalogue as goods
from msingi.products.shop.actions import categories as tree
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries import catalogue as queries
from msingi.products.shop.queries import search as searching
from msingi.products.shop.queries.search import Search
from msingi.products.shop.routes import importing
from msingi.products.shop.rules import catalogue as rules
from msingi.products.shop.rules.pictures import UnknownPicture
from msingi.products.shop.schemas.catalogue import (
    CategoriesView,
    CategoryPatch,
    CategoryView,
    FacetsView,
    ManagedProduct,
    NewCategory,
    NewProduct,
    NewVariant,
    ProductCard,
    ProductPatch,
    ProductView,
    SynonymForm,
    SynonymView,
    VariantPatch,
)

FILTERS = Filters(brand=str, tag=str, facet=str, price=int)
ALSO = ("q", "currency", "category")
MANAGE = "shop:catalogue"
LOOK = "shop:read"
FAULTS = [
    *(rules.BadOptions, rules.DoubledVariant, rules.NoSuchCategory, rules.NoSuchCurrency),
    *(UnknownPicture, AlreadyExists),
]
CHANGED = [*FAULTS, rules.NotReady, Stale]


# ---- for everybody


@get(
    "/products",
    public=True,
    filters=FILTERS,
    also=ALSO,
    middleware=[by_address],
    problems=[rules.NoSuchCurrency, rules.TooManyWords],
)
async def list_products(
    page: Given[Paging],
    where: Given[Where],
    q: Query[str] = "",
    currency: Query[str] = "",
    category: Query[str] = "",
) -> KitResponse[Page[ProductCard]]:
    """What is on sale: in a category and all below it, with some words, brands, tags, facets, within a price."""
    search = await search_of(where, q, currency, category)
    return sent(await searching.listed(search, page)) if search else KitResponse(Page([], None))


@get(
    "/products/facets",
    public=True,
    filters=FILTERS,
    also=ALSO,
    middleware=[by_address],
    problems=[rules.NoSuchCurrency, rules.TooManyWords],
)
async def count_facets(
    where: Given[Where], q: Query[str] = "", currency: Query[str] = "", category: Query[str] = ""
) -> KitResponse[FacetsView]:
    """What these goods can be narrowed down by, and how many would be left."""
    search = await search_of(where, q, currency, category)
    return sent(await searching.facets(search)) if search else KitResponse(searching.NOTHING)


@get("/products/by-slug/{slug:str}", public=True, middleware=[by_address], problems=[rules.NoSuchCurrency])
async def show_product_by_slug(slug: Path[str], currency: Query[str] = "") -> KitResponse[ProductView]:
    """One product, by the name in its address."""
    rules.check_name(slug)
    return sent(await queries.page_at(slug, currency_of(currency)))


@get("/products/{product_id:str}", public=True, middleware=[by_address], problems=[rules.NoSuchCurrency])
async def show_product(product_id: Path[str], currency: Query[str] = "") -> KitResponse[ProductView]:
    """One product, with its variants and their prices."""
    rules.check_name(product_id)
    return sent(await queries.page_of(product_id, currency_of(currency)))


@get("/categories", public=True, middleware=[by_address])
async def list_categories() -> KitResponse[CategoriesView]:
    """The tree of categories, parents before children."""
    return sent(await queries.tree_sent())


@get("/categories/{category_id:str}", public=True)
async def show_category(category_id: Path[str]) -> CategoryView:
    """One category."""
    return CategoryView.of(await queries.category(category_id))


def currency_of(given: str) -> str:
    """The currency that is asked for, or the shop's own."""
    currency = given or state.part(ShopSettings).currency
    rules.check_currency(currency)
    return currency


async def search_of(where: Where, text: str, currency: str, category: str) -> Search | None:
    """What a query string looks for; None if nothing can fit: signs without a word, a category that is not there."""
    money = currency_of(currency)
    words = rules.asked_words(text)
    category_id = await queries.category_named(category) if category else None
    if (text.strip() and not words) or (category and category_id is None):
        return None
    low, high, filters = _read(where)
    companies = await queries.companies(words) if words else []
    return Search(
        currency=money,
        category_id=category_id,
        words=rules.widened(words, companies),
        filters=filters,
        low=low,
        high=high,
    )


def _read(where: Where) -> tuple[int | None, int | None, list[list[str]]]:
    """The bounds of the price, and the terms of the other filters. Raises BadFilter."""
    lows: list[int] = []
    highs: list[int] = []
    filters: list[list[str]] = []
    for clause in where.get("$and", ()):
        for name, wanted in clause.items():
            operators = wanted if isinstance(wanted, dict) else {"$eq": wanted}
            for operator, value in operators.items():
                if name == "price":
                    low, high = _bounds(operator, value)
                    lows += low
                    highs += high
                else:
                    filters.append(_terms(name, operator, value))
    if len(filters) > rules.MOST_FILTERS:
        raise BadFilter(given="facet", reason=f"{rules.MOST_FILTERS} filters at once at most")
    return max(lows, default=None), min(highs, default=None), filters


def _bounds(operator: str, value: Any) -> tuple[list[int], list[int]]:
    if not isinstance(value, int):
        raise BadFilter(given="price", reason="give an amount in minor units")
    value = max(-1, min(value, 10**13))
    bounds: dict[str, tuple[list[int], list[int]]] = {
        "$eq": ([value], [value]),
        "$gte": ([value], []),
        "$gt": ([value + 1], []),
        "$lte": ([], [value]),
        "$lt": ([], [value - 1]),
    }
    if operator not in bounds:
        raise BadFilter(given="price", reason="compare with gt, gte, lt, lte")
    return bounds[operator]


def _terms(name: str, operator: str, value: Any) -> list[str]:
    values = value if operator == "$in" else [value]
    if operator not in ("$eq", "$in") or len(values) > rules.MOST_FILTERS or not all(values):
        raise BadFilter(given=name, reason="say what it is, or `[in]` and some of them")
    if name != "facet":
        return [f"{name}:{rules.folded(each)}" for each in values]
    pairs = [each.partition(":") for each in values]
    if not all(key and sign and wanted for key, sign, wanted in pairs):
        raise BadFilter(given=name, reason="a facet is a name and a value, as colour:red")
    return [f"{key}:{rules.folded(wanted)}" for key, _, wanted in pairs]


# ---- for whoever looks after it


@get("/catalogue/products", permission=LOOK)
async def list_all_products(
    page: Given[Paging], availability: Query[str] = "", category: Query[str] = "", q: Query[str] = ""
) -> Page[ManagedProduct]:
    """All products, drafts and archived ones too, the newest first."""
    found = await queries.all_products(availability or None, category or None, q, page)
    return found.map(ManagedProduct.of)


@get("/catalogue/products/{product_id:str}", permission=LOOK)
async def show_whole_product(product_id: Path[str]) -> ManagedProduct:
    """One product, on sale or not, with all its prices."""
    return ManagedProduct.of(await queries.managed(product_id))


@post("/products", permission=MANAGE, problems=FAULTS)
async def add_product(data: Body[NewProduct]) -> KitResponse[ManagedProduct]:
    """Make a product; it is a draft until it is published."""
    product = await goods.add(data)
    return created(ManagedProduct.of(product), f"/v1/shop/catalogue/products/{product.id}")


@patch("/products/{product_id:str}", permission=MANAGE, problems=CHANGED)
async def edit_product(product_id: Path[str], data: Body[ProductPatch], if_match: Given[int | None]) -> ManagedProduct:
    """Change a product."""
    return ManagedProduct.of(await goods.edit(product_id, data, if_match))


@delete("/products/{product_id:str}", permission=MANAGE, problems=[rules.StillPublished, Stale])
async def remove_product(product_id: Path[str], if_match: Given[int | None]) -> None:
    """Remove a product that is not on sale, for good. Orders keep what they say of it."""
    await goods.remove(product_id, if_match)


@put("/products/{product_id:str}/publication", permission=MANAGE, problems=[rules.NotReady, rules.Archived, Stale])
async def publish_product(product_id: Path[str], if_match: Given[int | None]) -> ManagedProduct:
    """Put a product on sale."""
    return ManagedProduct.of(await goods.publish(product_id, if_match))


@delete("/products/{product_id:str}/publication", permission=MANAGE, status_code=200, problems=[Stale])
async def unpublish_product(product_id: Path[str], if_match: Given[int | None]) -> ManagedProduct:
    """Take a product off sale; it is a draft again."""
    return ManagedProduct.of(await goods.put_aside(product_id, "draft", if_match, only="published"))


@put("/products/{product_id:str}/archive", permission=MANAGE, problems=[Stale])
async def archive_product(product_id: Path[str], if_match: Given[int | None]) -> ManagedProduct:
    """Take a product off sale for good, and keep it."""
    return ManagedProduct.of(await goods.put_aside(product_id, "archived", if_match))


@delete("/products/{product_id:str}/archive", permission=MANAGE, status_code=200, problems=[Stale])
async def restore_product(product_id: Path[str], if_match: Given[int | None]) -> ManagedProduct:
    """Take a product out of the archive; it is a draft again."""
    return ManagedProduct.of(await goods.put_aside(product_id, "draft", if_match, only="archived"))


@post("/products/{product_id:str}/variants", permission=MANAGE, problems=[*CHANGED, rules.CatalogueFull])
async def add_variant(
    product_id: Path[str], data: Body[NewVariant], if_match: Given[int | None]
) -> KitResponse[ManagedProduct]:
    """Give a product one more variant."""
    product = await goods.add_variant(product_id, data, if_match)
    return created(ManagedProduct.of(product), f"/v1/shop/catalogue/products/{product.id}")


@patch("/products/{product_id:str}/variants/{variant_id:str}", permission=MANAGE, problems=CHANGED)
async def edit_variant(
    product_id: Path[str], variant_id: Path[str], data: Body[VariantPatch], if_match: Given[int | None]
) -> ManagedProduct:
    """Change a variant: its prices, for one. `If-Match` is the product's version."""
    return ManagedProduct.of(await goods.edit_variant(product_id, variant_id, data, if_match))


@delete("/products/{product_id:str}/variants/{variant_id:str}", permission=MANAGE, status_code=200, problems=CHANGED)
async def remove_variant(product_id: Path[str], variant_id: Path[str], if_match: Given[int | None]) -> ManagedProduct:
    """Take a variant away."""
    return ManagedProduct.of(await goods.remove_variant(product_id, variant_id, if_match))


PLACES = [rules.NoSuchCategory, rules.CategoryCircle, rules.TooDeep, AlreadyExists]


@post("/categories", permission=MANAGE, problems=[*PLACES, rules.CatalogueFull])
async def add_category(data: Body[NewCategory]) -> KitResponse[CategoryView]:
    """Make a category."""
    category = await tree.add(data)
    return created(CategoryView.of(category), f"/v1/shop/categories/{category.id}")


@patch("/categories/{category_id:str}", permission=MANAGE, problems=[*PLACES, rules.BranchTooLarge, Stale])
async def edit_category(category_id: Path[str], data: Body[CategoryPatch], if_match: Given[int | None]) -> CategoryView:
    """Rename a category, or put it elsewhere with all that is in it."""
    return CategoryView.of(await tree.edit(category_id, data, if_match))


@delete("/categories/{category_id:str}", permission=MANAGE, problems=[rules.CategoryInUse, Stale])
async def remove_category(category_id: Path[str], if_match: Given[int | None]) -> None:
    """Remove an empty category."""
    await tree.remove(category_id, if_match)


@get("/synonyms", permission=MANAGE)
async def list_synonyms(page: Given[Paging]) -> Page[SynonymView]:
    """Words that mean the same to whoever searches."""
    return (await queries.all_synonyms(page)).map(SynonymView.of)


@post("/synonyms", permission=MANAGE, problems=[rules.NotAWord, rules.CatalogueFull])
async def add_synonym(data: Body[SynonymForm]) -> KitResponse[SynonymView]:
    """Let some words mean the same."""
    synonym = await tree.add_synonym(data)
    return created(SynonymView.of(synonym), f"/v1/shop/synonyms/{synonym.id}")


@put("/synonyms/{synonym_id:str}", permission=MANAGE, problems=[rules.NotAWord, Stale])
async def edit_synonym(synonym_id: Path[str], data: Body[SynonymForm], if_match: Given[int | None]) -> SynonymView:
    """Let other words mean the same."""
    return SynonymView.of(await tree.edit_synonym(synonym_id, data, if_match))


@delete("/synonyms/{synonym_id:str}", permission=MANAGE, problems=[Stale])
async def remove_synonym(synonym_id: Path[str], if_match: Given[int | None]) -> None:
    """Let them mean what they meant before."""
    await tree.remove_synonym(synonym_id, if_match)


routes: Sequence[ControllerRouterHandler] = [
    list_products,
    count_facets,
    show_product_by_slug,
    show_product,
    list_categories,
    show_category,
    list_all_products,
    show_whole_product,
    add_product,
    edit_product,
    remove_product,
    publish_product,
    unpublish_product,
    archive_product,
    restore_product,
    add_variant,
    edit_variant,
    remove_variant,
    add_category,
    edit_category,
    remove_category,
    list_synonyms,
    add_synonym,
    edit_synonym,
    remove_synonym,
    *importing.routes,
]
