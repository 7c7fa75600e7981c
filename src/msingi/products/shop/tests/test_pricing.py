"""Prices from what is stored, and the routes of those who look after coupons, taxes and shipping."""

from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import clock
from msingi.kit.testing import Client, World
from msingi.products.shop.actions.coupons import hold_coupons, release_coupons
from msingi.products.shop.models.orders import Tax, Totals
from msingi.products.shop.models.pricing import coupons, shipping_methods, tax_rates
from msingi.products.shop.queries.catalogue import Offer, offers
from msingi.products.shop.queries.pricing import Priced, priced
from msingi.products.shop.tests.small_shop import plant_what_is_missing

COUPON = {"code": "Jioni-10", "kind": "percent", "value": 1000}
METHOD: dict[str, Any] = {"name": "Bus", "countries": ["KE", "TZ"], "prices": {"KES": [[5000, 30000]]}}


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def shop(world: World) -> None:
    await plant_what_is_missing()


async def cost(wanted: dict[str, int], currency: str = "KES", **more: Any) -> Priced:
    """What these variants cost."""
    sold: dict[str, Offer] = await offers(list(wanted), currency)
    lines = [(sold[each], quantity) for each, quantity in wanted.items()]
    given: dict[str, Any] = {"country": "KE", "town": "Nairobi", "coupons": [], "shipping_id": None, "person": None}
    return await priced(lines, currency, **given | more)


def notices(found: Priced) -> list[tuple[str, str]]:
    return [(each.code, each.details["reason"]) for each in found.notices]


# ---- the price of what is stored


async def test_all_of_it_together_is_the_sum_that_the_contract_shows() -> None:
    wanted = {"stove-1": 1, "tea-250": 3}
    found = await cost(wanted, coupons=["karibu", "ASANTE500"], shipping_id="courier")
    # 285,900 of goods; 10 % are 28,590; then 50,000 off what is left.
    assert [each.discount for each in found.lines] == [68_694, 9_896]
    assert found.totals == Totals(
        goods=285_900, discount=78_590, shipping=60_000, tax=36_871, tax_added=0, rounding=-10, total=267_300
    )
    assert (found.coupons, found.notices, found.shipping_tax.amount) == (["KARIBU", "ASANTE500"], [], 8_276)
    assert found.lines[0].tax == Tax(name="VAT", rate=1600, included=True, amount=24_994)
    assert found.shipping is not None


async def test_codes_that_nobody_made_are_named() -> None:
    found = await cost({"tea-250": 1}, coupons=["NOTHING", "KARIBU", " karibu"])
    assert (notices(found), found.coupons) == ([("coupon_refused", "unknown")], ["KARIBU"])


async def test_an_orders_own_hold_does_not_stand_in_its_way() -> None:
    wanted = {"stove-1": 1}
    await hold_coupons("o1", ["ASANTE500"], "ann", 3600)
    assert notices(await cost(wanted, coupons=["ASANTE500"])) == [("coupon_refused", "used_up")]
    assert (await cost(wanted, coupons=["ASANTE500"], order_id="o1")).coupons == ["ASANTE500"]
    await release_coupons("o1", ["ASANTE500"], "ann")
    assert (await cost(wanted, coupons=["ASANTE500"])).coupons == ["ASANTE500"]


async def test_what_one_person_has_used_up_another_has_not() -> None:
    await coupons.raw.update_one({"_id": "KARIBU"}, {"$set": {"limit_each": 1}})
    await hold_coupons("o1", ["KARIBU"], "ann", 3600)
    assert notices(await cost({"tea-250": 1}, coupons=["KARIBU"], person="ann")) == [("coupon_refused", "used_by_you")]
    for person in ("bob", None):
        assert (await cost({"tea-250": 1}, coupons=["KARIBU"], person=person)).coupons == ["KARIBU"]


async def test_whether_a_coupon_has_begun_is_judged_by_the_clock_of_the_database() -> None:
    await coupons.raw.update_one({"_id": "KARIBU"}, {"$set": {"ends_at": clock.now() + timedelta(hours=1)}})
    with clock.shifted(timedelta(days=1)):
        assert (await cost({"tea-250": 1}, coupons=["KARIBU"])).coupons == ["KARIBU"]
    await coupons.raw.update_one({"_id": "KARIBU"}, {"$set": {"ends_at": clock.now() - timedelta(minutes=1)}})
    with clock.shifted(timedelta(days=-1)):
        assert notices(await cost({"tea-250": 1}, coupons=["KARIBU"])) == [("coupon_refused", "ended")]


