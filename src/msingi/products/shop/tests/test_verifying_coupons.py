"""How often coupons are used follows from the orders; whatever was meddled with is named."""

from datetime import timedelta
from typing import Any

import pytest

from msingi.kit import clock
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.kit.unit import atomic
from msingi.products.shop.models.orders import Order, orders
from msingi.products.shop.models.pricing import Coupon, coupons, personal_uses
from msingi.products.shop.queries import coupon_uses
from msingi.products.shop.queries.coupon_uses import Uses
from msingi.products.shop.rules.coupons import REMEMBERED
from msingi.products.shop.tests.ordering import bank, end_hold, pay, place, products, settled, state_of

__all__ = ["bank", "products"]  # fixtures


@atomic
async def make(code: str, **more: Any) -> None:
    await coupons.add(Coupon(id=code, **{"kind": "percent", "value": 1000, "stacks": True, **more}))


async def named() -> set[tuple[str, str]]:
    """What is named that does not agree, and of what."""
    uses = Uses()
    async for order in orders.each({}):
        uses.see(order)
    return {(each.what, each.id) for each in await uses.drifts()}


async def ordered(client: Client, bank: Bank, world: World, *codes: str, paid: bool, **more: Any) -> Order:
    placed = await place(client, coupons=list(codes), **more)
    if paid:
        await pay(bank, placed["id"])
    await world.work()
    return await orders.get(placed["id"])


async def test_what_is_held_spent_and_given_back_agrees(world: World, bank: Bank, ann: Client, bob: Client) -> None:
    await make("FEW", limit=5, limit_each=3)
    await make("ANY")
    paid = await ordered(ann, bank, world, "FEW", "ANY", paid=True)
    await ordered(bob, bank, world, "FEW", paid=False)
    assert ((await coupons.get("FEW")).spent, (await personal_uses.get("ANY.ann")).spent) == (1, 1)
    assert await named() == set()
    await ann.put(f"/orders/{paid.id}/cancellation", reason="No more")
    await settled(world)
    assert ((await coupons.get("FEW")).spent, (await personal_uses.get("FEW.ann")).spent) == (0, 0)
    assert await named() == set()


async def test_each_thing_that_was_meddled_with_is_named(world: World, bank: Bank, ann: Client, bob: Client) -> None:
    await make("FEW", limit=5, limit_each=3)
    paid = await ordered(ann, bank, world, "FEW", paid=True)
    waits = await ordered(bob, bank, world, "FEW", paid=False)
    of_all, of_ann, of_bob = "FEW", "FEW.ann", "FEW.bob"
    later = clock.now() + timedelta(minutes=5)
    hold = {"order_id": paid.id, "until": later}
    far = {"order_id": "of-no-order", "until": clock.now() + timedelta(days=1)}
    meddled: list[tuple[Any, str, dict[str, Any], set[tuple[str, str]]]] = [
        (coupons, of_all, {"$inc": {"spent": 1}}, {("coupon_spent", of_all)}),
        (coupons, of_all, {"$set": {"spent": 0}}, {("coupon_spent", of_all)}),
        (coupons, of_all, {"$set": {"uses": []}}, {("coupon_held", f"FEW/{waits.id}")}),
        (coupons, of_all, {"$push": {"uses": hold}}, {("coupon_held", f"FEW/{paid.id}")}),
        (coupons, of_all, {"$push": {"uses": far}}, {("coupon_held", "FEW/of-no-order")}),
        (personal_uses, of_ann, {"$inc": {"spent": 1}}, {("coupon_spent_by_person", of_ann)}),
        (personal_uses, of_bob, {"$set": {"uses": []}}, {("coupon_held_by_person", f"FEW.bob/{waits.id}")}),
        (personal_uses, of_ann, {"$push": {"uses": hold}}, {("coupon_held_by_person", f"FEW.ann/{paid.id}")}),
        (
            orders,
            paid.id,
            {"$set": {"coupons": []}},
            {("coupon_spent", of_all), ("coupon_spent_by_person", of_ann)},
        ),
        (
            orders,
            paid.id,
            {"$pull": {"steps": "coupons_spent"}},
            {("coupon_spent", of_all), ("coupon_spent_by_person", of_ann)},
        ),
        (
            orders,
            waits.id,
            {"$set": {"state": "cancelled"}},
            {("coupon_held", f"FEW/{waits.id}"), ("coupon_held_by_person", f"FEW.bob/{waits.id}")},
        ),
    ]
    assert await named() == set()
    for store, id, change, expected in meddled:
        whole = await store.raw.find_one({"_id": id})
        await store.raw.update_one({"_id": id}, change)
        assert await named() == expected, change
        await store.raw.replace_one({"_id": id}, whole)
    for store, id, what in ((coupons, of_all, "coupon_spent"), (personal_uses, of_ann, "coupon_spent_by_person")):
        whole = await store.raw.find_one_and_delete({"_id": id}) or {}
        assert (what, id) in await named()
        await store.raw.insert_one(whole)
    assert await named() == set()


async def test_a_coupon_that_is_given_a_limit_is_held_by_those_who_order_from_then_on(
    world: World, bank: Bank, ann: Client, bob: Client, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coupon_uses, "SLACK", timedelta())
    await make("ANY")
    await ordered(ann, bank, world, "ANY", paid=False)
    await admin.patch("/admin/coupons/ANY", limit=3, limit_each=1)
    assert await named() == set()
    waits = await ordered(bob, bank, world, "ANY", paid=False)
    await coupons.raw.update_one({"_id": "ANY"}, {"$set": {"uses": []}})
    assert await named() == {("coupon_held", f"ANY/{waits.id}")}


async def test_late_money_is_counted_beyond_the_limit_and_staff_reads_so(
    world: World, bank: Bank, ann: Client, bob: Client, admin: Client
) -> None:
    await make("ONE", limit=1)
    late = await ordered(ann, bank, world, "ONE", paid=False)
    await end_hold(late.id)
    past = {"$set": {"uses.$[].until": clock.now() - timedelta(seconds=1)}}
    await coupons.raw.update_one({"_id": "ONE"}, past)
    await ordered(bob, bank, world, "ONE", paid=True)
    await pay(bank, late.id)
    await world.work()
    assert await state_of(late.id) == "confirmed"
    assert (await coupons.get("ONE")).spent == 2
    assert await named() == set()
    path = f"/orders/{late.id}/timeline"
    told = [each["kind"] for each in (await admin.get(path))["items"]]
    assert told.count("coupon_beyond_limit") == 1
    assert "coupon_beyond_limit" not in [each["kind"] for each in (await ann.get(path))["items"]]
    seen = (await ann.get(f"/orders/{late.id}"))["totals"]
    assert seen["discount"] == late.totals.discount > 0  # the price is that of the moment of ordering


async def test_a_use_is_given_back_however_many_used_the_coupon_since(world: World, bank: Bank, ann: Client) -> None:
    await make("MANY")
    paid = await ordered(ann, bank, world, "MANY", paid=True)
    others = [f"o{each}" for each in range(REMEMBERED)]
    await coupons.raw.update_one({"_id": "MANY"}, {"$set": {"spent_by": others, "spent": REMEMBERED + 1}})
    await ann.put(f"/orders/{paid.id}/cancellation", reason="No more")
    await settled(world)
    await settled(world)
    assert (await coupons.get("MANY")).spent == REMEMBERED
    assert rules_of(await orders.get(paid.id)) == []


def rules_of(order: Order) -> list[str]:
    return [each for each in order.steps if each.startswith("coupons")]
