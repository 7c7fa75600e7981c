"""Each list, page and search of the catalogue reads no more documents than it answers with, however many there are.

And the keys that it walks follow from what it looks for, not from how many goods there are.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import lanes, state
from msingi.kit.product import Product
from msingi.kit.testing import Client, House, start_over
from msingi.products.shop import seeds_of_goods
from msingi.products.shop.models.catalogue import products as goods
from msingi.products.shop.queries import search
from msingi.products.shop.queries.catalogue import offers
from msingi.products.shop.tests.catalogue_world import catalogue_alone

SIZE = 3000
DENSE = 600  # keys for a page of five, where one in fifty of what is walked fits


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [catalogue_alone]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def many(house: House) -> None:
    await start_over(house)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds_of_goods, "BULK", 500)
        assert await seeds_of_goods.plant_many(1000) == 1000  # before its indexes
    assert await seeds_of_goods.plant_many(SIZE) == SIZE - 1000
    assert await seeds_of_goods.plant_many(SIZE) == 0


@pytest_asyncio.fixture(loop_scope="session")
async def guest(house: House, many: None) -> AsyncIterator[Client]:
    await state.redis().flushdb()
    client = Client(house, None)
    async with client.http:
        yield client


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The finds that are made from now on, as commands that can be explained."""
    seen: list[dict[str, Any]] = []
    plain, by_lane, by_reach = search._rows, lanes.find, search._reach

    async def rows(where: Any, fields: Any, sort: Any, limit: int, index: Any) -> Any:
        named = index.name if index is not None else "_id_"
        seen.append(command(where, fields, sort, limit) | {"hint": named})
        return await plain(where, fields, sort, limit, index)

    async def find(collection: Any, where: Any, *, sort: Any = None, limit: int = 0, fields: Any = None) -> Any:
        if collection.name == "products":
            seen.append(command(where, fields, sort, limit))
        return await by_lane(collection, where, sort=sort, limit=limit, fields=fields)

    async def reach(condition: Any, order: Any, looked_for: Any) -> Any:
        where = condition.where | ({order.key: looked_for.range} if order.key == looked_for.price else {})
        fields = {"_id": 1, order.key: 1}
        step = command(where, fields, order.sort, 1) | {"skip": search.SAMPLED - 1}
        seen.append(step | {"hint": condition.ordered[order.key].name})
        return await by_reach(condition, order, looked_for)

    monkeypatch.setattr(search, "_rows", rows)
    monkeypatch.setattr(search, "_reach", reach)
    monkeypatch.setattr(lanes, "find", find)
    return seen


def command(where: Any, fields: Any, sort: Any, limit: int) -> dict[str, Any]:
    found = {"find": "products", "filter": where, "limit": limit}
    return found | ({"sort": dict(sort)} if sort else {}) | ({"projection": fields} if fields else {})


async def cost(asked: list[dict[str, Any]], *, sorts: bool = False) -> tuple[int, int]:
    """How many documents, and how many keys of indexes, all these finds examine. Keys may be sorted, if `sorts`."""
    documents = keys = 0
    for each in asked:
        told = await goods.raw.database.command({"explain": each, "verbosity": "executionStats"})
        documents += told["executionStats"]["totalDocsExamined"]
        keys += told["executionStats"]["totalKeysExamined"]
        assert sorts or "SORT'" not in str(told["queryPlanner"]["winningPlan"]), "it sorts in memory"
        assert "COLLSCAN" not in str(told["queryPlanner"]["winningPlan"])
    return documents, keys


@pytest.mark.parametrize("sort", ["-created_at", "created_at", "price", "-price", "-sold", "sold", "title", "-title"])
@pytest.mark.parametrize("category", ["", "food", "flour"])
async def test_a_list_examines_what_it_shows(
    guest: Client, asked: list[dict[str, Any]], sort: str, category: str
) -> None:
    page = await guest.get(f"/products?category={category}&sort={sort}&limit=20")
    assert len(page["items"]) == 20
    documents, keys = await cost(asked)
    assert (documents, keys) == (21, 21)
    asked.clear()
    page = await guest.get(f"/products?category={category}&sort={sort}&limit=20&after={page['next']}")
    assert len(page["items"]) == 20
    documents, keys = await cost(asked)
    assert documents == 21
    assert keys <= 23


async def test_a_range_of_prices_in_order_of_price_examines_what_it_shows(
    guest: Client, asked: list[dict[str, Any]]
) -> None:
    page = await guest.get("/products?category=drinks&sort=price&price[gte]=20000&price[lte]=90000&limit=20")
    assert len(page["items"]) == 20
    assert (await cost(asked))[0] == 21


@pytest.mark.parametrize("path", ["/products/g00000007", "/products/by-slug/g-00000007"])
async def test_a_page_of_a_product_examines_one_document(guest: Client, asked: list[dict[str, Any]], path: str) -> None:
    assert (await guest.get(path))["slug"] == "g-00000007"
    assert await cost(asked) == (1, 1)


@pytest.mark.parametrize(
    "query",
    [
        "q=chai",
        "q=unga",
        "q=fine maziwa",
        "q=nairobi kahawa",
        "q=maize kisumu",
        "q=kiondo&category=crafts",
        "q=chai&brand=Ketepa",
        "brand=Ketepa",
        "facet=origin:Tanzania",
        "tag=chai&category=drinks",
        "q=strong&facet=material:cotton",
    ],
)
async def test_a_search_by_words_and_facets_examines_the_documents_it_shows_and_no_other(
    guest: Client, asked: list[dict[str, Any]], query: str
) -> None:
    page = await guest.get(f"/products?{query}&limit=10")
    assert page["items"]
    documents, keys = await cost(asked)
    assert documents == len(page["items"])
    assert keys < 3000


