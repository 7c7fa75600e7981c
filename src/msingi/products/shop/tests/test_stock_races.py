"""Many at once, on one stock: nothing is sold twice, nothing is lost, and nobody waits for a transaction."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Awaitable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from msingi import kit
from msingi.kit import clock
from msingi.kit.errors import Problem
from msingi.kit.product import Product
from msingi.kit.testing import PEOPLE, World
from msingi.kit.unit import atomic
from msingi.products.shop.actions import stock
from msingi.products.shop.models.orders import Allocation
from msingi.products.shop.models.stock import movements, stocks
from msingi.products.shop.queries.stock import availability, left, verify
from msingi.products.shop.rules.stock import OutOfStock
from msingi.products.shop.tests.stocked import Figures, database_now, end_holds, figures, manifest, plant, watched

admin = PEOPLE["admin"]
BLUE, TEA = "kikoi-blue.nairobi", "tea-250.nairobi"


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [manifest()]


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def planted(world: World) -> None:
    await plant()


async def at_once(acts: Iterable[Awaitable[Any]]) -> list[Any]:
    """The results of all, refusals among them; what is no refusal fails the test."""
    results = await asyncio.gather(*acts, return_exceptions=True)
    faults = [each for each in results if isinstance(each, BaseException) and not isinstance(each, Problem)]
    assert not faults, faults
    return results


async def test_p3_of_200_buyers_of_the_last_one_exactly_one_gets_it(world: World) -> None:
    async with watched():
        held = await at_once(stock.hold(f"o{number}", {"kikoi-blue": 1}, seconds=60) for number in range(200))
        winners = [number for number, each in enumerate(held) if isinstance(each, dict)]
        assert len(winners) == 1
        refused = [each for each in held if isinstance(each, OutOfStock)]
        assert len(refused) == 199
        assert {tuple(each.details.items()) for each in refused} == {(("variant_id", "kikoi-blue"), ("left", 0))}
        paid = await at_once(
            stock.allocate(f"o{number}", {("kikoi-blue", "nairobi"): 1}) for number in random.sample(range(200), 200)
        )
    assert paid.count([]) == 1
    assert await figures(BLUE) == Figures(on_hand=1, allocated=1, held=0)
    await world.work()
    row = await movements.find({"stock_id": BLUE, "kind": "allocated"})
    assert row is not None
    assert row.reason == f"o{winners[0]}"
    assert await verify() == []


async def test_p3_of_200_buyers_of_120_at_two_places_120_get_one(world: World) -> None:
    async with watched():
        held = await at_once(stock.hold(f"o{number}", {"tea-250": 1}, seconds=60) for number in range(200))
    assert len([each for each in held if isinstance(each, dict)]) == 120
    assert await left(["tea-250"]) == {"tea-250": 0}
    assert (await figures(TEA)).held == 100
    assert (await figures("tea-250.mombasa")).held == 20


async def test_p3_buyers_of_several_at_several_places_get_all_or_nothing(world: World) -> None:
    async with watched():
        held = await at_once(stock.hold(f"o{number}", {"tea-250": 7}, seconds=60) for number in range(40))
    got = [each["tea-250"] for each in held if isinstance(each, dict)]
    assert {sum(part.quantity for part in parts) for parts in got} == {7}
    there = (await figures(TEA)).held + (await figures("tea-250.mombasa")).held
    assert there == 7 * len(got) <= 120


async def test_p3_who_orders_several_goods_crosswise_leaves_nothing_behind(world: World) -> None:
    """Half want the last kikoi and coffee, half coffee and the last kikoi: what a loser took is free again."""
    baskets = [{"kikoi-blue": 1, "coffee-500": 1}, {"coffee-500": 1, "kikoi-blue": 1}]
    async with watched():
        held = await at_once(stock.hold(f"o{number}", baskets[number % 2], seconds=60) for number in range(60))
    assert len([each for each in held if isinstance(each, dict)]) <= 1
    winners = len([each for each in held if isinstance(each, dict)])
    assert (await figures(BLUE)).held == (await figures("coffee-500.nairobi")).held == winners


async def test_p3_64_writers_on_one_stock_lose_no_update_and_begin_no_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    start = AsyncMongoClient.start_session

    def noted(*args: Any, **options: Any) -> Any:
        begun.append(1)
        return start(*args, **options)

    monkeypatch.setattr(AsyncMongoClient, "start_session", noted)
    await stock.receive("coffee-500", "nairobi", 990, "", admin)
    assert begun  # a transaction would have been seen
    begun.clear()

    async def buy(writer: int) -> int:
        given = 0
        for number in range(6):
            order = f"o{writer}-{number}"
            await stock.hold(order, {"coffee-500": 2}, seconds=60)
            if number % 3 == 0:
                await stock.release(order, [("coffee-500", "nairobi")])
            else:
                given += 2 * (await stock.allocate(order, {("coffee-500", "nairobi"): 2}) == [])
        return given

    async with watched():
        given = sum(await at_once(buy(writer) for writer in range(64)))
    assert given == 64 * 4 * 2
    assert not begun
    assert await figures("coffee-500.nairobi") == Figures(on_hand=1000, allocated=given, held=0)
    await world.work()
    assert await movements.count({"stock_id": "coffee-500.nairobi", "kind": "allocated"}) == 64 * 4
    assert await verify() == []


async def test_staff_gets_through_while_buyers_crowd_one_stock(world: World) -> None:
    """Receiving is a transaction; it may have to try again, but neither loses nor blocks anything."""
    over = asyncio.Event()

    async def buy(writer: int) -> None:
        number = 0
        while not over.is_set():
            order, number = f"o{writer}-{number}", number + 1
            await stock.hold(order, {"tea-250": 1}, seconds=60, location_id="nairobi")
            await stock.release(order, [("tea-250", "nairobi")])

    async with watched():
        buying = [asyncio.create_task(buy(writer)) for writer in range(16)]
        await at_once(stock.receive("tea-250", "nairobi", 10, f"lorry {number}", admin) for number in range(3))
        over.set()
        await asyncio.gather(*buying)
    assert await figures(TEA) == Figures(on_hand=130, allocated=0, held=0)
    assert await verify() == []


async def test_p3_one_order_paid_fifty_times_at_once_is_given_its_goods_once(world: World) -> None:
    await stock.hold("o", {"tea-250": 3}, seconds=60)
    results = await at_once(stock.allocate("o", {("tea-250", "nairobi"): 3}) for _ in range(50))
    assert results == [[]] * 50
    assert await figures(TEA) == Figures(on_hand=100, allocated=3, held=0)
    assert await verify() == []


async def test_p3_paid_and_let_go_at_once_one_of_them_holds(world: World) -> None:
    for number in range(30):
        order = f"o{number}"
        await stock.hold(order, {"kikoi-red": 1}, seconds=60)
        paid, _ = await at_once(
            [stock.allocate(order, {("kikoi-red", "nairobi"): 1}), stock.release(order, [("kikoi-red", "nairobi")])]
        )
        now = await figures("kikoi-red.nairobi")
        assert now == Figures(5, int(paid == []), 0)
        if not paid:
            await atomic(stock.unallocate)(order, "kikoi-red", "nairobi", 1)


async def test_p3_a_hold_that_ends_is_sold_to_another_or_paid_for_but_not_both(world: World) -> None:
    for number in range(30):
        late, other = f"late{number}", f"other{number}"
        await stock.hold(late, {"kikoi-blue": 1}, seconds=60)
        await end_holds(late)
        paid, held, _ = await at_once(
            [
                stock.allocate(late, {("kikoi-blue", "nairobi"): 1}),
                stock.hold(other, {"kikoi-blue": 1}, seconds=60),
                stock.tidy(BLUE),
            ]
        )
        now = await figures(BLUE)
        assert (now.allocated, now.held) in ((int(paid == []), int(isinstance(held, dict))),)
        assert now.allocated + now.held <= 1
        await stock.release(other, [("kikoi-blue", "nairobi")])
        if not paid:
            await stock.unallocate(late, "kikoi-blue", "nairobi", 1)


async def test_the_same_request_twice_at_once_holds_once(world: World) -> None:
    results = await at_once(stock.hold("o", {"tea-250": 4, "coffee-500": 1}, seconds=60) for _ in range(20))
    assert results == [{"tea-250": [Allocation("nairobi", 4)], "coffee-500": [Allocation("nairobi", 1)]}] * 20
    assert (await figures(TEA)).held == 4
    assert (await figures("coffee-500.nairobi")).held == 1


async def test_the_first_of_a_variant_received_by_many_at_once_begin_one_stock(world: World) -> None:
    results = await at_once(stock.receive("radio-1", "mombasa", 2, "", admin) for _ in range(8))
    assert not [each for each in results if isinstance(each, Problem)]
    assert await figures("radio-1.mombasa") == Figures(16, 0, 0)
    assert await verify() == []


async def test_moves_in_circles_lose_nothing(world: World) -> None:
    there = [("nairobi", "mombasa"), ("mombasa", "nairobi")]
    await at_once(stock.move("tea-250", *there[number % 2], 3, "", admin) for number in range(12))
    assert (await figures(TEA)).on_hand + (await figures("tea-250.mombasa")).on_hand == 120
    assert await verify() == []


# ---- the clock


@pytest.mark.parametrize("minutes", [10, -10])
async def test_c11_a_process_whose_clock_is_ten_minutes_off_ends_no_hold_early_or_late(
    world: World, minutes: int
) -> None:
    with clock.shifted(timedelta(minutes=minutes)):
        await stock.hold("o", {"kikoi-blue": 1}, seconds=300)
        until = (await stocks.get(BLUE)).holds[0].until
        assert abs(until - await database_now() - timedelta(seconds=300)) < timedelta(seconds=5)
        assert await left(["kikoi-blue"]) == {"kikoi-blue": 0}
        assert [each.state for each in await availability(["kikoi-blue"])] == ["none"]
        with pytest.raises(OutOfStock):
            await stock.hold("other", {"kikoi-blue": 1}, seconds=300)
        await stock.tidy(BLUE)
        assert (await figures(BLUE)).held == 1
        await stock.hold("o", {"kikoi-blue": 1}, seconds=1)
        await until_left("kikoi-blue", 1)
        assert await stock.hold("other", {"kikoi-blue": 1}, seconds=300)
    assert (await figures(BLUE)).held == 1


async def until_left(variant: str, much: int) -> None:
    async with asyncio.timeout(10):
        while (await left([variant]))[variant] != much:
            await asyncio.sleep(0.05)


# ---- killed

KILLED = """
import asyncio, os, signal
from msingi.kit import state
from msingi.kit.testing import test_settings
from msingi.products.shop.actions import stock
from msingi.products.shop.product import product

