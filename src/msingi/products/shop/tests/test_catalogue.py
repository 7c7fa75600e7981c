"""Goods over HTTP: what buyers see, what staff may do, and that what is kept is never out of date."""

import asyncio
import re
from typing import Any

import pytest

from msingi.kit import state
from msingi.kit.product import Product
from msingi.kit.testing import Client, World, access_table
from msingi.kit.unit import atomic
from msingi.products.shop.actions.catalogue import count_sold, rank_by_sold
from msingi.products.shop.models.catalogue import categories
from msingi.products.shop.models.catalogue import products as goods
from msingi.products.shop.queries import search
from msingi.products.shop.queries.catalogue import offers
from msingi.products.shop.tests.access import catalogue as access
from msingi.products.shop.tests.catalogue_world import catalogue_alone

CARD = {
    *("id", "slug", "title", "brand", "category_id", "tags", "picture", "price", "compare_at", "from_price"),
    "variants",
}
PAGE = {
    *("id", "slug", "title", "description", "category_id", "category_ids", "brand", "tags", "attributes", "options"),
    *("pictures", "tax_class", "price", "variants", "created_at", "updated_at", "version"),
}


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [catalogue_alone]


test_z1_access = access_table(catalogue_alone, "nobody ann admin\n" + access.TABLE, body=access.BODY)


async def titles(client: Client, query: str) -> list[str]:
    return [each["id"] for each in (await client.get(f"/products?{query}"))["items"]]


# ---- what buyers see


async def test_z3_a_guest_sees_what_is_on_sale_and_only_declared_fields(nobody: Client) -> None:
    page = await nobody.get("/products?sort=title")
    assert [each["id"] for each in page["items"]] == ["stove", "radio", "tea", "kikoi", "coffee", "repair"]
    assert set(page["items"][0]) == CARD
    assert page["next"] is None
    shown = await nobody.get("/products/tea")
    assert set(shown) == PAGE
    assert shown["price"] == {"amount": 12000, "currency": "KES"}
    assert set(shown["variants"][0]) == {
        *("id", "sku", "options", "price", "compare_at", "weight", "barcode", "tracked")
    }


async def test_a_product_is_found_by_its_slug_too(nobody: Client) -> None:
    assert await nobody.get("/products/by-slug/tea") == await nobody.get("/products/tea")
    await nobody.get("/products/by-slug/nothing", expect=404)


@pytest.mark.parametrize("name", ["nothing", "%00", "a" * 500, "$where", "..%2ftea", "%F0%9F%98%80"])
async def test_what_is_no_product_is_not_found(nobody: Client, name: str) -> None:
    for path in (f"/products/{name}", f"/products/by-slug/{name}", f"/categories/{name}"):
        assert (await nobody.get(path, expect=404))["code"] == "not_found"


async def test_a_list_holds_only_what_is_sold_in_the_currency(nobody: Client) -> None:
    page = await nobody.get("/products?currency=USD")
    assert [(each["id"], each["price"]) for each in page["items"]] == [("tea", {"amount": 120, "currency": "USD"})]
    assert (await nobody.get("/products/coffee?currency=USD"))["price"] is None
    assert (await nobody.get("/products?currency=XXX", expect=422))["code"] == "no_such_currency"


async def test_a_price_of_nothing_is_none(nobody: Client, admin: Client) -> None:
    await admin.patch("/products/tea/variants/tea-250", prices={"KES": 0, "USD": 120})
    assert "tea" not in await titles(nobody, "")
    assert await titles(nobody, "currency=USD") == ["tea"]
    assert await offers(["tea-250"], "KES") == {}
    assert (await nobody.get("/products/tea"))["variants"][0]["price"] is None


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("price", ["tea", "repair", "coffee", "kikoi", "radio", "stove"]),
        ("-price", ["stove", "radio", "kikoi", "coffee", "repair", "tea"]),
        ("title", ["stove", "radio", "tea", "kikoi", "coffee", "repair"]),
        ("-sold", ["coffee", "tea", "stove", "repair", "radio", "kikoi"]),
    ],
)
async def test_a_list_is_sorted_and_its_pages_follow_one_another(
    nobody: Client, sort: str, expected: list[str]
) -> None:
    await count_sold("coffee", 5)
    await count_sold("tea", 2)
    assert await rank_by_sold() == 2
    found: list[str] = []
    path = f"/products?sort={sort}&limit=2"
    while path:
        page = await nobody.get(path)
        found += [each["id"] for each in page["items"]]
        path = f"/products?sort={sort}&limit=2&after={page['next']}" if page["next"] else ""
        assert bool(path) == ("link" in nobody.last.headers)
    assert found == expected


