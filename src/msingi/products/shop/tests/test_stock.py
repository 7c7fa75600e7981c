"""Stock and places, over HTTP and by what orders ask of them."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import events, mail
from msingi.kit.drift import Drift
from msingi.kit.errors import NotFound
from msingi.kit.product import Product
from msingi.kit.testing import PEOPLE, Client, World
from msingi.kit.unit import atomic
from msingi.products.shop.actions import stock
from msingi.products.shop.contract import StockMoved, StockRanLow
from msingi.products.shop.jobs import stock as jobs
from msingi.products.shop.models.catalogue import products as goods
from msingi.products.shop.models.orders import Allocation
from msingi.products.shop.models.stock import locations, movements, stocks
from msingi.products.shop.queries import stock as queries
from msingi.products.shop.queries.stock import Standing, left, names, verify
from msingi.products.shop.rules.stock import NotAllocated, OutOfStock, StillPromised, TooManyWaiting
from msingi.products.shop.tests.stocked import Figures, end_holds, figures, manifest, plant

keeper = PEOPLE["admin"]
TEA, HERE = "tea-250.nairobi", ("tea-250", "nairobi")


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [manifest()]


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    return {"MSINGI_SHOP_STOCK_EMAIL": "store@msingi.test"}


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def planted(world: World) -> None:
    await plant()


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


# ---- holding


async def test_a_hold_takes_from_the_place_that_is_asked_first(world: World) -> None:
    assert await stock.hold("o", {"tea-250": 2}, seconds=60) == {"tea-250": [Allocation("nairobi", 2)]}
    assert await left(["tea-250"]) == {"tea-250": 118}
    assert await left(["tea-250"], location_id="nairobi") == {"tea-250": 98}


async def test_what_one_place_has_all_of_is_not_split(world: World) -> None:
    await stock.hold("first", {"tea-250": 85}, seconds=60)
    assert await stock.hold("o", {"tea-250": 18}, seconds=60) == {"tea-250": [Allocation("mombasa", 18)]}


async def test_what_no_place_has_all_of_comes_from_several(world: World) -> None:
    parts = await stock.hold("o", {"tea-250": 110}, seconds=60)
    assert parts == {"tea-250": [Allocation("nairobi", 100), Allocation("mombasa", 10)]}


async def test_only_the_place_that_is_named_is_asked(world: World) -> None:
    assert await stock.hold("o", {"tea-250": 1}, seconds=60, location_id="mombasa") == {
        "tea-250": [Allocation("mombasa", 1)]
    }
    with pytest.raises(OutOfStock) as refusal:
        await stock.hold("other", {"coffee-500": 1}, seconds=60, location_id="mombasa")
    assert refusal.value.details == {"variant_id": "coffee-500", "left": 0}


async def test_who_cannot_have_all_holds_nothing_and_hears_what_is_left(world: World) -> None:
    with pytest.raises(OutOfStock) as refusal:
        await stock.hold("o", {"coffee-500": 2, "tea-250": 121, "kikoi-red": 1}, seconds=60)
    assert refusal.value.details == {"variant_id": "tea-250", "left": 120}
    assert str(refusal.value) == "There is not enough of it: 120 left."
    assert await stocks.count({"holds.0": {"$exists": True}}) == 0


async def test_of_what_nobody_has_heard_there_is_none(world: World) -> None:
    with pytest.raises(OutOfStock):
        await stock.hold("o", {"no-such": 1}, seconds=60)
    assert await left(["no-such", "radio-1"]) == {"no-such": 0, "radio-1": 0}


async def test_asked_again_an_order_holds_the_same_once(world: World) -> None:
    first = await stock.hold("o", {"tea-250": 110, "kikoi-blue": 1}, seconds=60)
    assert await stock.hold("o", {"tea-250": 110, "kikoi-blue": 1}, seconds=60) == first
    assert await left(["tea-250", "kikoi-blue"]) == {"tea-250": 10, "kikoi-blue": 0}


async def test_asked_again_an_order_never_lets_go_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await stock.hold("o", {"tea-250": 120, "kikoi-blue": 1}, seconds=60)

    async def refuse(*_: str) -> None:
        raise AssertionError("somebody else could have taken it")

    monkeypatch.setattr(stock, "_let_go", refuse)
    assert await stock.hold("o", {"tea-250": 120, "kikoi-blue": 1}, seconds=60)


async def test_asked_again_for_another_number_an_order_holds_that(world: World) -> None:
    await stock.hold("o", {"tea-250": 110}, seconds=60)
    assert await stock.hold("o", {"tea-250": 3}, seconds=60) == {"tea-250": [Allocation("nairobi", 3)]}
    assert await left(["tea-250"]) == {"tea-250": 117}


async def test_a_hold_that_ended_counts_for_nothing_and_goes_with_the_next_write(world: World) -> None:
    await stock.hold("o", {"kikoi-blue": 1}, seconds=60)
    await end_holds()
    assert await left(["kikoi-blue"]) == {"kikoi-blue": 1}
    assert len((await stocks.get("kikoi-blue.nairobi")).holds) == 1
    await stock.hold("other", {"kikoi-blue": 1}, seconds=60)
    assert [each.order_id for each in (await stocks.get("kikoi-blue.nairobi")).holds] == ["other"]


async def test_the_clock_takes_away_what_ended_and_nothing_else(world: World) -> None:
    await stock.hold("gone", {"kikoi-blue": 1, "tea-250": 1}, seconds=60)
    await end_holds()
    await stock.hold("here", {"coffee-500": 1}, seconds=60)
    await jobs.tidy_holds()
    held = await stocks.many({"holds.0": {"$exists": True}})
    assert [each.id for each in held] == ["coffee-500.nairobi"]


async def test_a_release_lets_go_of_ones_own_and_may_be_repeated(world: World) -> None:
    await stock.hold("o", {"tea-250": 2}, seconds=60)
    await stock.hold("other", {"tea-250": 3}, seconds=60)
    for _ in range(3):
        await stock.release("o", [HERE, ("tea-250", "mombasa"), ("no-such", "nairobi")])
    assert (await figures(TEA)).held == 3


async def test_a_closed_place_sells_nothing(world: World, admin: Client) -> None:
    await admin.patch("/locations/nairobi", closed=True)
    assert await left(["tea-250"]) == {"tea-250": 20}
    assert await stock.hold("o", {"tea-250": 1}, seconds=60) == {"tea-250": [Allocation("mombasa", 1)]}


async def test_only_so_many_may_wait_for_one_stock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock, "MOST_WAITING", 3)
    for number in range(3):
        await stock.hold(f"o{number}", {"coffee-500": 1}, seconds=60)
    with pytest.raises(TooManyWaiting):
        await stock.hold("late", {"coffee-500": 1}, seconds=60)
    assert await stock.hold("o1", {"coffee-500": 1}, seconds=60)
    await end_holds("o0")
    assert await stock.hold("late", {"coffee-500": 1}, seconds=60)


async def test_holding_and_giving_refuse_to_stand_in_a_transaction(world: World) -> None:
    for act in (
        lambda: stock.hold("o", {"tea-250": 1}, seconds=60),
        lambda: stock.allocate("o", {HERE: 1}),
        lambda: stock.release("o", [HERE]),
    ):
        with pytest.raises(RuntimeError, match="outside of transactions"):
            await atomic(act)()


# ---- paid


async def test_what_is_held_is_given_once_however_often_it_is_paid(world: World) -> None:
    await stock.hold("o", {"tea-250": 2}, seconds=60)
    for _ in range(3):
        assert await stock.allocate("o", {HERE: 2}) == []
        await world.work()
    assert await figures(TEA) == Figures(100, 2, 0)
    assert await movements.count({"stock_id": TEA, "kind": "allocated"}) == 1


async def test_a_request_that_comes_again_after_it_was_paid_gives_nothing_twice(world: World) -> None:
    await stock.hold("o", {"tea-250": 2}, seconds=60)
    await stock.allocate("o", {HERE: 2})
    await stock.hold("o", {"tea-250": 2}, seconds=60)
    assert await stock.allocate("o", {HERE: 2}) == []
    await world.work()
    assert await stock.allocate("o", {HERE: 2}) == []
    assert await figures(TEA) == Figures(100, 2, 2)
    await end_holds()
    assert await figures(TEA) == Figures(100, 2, 0)
    assert await verify() == []


async def test_c8_a_late_payment_gets_what_is_still_there_although_its_hold_ended(world: World) -> None:
    await stock.hold("o", {"kikoi-blue": 1}, seconds=60)
    await end_holds()
    assert await stock.allocate("o", {("kikoi-blue", "nairobi"): 1}) == []
    assert await figures("kikoi-blue.nairobi") == Figures(1, 1, 0)


async def test_c8_a_late_payment_whose_hold_was_tidied_away_tries_without_one(world: World) -> None:
    await stock.hold("o", {"kikoi-blue": 1}, seconds=60)
    await end_holds()
    await jobs.tidy_holds()
    assert await stock.allocate("o", {("kikoi-blue", "nairobi"): 1}) == [("kikoi-blue", "nairobi")]
    assert await figures("kikoi-blue.nairobi") == Figures(1, 0, 0)
    assert await stock.allocate_late("o", "kikoi-blue", "nairobi", 1)
    assert await figures("kikoi-blue.nairobi") == Figures(1, 1, 0)


async def test_c8_a_late_payment_gets_nothing_that_others_hold_or_have(world: World) -> None:
    blue = ("kikoi-blue", "nairobi")
    await stock.hold("late", {"kikoi-blue": 1}, seconds=60)
    await end_holds()
    await stock.hold("other", {"kikoi-blue": 1}, seconds=60)
    assert await stock.allocate("late", {blue: 1}) == [blue]
    assert not await stock.allocate_late("late", *blue, 1)
    assert await stock.allocate("other", {blue: 1}) == []
    assert not await stock.allocate_late("late", *blue, 1)
    assert await figures("kikoi-blue.nairobi") == Figures(1, 1, 0)
    assert await verify() == []


async def test_c8_a_late_payment_gets_nothing_that_broke_in_the_meantime(world: World) -> None:
    blue = ("kikoi-blue", "nairobi")
    await stock.hold("late", {"kikoi-blue": 1}, seconds=60)
    await end_holds()
    await stock.damage(*blue, 1, "torn", keeper)
    assert len((await stocks.get("kikoi-blue.nairobi")).holds) == 1
    assert await stock.allocate("late", {blue: 1}) == [blue]
    assert await figures("kikoi-blue.nairobi") == Figures(0, 0, 0)


async def test_a_payment_that_was_overtaken_gives_nothing_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One looks, another gives and the request comes again: the first must not take the new hold for the old one."""
    await stock.hold("o", {"tea-250": 2}, seconds=60)
    look, looks = queries.standing, list[str]()

    async def look_slowly(order_id: str, stock_id: str) -> Standing:
        seen = await look(order_id, stock_id)
        looks.append(stock_id)
        if len(looks) == 1:
            assert await stock.allocate("o", {HERE: 2}) == []
            await stock.hold("o", {"tea-250": 2}, seconds=90)
        return seen

    monkeypatch.setattr(queries, "standing", look_slowly)
    assert await stock.allocate("o", {HERE: 2}) == []
    assert await figures(TEA) == Figures(100, 2, 2)
    assert looks == [TEA, TEA, TEA]


