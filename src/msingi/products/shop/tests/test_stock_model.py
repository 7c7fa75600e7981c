"""Stock against a tiny model of it: one step after the other exactly, several at once in what may never break."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from msingi.kit import events
from msingi.kit.errors import Problem
from msingi.kit.product import Product
from msingi.kit.testing import PEOPLE, World
from msingi.products.shop.actions import stock
from msingi.products.shop.models.stock import Stock, movements, stocks
from msingi.products.shop.queries.stock import verify
from msingi.products.shop.rules.stock import NotAllocated, OutOfStock, StillPromised
from msingi.products.shop.tests.stocked import check_all, end_holds, figures, manifest, plant, watched

admin = PEOPLE["admin"]
ID, HERE = "clay.nairobi", ("clay", "nairobi")
EXAMPLES = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [manifest()]


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def planted(world: World) -> None:
    await plant()


orders = some.sampled_from(["o1", "o2", "o3"])
quantities = some.integers(1, 4)
steps = some.one_of(
    some.tuples(some.sampled_from(["hold", "late", "unallocate", "ship"]), orders, quantities),
    some.tuples(some.sampled_from(["release", "allocate", "end"]), orders, some.just(0)),
    some.tuples(some.sampled_from(["receive", "damage", "count"]), some.just(""), some.integers(1, 6)),
    some.tuples(some.just("tidy"), some.just(""), some.just(0)),
)


@dataclass
class Model:
    """One stock at one place, as somebody would keep it on paper."""

    on_hand: int = 5
    allocated: int = 0
    live: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)  # still written there
    given: set[str] = field(default_factory=set)

    def free(self, order: str = "") -> int:
        held = sum(much for each, much in self.live.items() if each != order)
        return self.on_hand - self.allocated - held

    def drop(self, order: str) -> None:
        """Any write to the holds takes the ended ones along."""
        self.live.pop(order, None)
        self.ended.clear()

    def hold(self, order: str, much: int) -> bool:
        if self.free(order) >= much:
            self.drop(order)
            self.live[order] = much
            return True
        if self.on_hand and order in {**self.live, **self.ended}:
            self.drop(order)
        return False

    def release(self, order: str, _: int) -> bool:
        if order in {**self.live, **self.ended}:
            self.drop(order)
        return True

    def end(self, order: str, _: int) -> bool:
        if order in self.live:
            self.ended[order] = self.live.pop(order)
        return True

    def tidy(self, *_: Any) -> bool:
        self.ended.clear()
        return True

    def allocate(self, order: str, _: int) -> bool:
        if order in self.given:
            return True
        much = {**self.live, **self.ended}.get(order)
        if much is None or self.free(order) < much:
            return False
        self.given.add(order)
        return self.late(order, much)

    def late(self, order: str, much: int) -> bool:
        if self.free(order) < much:
            return False
        self.allocated += much
        self.drop(order)
        return True

    def unallocate(self, _: str, much: int) -> bool:
        if self.allocated < much:
            return False
        self.allocated -= much
        return True

    def ship(self, _: str, much: int) -> bool:
        if self.allocated < much:
            return False
        self.allocated -= much
        self.on_hand -= much
        return True

    def receive(self, _: str, much: int) -> bool:
        self.on_hand += much
        return True

    def damage(self, _: str, much: int) -> bool:
        if self.free() < much:
            return False
        self.on_hand -= much
        return True

    def count(self, _: str, counted: int) -> bool:
        return self.damage("", self.on_hand - counted)


async def do(step: str, order: str, much: int, held: dict[str, int]) -> bool:
    """The same with the real one. `held` is what each order last held, as the order itself would remember."""
    try:
        match step:
            case "hold":
                await stock.hold(order, {"clay": much}, seconds=600)
                held[order] = much
            case "release":
                await stock.release(order, [HERE])
            case "end":
                await end_holds(order)
            case "tidy":
                await stock.tidy(ID)
            case "allocate":
                return await stock.allocate(order, {HERE: held.get(order, 1)}) == []
            case "late":
                return await stock.allocate_late(order, *HERE, much)
            case "unallocate":
                await stock.unallocate(order, *HERE, much)
            case "ship":
                await stock.ship(order, "nairobi", {"clay": much})
            case "receive" | "damage" | "count":
                await getattr(stock, step)(*HERE, much, "", admin)
    except (OutOfStock, NotAllocated, StillPromised):
        return False
    return True


async def start_over() -> None:
    await stocks.raw.delete_many({})
    await movements.raw.delete_many({})
    await events.outbox("shop").raw.delete_many({})
    row = Stock(id=ID, variant_id="clay", location_id="nairobi")
    await stocks.raw.insert_one(stocks.dump(row))
    await stock.receive(*HERE, 5, "", admin)


@EXAMPLES
@given(script=some.lists(steps, max_size=20))
async def test_p3_each_step_does_what_it_would_do_on_paper(world: World, script: list[tuple[str, str, int]]) -> None:
    await start_over()
    model, held = Model(), dict[str, int]()
    for step, order, much in script:
        expected = getattr(model, step)(order, much)
        assert await do(step, order, much, held) == expected, (step, order, much)
        now, written = await figures(ID), (await stocks.get(ID)).holds
        assert (now.on_hand, now.allocated, now.held) == (model.on_hand, model.allocated, sum(model.live.values()))
        assert {each.order_id: each.quantity for each in written} == {**model.live, **model.ended}
        await check_all()
    assert await verify() == []


@EXAMPLES
@given(rounds=some.lists(some.lists(steps, min_size=2, max_size=6), min_size=1, max_size=4))
async def test_p3_steps_at_once_in_whatever_order_never_promise_what_is_not_there(
    world: World, rounds: list[list[tuple[str, str, int]]]
) -> None:
    await start_over()
    held = dict[str, int]()
    async with watched():
        for script in rounds:
            results = await asyncio.gather(*(do(*each, held) for each in script), return_exceptions=True)
            unmeant = [each for each in results if isinstance(each, BaseException) and not isinstance(each, Problem)]
            assert not unmeant, unmeant
            await check_all()
    assert await verify() == []