async def test_a_category_shows_its_whole_branch(nobody: Client, admin: Client) -> None:
    await admin.patch("/products/tea", category_id="hot-drinks")
    assert await titles(nobody, "category=drinks&sort=price") == ["tea", "coffee"]
    assert await titles(nobody, "category=hot-drinks") == ["tea"]
    assert await titles(nobody, "category=nowhere") == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=tea", ["tea"]),
        ("q=TÉA", ["tea"]),
        ("q=chai", ["tea"]),  # a synonym, in the other language
        ("q=kahawa+nyeri", ["coffee"]),
        ("q=nyeri+tea", []),
        ("q=radio", ["repair", "radio"]),
        ("q=radio&sort=price", ["repair", "radio"]),
        ("q=sonitec", ["radio"]),
        ("q=kikoi-red", ["kikoi"]),  # by its SKU
        ("q=.*", []),
        ("q=%7B%22$gt%22:%22%22%7D", []),
        ("q=secret", []),
        ("brand=sonitec", ["radio"]),
        ("brand[in]=Sonitec,BURN&sort=price", ["radio", "stove"]),
        ("facet=origin:Kenya&sort=price", ["tea", "coffee", "radio", "stove"]),
        ("facet=origin:Kenya&brand=Dormans", ["coffee"]),
        ("price[gte]=60000&price[lt]=189900&sort=price", ["coffee", "kikoi"]),
        ("price[lte]=50000", ["tea", "repair"]),
        ("price[lte]=50000&q=radio", ["repair"]),
        ("price=65000", ["coffee"]),
        ("q=kenya&price[gte]=20000&sort=price", ["coffee", "radio", "stove"]),
        ("q=kenya&price[gte]=20000&sort=-price", ["stove", "radio", "coffee"]),
        ("price[gte]=99999999999999999999", None),
    ],
)
async def test_words_and_filters_narrow_a_list(nobody: Client, query: str, expected: list[str] | None) -> None:
    if expected is None:
        await nobody.get(f"/products?{query}", expect=422)
    else:
        assert await titles(nobody, query) == expected


async def test_those_with_the_words_in_their_title_come_first(nobody: Client, admin: Client) -> None:
    made = await admin.post(
        "/products", title={"en": "Kettle"}, tags=["tea"], variants=[{"sku": "K", "prices": {"KES": 1}}]
    )
    await admin.put(f"/products/{made['id']}/publication")
    assert await titles(nobody, "q=tea") == ["tea", made["id"]]
    assert await titles(nobody, "q=tea&sort=-created_at") == ["tea", made["id"]]  # ids of the small world are words
    walked: list[str] = []
    path = "/products?q=tea&limit=1"
    while path:
        page = await nobody.get(path)
        walked += [each["id"] for each in page["items"]]
        path = f"/products?q=tea&limit=1&after={page['next']}" if page["next"] else ""
    assert walked == ["tea", made["id"]]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("sort=best", "bad_sort"),
        ("after=nonsense", "bad_cursor"),
        ("after=WyIxdGl0bGUiLDEsIngiXQ", "bad_cursor"),
        ("colour=red", "bad_filter"),
        ("brand[gt]=a", "bad_filter"),
        ("brand=null", "bad_filter"),
        ("price[in]=1,2", "bad_filter"),
        ("price=cheap", "bad_filter"),
        ("facet=red", "bad_filter"),
        ("brand[$ne]=x", "bad_filter"),
        ("limit=0", "invalid_fields"),
        ("q=a+b+c+d+e+f+g+h+i+j+k", "too_many_words"),
    ],
)
async def test_what_a_list_does_not_know_is_refused(nobody: Client, query: str, code: str) -> None:
    assert (await nobody.get(f"/products?{query}", expect=422))["code"] == code


async def test_a_cursor_of_another_order_is_refused(nobody: Client) -> None:
    page = await nobody.get("/products?sort=price&limit=2")
    assert (await nobody.get(f"/products?sort=title&after={page['next']}", expect=422))["code"] == "bad_cursor"
    assert (await nobody.get(f"/products?q=tea&after={page['next']}", expect=422))["code"] == "bad_cursor"