async def test_of_several_lines_those_are_named_that_could_not_be_given(world: World) -> None:
    await stock.hold("o", {"tea-250": 1, "kikoi-blue": 1}, seconds=60)
    await stock.release("o", [("kikoi-blue", "nairobi")])
    given = {HERE: 1, ("kikoi-blue", "nairobi"): 1, ("no-such", "nairobi"): 1}
    assert await stock.allocate("o", given) == [("kikoi-blue", "nairobi"), ("no-such", "nairobi")]
    assert (await figures(TEA)).allocated == 1


async def test_an_order_is_sent_and_comes_back(world: World) -> None:
    await stock.hold("o", {"tea-250": 5}, seconds=60)
    await stock.allocate("o", {HERE: 5})
    await stock.unallocate("o", *HERE, 1)
    await stock.ship("o", "nairobi", {"tea-250": 4})
    assert await figures(TEA) == Figures(96, 0, 0)
    await stock.take_back("o", "nairobi", {"tea-250": 2}, damaged=False)
    await stock.take_back("o", "mombasa", {"tea-250": 1}, damaged=True)
    assert await figures(TEA) == Figures(98, 0, 0)
    assert await figures("tea-250.mombasa") == Figures(20, 0, 0)
    await world.work()
    rows = await movements.many({"reason": "o"}, sort=[("created_at", 1), ("_id", 1)])
    assert sorted((row.location_id, row.kind, row.on_hand, row.allocated) for row in rows) == [
        ("mombasa", "damaged", -1, 0),
        ("mombasa", "returned", 1, 0),
        ("nairobi", "allocated", 0, 5),
        ("nairobi", "released", 0, -1),
        ("nairobi", "returned", 2, 0),
        ("nairobi", "shipped", -4, -4),
    ]
    assert await verify() == []


