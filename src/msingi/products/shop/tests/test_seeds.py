"""The orders of the demonstration are such as the shop itself would have made of what happened."""

from collections import Counter

from msingi.kit.testing import PEOPLE, World
from msingi.products.shop.actions import stock
from msingi.products.shop.actions.money import settle
from msingi.products.shop.models.orders import invoices, orders
from msingi.products.shop.models.stock import stocks
from msingi.products.shop.queries.verifying import verify
from msingi.products.shop.seeds_of_orders import MOST_EACH, plant_orders

VARIANTS = ["coffee-500", "kikoi-red", "kikoi-blue", "stove-1", "tea-250"]


async def test_planted_orders_hang_together_and_nothing_is_left_to_do_about_them(world: World) -> None:
    for variant in VARIANTS:
        await stock.receive(variant, "nairobi", MOST_EACH, "for the demonstration", PEOPLE["admin"])
    await world.work()
    await plant_orders(VARIANTS, 25)
    planted = await orders.many({}, sort=[("_id", 1)])
    assert len(planted) == 25
    assert {each.state for each in planted} <= {"confirmed", "shipped", "delivered", "expired"}
    assert await verify() == []
    for each in planted:
        assert await settle(each.id) == each, each.state
    await world.work()
    assert await world.letters() == []
    assert await verify() == []
    assert all(each.on_hand >= each.allocated for each in await stocks.many({}))


async def test_planted_invoices_have_no_gap(world: World) -> None:
    for variant in VARIANTS:
        await stock.receive(variant, "nairobi", MOST_EACH, "for the demonstration", PEOPLE["admin"])
    await plant_orders(VARIANTS, 25)
    paid = {each.id: each for each in await orders.many({"paid": {"$gt": 0}})}
    written = await invoices.many({}, sort=[("_id", 1)])
    assert {each.order_id: each.id for each in written} == {each.id: each.invoice for each in paid.values()}
    for year, count in Counter(each.year for each in written).items():
        assert sorted(each.place for each in written if each.year == year) == list(range(1, count + 1))