async def test_facets_count_what_was_found(nobody: Client) -> None:
    found = await nobody.get("/products/facets?facet=origin:Kenya")
    assert (found["counted"], found["complete"]) == (4, True)
    assert found["attributes"] == {"origin": [{"value": "Kenya", "count": 4}]}
    assert found["categories"] == [
        {"value": "drinks", "count": 2},
        {"value": "home", "count": 2},
    ]
    assert found["price"]["lowest"] == {"amount": 12000, "currency": "KES"}
    assert {each["value"] for each in found["brands"]} == {"BURN", "Dormans", "Kericho Gold", "Sonitec"}
    assert (await nobody.get("/products/facets?q=nosuchword"))["counted"] == 0


async def test_facets_are_counted_up_to_a_bound(nobody: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FACETED", 2)
    monkeypatch.setattr(search, "FACETED_OF_SEARCH", 2)
    for query in ("", "facet=origin:Kenya"):
        found = await nobody.get(f"/products/facets?{query}")
        assert (found["counted"], found["complete"]) == (2, False)


async def test_a_walk_that_finds_little_ends_with_a_cursor(nobody: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_WALKED", 1)
    monkeypatch.setattr(search, "RARE", 1)
    found: list[str] = []
    path = "/products?q=kenya&limit=1&sort=price"
    for _ in range(20):
        page = await nobody.get(path)
        found += [each["id"] for each in page["items"]]
        if not page["next"]:
            break
        path = f"/products?q=kenya&limit=1&sort=price&after={page['next']}"
    assert found == ["tea", "coffee", "radio", "stove"]


# ---- what is kept, and for how long


async def test_pages_and_lists_carry_an_etag_and_are_not_sent_twice(nobody: Client, admin: Client) -> None:
    for path in ("/products/tea", "/products/by-slug/tea", "/products?category=drinks", "/categories"):
        await nobody.get(path)
        tag = nobody.last.headers["etag"]
        await nobody.get(path, expect=304, headers={"if-none-match": tag})
        assert nobody.last.content == b""
    await nobody.get("/products/tea")
    assert nobody.last.headers["etag"] == '"1"'
    await admin.patch("/products/tea", brand="Ketepa")
    assert (await nobody.get("/products/tea", headers={"if-none-match": '"1"'}))["brand"] == "Ketepa"
    assert nobody.last.headers["etag"] == '"2"'


async def test_a_change_is_seen_at_once_wherever_it_shows(nobody: Client, admin: Client) -> None:
    paths = ("/products/tea", "/products/by-slug/tea", "/products", "/products?category=drinks", "/products/facets")
    before = [await nobody.get(path) for path in paths]
    await admin.patch("/products/tea/variants/tea-250", prices={"KES": 13000})
    after = [await nobody.get(path) for path in paths]
    for old, new in zip(before, after, strict=True):
        assert numbers_in(old) >= {"12000"}
        assert numbers_in(new) >= {"13000"}
        assert "12000" not in numbers_in(new)


def numbers_in(answer: Any) -> set[str]:
    """The whole numbers of an answer, each by itself: a moment has those digits in it now and then."""
    return set(re.findall(r"\b[0-9]+\b", str(answer)))


async def test_a_change_makes_only_its_own_lists_stale(nobody: Client, admin: Client, world: World) -> None:
    for category in ("drinks", "home"):
        await nobody.get(f"/products?category={category}")
    numbers = await numbers_of("shelf:drinks", "shelf:home")
    await admin.patch("/products/tea", tags=["chai"])
    after = await numbers_of("shelf:drinks", "shelf:home")
    assert after[0] != numbers[0]
    assert after[1] == numbers[1]
    await admin.patch("/products/secret", tags=["x"])
    assert await numbers_of("shelf:drinks", "shelf:home") == after


async def numbers_of(*tags: str) -> list[Any]:
    return list(await state.redis().mget([f"tag:{each}" for each in tags]))


async def test_what_leaves_a_category_leaves_its_list(nobody: Client, admin: Client) -> None:
    assert "tea" in await titles(nobody, "category=drinks")
    assert "tea" not in await titles(nobody, "category=home")
    await admin.patch("/products/tea", category_id="home", slug="majani")
    assert "tea" not in await titles(nobody, "category=drinks")
    assert "tea" in await titles(nobody, "category=home")
    await nobody.get("/products/by-slug/tea", expect=404)
    assert (await nobody.get("/products/by-slug/majani"))["id"] == "tea"


async def test_what_is_taken_off_sale_is_gone_at_once(nobody: Client, admin: Client) -> None:
    await nobody.get("/products/tea")
    await titles(nobody, "category=drinks")
    await admin.delete("/products/tea/publication")
    await nobody.get("/products/tea", expect=404)
    assert "tea" not in await titles(nobody, "category=drinks")
    assert await offers(["tea-250"], "KES") == {}
    await admin.put("/products/tea/publication")
    assert "tea" in await titles(nobody, "category=drinks")


async def test_c15_a_herd_that_asks_for_a_list_asks_the_database_once(
    nobody: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    real = search._in_order

    async def counted(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return await real(*args)

    monkeypatch.setattr(search, "_in_order", counted)
    pages = await asyncio.gather(*(search.first_of_shelf("KES", "drinks", "price", 20) for _ in range(100)))
    assert len({page.body for page in pages}) == 1
    assert asked == 1


async def test_what_was_sold_counts_no_version(world: World, nobody: Client) -> None:
    @atomic
    async def react() -> None:
        await count_sold("tea", 3)

    await react()
    await count_sold("tea", -1)
    product = await goods.get("tea")
    assert (product.sold, product.rank, product.version) == (2, 0, 1)
    assert await rank_by_sold() == 1
    assert await rank_by_sold() == 0
    product = await goods.get("tea")
    assert (product.sold, product.rank, product.version) == (2, 2, 1)


async def test_a_sale_changes_no_index_that_a_list_is_walked_by(world: World) -> None:
    changed = {"sold", "outsold"}
    touched = [index for index in goods.indexes if changed & {key.lstrip("-") for key in index.keys.split()}]
    assert [index.keys for index in touched] == ["outsold"]


# ---- offers


async def test_offers_tell_what_can_be_bought_now(world: World, admin: Client) -> None:
    found = await offers(["tea-250", "kikoi-blue", "secret-1", "nobody"], "KES")
    assert set(found) == {"tea-250", "kikoi-blue"}
    assert found["kikoi-blue"].options == {"colour": "blue"}
    assert (found["tea-250"].price, found["tea-250"].category_ids) == (12000, ["drinks"])
    assert set(await offers(["tea-250", "kikoi-blue"], "USD")) == {"tea-250"}
    await admin.patch("/products/tea/variants/tea-250", prices={"KES": 1}, compare_at={"KES": 5})
    offer = (await offers(["tea-250"], "KES"))["tea-250"]
    assert (offer.price, offer.compare_at) == (1, 5)
    assert await offers([], "KES") == {}


# ---- staff


NEW = {
    "title": {"en": "Cassava crisps", "sw": "Krisps za muhogo"},
    "category_id": "home",
    "brand": " Kilifi Mills ",
    "tags": ["snack", " snack ", "coast"],
    "attributes": {"gluten": "free"},
    "options": [{"name": "size", "values": ["100 g", "250 g"]}],
    "variants": [
        {"sku": "CC-100", "options": {"size": "100 g"}, "prices": {"KES": 12000}, "weight": 100},
        {"sku": "CC-250", "options": {"size": "250 g"}, "prices": {"KES": 27000, "USD": 250}},
    ],
}


async def test_a_product_is_made_as_a_draft_and_put_on_sale(admin: Client, nobody: Client, world: World) -> None:
    made = await admin.post("/products", json=NEW)
    assert (made["slug"], made["availability"], made["version"]) == ("cassava-crisps", "draft", 1)
    assert (made["brand"], made["tags"], made["category_ids"]) == ("Kilifi Mills", ["snack", "coast"], ["home"])
    await nobody.get(f"/products/{made['id']}", expect=404)
    again = await admin.post("/products", json={**NEW, "variants": [], "options": []})
    assert again["slug"].startswith("cassava-crisps-")
    shown = await admin.put(f"/products/{made['id']}/publication", headers={"if-match": '"1"'})
    assert (shown["availability"], shown["version"]) == ("published", 2)
    card = next(each for each in (await nobody.get("/products"))["items"] if each["id"] == made["id"])
    assert (card["price"]["amount"], card["from_price"], card["variants"]) == (12000, True, 2)
    assert await titles(nobody, "q=muhogo") == [made["id"]]
    kinds = [type(event).__name__ for event in await world.events()]
    assert kinds == ["ProductChanged"] * 3


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"colour": "red"}, 422, "invalid_fields"),
        ({"title": {"en": " "}}, 422, "invalid_fields"),
        ({"availability": "published"}, 422, "invalid_fields"),
        ({"sold": 5}, 422, "invalid_fields"),
        ({"slug": "Not a slug"}, 422, "invalid_fields"),
        ({"slug": "tea"}, 409, "already_exists"),
        ({"category_id": "nowhere"}, 422, "no_such_category"),
        ({"attributes": {"brand": "x"}}, 422, "invalid_fields"),
        ({"options": []}, 422, "bad_options"),
        ({"options": [{"name": "size", "values": ["100 g"]}]}, 422, "bad_options"),
        ({"variants": [NEW["variants"][0], NEW["variants"][0]]}, 422, "doubled_variant"),  # type: ignore[index]
        ({"options": [], "variants": [{"sku": "TEA-250"}]}, 409, "already_exists"),
        ({"options": [], "variants": [{"sku": "X", "prices": {"XXX": 5}}]}, 422, "no_such_currency"),
        ({"options": [], "variants": [{"sku": "X", "prices": {"KES": -5}}]}, 422, "invalid_fields"),
        ({"options": [], "variants": [{"sku": "X", "prices": {"KES": 1.5}}]}, 422, "invalid_fields"),
    ],
)
async def test_z2_what_a_product_may_not_be_is_refused_and_not_stored(
    admin: Client, changes: dict[str, Any], status: int, code: str
) -> None:
    assert (await admin.post("/products", expect=status, json={**NEW, **changes}))["code"] == code
    assert not await goods.exists({"brand": "Kilifi Mills"})