async def test_nothing_is_sent_or_taken_back_that_was_not_given(world: World) -> None:
    with pytest.raises(NotAllocated):
        await stock.ship("o", "nairobi", {"coffee-500": 1, "tea-250": 1})
    with pytest.raises(NotAllocated):
        await stock.unallocate("o", *HERE, 1)
    assert await figures(TEA) == Figures(100, 0, 0)
    assert await figures("coffee-500.nairobi") == Figures(10, 0, 0)


async def test_shipping_is_all_or_nothing_over_its_lines(world: World) -> None:
    await stock.hold("o", {"coffee-500": 1}, seconds=60)
    await stock.allocate("o", {("coffee-500", "nairobi"): 1})
    with pytest.raises(NotAllocated):
        await stock.ship("o", "nairobi", {"coffee-500": 1, "tea-250": 1})
    assert await figures("coffee-500.nairobi") == Figures(10, 1, 0)


# ---- the database itself


@pytest.mark.parametrize("field", ["on_hand", "allocated"])
async def test_the_database_itself_refuses_less_than_nothing(world: World, field: str) -> None:
    with pytest.raises(Exception, match="failed validation"):
        await stocks.raw.update_one({"_id": TEA}, {"$inc": {field: -1000}})


# ---- movements


async def test_each_movement_is_written_once_under_its_events_id(world: World) -> None:
    await stock.receive("tea-250", "nairobi", 24, "note 7", keeper)
    told = [each for each in await world.events() if isinstance(each, StockMoved)]
    assert [(each.kind, each.on_hand, each.reason, each.by) for each in told] == [("received", 24, "note 7", "admin")]
    await world.work()
    await world.work()
    rows = await movements.many({"stock_id": TEA, "reason": "note 7"})
    assert [(row.id, row.created_at, row.on_hand) for row in rows] == [(told[0].id, told[0].at, 24)]