@pytest.mark.parametrize(
    ("wanted", "shipping_id", "town", "shipping"),
    [
        ({"tea-250": 1}, "nairobi-rider", "Nairobi", 20_000),
        ({"tea-250": 1}, "nairobi-rider", "Kisumu", "elsewhere"),
        ({"tea-250": 1}, "courier", "Kisumu", 35_000),
        ({"tea-250": 5}, "courier", "Kisumu", 60_000),
        ({"stove-1": 3}, "courier", "Kisumu", "too_heavy"),
        ({"kikoi-red": 7}, "courier", "Kisumu", 0),
        ({"stove-1": 3}, "pick-up", "", 0),
        ({"tea-250": 1}, "nothing", "Kisumu", "unknown"),
    ],
)
async def test_shipping_is_by_zone_and_weight_and_free_from_an_amount(
    wanted: dict[str, int], shipping_id: str, town: str, shipping: int | str
) -> None:
    found = await cost(wanted, shipping_id=shipping_id, town=town)
    if isinstance(shipping, str):
        assert (notices(found), found.shipping) == ([("shipping_refused", shipping)], None)
    else:
        assert (found.totals.shipping, found.notices) == (shipping, [])


async def test_nothing_costs_nothing() -> None:
    found = await cost({}, coupons=["KARIBU"])
    assert (found.totals.total, found.lines, notices(found)) == (0, [], [("coupon_refused", "no_goods")])


# ---- coupons


async def test_a_coupon_is_made_changed_closed_and_shown(admin: Client) -> None:
    made = await admin.post("/admin/coupons", json=COUPON, expect=201)
    assert admin.last.headers["location"] == "/v1/shop/admin/coupons/JIONI-10"
    assert {name: made[name] for name in ("code", "kind", "value", "spent", "waiting", "closed", "version")} == {
        "code": "JIONI-10",
        "kind": "percent",
        "value": 1000,
        "spent": 0,
        "waiting": 0,
        "closed": False,
        "version": 1,
    }
    changed = await admin.patch("/admin/coupons/jioni-10", limit=5, closed=True, headers={"if-match": '"1"'})
    assert (changed["limit"], changed["closed"], changed["version"]) == (5, True, 2)
    assert (await admin.patch("/admin/coupons/JIONI-10", limit=5))["version"] == 2
    await admin.patch("/admin/coupons/JIONI-10", limit=6, headers={"if-match": '"1"'}, expect=409)
    assert await admin.get("/admin/coupons/JIONI-10") == changed
    assert admin.last.headers["etag"] == '"2"'
    assert (await admin.patch("/admin/coupons/JIONI-10", limit=None))["limit"] is None


async def test_a_code_is_there_once(admin: Client) -> None:
    await admin.post("/admin/coupons", json=COUPON, expect=201)
    again = await admin.post("/admin/coupons", json={**COUPON, "code": "JIONI-10"}, expect=409)
    assert again["code"] == "already_exists"


@pytest.mark.parametrize(
    "bad",
    [
        {"code": "ab"},
        {"code": "a b c d"},
        {"code": "x" * 41},
        {"kind": "gift"},
        {"value": -1},
        {"value": 10_001},
        {"kind": "amount"},
        {"minimum": 5},
        {"currency": "KESH"},
        {"limit": 0},
        {"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2025-01-01T00:00:00Z"},
        {"starts_at": "2026-01-01T00:00:00"},
        {"spent": 0},
        {"uses": []},
        {"version": 1},
    ],
)
async def test_z2_a_coupon_that_makes_no_sense_is_not_made(admin: Client, bad: dict[str, Any]) -> None:
    before = await coupons.count({})
    await admin.post("/admin/coupons", json={**COUPON, **bad}, expect=422)
    assert await coupons.count({}) == before


@pytest.mark.parametrize("bad", [{"value": 0}, {"minimum": 5}, {"kind": "amount"}, {"code": "NEW"}, {"spent": 9}])
async def test_z2_a_coupon_is_not_changed_into_what_makes_no_sense(admin: Client, bad: dict[str, Any]) -> None:
    before = await coupons.get("KARIBU")
    await admin.patch("/admin/coupons/KARIBU", json=bad, expect=422)
    assert await coupons.get("KARIBU") == before


async def test_a_coupon_that_was_used_is_closed_and_not_removed(admin: Client) -> None:
    await hold_coupons("o1", ["ASANTE500"], "ann", 3600)
    assert (await admin.get("/admin/coupons/ASANTE500"))["waiting"] == 1
    assert (await admin.delete("/admin/coupons/ASANTE500", expect=409))["code"] == "coupon_in_use"
    await release_coupons("o1", ["ASANTE500"], "ann")
    await admin.delete("/admin/coupons/ASANTE500", headers={"if-match": '"1"'}, expect=409)
    await admin.delete("/admin/coupons/ASANTE500")
    await admin.delete("/admin/coupons/ASANTE500", expect=404)


async def test_coupons_are_listed_by_pages(admin: Client) -> None:
    for number in range(3):
        await admin.post("/admin/coupons", json={**COUPON, "code": f"PAGE{number}"}, expect=201)
    page = await admin.get("/admin/coupons?kind=percent&sort=id&limit=2")
    rest = await admin.get(f"/admin/coupons?kind=percent&sort=id&limit=2&after={page['next']}")
    assert [each["code"] for each in page["items"] + rest["items"]] == ["KARIBU", "PAGE0", "PAGE1", "PAGE2"]
    await admin.get("/admin/coupons?colour=red", expect=422)


