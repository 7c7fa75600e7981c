"""What the shop sold: figures over HTTP, exact to the shilling, of orders that are made here."""

import asyncio
import random
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest

from msingi.kit import clock
from msingi.kit.db import plain
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.products.shop.actions import sales as acting
from msingi.products.shop.actions.orders import entry
from msingi.products.shop.contract import OrderMoved, OrderPlaced
from msingi.products.shop.jobs.reports import add_up_sales, count_moved, count_placed
from msingi.products.shop.models.orders import orders
from msingi.products.shop.models.reports import product_days, sales, sales_days
from msingi.products.shop.queries import reports as queries
from msingi.products.shop.queries import sales as checking
from msingi.products.shop.tests.ordering import (
    Killed,
    bank,
    die_once,
    end_hold,
    key,
    paid,
    pay,
    place,
    products,
    settled,
)
from msingi.products.shop.tests.test_returns import ask, delivered

__all__ = ["bank", "products"]


def days_ago(days: int) -> date:
    return queries.today() - timedelta(days=days)


async def report(client: Client, query: str = "") -> Any:
    await add_up_sales()
    return await client.get(f"/reports/sales{query}")


async def test_an_order_counts_on_the_day_on_which_it_was_confirmed(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    await paid(ann, bank, world, {"kikoi-red": 2, "tea-250": 3}, coupons=["KARIBU"], shipping_id="nairobi-rider")
    await place(ann, {"coffee-500": 1})  # is not paid
    await world.work()
    told = await report(admin)
    assert (told["currency"], told["step"], len(told["points"])) == ("KES", "day", 30)
    today = told["points"][-1]
    assert today == {
        "day": queries.today().isoformat(),
        "orders": 1,
        "items": 5,
        "gross": 336_000,
        "discount": 33_600,
        "shipping": 20_000,
        "tax": today["tax"],
        "refunded": 0,
        "net": 322_400,
    }
    order = await orders.find({"state": "confirmed"})
    assert order
    assert (today["net"], today["tax"]) == (order.totals.total, order.totals.tax)
    assert told["total"] == {**today, "day": told["since"]}
    assert all(each["orders"] == each["net"] == 0 for each in told["points"][:-1])
    assert await checking.verify() == []


async def date_back(order_id: str, days: int) -> None:
    """Let all that happened to an order have happened earlier."""
    back = {"$subtract": ["$$this.at", days * 86_400_000]}
    history = {"$map": {"input": "$timeline", "in": {"$mergeObjects": ["$$this", {"at": back}]}}}
    moved = {"created_at": {"$subtract": ["$created_at", days * 86_400_000]}, "timeline": history}
    await orders.raw.update_one({"_id": order_id}, [{"$set": {**moved, "version": {"$add": ["$version", 1]}}}])
    await acting.work_out(await orders.get(order_id))


async def test_steps_hold_all_days_and_the_time_before_is_as_long(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    for days in (0, 9, 10):
        id = await paid(ann, bank, world, {"tea-250": 1})
        await date_back(id, days)
    since, until = days_ago(9), days_ago(0)
    told = await report(admin, f"?since={since}&until={until}")
    assert [each["orders"] for each in told["points"]] == [1, *[0] * 8, 1]
    assert (told["total"]["net"], told["before"]["net"]) == (24_000, 12_000)
    assert told["before"]["day"] == days_ago(19).isoformat()
    for step in ("week", "month"):
        steps = (await report(admin, f"?since={since}&until={until}&step={step}"))["points"]
        assert sum(each["orders"] for each in steps) == 2
        firsts = [date.fromisoformat(each["day"]) for each in steps]
        assert firsts == sorted(set(firsts))
        assert all(each.weekday() == 0 if step == "week" else each.day == 1 for each in firsts)
    whole = await report(admin, f"?since={days_ago(40)}")
    assert (whole["total"]["orders"], whole["before"]["orders"]) == (3, 0)
    assert await admin.get("/reports/currencies") == {"items": ["KES"]}
    dollars = await report(admin, "?currency=USD")
    assert dollars["total"]["orders"] == 0
    assert await checking.verify() == []


async def test_what_went_back_counts_when_it_went_and_only_what_was_counted_before(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    kept = await delivered(ann, admin, bank, world, {"kikoi-red": 3}, coupons=["KARIBU"])
    returned = (await ask(ann, kept, **{"1": 2}))["returns"][0]
    for state_now in ("approved", "received"):
        await admin.put(f"/orders/{kept}/returns/{returned['id']}", state=state_now)
    twice = (await place(ann, {"tea-250": 1}))["id"]
    await pay(bank, twice, 30_000)  # 18,000 more than it costs
    late = (await place(ann, {"coffee-500": 1}))["id"]
    await end_hold(late)
    await settled(world)
    cancelled = await paid(ann, bank, world, {"tea-250": 2})
    await admin.put(f"/orders/{cancelled}/cancellation", reason="By mistake", headers=key())
    await settled(world)
    paid_back = {each.id: each.refunded async for each in orders.each({})}
    assert paid_back[twice] == 18_000
    assert paid_back[cancelled] == 24_000
    told = (await report(admin))["total"]
    assert told["orders"] == 3
    assert told["gross"] - told["discount"] == 405_000 + 12_000 + 24_000
    assert told["refunded"] == paid_back[kept] + 24_000
    assert told["net"] == 441_000 - told["refunded"]
    top = await admin.get("/reports/products")
    assert [(each["product_id"], each["quantity"], each["returned"], each["revenue"]) for each in top["items"]] == [
        ("kikoi", 3, 2, 405_000),
        ("tea", 3, 2, 36_000),
    ]
    assert top["items"][1]["slug"] == "tea"
    assert (await admin.get("/reports/products?limit=1"))["items"] == top["items"][:1]
    assert await checking.verify() == []


async def test_the_funnel_follows_the_orders_of_its_days(
    ann: Client, bob: Client, eve: Client, admin: Client, bank: Bank, world: World
) -> None:
    await delivered(ann, admin, bank, world, {"tea-250": 1})
    old = await delivered(ann, admin, bank, world, {"tea-250": 1})
    await date_back(old, 3)
    await paid(bob, bank, world, {"tea-250": 1})
    await place(bob, {"tea-250": 1})
    await eve.put("/cart/lines/tea-250", quantity=1)
    await world.work()
    await add_up_sales()
    today = days_ago(0)
    told = await admin.get(f"/reports/funnel?since={today}&until={today}")
    assert told == {"carts": 4, "ordered": 3, "paid": 2, "sent": 1, "delivered": 1}
    assert (await admin.get("/reports/funnel"))["delivered"] == 2


async def test_what_runs_low_is_told_with_the_least_first(admin: Client, world: World) -> None:
    await admin.patch("/stock/kikoi-red/nairobi", low_at=5)
    await admin.patch("/stock/kikoi-blue/nairobi", low_at=5)
    await admin.patch("/stock/tea-250/mombasa", low_at=2)
    told = (await admin.get("/reports/stock-alerts"))["items"]
    assert [(each["variant_id"], each["location_id"], each["unsold"], each["low_at"]) for each in told] == [
        ("kikoi-blue", "nairobi", 1, 5),
        ("kikoi-red", "nairobi", 5, 5),
    ]
    assert (told[0]["sku"].lower(), bool(told[0]["title"]["en"]), bool(told[0]["location_name"])) == (
        "kikoi-blue",
        True,
        True,
    )
    assert len((await admin.get("/reports/stock-alerts?limit=1"))["items"]) == 1


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("since=2026-02-01&until=2026-01-01", 422, "bad_span"),
        ("since=2020-01-01&until=2026-01-01", 422, "bad_span"),
        ("until=0001-01-01", 422, "bad_span"),
        ("until=9999-12-31", 422, "bad_span"),
        ("since=0001-01-01", 422, "bad_span"),
        ("since=tomorrow", 422, "invalid_fields"),
        ("since=2026-02-30", 422, "invalid_fields"),
        ("step=year", 422, "invalid_fields"),
        ("currency=%24ne", 422, "invalid_fields"),
    ],
)
async def test_a_span_that_cannot_be_is_refused(admin: Client, query: str, status: int, code: str) -> None:
    assert (await admin.get(f"/reports/sales?{query}", expect=status))["code"] == code


async def test_figures_have_an_etag_that_changes_with_them(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    await report(admin)
    tag = admin.last.headers["etag"]
    await admin.get("/reports/sales", headers={"if-none-match": tag}, expect=304)
    await paid(ann, bank, world, {"tea-250": 1})
    await add_up_sales()
    assert (await admin.get("/reports/sales", headers={"if-none-match": tag}))["total"]["orders"] == 1


# ---- whatever happens on the way


async def figures() -> Any:
    """All rows and sums, without when they were written."""
    found: dict[str, Any] = {each.id: checking.said(each) async for each in sales.each({})}
    found |= {each.id: msgspec.to_builtins(each.sums) async for each in sales_days.each({})}
    return found | {each.id: msgspec.to_builtins(each.sums) async for each in product_days.each({})}


async def many_things(ann: Client, bob: Client, admin: Client, bank: Bank, world: World) -> list[Any]:
    """Orders in all their states; the events that told of them."""
    kept = await delivered(ann, admin, bank, world, {"tea-250": 3, "kikoi-red": 2})
    returned = (await ask(ann, kept, **{"1": 1}))["returns"][0]
    for state_now in ("approved", "received"):
        await admin.put(f"/orders/{kept}/returns/{returned['id']}", state=state_now)
    cancelled = await paid(bob, bank, world, {"tea-250": 1})
    await admin.put(f"/orders/{cancelled}/cancellation", reason="By mistake", headers=key())
    await place(ann, {"tea-250": 1})
    await date_back(cancelled, 2)
    await settled(world)
    return [each for each in await world.events() if isinstance(each, OrderMoved | OrderPlaced)]


async def hear(event: OrderMoved | OrderPlaced) -> None:
    await (count_placed if isinstance(event, OrderPlaced) else count_moved)(event)


async def forget_all() -> None:
    for store in (sales, sales_days, product_days):
        await store.raw.delete_many({})


async def test_events_in_any_order_and_repeated_give_the_figures_of_a_rebuild(
    ann: Client, bob: Client, admin: Client, bank: Bank, world: World
) -> None:
    told = await many_things(ann, bob, admin, bank, world)
    await add_up_sales()
    as_it_came = await figures()
    assert len(as_it_came) == 3 + 2 + 3
    assert await acting.rebuild() == 0
    assert await figures() == as_it_came
    for seed in range(3):
        chance = random.Random(seed)
        shuffled = [*told, *chance.choices(told, k=len(told))]
        chance.shuffle(shuffled)
        await forget_all()
        for each in shuffled:
            await hear(each)
            if chance.random() < 0.2:
                await add_up_sales()
        await add_up_sales()
        assert await figures() == as_it_came
    await forget_all()
    await asyncio.gather(*map(hear, told))
    await asyncio.gather(*(acting._add_up_waiting() for _ in range(4)))  # as if no lease kept them apart
    assert await figures() == as_it_came
    await forget_all()
    assert await acting.rebuild() == 3
    assert await figures() == as_it_came
    assert await checking.verify() == []


async def test_c9_adding_up_that_is_killed_or_overtaken_is_taken_up_again(
    ann: Client, bank: Bank, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await paid(ann, bank, world, {"tea-250": 2})
    today = days_ago(0)
    for step in ("_merge", "_count"):
        for after in (False, True):
            await sales.raw.update_one({"_id": id}, {"$set": {"counted": False}})
            await sales_days.raw.delete_many({})
            with monkeypatch.context() as patch:
                die_once(patch, acting, step, after=after)
                with pytest.raises(Killed):
                    await acting._add_up_waiting()
            await add_up_sales()
            assert (await queries.sales.fresh(today, today, "KES", "day")).total.net == 24_000
    assert await checking.verify() == []
    merge = acting._merge
    seen: list[int] = []

    async def meanwhile(*args: Any) -> None:
        await merge(*args)
        seen.append(len(seen))
        if len(seen) == 1:
            gone = entry("refunded", amount=4_000)
            await orders.raw.update_one({"_id": id}, {"$push": {"timeline": plain(gone)}, "$inc": {"version": 1}})
            await acting.work_out(await orders.get(id))

    monkeypatch.setattr(acting, "_merge", meanwhile)
    await sales.raw.update_one({"_id": id}, {"$set": {"counted": False}})
    await add_up_sales()
    assert len(seen) == 2
    assert (await queries.sales.fresh(today, today, "KES", "day")).total.net == 20_000
    assert await checking.verify() == []


async def test_verify_names_every_drift_and_a_rebuild_mends_it(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world, {"tea-250": 2})
    other = await paid(ann, bank, world, {"coffee-500": 1})
    await add_up_sales()
    day = days_ago(0).isoformat()
    assert await checking.verify() == []
    await sales.raw.update_one({"_id": id}, {"$set": {"days.0.net": 1}})
    await sales.raw.delete_one({"_id": other})
    await sales.raw.insert_one(sales.dump(msgspec.structs.replace(await sales.get(id), id="nobody")))
    await sales_days.raw.update_one({"_id": f"KES|{day}"}, {"$inc": {"sums.orders": 5}})
    await product_days.raw.update_one({"_id": f"KES|{day}|tea"}, {"$inc": {"sums.revenue": 5}})
    await sales_days.raw.insert_one(
        sales_days.dump(
            msgspec.structs.replace(
                await sales_days.get(f"KES|{day}"), id="USD|2026-01-01", currency="USD", day="2026-01-01"
            )
        )
    )
    with clock.shifted(timedelta(minutes=2)):  # what is younger may be on its way
        found = {(each.what, each.id) for each in await checking.verify()}
    assert found >= {
        ("sales_of_order", id),
        ("sales_of_order", other),
        ("sales_of_no_order", "nobody"),
        ("sales_day_orders", f"KES|{day}"),
        ("sales_day_orders", "USD|2026-01-01"),
        ("product_day_revenue", f"KES|{day}|tea"),
    }
    await admin.post("/reports/rebuilding")
    await world.work()
    assert await checking.verify() == []
    assert (await admin.get("/reports/sales"))["total"]["net"] == 24_000 + 65_000


async def test_a_row_that_waits_too_long_to_be_added_up_is_a_drift(ann: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world, {"tea-250": 2})
    assert await checking.verify() == []  # its day is about to be added up
    with clock.shifted(timedelta(minutes=2)):
        assert [(each.what, each.id) for each in await checking.verify()] == [("sales_not_added_up", id)]


# ---- how it is asked


async def plan_of(collection: Any, **asked: Any) -> dict[str, Any]:
    told = await collection.raw.database.command({"explain": asked, "verbosity": "executionStats"})
    assert "COLLSCAN" not in str(told), asked
    stages = told.get("stages")
    found: dict[str, Any] = stages[0]["$cursor"]["executionStats"] if stages else told["executionStats"]
    return found


async def test_reports_examine_no_more_than_the_days_that_they_are_of(ann: Client, world: World) -> None:
    base = date(2025, 1, 1)
    template = sales_days.dump(
        msgspec.convert({"_id": "", "currency": "KES", "day": "", "sums": {"orders": 1}, "seen": 1}, sales_days.kind)
    )
    of_product = product_days.dump(
        msgspec.convert(
            {"_id": "", "currency": "KES", "day": "", "product_id": "", "sums": {}, "seen": 1}, product_days.kind
        )
    )
    days = [(base + timedelta(days=number)).isoformat() for number in range(400)]
    money = ("KES", "USD")
    await sales_days.raw.insert_many(
        [{**template, "_id": f"{each}|{day}", "currency": each, "day": day} for each in money for day in days]
    )
    await product_days.raw.insert_many(
        [
            {**of_product, "_id": f"KES|{day}|{name}", "day": day, "product_id": name}
            for day in days
            for name in ("tea", "stove", "coffee")
        ]
    )
    week = checking.of_days("KES", days[100], days[106])
    plan = await plan_of(sales_days, find="sales_days", filter=week)
    assert plan["totalDocsExamined"] == plan["nReturned"] == 7
    plan = await plan_of(product_days, aggregate="product_days", pipeline=[{"$match": week}], cursor={})
    assert plan["totalDocsExamined"] == 21
    plan = await plan_of(sales_days, find="sales_days", filter={"day": {"$gte": days[100], "$lte": days[106]}})
    assert plan["totalDocsExamined"] == 14


async def test_a_day_is_added_up_from_its_own_rows_and_what_waits_is_found_by_an_index(
    ann: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world, {"tea-250": 1})
    await add_up_sales()
    row = await sales.raw.find_one({"_id": id})
    assert row
    at = days_ago(50)
    many = []
    for number in range(300):
        day = (at - timedelta(days=number % 30)).isoformat()
        parts = {"days": [row["days"][0] | {"day": day}], "products": [row["products"][0] | {"day": day}]}
        many.append(row | {"_id": f"made-{number}"} | parts)
    await sales.raw.insert_many(many)
    pipeline = checking.day_pipeline("KES", at.isoformat())
    plan = await plan_of(sales, aggregate="sales", pipeline=pipeline, cursor={})
    assert plan["totalDocsExamined"] == 10
    waiting = {"find": "sales", "filter": {"counted": False}, "sort": {"updated_at": 1}}
    plan = await plan_of(sales, **waiting)
    assert plan["totalDocsExamined"] == 0
    left = {"updated_at": {"$gte": row["updated_at"]}, "lines.0": {"$exists": True}}
    await plan_of(orders, count="carts", query=left)