async def test_staff_reads_what_happened_the_newest_first(world: World, admin: Client) -> None:
    await stock.receive("tea-250", "nairobi", 24, "note 7", keeper)
    await stock.damage("tea-250", "nairobi", 2, "wet", keeper)
    await world.work()
    page = await admin.get("/movements?variant=tea-250&location=nairobi&limit=2")
    assert [(each["kind"], each["on_hand"], each["reason"], each["by"]) for each in page["items"]] == [
        ("damaged", -2, "wet", "admin"),
        ("received", 24, "note 7", "admin"),
    ]
    rest = await admin.get(f"/movements?variant=tea-250&location=nairobi&limit=2&after={page['next']}")
    assert [each["reason"] for each in rest["items"]] == ["opening stock"]
    assert rest["next"] is None
    assert [each["on_hand"] for each in (await admin.get("/movements?kind=damaged"))["items"]] == [-2]
    await admin.get("/movements?kind=stolen", expect=422)


# ---- staff


async def test_p1_goods_received_twice_under_one_key_arrive_once(world: World, admin: Client) -> None:
    path, body = "/stock/tea-250/nairobi/receipts", {"quantity": 24, "reason": "note 7"}
    first = await admin.post(path, json=body, headers=key("a"))
    assert (first["on_hand"], first["available"]) == (124, 124)
    assert await admin.post(path, json=body, headers=key("a")) == first
    assert (await figures(TEA)).on_hand == 124
    assert (await admin.post(path, json={"quantity": 2}, headers=key("a"), expect=422))[
        "code"
    ] == "idempotency_key_reused"
    await admin.post(path, json=body, headers=key("b"))
    assert (await figures(TEA)).on_hand == 148
    assert await verify() == []


