"""Carts over HTTP: that each promise of docs/contracts/shop-cart.md holds."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import clock
from msingi.kit.testing import PEOPLE, Client, World
from msingi.products.shop.actions.carts import cart_for_checkout, empty_cart
from msingi.products.shop.actions.coupons import hold_coupons
from msingi.products.shop.models.carts import carts
from msingi.products.shop.models.catalogue import products
from msingi.products.shop.models.pricing import coupons, tax_rates
from msingi.products.shop.models.stock import stocks
from msingi.products.shop.tests.small_shop import plant_what_is_missing, reprice

TOKEN = "x-cart-token"
TEA, KIKOI = "/cart/lines/tea-250", "/cart/lines/kikoi-red"
VIEW = {
    *("currency", "lines", "coupons", "coupons_used", "shipping", "totals", "notices", "updated_at", "version"),
}


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def shop(world: World) -> None:
    await plant_what_is_missing()


async def guest_with(client: Client, variant: str = "tea-250", quantity: int = 1) -> dict[str, str]:
    """What a guest sends to open the cart that they have just begun."""
    await client.put(f"/cart/lines/{variant}", quantity=quantity)
    return {TOKEN: client.last.headers[TOKEN]}


def codes(cart: Any) -> list[str]:
    return [each["code"] for each in cart["notices"]]


def lines(cart: Any) -> dict[str, int]:
    return {each["variant_id"]: each["quantity"] for each in cart["lines"]}


# ---- whose it is


async def test_a_guest_gets_a_token_at_the_first_write_and_not_before(nobody: Client) -> None:
    assert (await nobody.get("/cart"))["version"] == 0
    assert TOKEN not in nobody.last.headers
    assert await carts.count({}) == 0
    cart = await nobody.put(TEA, quantity=2)
    token = nobody.last.headers[TOKEN]
    assert (len(token), cart["version"], set(cart)) == (43, 1, VIEW)
    again = await nobody.put(KIKOI, quantity=1, headers={TOKEN: token})
    assert TOKEN not in nobody.last.headers
    assert lines(again) == {"tea-250": 2, "kikoi-red": 1}
    assert lines(await nobody.get("/cart", headers={TOKEN: token})) == {"tea-250": 2, "kikoi-red": 1}
    (stored,) = await carts.many({})
    assert token not in repr(stored)
    assert stored.owner_id is None


async def test_only_the_token_opens_a_guests_cart(nobody: Client) -> None:
    mine = await guest_with(nobody)
    (stored,) = await carts.many({})
    for wrong in ("x" * 43, "", "short", stored.id.removeprefix("guest."), "ü" * 43, "a" * 5000):
        cart = await nobody.get("/cart", headers={TOKEN: wrong.encode("utf-8")})
        assert (cart["lines"], cart["version"]) == ([], 0)
    other = await guest_with(nobody, "kikoi-red")
    assert other != mine
    assert lines(await nobody.get("/cart", headers=mine)) == {"tea-250": 1}


async def test_a_token_that_somebody_made_up_is_never_taken(nobody: Client) -> None:
    await nobody.put(TEA, quantity=1, headers={TOKEN: "A" * 43})
    assert nobody.last.headers[TOKEN] != "A" * 43


async def test_a_person_has_one_cart_wherever_they_are(ann: Client, bob: Client) -> None:
    await ann.put(TEA, quantity=2)
    assert TOKEN not in ann.last.headers
    assert lines(await ann.get("/cart")) == {"tea-250": 2}
    assert lines(await bob.get("/cart")) == {}


async def test_a_guests_cart_that_was_left_alone_for_too_long_is_gone(nobody: Client) -> None:
    mine = await guest_with(nobody)
    with clock.shifted(timedelta(days=31)):
        assert (await nobody.get("/cart", headers=mine))["lines"] == []
        await nobody.put(KIKOI, quantity=1, headers=mine)
        assert nobody.last.headers[TOKEN] != mine[TOKEN]


async def test_what_is_answered_is_for_nobody_to_keep(nobody: Client, ann: Client) -> None:
    mine = await guest_with(nobody)
    await nobody.get("/cart", headers=mine)
    await ann.get("/cart")
    assert nobody.last.headers["cache-control"] == ann.last.headers["cache-control"] == "no-store"


# ---- lines


async def test_a_cart_shows_what_its_goods_cost(ann: Client) -> None:
    await ann.put(TEA, quantity=3)
    cart = await ann.put("/cart/lines/repair-1", quantity=1)
    tea, repair = cart["lines"]
    assert {name: tea[name] for name in ("price", "price_agreed", "changed", "quantity", "total", "left", "sku")} == {
        "price": 12_000,
        "price_agreed": 12_000,
        "changed": False,
        "quantity": 3,
        "total": 36_000,
        "left": "enough",
        "sku": tea["sku"],
    }
    assert tea["tax"] == {"name": "VAT", "rate": 1600, "included": True, "amount": 4966}
    assert (repair["left"], repair["product_id"]) == ("enough", "repair")
    assert cart["totals"] == {
        "goods": 86_000,
        "discount": 0,
        "shipping": 0,
        "tax": 4966 + 6897,
        "tax_added": 0,
        "rounding": 0,
        "total": 86_000,
    }
    assert cart["notices"] == []


async def test_a_quantity_is_set_and_not_added(ann: Client) -> None:
    await ann.put(TEA, quantity=3)
    assert lines(await ann.put(TEA, quantity=2)) == {"tea-250": 2}
    assert lines(await ann.delete(TEA)) == {}
    assert (await ann.delete(TEA))["version"] == 3  # nothing left to take out


@pytest.mark.parametrize("quantity", [0, -1, 1001, 1.5, "2", None, True, 10**30])
async def test_a_quantity_is_a_whole_number_up_to_a_thousand(ann: Client, quantity: Any) -> None:
    await ann.put(TEA, json={"quantity": quantity}, expect=422)
    assert (await ann.get("/cart"))["lines"] == []


async def test_p2_no_price_is_taken_from_who_buys(ann: Client) -> None:
    await ann.put(TEA, json={"quantity": 1, "price": 1}, expect=422)
    await ann.put(TEA, json={"quantity": 1, "total": 1}, expect=422)
    assert (await ann.get("/cart"))["lines"] == []


@pytest.mark.parametrize("variant", ["secret-1", "nothing", "tea", "$ne", "%7B%7D"])
async def test_what_is_not_sold_cannot_be_put_into_a_cart(ann: Client, nobody: Client, variant: str) -> None:
    await ann.put(f"/cart/lines/{variant}", quantity=1, expect=404)
    await nobody.put(f"/cart/lines/{variant}", quantity=1, expect=404)
    assert TOKEN not in nobody.last.headers
    assert await carts.count({}) == 0


async def test_a_cart_takes_a_hundred_different_things(ann: Client) -> None:
    await ann.put(TEA, quantity=1)
    many = [
        {"variant_id": f"v{each}", "quantity": 1, "price": 100, "title": {"en": "", "sw": ""}} for each in range(99)
    ]
    await carts.raw.update_one({"_id": "user.ann"}, {"$push": {"lines": {"$each": many}}})
    refused = await ann.put(KIKOI, quantity=1, expect=409)
    assert (refused["code"], refused["most"]) == ("cart_full", 100)
    assert lines(await ann.put(TEA, quantity=5))["tea-250"] == 5


# ---- what has changed since


async def test_another_price_is_shown_and_paid_only_when_agreed_to(ann: Client) -> None:
    await ann.put(TEA, quantity=2)
    await reprice("tea-250", 12_500)
    cart = await ann.get("/cart")
    (line,) = cart["lines"]
    assert (line["price"], line["price_agreed"], line["changed"], line["total"]) == (12_500, 12_000, True, 25_000)
    assert cart["notices"] == [
        {"code": "price_changed", "details": {"variant_id": "tea-250", "before": 12_000, "now": 12_500}}
    ]
    (line,) = (await ann.put(TEA, quantity=3))["lines"]  # another quantity agrees to nothing
    assert line["changed"]
    cart = await ann.post("/cart/prices", prices={"tea-250": 12_400})  # which it never was
    assert codes(cart) == ["price_changed"]
    cart = await ann.post("/cart/prices", prices={"tea-250": 12_500, "kikoi-red": 1})
    assert (cart["notices"], cart["lines"][0]["changed"]) == ([], False)
    assert (await ann.post("/cart/prices", prices={"tea-250": 12_500}))["version"] == cart["version"]


async def test_what_is_sold_no_more_is_named_and_costs_nothing(ann: Client) -> None:
    await ann.put(TEA, quantity=2)
    await ann.put(KIKOI, quantity=1)
    await products.raw.update_one({"_id": "kikoi"}, {"$set": {"availability": "archived"}})
    cart = await ann.get("/cart")
    gone = cart["lines"][1]
    assert (gone["price"], gone["price_agreed"], gone["changed"], gone["left"]) == (None, 150_000, True, "none")
    assert (gone["title"]["en"] != "", cart["totals"]["total"]) == (True, 24_000)
    assert cart["notices"] == [{"code": "not_sold_any_more", "details": {"variant_id": "kikoi-red"}}]


@pytest.mark.parametrize(
    ("variant", "quantity", "left", "notices"),
    [
        ("tea-250", 100, "enough", []),
        ("tea-250", 121, "few", [("out_of_stock", 120)]),
        ("kikoi-red", 5, "few", []),
        ("kikoi-blue", 2, "few", [("out_of_stock", 1)]),
        ("radio-1", 1, "none", [("out_of_stock", 0)]),
        ("repair-1", 1000, "enough", []),
    ],
)
async def test_whether_there_is_enough_is_said_by_a_word(
    ann: Client, variant: str, quantity: int, left: str, notices: list[tuple[str, int]]
) -> None:
    cart = await ann.put(f"/cart/lines/{variant}", quantity=quantity)
    assert cart["lines"][0]["left"] == left
    assert [(each["code"], each["details"]["left"]) for each in cart["notices"]] == notices


async def test_a_cart_holds_nothing_back(ann: Client) -> None:
    before = await stocks.many({}, sort=[("_id", 1)])
    await ann.put(TEA, quantity=100)
    assert await stocks.many({}, sort=[("_id", 1)]) == before


# ---- coupons


async def test_a_coupon_takes_something_off(ann: Client) -> None:
    await ann.put(TEA, quantity=1)
    cart = await ann.put("/cart/coupons/karibu")
    assert (cart["coupons"], cart["coupons_used"]) == (["KARIBU"], ["KARIBU"])
    assert (cart["totals"]["discount"], cart["totals"]["total"], cart["lines"][0]["total"]) == (1_200, 10_800, 10_800)
    assert (await ann.put("/cart/coupons/KARIBU"))["version"] == cart["version"]
    cart = await ann.delete("/cart/coupons/Karibu")
    assert (cart["coupons"], cart["totals"]["total"]) == ([], 12_000)


async def test_a_coupon_that_waits_for_more_goods_is_kept_with_a_notice(ann: Client) -> None:
    await ann.put(TEA, quantity=1)
    cart = await ann.put("/cart/coupons/ASANTE500")
    assert (cart["coupons"], cart["coupons_used"], cart["totals"]["total"]) == (["ASANTE500"], [], 12_000)
    assert cart["notices"] == [
        {
            "code": "coupon_refused",
            "details": {"coupon": "ASANTE500", "reason": "below_minimum", "minimum": 200_000, "missing": 188_000},
        }
    ]
    cart = await ann.put("/cart/lines/stove-1", quantity=1)
    assert (cart["coupons_used"], cart["totals"]["discount"], cart["notices"]) == (["ASANTE500"], 50_000, [])


async def test_a_coupon_that_cannot_be_used_is_refused_with_its_reason(ann: Client) -> None:
    await ann.put(TEA, quantity=1)
    refused = await ann.put("/cart/coupons/NOBODYS", expect=409)
    assert (refused["code"], refused["coupon"], refused["reason"]) == ("coupon_refused", "NOBODYS", "unknown")
    await hold_coupons("o1", ["ASANTE500"], "bob", 3600)
    assert (await ann.put("/cart/coupons/ASANTE500", expect=409))["reason"] == "used_up"
    await coupons.raw.update_one({"_id": "KARIBU"}, {"$set": {"closed": True}})
    assert (await ann.put("/cart/coupons/KARIBU", expect=409))["reason"] == "closed"
    assert (await ann.get("/cart"))["coupons"] == []


async def test_a_coupon_that_runs_out_later_is_named_in_the_cart(ann: Client) -> None:
    await ann.put("/cart/lines/stove-1", quantity=1)
    await ann.put("/cart/coupons/ASANTE500")
    await hold_coupons("o1", ["ASANTE500"], "bob", 3600)
    cart = await ann.get("/cart")
    assert (cart["totals"]["discount"], cart["notices"][0]["details"]["reason"]) == (0, "used_up")


async def test_a_cart_takes_five_coupons(ann: Client) -> None:
    await ann.put(TEA, quantity=1)
    await carts.raw.update_one({"_id": "user.ann"}, {"$set": {"coupons": ["A1", "A2", "A3", "A4", "A5"]}})
    assert (await ann.put("/cart/coupons/KARIBU", expect=409))["code"] == "too_many_coupons"


# ---- currency


async def test_a_cart_in_another_currency_has_its_prices_of_now(ann: Client) -> None:
    await ann.put(TEA, quantity=2)
    await ann.put(KIKOI, quantity=1)
    cart = await ann.put("/cart/currency", currency="USD")
    tea, kikoi = cart["lines"]
    assert (cart["currency"], tea["price"], tea["changed"]) == ("USD", 120, False)
    assert (kikoi["price"], kikoi["price_agreed"], codes(cart)) == (None, None, ["not_sold_any_more"])
    assert cart["totals"]["total"] == 240
    cart = await ann.put("/cart/currency", currency="KES")
    assert (cart["totals"]["total"], cart["notices"]) == (174_000, [])


@pytest.mark.parametrize(("currency", "code"), [("XQX", "unknown_currency"), ("kes", "invalid_fields"), (5, None)])
async def test_a_currency_is_one_that_there_is(ann: Client, currency: Any, code: str | None) -> None:
    refused = await ann.put("/cart/currency", json={"currency": currency}, expect=422)
    assert code is None or refused["code"] == code


# ---- shipping


async def test_a_cart_says_what_all_of_it_costs_when_it_goes_there(ann: Client) -> None:
    await ann.put(TEA, quantity=1)
    cart = await ann.get("/cart?country=KE&town=Kisumu&shipping=courier")
    assert (cart["shipping"], cart["totals"]["shipping"], cart["totals"]["total"]) == ("courier", 35_000, 47_000)
    cart = await ann.get("/cart?country=KE&town=Kisumu&shipping=nairobi-rider")
    assert (cart["shipping"], cart["totals"]["total"]) == (None, 12_000)
    assert cart["notices"] == [
        {"code": "shipping_refused", "details": {"shipping": "nairobi-rider", "reason": "elsewhere"}}
    ]
    found = await ann.get("/cart/shipping-methods?town=nairobi")
    assert [(each["id"], each["price"]) for each in found["items"]] == [
        ("nairobi-rider", 20_000),
        ("courier", 35_000),
        ("pick-up", 0),
    ]
    await ann.put("/cart/lines/stove-1", quantity=4)
    found = await ann.get("/cart/shipping-methods?town=Nairobi")
    assert [each["id"] for each in found["items"]] == ["pick-up"]  # 20 kilos are too heavy for the others


async def test_free_shipping_frees_shipping(ann: Client) -> None:
    await ann.put(TEA, quantity=1)
    await ann.put("/cart/coupons/SAFARI")
    cart = await ann.get("/cart?town=Kisumu&shipping=courier")
    assert (cart["totals"]["shipping"], cart["totals"]["total"], cart["coupons_used"]) == (0, 12_000, ["SAFARI"])


async def test_abroad_there_is_no_tax_and_no_way(ann: Client) -> None:
    await ann.put(TEA, quantity=1)
    cart = await ann.get("/cart?country=DE&shipping=courier")
    assert (cart["totals"]["tax"], cart["notices"][0]["details"]["reason"]) == (0, "elsewhere")
    await ann.get("/cart?country=Germany", expect=422)


async def test_tax_that_is_added_is_added(ann: Client) -> None:
    await tax_rates.raw.update_one({"_id": "KE.standard"}, {"$set": {"included": False}})
    cart = await ann.put(TEA, quantity=1)
    totals = cart["totals"]
    assert (totals["tax_added"], totals["rounding"], totals["total"]) == (1_920, -20, 13_900)
    assert cart["lines"][0]["total"] == 13_920


# ---- versions


async def test_a_writer_may_insist_on_the_version_that_they_saw(ann: Client) -> None:
    await ann.put(TEA, quantity=1, headers={"if-match": '"0"'})
    tag = ann.last.headers["etag"]
    assert tag.startswith('"1-')
    await ann.put(TEA, quantity=2, headers={"if-match": tag})
    assert (await ann.put(TEA, quantity=3, headers={"if-match": tag}, expect=409))["code"] == "stale"
    await ann.put(TEA, quantity=3, headers={"if-match": '"2"'})
    await ann.put(TEA, quantity=4, headers={"if-match": "*"})
    await ann.put(TEA, quantity=4, headers={"if-match": "soon"}, expect=422)
    assert lines(await ann.get("/cart")) == {"tea-250": 4}


async def test_another_price_is_another_etag_though_the_version_is_the_same(ann: Client) -> None:
    await ann.put(TEA, quantity=1)
    await ann.get("/cart")
    tag = ann.last.headers["etag"]
    await ann.get("/cart", headers={"if-none-match": tag}, expect=304)
    await reprice("tea-250", 12_500)
    cart = await ann.get("/cart", headers={"if-none-match": tag}, expect=200)
    assert (cart["version"], cart["lines"][0]["changed"]) == (1, True)


async def test_of_many_writers_with_one_version_exactly_one_wins(ann: Client, world: World) -> None:
    await ann.put(TEA, quantity=1)
    clients = [world.client(PEOPLE["ann"]) for _ in range(8)]
    await asyncio.gather(
        *(
            each.put(TEA, quantity=2 + number, headers={"if-match": '"1"'}, expect=(200, 409))
            for number, each in enumerate(clients)
        )
    )
    assert sorted(each.last.status_code for each in clients) == [200] + [409] * 7
    assert (await ann.get("/cart"))["version"] == 2


async def test_writers_who_insist_on_nothing_lose_nothing_of_each_others(world: World) -> None:
    variants = ["tea-250", "coffee-500", "kikoi-red", "kikoi-blue", "stove-1", "radio-1", "repair-1"]
    clients = [world.client(PEOPLE["ann"]) for _ in variants]
    await asyncio.gather(
        *(each.put(f"/cart/lines/{variant}", quantity=1) for each, variant in zip(clients, variants, strict=True))
    )
    cart = await clients[0].get("/cart")
    assert lines(cart) == dict.fromkeys(variants, 1)
    assert cart["version"] == 7


async def test_an_emptied_cart_stays_the_same_cart(nobody: Client) -> None:
    mine = await guest_with(nobody)
    cart = await nobody.delete("/cart", headers=mine)
    assert (cart["lines"], cart["version"]) == ([], 2)
    assert lines(await nobody.put(KIKOI, quantity=1, headers=mine)) == {"kikoi-red": 1}
    assert TOKEN not in nobody.last.headers


# ---- signing in


async def test_what_a_guest_chose_is_theirs_after_signing_in(nobody: Client, ann: Client) -> None:
    mine = await guest_with(nobody, "tea-250", 2)
    await nobody.put("/cart/coupons/KARIBU", headers=mine)
    await ann.put(TEA, quantity=3)
    await ann.put(KIKOI, quantity=1)
    cart = await ann.get("/cart", headers=mine)
    assert (lines(cart), cart["coupons"]) == ({"tea-250": 5, "kikoi-red": 1}, ["KARIBU"])
    assert lines(await ann.get("/cart", headers=mine)) == {"tea-250": 5, "kikoi-red": 1}
    assert (await nobody.get("/cart", headers=mine))["lines"] == []
    assert await carts.count({}) == 1


@pytest.mark.parametrize("has_one", [True, False])
async def test_a_guests_cart_is_merged_once_however_many_requests_bring_it(
    nobody: Client, ann: Client, world: World, has_one: bool
) -> None:
    mine = await guest_with(nobody, "tea-250", 2)
    if has_one:
        await ann.put(TEA, quantity=1)
    clients = [world.client(PEOPLE["ann"]) for _ in range(12)]
    await asyncio.gather(*(each.get("/cart", headers=mine) for each in clients))
    assert lines(await ann.get("/cart")) == {"tea-250": 3 if has_one else 2}
    assert await carts.count({}) == 1


async def test_two_people_who_bring_one_token_do_not_both_get_its_goods(
    nobody: Client, ann: Client, bob: Client
) -> None:
    mine = await guest_with(nobody, "tea-250", 2)
    found = await asyncio.gather(ann.get("/cart", headers=mine), bob.get("/cart", headers=mine))
    assert sorted(len(each["lines"]) for each in found) == [0, 1]


async def test_nothing_that_a_guest_adds_while_it_is_merged_is_lost(nobody: Client, ann: Client, world: World) -> None:
    for _ in range(5):
        await ann.delete("/cart")
        mine = await guest_with(nobody, "tea-250", 1)
        other = world.client(None)
        await asyncio.gather(ann.get("/cart", headers=mine), other.put(KIKOI, quantity=1, headers=mine))
        anew = {TOKEN: other.last.headers.get(TOKEN, mine[TOKEN])}
        found = lines(await ann.get("/cart", headers=anew))
        assert found == {"tea-250": 1, "kikoi-red": 1}


async def test_merged_quantities_add_up_to_the_most_of_one(nobody: Client, ann: Client) -> None:
    mine = await guest_with(nobody, "tea-250", 600)
    await ann.put(TEA, quantity=600)
    assert lines(await ann.get("/cart", headers=mine)) == {"tea-250": 1000}


async def test_a_price_that_differed_between_both_carts_is_shown(nobody: Client, ann: Client) -> None:
    await ann.put(TEA, quantity=1)
    await reprice("tea-250", 12_500)
    mine = await guest_with(nobody, "tea-250", 1)
    (line,) = (await ann.get("/cart", headers=mine))["lines"]
    assert (line["quantity"], line["price_agreed"], line["price"], line["changed"]) == (2, 12_000, 12_500, True)


async def test_what_was_chosen_in_another_currency_has_no_agreed_price(nobody: Client, ann: Client) -> None:
    mine = await guest_with(nobody, "tea-250", 1)
    await nobody.put("/cart/currency", currency="USD", headers=mine)
    await ann.put(KIKOI, quantity=1)
    cart = await ann.get("/cart", headers=mine)
    tea = cart["lines"][1]
    assert (cart["currency"], tea["price"], tea["price_agreed"], tea["changed"]) == ("KES", 12_000, None, True)


async def test_a_write_after_signing_in_merges_first(nobody: Client, ann: Client) -> None:
    mine = await guest_with(nobody, "tea-250", 2)
    assert lines(await ann.put(KIKOI, quantity=1, headers=mine)) == {"tea-250": 2, "kikoi-red": 1}


# ---- checkout


async def test_a_checkout_takes_the_cart_that_was_decided_on(ann: Client) -> None:
    actor = PEOPLE["ann"]
    with pytest.raises(Exception, match="nothing in the cart"):
        await cart_for_checkout(actor, None)
    await ann.put(TEA, quantity=2)
    cart = await cart_for_checkout(actor, None, 1)
    assert [(each.variant_id, each.quantity) for each in cart.lines] == [("tea-250", 2)]
    with pytest.raises(Exception, match="changed while you were at it"):
        await cart_for_checkout(actor, None, 2)
    await empty_cart(cart.id, cart.version)
    assert (await ann.get("/cart"))["lines"] == []
    with pytest.raises(Exception, match="changed while you were at it"):
        await empty_cart(cart.id, cart.version)


async def test_z3_an_answer_says_nothing_beside_what_it_declares(ann: Client, nobody: Client) -> None:
    mine = await guest_with(nobody)
    cart = await nobody.get("/cart", headers=mine)
    assert set(cart) == VIEW
    assert set(cart["lines"][0]) == {
        *("variant_id", "quantity", "price", "price_agreed", "changed", "left", "title", "product_id", "sku"),
        *("options", "picture", "compare_at", "discount", "tax", "total"),
    }