async def test_a_patch_changes_what_it_names_and_nothing_else(admin: Client) -> None:
    before = await admin.get("/catalogue/products/tea")
    assert await admin.patch("/products/tea", brand="Kericho Gold") == before
    after = await admin.patch("/products/tea", category_id=None, description={"en": "Strong", "sw": "Kali"})
    assert after["version"] == 2
    differing = {name for name in after if after[name] != before[name]}
    assert differing == {"category_id", "category_ids", "description", "version", "updated_at"}


async def test_if_match_lets_one_of_many_writers_through(admin: Client) -> None:
    async def write(number: int) -> int:
        headers = {**admin.headers, "if-match": '"1"'}
        url = admin.url("/products/tea")
        return (await admin.http.patch(url, headers=headers, json={"brand": f"B{number}"})).status_code

    statuses = sorted(await asyncio.gather(*(write(number) for number in range(8))))
    assert statuses == [200] + [409] * 7
    assert (await goods.get("tea")).version == 2


async def test_writers_who_name_no_version_all_have_their_way(admin: Client) -> None:
    async def add(number: int) -> int:
        sent = {"sku": f"TEA-{number}", "prices": {"KES": 5}}
        url = admin.url("/products/tea/variants")
        return (await admin.http.post(url, headers=admin.headers, json=sent)).status_code

    assert await asyncio.gather(*(add(number) for number in range(6))) == [201] * 6
    assert len((await goods.get("tea")).variants) == 7