async def test_what_changes_stock_wants_a_key(world: World, admin: Client) -> None:
    for name, body in (("receipts", {"quantity": 1}), ("counts", {"counted": 1}), ("damages", {"quantity": 1})):
        refusal = await admin.post(f"/stock/tea-250/nairobi/{name}", json=body, expect=400)
        assert refusal["code"] == "idempotency_key_missing"
    assert await figures(TEA) == Figures(100, 0, 0)


async def test_the_first_goods_of_a_variant_at_a_place_begin_its_stock(world: World, admin: Client) -> None:
    await admin.get("/stock/radio-1/mombasa", expect=404)
    made = await admin.post("/stock/radio-1/mombasa/receipts", quantity=4, headers=key("a"))
    assert (made["id"], made["on_hand"], made["version"]) == ("radio-1.mombasa", 4, 1)
    assert await left(["radio-1"]) == {"radio-1": 4}
    assert await verify() == []


@pytest.mark.parametrize("path", ["/stock/no-such/nairobi/receipts", "/stock/radio-1/nowhere/receipts"])
async def test_nothing_arrives_of_what_or_where_there_is_nothing(world: World, admin: Client, path: str) -> None:
    before = await stocks.count({})
    await admin.post(path, quantity=4, headers=key("a"), expect=404)
    assert await stocks.count({}) == before


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001, "3", 1.5, None])
async def test_z2_no_quantity_that_makes_no_sense_is_taken(world: World, admin: Client, quantity: Any) -> None:
    body = {"quantity": quantity}
    await admin.post("/stock/tea-250/nairobi/receipts", json=body, headers=key("a"), expect=422)
    await admin.post("/stock/tea-250/nairobi/damages", json=body, headers=key("b"), expect=422)
    assert await figures(TEA) == Figures(100, 0, 0)


@pytest.mark.parametrize("field", ["allocated", "on_hand", "holds", "by", "version", "low_told"])
async def test_z2_no_field_that_is_not_asked_for_is_taken(world: World, admin: Client, field: str) -> None:
    await admin.post("/stock/tea-250/nairobi/receipts", json={"quantity": 1, field: 5}, headers=key("a"), expect=422)
    await admin.patch("/stock/tea-250/nairobi", json={"low_at": 1, field: 5}, expect=422)
    await admin.patch("/locations/nairobi", json={"name": "N", field: 5}, expect=422)
    assert await figures(TEA) == Figures(100, 0, 0)


async def test_a_count_says_how_many_lie_there(world: World, admin: Client) -> None:
    counted = await admin.post("/stock/tea-250/nairobi/counts", counted=97, reason="stock-taking", headers=key("a"))
    assert counted["on_hand"] == 97
    counted = await admin.post("/stock/radio-1/nairobi/counts", counted=2, headers=key("b"))
    assert counted["on_hand"] == 2
    await world.work()
    rows = await movements.many({"kind": "counted"}, sort=[("created_at", 1), ("_id", 1)])
    assert {(row.variant_id, row.on_hand, row.reason) for row in rows} == {
        ("tea-250", -3, "stock-taking"),
        ("radio-1", 2, ""),
    }
    assert await verify() == []


async def test_nobody_counts_or_breaks_away_what_is_promised(world: World, admin: Client) -> None:
    await stock.hold("paid", {"coffee-500": 4}, seconds=60)
    await stock.allocate("paid", {("coffee-500", "nairobi"): 4})
    await stock.hold("waiting", {"coffee-500": 3}, seconds=60)
    for path, body in (
        ("counts", {"counted": 6}),
        ("damages", {"quantity": 4}),
        ("moves", {"quantity": 4, "to": "mombasa"}),
    ):
        refusal = await admin.post(f"/stock/coffee-500/nairobi/{path}", json=body, headers=key(path), expect=409)
        assert (refusal["code"], refusal["allocated"], refusal["held"]) == ("still_promised", 4, 3)
    assert await figures("coffee-500.nairobi") == Figures(10, 4, 3)
    assert await stocks.count({"_id": "coffee-500.mombasa"}) == 0
    await admin.post("/stock/coffee-500/nairobi/counts", counted=7, headers=key("c"))
    assert await figures("coffee-500.nairobi") == Figures(7, 4, 3)