@pytest.mark.parametrize("sort", ["price", "-price", "-sold", "sold", "-created_at"])
@pytest.mark.parametrize(
    "query", ["category=drinks&tag=chai", "q=chai nairobi", "q=fine maize", "brand=Ketepa&q=light"]
)
async def test_two_conditions_are_met_along_the_order_asked_for_by_the_rarer_one(
    guest: Client, asked: list[dict[str, Any]], query: str, sort: str
) -> None:
    page = await guest.get(f"/products?{query}&sort={sort}&limit=5")
    documents, keys = await cost(asked)
    assert documents == len(page["items"]) > 0
    assert keys < DENSE


async def test_keys_follow_from_what_is_looked_for_and_not_from_how_many_goods_there_are(
    guest: Client, asked: list[dict[str, Any]]
) -> None:
    """Nairobi is the town of one in 22, and one of 12 of these is fine: a walk meets four of them in 4 x 12 steps."""
    for sort in ("price", "-sold", "created_at"):
        asked.clear()
        page = await guest.get(f"/products?q=fine nairobi&sort={sort}&limit=4")
        documents, keys = await cost(asked)
        assert documents == len(page["items"]) == 4
        sampled = 3 * search.SAMPLED
        assert keys - sampled < 4 * 12 * 2 * 3  # each that is met is asked about; a page of chance may take longer


@pytest.mark.parametrize("sort", ["title", "-title"])
async def test_words_that_are_frequent_are_met_along_the_shelf_in_the_order_of_titles(
    guest: Client, asked: list[dict[str, Any]], sort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "RARE", 50)
    page = await guest.get(f"/products?q=nairobi&sort={sort}&limit=10")
    assert len(page["items"]) == 10
    assert (await cost(asked))[0] == 10


async def test_facets_of_a_search_read_no_more_than_they_count(guest: Client, asked: list[dict[str, Any]]) -> None:
    found = await guest.get("/products/facets?q=nairobi")
    assert found["counted"] < search.FACETED_OF_SEARCH
    _, keys = await cost(asked)
    assert keys < 3 * search.MOST_WALKED_FOR_FACETS
    asked.clear()
    found = await guest.get("/products/facets?q=of")
    assert (found["counted"], found["complete"]) == (search.FACETED_OF_SEARCH, False)
    documents, keys = await cost(asked)
    assert documents == 0  # the goods themselves are read by their ids, once, to be counted
    assert keys < 5 * search.FACETED_OF_SEARCH


@pytest.mark.parametrize("sort", ["price", "-price", "-sold", "title", "created_at"])
async def test_what_is_gathered_by_a_filter_is_put_in_order_without_being_read(
    guest: Client, asked: list[dict[str, Any]], sort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SAMPLED", 5)  # of so few, what is rare would be walked else
    path = f"/products?q=nairobi&tag=chai&price[gte]=1000&price[lt]=60000&sort={sort}&limit=3"
    page = await guest.get(path)
    documents, _ = await cost(asked, sorts=True)
    assert documents == len(page["items"]) == 3
    asked.clear()
    page = await guest.get(f"{path}&after={page['next']}")
    documents, _ = await cost(asked, sorts=True)
    assert documents == len(page["items"]) > 0


async def test_offers_examine_the_products_asked_for(asked: list[dict[str, Any]], many: None) -> None:
    found = await offers(["g00000001-1", "g00000002-1", "g00000003-1", "nobody-1"], "KES")
    assert len(found) == 3
    assert (await cost(asked))[0] == 3


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("sort=price", {}),
        ("category=food&sort=-title", {"category_ids": "food"}),
        ("category=drinks&sort=sold", {"category_ids": "drinks"}),
        ("q=nairobi", {"terms": "nairobi"}),
        ("q=fine+chai", {"$and": [{"terms": "fine"}, {"terms": {"$in": ["chai", "tea"]}}]}),
        ("q=fine+chai&sort=price", {"$and": [{"terms": "fine"}, {"terms": {"$in": ["chai", "tea"]}}]}),
        ("tag=chai&sort=-price&price[lt]=50000", {"terms": "tag:chai", "lowest.KES": {"$lt": 50000}}),
        ("price[gte]=20000&price[lt]=30000", {"lowest.KES": {"$gte": 20000, "$lt": 30000}}),
        ("q=nairobi&facet=origin:Tanzania", {"terms": {"$all": ["nairobi", "origin:tanzania"]}}),
    ],
)
@pytest.mark.parametrize("rare", [10, 100_000])
async def test_a_walk_through_the_pages_meets_everything_once(
    guest: Client, query: str, where: dict[str, Any], rare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "RARE", rare)
    monkeypatch.setattr(search, "AT_ONCE", 300)
    expected = {row["_id"] async for row in goods.raw.find({**where, "availability": "published"}, {"_id": 1})}
    met: list[str] = []
    path = f"/products?{query}&limit=97"
    after = ""
    while after is not None:
        page = await guest.get(path + (f"&after={after}" if after else ""))
        met += [each["id"] for each in page["items"]]
        after = page["next"]
    assert len(met) == len(set(met))
    assert set(met) == expected