async def test_what_is_on_sale_is_not_removed_and_stays_sellable(admin: Client, nobody: Client) -> None:
    assert (await admin.delete("/products/tea", expect=409))["code"] == "still_published"
    assert (await admin.delete("/products/tea/variants/tea-250", expect=409))["code"] == "not_ready"
    assert (await nobody.get("/products/tea"))["version"] == 1
    await admin.put("/products/tea/archive")
    assert (await admin.put("/products/tea/publication", expect=409))["code"] == "archived"
    assert (await admin.delete("/products/tea/archive"))["availability"] == "draft"
    await admin.delete("/products/tea")
    await admin.get("/catalogue/products/tea", expect=404)


async def test_staff_find_drafts_and_archived_goods_too(admin: Client) -> None:
    async def ids(query: str) -> list[str]:
        return [each["id"] for each in (await admin.get(f"/catalogue/products?{query}"))["items"]]

    assert await ids("availability=draft") == ["secret"]
    assert await ids("q=siri") == ["secret"]
    assert await ids("category=drinks") == ["tea", "coffee"]
    assert await ids("availability=nonsense") == []
    assert len(await ids("")) == 7


# ---- categories


async def test_the_tree_comes_parents_first(nobody: Client, admin: Client) -> None:
    items = (await nobody.get("/categories"))["items"]
    assert [each["id"] for each in items] == ["drinks", "hot-drinks", "clothes", "home"]
    made = await admin.post("/categories", name={"en": "Green tea"}, parent_id="hot-drinks")
    assert made["path"] == ["drinks", "hot-drinks"]
    ids = [each["id"] for each in (await nobody.get("/categories"))["items"]]
    assert ids == ["drinks", "hot-drinks", made["id"], "clothes", "home"]