async def test_goods_are_carried_to_another_place(world: World, admin: Client) -> None:
    body = {"to": "mombasa", "quantity": 3, "reason": "for the market"}
    here = await admin.post("/stock/coffee-500/nairobi/moves", json=body, headers=key("a"))
    assert here["on_hand"] == 7
    assert (await admin.get("/stock/coffee-500/mombasa"))["on_hand"] == 3
    await world.work()
    rows = await movements.many({"kind": "moved"})
    assert sorted((row.location_id, row.on_hand) for row in rows) == [("mombasa", 3), ("nairobi", -3)]
    assert await verify() == []


@pytest.mark.parametrize(("to", "status"), [("nairobi", 422), ("nowhere", 404)])
async def test_goods_that_cannot_be_carried_stay(world: World, admin: Client, to: str, status: int) -> None:
    await admin.post("/stock/coffee-500/nairobi/moves", to=to, quantity=3, headers=key("a"), expect=status)
    assert await figures("coffee-500.nairobi") == Figures(10, 0, 0)


async def test_staff_sees_what_there_is_and_what_can_be_sold(world: World, admin: Client) -> None:
    await stock.hold("paid", {"tea-250": 4}, seconds=60)
    await stock.allocate("paid", {HERE: 4})
    await stock.hold("waiting", {"tea-250": 3}, seconds=60)
    await stock.hold("gone", {"tea-250": 50}, seconds=60)
    await end_holds("gone")
    seen = await admin.get("/stock/tea-250/nairobi")
    assert {name: seen[name] for name in ("on_hand", "allocated", "held", "available", "low")} == {
        "on_hand": 100,
        "allocated": 4,
        "held": 3,
        "available": 93,
        "low": False,
    }
    assert set(seen) == {
        *("id", "variant_id", "location_id", "on_hand", "allocated", "held", "available", "low_at", "low"),
        *("created_at", "updated_at", "version"),
    }
    whole = await admin.get("/stock/tea-250")
    assert (whole["on_hand"], whole["allocated"], whole["held"], whole["available"]) == (120, 4, 3, 113)
    assert [each["location_id"] for each in whole["items"]] == ["mombasa", "nairobi"]
    assert (await admin.get("/stock/radio-1"))["items"] == []
    await admin.get("/stock/no-such", expect=404)


async def test_stock_is_listed_by_variant_place_and_need(world: World, admin: Client) -> None:
    await admin.patch("/stock/coffee-500/nairobi", low_at=10)
    await admin.patch("/stock/stove-1/nairobi", low_at=2)

    async def listed(query: str) -> list[str]:
        return [each["id"] for each in (await admin.get(f"/stock{query}"))["items"]]

    assert await listed("?location=mombasa") == ["tea-250.mombasa"]
    assert await listed("?variant=tea-250") == ["tea-250.mombasa", "tea-250.nairobi"]
    assert await listed("?low=true") == ["coffee-500.nairobi"]
    assert len(await listed("?low=false")) == 5
    assert await listed("?sort=-on_hand&limit=1") == [TEA]
    await admin.get("/stock?colour=red", expect=422)


# ---- running low


async def test_one_letter_and_one_event_for_each_time_that_it_runs_low(world: World, admin: Client) -> None:
    await admin.patch("/stock/coffee-500/nairobi", low_at=5)

    async def sell(much: int, order: str) -> None:
        await stock.hold(order, {"coffee-500": much}, seconds=60)
        await stock.allocate(order, {("coffee-500", "nairobi"): much})
        await world.work()

    async def told() -> list[int]:
        return [each.unsold for each in await world.events() if isinstance(each, StockRanLow)]

    await sell(4, "o1")
    assert await told() == []
    await sell(1, "o2")
    await sell(2, "o3")
    assert await told() == [5]
    await stock.receive("coffee-500", "nairobi", 10, "", keeper)
    await world.work()
    await sell(9, "o4")
    assert await told() == [5, 4]
    letters = [(template, to, said["unsold"]) for template, to, said in await world.letters()]
    assert letters == [("stock_low", "store@msingi.test", 5), ("stock_low", "store@msingi.test", 4)]


async def test_who_sets_a_threshold_above_what_there_is_is_told_at_once(world: World, admin: Client) -> None:
    seen = await admin.patch("/stock/coffee-500/nairobi", low_at=10)
    assert (seen["low_at"], seen["low"]) == (10, True)
    await admin.patch("/stock/coffee-500/nairobi", low_at=10)
    assert len([each for each in await world.events() if isinstance(each, StockRanLow)]) == 1
    await admin.patch("/stock/coffee-500/nairobi", low_at=0)
    assert not (await stocks.get("coffee-500.nairobi")).low_told


