"""docs/contracts/shop-catalogue.md: what is on sale, how it is found, and who looks after it."""

from collections.abc import Iterator
from typing import Any

from msingi.checks import rules
from msingi.checks.harness import Answer, Skipped, World, check, fresh, together
from msingi.checks.shop.market import CURRENCY, EXPORT, FACETS, SHOP, SYNONYMS, known, listed, new_product

PRODUCTS = f"{SHOP}/products"
CARD = ("id", "slug", "title", "brand", "category_id", "tags", "picture", "price", "compare_at")
PRODUCT = (
    *("id", "slug", "title", "description", "category_id", "category_ids", "brand", "tags", "attributes", "options"),
    *("pictures", "tax_class", "price", "variants", "created_at", "updated_at", "version"),
)
VARIANT = ("id", "sku", "options", "price", "compare_at", "weight", "barcode", "tracked")


def one_of(world: World) -> str:
    """The address of something that is on sale."""
    cards = listed(world)
    if not cards:
        raise Skipped("there is nothing on sale")
    return f"{PRODUCTS}/{cards[0]['id']}"


def ids_found(answer: Answer) -> list[str]:
    """The ids of the cards of a page."""
    return [card["id"] for card in answer.page()]


def family(world: World) -> tuple[str, str, list[str]]:
    """Five new goods of a brand of their own, from 10,000 on: the brand, a word in all Swahili titles, their ids."""

    def make() -> tuple[str, str, list[str]]:
        brand, word = fresh("Brand"), fresh("neno")
        made = [
            new_product(
                world,
                price=10_000 * number,
                title={"en": f"{fresh('Thing')} {number}", "sw": f"Kitu {word}"},
                brand=brand,
                attributes={"colour": "red" if number % 2 else "blue"},
                tags=[fresh("tag")],
            )
            for number in range(1, 6)
        ]
        return brand, word, [each["id"] for each in made]

    return known(world, "family", make)


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """Every member of an object and of what is in it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner)


# ---- what anybody sees


@check("Anybody sees what is on sale, without signing in")
def _(world: World) -> None:
    answer = world.nobody.get(PRODUCTS)
    for card in answer.page():
        missing = [name for name in CARD if name not in card]
        answer.need(not missing, f"cards with {', '.join(missing)} too")
        answer.need({"en", "sw"} <= set(card["title"]), "a title in English and in Swahili")


@check("P3: money is whole minor units with a currency, never a fraction", hint="129900 and KES, not 1299.00")
def _(world: World) -> None:
    for path in (PRODUCTS, one_of(world)):
        answer = world.nobody.get(path).want(200)
        sums = [(name, value) for name, value in members(answer.data) if name in ("price", "compare_at") and value]
        answer.need(bool(sums), "prices")
        for _, value in sums:
            fine = type(value) is dict and type(value.get("amount")) is int and value["amount"] >= 0
            answer.need(fine and value.get("currency") == CURRENCY, '{"amount": 129900, "currency": "KES"}')


@check("A product page has all that a buyer wants to know, and its ETag")
def _(world: World) -> None:
    answer = world.nobody.get(one_of(world)).want(200)
    shown = answer.fields(*PRODUCT)
    rules.has_etag(answer, shown["version"])
    answer.need(bool(shown["variants"]), "variants")
    missing = [name for name in VARIANT if name not in shown["variants"][0]]
    answer.need(not missing, f"variants with {', '.join(missing)} too")
    amounts = [each["price"]["amount"] for each in shown["variants"] if each["price"]]
    answer.need(shown["price"]["amount"] == min(amounts), "the lowest price of the variants as the product's")
    by_slug = world.nobody.get(f"{PRODUCTS}/by-slug/{shown['slug']}").want(200)
    by_slug.need(by_slug.data == shown, "the same product by its slug")


@check("Who has the newest version of a product already hears 304")
def _(world: World) -> None:
    rules.answers_304(world.nobody, one_of(world))


@check("Pages of goods follow cursors, and show each once")
def _(world: World) -> None:
    ids = {card["id"] for card in listed(world)}
    answer = world.nobody.get(f"{PRODUCTS}?limit=3")
    walked = [card["id"] for card in rules.walk(world.nobody, f"{PRODUCTS}?limit={max(3, len(ids) // 15)}")]
    rules.shows_each_once(walked, ids, answer)
    rules.refuses_bad_paging(world.nobody, PRODUCTS)


@check("Goods can be sorted by price, up and down")
def _(world: World) -> None:
    for sort, sign in (("price", 1), ("-price", -1)):
        answer = world.nobody.get(f"{PRODUCTS}?sort={sort}&limit=100")
        prices = [sign * card["price"]["amount"] for card in answer.page()]
        answer.need(prices == sorted(prices), f"the order of {sort}")


@check("Operators, unknown filters and currencies that there are none of are refused")
def _(world: World) -> None:
    wrong = ("price[$gt]=1", "price=cheap", "brand[$ne]=x", "availability=draft", "currency=XXX", "sort=x")
    rules.refuses_operators(world.nobody, PRODUCTS, wrong)


@check("Patterns and operators in a search are plain text, and find nothing")
def _(world: World) -> None:
    for text in (".*", '{"$gt": ""}', '"', "-", "^", "(a|b)+$", "\\", "%00"):
        answer = world.nobody.get(PRODUCTS, params={"q": text}).want(200, 422)
        answer.need(answer.status == 422 or not answer.page(), "no match for what is no word")


@check("The tree of categories shows parents before children")
def _(world: World) -> None:
    answer = world.nobody.get(f"{SHOP}/categories").want(200)
    found = answer.data["items"] if isinstance(answer.data, dict) else answer.data
    seen: set[str] = set()
    for each in found:
        answer.need(each["parent_id"] is None or each["parent_id"] in seen, "parents before their children")
        answer.need(set(each["path"]) <= seen, "a path of categories that stand before it")
        seen.add(each["id"])


@check("An id that never was is 404, whatever it looks like")
def _(world: World) -> None:
    rules.refuses_odd_ids(world.nobody, PRODUCTS + "/{id}")


# ---- searching


@check("Goods are found by whole words, in English and in Swahili")
def _(world: World) -> None:
    _, word, ids = family(world)
    found = world.nobody.get(PRODUCTS, params={"q": f"KITU {word.upper()}"})
    found.need(set(ids_found(found)) == set(ids), "by the words of the Swahili title, whatever the letter case")
    english = world.nobody.get(f"{PRODUCTS}/{ids[0]}").want(200).data["title"]["en"].split()[0]
    one = world.nobody.get(PRODUCTS, params={"q": english})
    one.need(ids_found(one) == [ids[0]], "the one with this English word")
    for text in (word[:-1], f"{word} {fresh('nowhere')}"):
        none = world.nobody.get(PRODUCTS, params={"q": text})
        none.need(ids_found(none) == [], "nothing for a part of a word, or if one of the words is missing")


@check("Filters narrow a list down: brand, attribute, price; all of them must hold")
def _(world: World) -> None:
    brand, _, ids = family(world)
    for query, wanted in (
        (f"brand={brand}", ids),
        (f"brand={brand.upper()}", ids),
        (f"brand[in]={brand},{fresh('No')}", ids),
        (f"brand={brand}&facet=colour:red", ids[0::2]),
        (f"brand={brand}&price[lte]=20000", ids[:2]),
        (f"brand={brand}&price[gt]=20000&price[lt]=50000", ids[2:4]),
        (f"brand={brand}&facet=colour:blue&price[gte]=40000", ids[3:4]),
        (f"brand={fresh('No')}", []),
    ):
        answer = world.nobody.get(f"{PRODUCTS}?{query}")
        answer.need(set(ids_found(answer)) == set(wanted), f"{len(wanted)} of the five new goods")


@check("A walk by price shows each once while goods come and go")
def _(world: World) -> None:
    brand, _, ids = family(world)
    answer = world.nobody.get(f"{PRODUCTS}?brand={brand}&limit=2&sort=price")

    def between(number: int) -> None:
        new_product(world, price=5_000, brand=brand, publish=number < 2)

    walked = rules.walk(world.nobody, f"{PRODUCTS}?brand={brand}&limit=2&sort=price", between)
    rules.shows_each_once([card["id"] for card in walked], set(ids), answer)


@check("Facets say by what a list could be narrowed down, and count right", part=FACETS)
def _(world: World) -> None:
    brand = family(world)[0]
    answer = world.nobody.get(f"{PRODUCTS}/facets?brand={brand}&price[gte]=10000").want(200)
    told = answer.fields("counted", "complete", "brands", "attributes", "price")
    answer.need((told["counted"], told["complete"]) == (5, True), "all five counted")
    answer.need([(each["value"], each["count"]) for each in told["brands"]] == [(brand, 5)], "the one brand, 5 times")
    colours = {each["value"]: each["count"] for each in told["attributes"].get("colour", [])}
    answer.need(colours == {"red": 3, "blue": 2}, "three red and two blue")
    edges = told["price"]["lowest"]["amount"], told["price"]["highest"]["amount"]
    answer.need(edges == (10_000, 50_000), "prices from 10,000 to 50,000")


@check("A synonym widens a search from the next one on", part=SYNONYMS)
def _(world: World) -> None:
    word, other = family(world)[1], fresh("jina")
    world.nobody.get(PRODUCTS, params={"q": other}).want(200)
    made = world.admin.post(f"{SHOP}/synonyms", {"words": [word, other]}).want(201)
    world.at_the_end.append(lambda: world.admin.delete(f"{SHOP}/synonyms/{made.data['id']}"))
    found = world.nobody.get(PRODUCTS, params={"q": other})
    found.need(set(ids_found(found)) == set(family(world)[2]), "the goods that are called the other word")


# ---- staff


@check("A draft is seen by nobody, on no address, until it is published", hint="look things up among what is on sale")
def _(world: World) -> None:
    brand = fresh("Draft")
    made = new_product(world, publish=False, brand=brand)
    public, path = f"{PRODUCTS}/{made['id']}", f"{PRODUCTS}?brand={brand}"
    world.nobody.get(public).problem(404)
    world.ann.get(public).problem(404)
    world.nobody.get(f"{PRODUCTS}/by-slug/{made['slug']}").problem(404)
    listing = world.nobody.get(path)
    listing.need(listing.page() == [], "no draft in the list")
    variant = made["variants"][0]["id"]
    world.nobody.put(f"{SHOP}/cart/lines/{variant}", {"quantity": 1}).problem(404)
    world.admin.put(f"{public}/publication").want(200)
    world.nobody.get(public).want(200)
    listing = world.nobody.get(path)
    listing.need(ids_found(listing) == [made["id"]], "it in the list at once, though lists are kept")
    world.admin.delete(f"{public}/publication").want(200)
    world.nobody.get(public).problem(404)


@check("Whatever is changed is seen by the next request")
def _(world: World) -> None:
    made = new_product(world)
    path = f"{PRODUCTS}/{made['id']}"
    before = world.nobody.get(path).want(200)
    variant = f"{path}/variants/{made['variants'][0]['id']}"
    world.admin.patch(variant, {"prices": {CURRENCY: 13_000}}).want(200)
    after = world.nobody.get(path).want(200)
    after.need(after.data["price"]["amount"] == 13_000, "the new price, though answers are kept")
    etag = {"If-None-Match": before.headers.get("etag", "")}
    world.nobody.get(path, headers=etag).want(200)


@check("A product is made as its form says, or not at all")
def _(world: World) -> None:
    good = {"title": {"en": fresh("Check ")}, "variants": [{"sku": fresh("CHECK-"), "prices": {CURRENCY: 100}}]}
    sku = good["variants"][0]["sku"]  # type: ignore[index]
    for wrong in (
        {**good, "colour": "red"},
        {**good, "version": 7},
        {**good, "title": "Tea"},
        {**good, "title": {"en": " "}},
        {**good, "category_id": "no-such-category"},
        {**good, "variants": [{"sku": sku, "prices": {CURRENCY: 12.5}}]},
        {**good, "variants": [{"sku": sku, "prices": {CURRENCY: "100"}}]},
        {**good, "variants": [{"sku": sku, "prices": {CURRENCY: -1}}]},
        {**good, "variants": [{"sku": sku, "prices": {"XXX": 100}}]},
        {**good, "variants": [{"sku": sku}, {"sku": sku}]},
        {},
    ):
        world.admin.post(PRODUCTS, wrong).problem(422)
    rules.refuses_what_is_no_json(world.admin, "POST", PRODUCTS)
    made = world.admin.post(PRODUCTS, good).want(201)
    world.at_the_end.append(lambda: world.admin.put(f"{PRODUCTS}/{made.data['id']}/archive"))
    rules.is_stored(world.admin.get(f"{SHOP}/catalogue/products/{made.data['id']}").want(200))
    world.admin.post(PRODUCTS, good).problem(409, code="already_exists")


@check("Of ten who change the same version of a product exactly one wins")
def _(world: World) -> None:
    made = new_product(world)
    path, headers = f"{PRODUCTS}/{made['id']}", {"If-Match": f'"{made["version"]}"'}
    acts = [lambda n=n: world.admin.patch(path, {"brand": f"Brand {n}"}, headers=headers) for n in range(10)]
    rules.one_wins(together(*acts))


@check("An exported table runs no formula", part=EXPORT, hint="an apostrophe before = + - @ in every cell of a CSV")
def _(world: World) -> None:
    made = new_product(world, brand='=HYPERLINK("http://evil.example")')
    answer = world.admin.get(f"{SHOP}/catalogue/export?format=csv").want(200)
    answer.need("attachment" in answer.headers.get("content-disposition", ""), "Content-Disposition: attachment")
    text = answer.content.decode()
    answer.need(made["variants"][0]["sku"] in text, "a row for each variant")
    answer.need("'=HYPERLINK" in text and ',"=HYPERLINK' not in text, "no cell that begins with =")