async def test_a_branch_moves_with_all_that_is_in_it(nobody: Client, admin: Client) -> None:
    await admin.patch("/products/tea", category_id="hot-drinks")
    assert await titles(nobody, "category=home&sort=price") == ["repair", "radio", "stove"]
    moved = await admin.patch("/categories/hot-drinks", parent_id="home", headers={"if-match": '"1"'})
    assert (moved["path"], moved["version"]) == (["home"], 2)
    assert await titles(nobody, "category=home&sort=price") == ["tea", "repair", "radio", "stove"]
    assert await titles(nobody, "category=drinks") == ["coffee"]
    assert (await nobody.get("/products/tea"))["category_ids"] == ["home", "hot-drinks"]
    assert (await offers(["tea-250"], "KES"))["tea-250"].category_ids == ["home", "hot-drinks"]


async def test_a_category_never_stands_in_itself(admin: Client) -> None:
    for parent in ("drinks", "hot-drinks"):
        assert (await admin.patch("/categories/drinks", expect=409, parent_id=parent))["code"] == "category_circle"
    assert (await admin.patch("/categories/drinks", expect=422, parent_id="none"))["code"] == "no_such_category"
    at = "hot-drinks"
    for _ in range(3):
        at = (await admin.post("/categories", name={"en": "Deeper"}, parent_id=at))["id"]
    assert (await admin.post("/categories", expect=409, name={"en": "Deeper"}, parent_id=at))["code"] == "too_deep"
    assert (await admin.patch("/categories/drinks", expect=409, parent_id="home"))["code"] == "too_deep"


async def test_two_categories_that_move_into_one_another_do_not_both(admin: Client) -> None:
    async def move(one: str, into: str) -> int:
        url = admin.url(f"/categories/{one}")
        return (await admin.http.patch(url, headers=admin.headers, json={"parent_id": into})).status_code

    statuses = await asyncio.gather(move("clothes", "home"), move("home", "clothes"))
    assert sorted(statuses) == [200, 409]


async def test_a_branch_that_is_too_large_stays_where_it_is(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msingi.products.shop.rules.catalogue.MOST_MOVED", 1)
    assert (await admin.patch("/categories/drinks", expect=409, parent_id="home"))["code"] == "branch_too_large"
    assert (await categories.get("drinks")).path == []


async def test_a_category_in_use_is_not_removed(admin: Client, nobody: Client) -> None:
    assert (await admin.delete("/categories/drinks", expect=409))["code"] == "category_in_use"
    await admin.delete("/categories/hot-drinks")
    await nobody.get("/categories/hot-drinks", expect=404)
    assert "hot-drinks" not in str(await nobody.get("/categories"))


async def test_a_category_is_not_removed_under_what_is_put_into_it(admin: Client) -> None:
    url, into = admin.url("/categories/hot-drinks"), admin.url("/products/tea")
    await asyncio.gather(
        admin.http.delete(url, headers=admin.headers),
        admin.http.patch(into, headers=admin.headers, json={"category_id": "hot-drinks"}),
    )
    product = await goods.get("tea")
    there = await categories.exists({"_id": "hot-drinks"})
    assert there == (product.category_id == "hot-drinks")


# ---- synonyms


async def test_synonyms_widen_a_search_at_once(admin: Client, nobody: Client) -> None:
    assert await titles(nobody, "q=cooker") == []
    made = await admin.post("/synonyms", words=["Cooker", "stove", "jiko"])
    assert made["words"] == ["cooker", "stove", "jiko"]
    assert await titles(nobody, "q=cooker") == ["stove"]
    await admin.put(f"/synonyms/{made['id']}", words=["cooker", "radio"], headers={"if-match": '"1"'})
    assert await titles(nobody, "q=cooker&sort=price") == ["repair", "radio"]
    await admin.put(f"/synonyms/{made['id']}", expect=409, words=["a", "b"], headers={"if-match": '"1"'})
    await admin.delete(f"/synonyms/{made['id']}")
    assert await titles(nobody, "q=cooker") == []
    assert (await admin.post("/synonyms", expect=422, words=["two words", "x"]))["code"] == "not_a_word"
    assert (await admin.post("/synonyms", expect=422, words=["Tea", "tea"]))["code"] == "not_a_word"