async def test_a_hold_alone_makes_nothing_low(world: World, admin: Client) -> None:
    await admin.patch("/stock/coffee-500/nairobi", low_at=5)
    await stock.hold("o", {"coffee-500": 9}, seconds=60)
    await world.work()
    assert not [each for each in await world.events() if isinstance(each, StockRanLow)]


@pytest.mark.parametrize(("language", "begins"), [("en", "Running low: "), ("sw", "Bidhaa inakaribia kuisha: ")])
async def test_the_letter_says_what_and_where_in_both_languages(world: World, language: str, begins: str) -> None:
    said = await names("coffee-500", "nairobi")
    title = said["title" if language == "en" else "title_sw"]
    await mail.send("stock_low", to="a@msingi.test", product="shop", language=language, unsold=4, low_at=5, **said)
    await world.work()
    letter = (await mail.written())[-1]
    assert letter.subject.startswith(begins + title)
    assert "Nairobi" in letter.text
    assert "4" in letter.text


# ---- guests


async def test_guests_hear_roughly_what_there_is(world: World, nobody: Client) -> None:
    answer = await nobody.get("/availability?variants=tea-250,stove-1,radio-1,kikoi-blue")
    assert {each["variant_id"]: each["state"] for each in answer["items"]} == {
        "tea-250": "in_stock",
        "stove-1": "few",
        "radio-1": "none",
        "kikoi-blue": "few",
    }
    assert answer["items"][0] == {
        "variant_id": "tea-250",
        "state": "in_stock",
        "pick_up": [
            {"location_id": "nairobi", "name": "Nairobi, Biashara Street", "town": "Nairobi", "state": "in_stock"}
        ],
    }
    await stock.hold("o", {"kikoi-blue": 1}, seconds=60)
    answer = await nobody.get("/availability?variants=kikoi-blue")
    assert answer["items"][0]["state"] == "none"


async def test_what_is_there_to_be_sent_is_not_there_to_be_fetched(world: World, nobody: Client) -> None:
    await stock.hold("o", {"tea-250": 100}, seconds=60, location_id="nairobi")
    answer = (await nobody.get("/availability?variants=tea-250"))["items"][0]
    assert answer["state"] == "in_stock"
    assert [each["state"] for each in answer["pick_up"]] == ["none"]


async def test_what_never_runs_out_is_always_there(world: World, nobody: Client) -> None:
    answer = (await nobody.get("/availability?variants=repair-1"))["items"][0]
    assert answer["state"] == "in_stock"


async def test_z1_of_a_draft_guests_hear_as_much_as_of_what_does_not_exist(world: World, nobody: Client) -> None:
    await stock.receive("secret-1", "nairobi", 50, "", keeper)
    answer = await nobody.get("/availability?variants=secret-1,no-such")
    assert [each["state"] for each in answer["items"]] == ["none", "none"]
    assert [each["pick_up"] for each in answer["items"]] == [[], []]
    assert await goods.exists({"variants.id": "secret-1"})


@pytest.mark.parametrize("query", ["", "?variants=", "?variants=,", "?variants=" + ",".join(map(str, range(101)))])
async def test_guests_ask_for_something_and_not_for_everything(world: World, nobody: Client, query: str) -> None:
    await nobody.get(f"/availability{query}", expect=[400, 422])


# ---- places


async def test_a_place_is_opened_changed_and_removed(world: World, admin: Client) -> None:
    made = await admin.post("/locations", id="kisumu", name="Kisumu", priority=5)
    assert (made["id"], made["priority"], made["pick_up"], made["closed"]) == ("kisumu", 5, False, False)
    assert admin.last.headers["location"] == "/v1/shop/locations/kisumu"
    assert (await admin.post("/locations", id="kisumu", name="Another", expect=409))["code"] == "already_exists"
    changed = await admin.patch("/locations/kisumu", name="Kisumu, by the lake")
    assert changed["version"] == 2
    await admin.patch("/locations/kisumu", name="X", headers={"If-Match": '"1"'}, expect=409)
    listed = [each["id"] for each in (await admin.get("/locations"))["items"]]
    assert listed == ["nairobi", "mombasa", "kisumu"]
    await admin.delete("/locations/kisumu", expect=204)
    await admin.get("/locations/kisumu", expect=404)