# ---- taxes


async def test_a_tax_rate_is_set_and_removed(admin: Client) -> None:
    made = await admin.put("/admin/tax-rates/TZ/standard", rate=1800, included=False)
    assert (made["rate"], made["included"], made["name"], made["version"]) == (1800, False, "VAT", 1)
    assert (await admin.put("/admin/tax-rates/TZ/standard", rate=1800, included=False))["version"] == 1
    await admin.put("/admin/tax-rates/TZ/standard", rate=1700, included=False, headers={"if-match": '"2"'}, expect=409)
    changed = await admin.put("/admin/tax-rates/TZ/standard", rate=1700, included=False, headers={"if-match": '"1"'})
    assert await admin.get("/admin/tax-rates/TZ/standard") == changed
    listed = await admin.get("/admin/tax-rates?country=TZ")
    assert listed["items"] == [changed]
    await admin.delete("/admin/tax-rates/TZ/standard")
    await admin.delete("/admin/tax-rates/TZ/standard", expect=404)
    assert await tax_rates.count({"country": "TZ"}) == 0


@pytest.mark.parametrize("path", ["/admin/tax-rates/Kenya/standard", "/admin/tax-rates/KE/Standard%20rate"])
async def test_a_country_and_a_class_are_what_they_are(admin: Client, path: str) -> None:
    await admin.put(path, rate=1600, expect=422)
    assert await tax_rates.count({}) == 2


# ---- shipping


async def test_a_way_of_shipping_is_offered_changed_and_withdrawn(admin: Client, nobody: Client) -> None:
    made = await admin.post("/admin/shipping-methods", json=METHOD, expect=201)
    assert admin.last.headers["location"] == f"/v1/shop/admin/shipping-methods/{made['id']}"
    found = await nobody.get("/shipping-methods?country=TZ&weight=5000&currency=KES")
    assert found["items"] == [
        {
            "id": made["id"],
            "name": "Bus",
            "name_sw": "",
            "kind": "delivery",
            "location_id": None,
            "days": [1, 3],
            "price": 30_000,
            "currency": "KES",
        }
    ]
    path = f"/admin/shipping-methods/{made['id']}"
    await admin.patch(path, towns=["Arusha"], headers={"if-match": '"1"'})
    assert (await nobody.get("/shipping-methods?country=TZ"))["items"] == []
    assert len((await nobody.get("/shipping-methods?country=TZ&town=arusha"))["items"]) == 1
    await admin.patch(path, closed=True)
    assert (await nobody.get("/shipping-methods?country=TZ&town=arusha"))["items"] == []
    assert (await admin.get(path))["version"] == 3
    await admin.delete(path, headers={"if-match": '"1"'}, expect=409)
    await admin.delete(path)
    await admin.get(path, expect=404)


@pytest.mark.parametrize(
    "bad",
    [
        {"name": " "},
        {"countries": []},
        {"countries": ["Kenya"]},
        {"prices": {}},
        {"prices": {"KES": []}},
        {"prices": {"KES": [[10, -1]]}},
        {"prices": {"KES": [[10, 1, 1]]}},
        {"prices": {"KES": [[20, 1], [10, 2]]}},
        {"kind": "pick_up"},
        {"kind": "pick_up", "location_id": "nowhere"},
        {"location_id": "nairobi"},
        {"free_from": {"USD": 1}},
        {"days": [3, 1]},
        {"id": "mine"},
    ],
)
async def test_z2_a_way_of_shipping_that_makes_no_sense_is_not_offered(admin: Client, bad: dict[str, Any]) -> None:
    before = await shipping_methods.count({})
    await admin.post("/admin/shipping-methods", json={**METHOD, **bad}, expect=422)
    assert await shipping_methods.count({}) == before


async def test_what_is_picked_up_names_where(admin: Client) -> None:
    made = await admin.post(
        "/admin/shipping-methods", json={**METHOD, "kind": "pick_up", "location_id": "mombasa"}, expect=201
    )
    assert made["location_id"] == "mombasa"
    await admin.patch(f"/admin/shipping-methods/{made['id']}", kind="delivery", expect=422)
    changed = await admin.patch(f"/admin/shipping-methods/{made['id']}", kind="delivery", location_id=None)
    assert (changed["kind"], changed["location_id"]) == ("delivery", None)


@pytest.mark.parametrize("query", ["country=kenya", "weight=-1", "currency=shilling", "goods=x", f"town={'x' * 101}"])
async def test_an_address_that_cannot_be_one_is_refused(nobody: Client, query: str) -> None:
    await nobody.get(f"/shipping-methods?{query}", expect=422)


async def test_z1_only_who_looks_after_prices_sees_what_they_are_made_of(
    ann: Client, nobody: Client, admin: Client
) -> None:
    for path in ("/admin/coupons", "/admin/tax-rates", "/admin/shipping-methods", "/admin/coupons/KARIBU"):
        await nobody.get(path, expect=401)
        await ann.get(path, expect=403)
        await admin.get(path)