hold = stock._hold

async def hold_and_die(*args):
    if await hold(*args):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    stock._hold = hold_and_die
    async with state.running(test_settings(), [product]):
        await stock.hold("o", {"coffee-500": 2, "stove-1": 1}, seconds=%d)

asyncio.run(main())
"""


async def killed_between_two_lines(seconds: int) -> None:
    """A process that is killed when it holds the coffee and not yet the stove."""
    environ = os.environ | {"PYTHONPATH": str(Path(kit.__path__[0]).parents[1])}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED % seconds, env=environ)
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    assert await stocks.count({"holds.order_id": "o"}) == 1


async def test_c2_what_a_killed_process_held_is_free_again_when_its_time_is_over(world: World) -> None:
    await killed_between_two_lines(seconds=3)
    assert (await figures("coffee-500.nairobi")).held == 2
    await until_left("coffee-500", 10)
    assert await verify() == []


async def test_c2_the_same_order_goes_on_where_a_killed_process_stopped(world: World) -> None:
    await killed_between_two_lines(seconds=60)
    taken = await stock.hold("o", {"coffee-500": 2, "stove-1": 1}, seconds=60)
    assert taken == {"coffee-500": [Allocation("nairobi", 2)], "stove-1": [Allocation("nairobi", 1)]}
    assert await left(["coffee-500", "stove-1"]) == {"coffee-500": 8, "stove-1": 2}