async def test_a_place_without_a_name_of_its_own_gets_an_id(world: World, admin: Client) -> None:
    made = await admin.post("/locations", name="Somewhere")
    assert len(made["id"]) == 26


@pytest.mark.parametrize("id", ["", "a.b", "-a", "A", "a b", "a" * 41])
async def test_z2_no_id_is_taken_that_could_be_mistaken(world: World, admin: Client, id: str) -> None:
    await admin.post("/locations", id=id, name="Kisumu", expect=422)


async def test_a_place_where_goods_lay_stays(world: World, admin: Client) -> None:
    await stock.receive("radio-1", "mombasa", 1, "", keeper)
    assert (await admin.delete("/locations/mombasa", expect=409))["code"] == "location_in_use"
    assert await locations.exists({"_id": "mombasa"})


async def test_a_place_that_is_removed_while_goods_arrive_stays_or_takes_none(world: World, admin: Client) -> None:
    for number in range(5):
        id = f"place-{number}"
        await admin.post("/locations", id=id, name="Short-lived")
        await asyncio.gather(
            stock.receive("radio-1", id, 1, "", keeper),
            admin.delete(f"/locations/{id}", expect=[204, 409]),
            return_exceptions=True,
        )
        assert await locations.exists({"_id": id}) == await stocks.exists({"_id": f"radio-1.{id}"})


# ---- is it so?


async def test_verify_is_content_with_what_is_still_on_its_way(world: World) -> None:
    assert await verify() == []
    await stock.receive("tea-250", "nairobi", 5, "", keeper)
    await stock.hold("o", {"tea-250": 2}, seconds=60)
    await stock.allocate("o", {HERE: 2})
    assert await verify() == []  # riding in the document
    riding = (await stocks.raw.find_one({"_id": TEA}) or {})["_outbox"]
    await world.events()
    assert await verify() == []  # in the outbox
    await stocks.raw.update_one({"_id": TEA}, {"$set": {"_outbox": riding}})
    assert await verify() == []  # in both, as when the relay stopped between them
    await stocks.raw.update_one({"_id": TEA}, {"$unset": {"_outbox": 1}})
    await world.work()
    assert await verify() == []  # written down


async def test_verify_names_each_drift(world: World) -> None:
    await stocks.raw.update_one({"_id": TEA}, {"$inc": {"on_hand": 1}})
    await stocks.raw.update_one({"_id": "coffee-500.nairobi"}, {"$inc": {"allocated": 2}})
    await stocks.raw.delete_one({"_id": "stove-1.nairobi"})
    await stock.hold("o", {"kikoi-red": 4}, seconds=60)
    await stocks.raw.update_one({"_id": "kikoi-red.nairobi"}, {"$inc": {"on_hand": -2}})
    assert await verify() == [
        Drift("stock_allocated", "coffee-500.nairobi", 0, 2),
        Drift("stock_on_hand", "kikoi-red.nairobi", 5, 3),
        Drift("stock_on_hand", "stove-1.nairobi", 3, 0),
        Drift("stock_on_hand", TEA, 100, 101),
        Drift("stock_promised", "kikoi-red.nairobi", 3, 4),
    ]


async def test_verify_misses_no_movement_that_was_lost(world: World) -> None:
    await stock.receive("tea-250", "nairobi", 5, "", keeper)
    await world.work()
    await movements.raw.delete_one({"stock_id": TEA, "on_hand": 5})
    assert await verify() == []  # the outbox has it yet
    await events.outbox("shop").raw.delete_many({})
    assert await verify() == [Drift("stock_on_hand", TEA, 100, 105)]


async def test_what_cannot_be_is_said_as_a_problem(world: World) -> None:
    with pytest.raises(NotFound):
        await stock.damage("radio-1", "nairobi", 1, "", keeper)
    with pytest.raises(NotFound):
        await stock.set_threshold("radio-1.nairobi", 1, None)
    with pytest.raises(StillPromised):
        await stock.damage("tea-250", "nairobi", 101, "", keeper)
