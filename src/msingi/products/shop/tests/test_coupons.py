"""Coupons that run out: what is held, spent and given back, exactly, whoever comes at the same moment."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import clock, state
from msingi.kit.errors import Problem
from msingi.kit.testing import World
from msingi.kit.unit import atomic
from msingi.products.shop.actions.coupons import hold_coupons, release_coupons, spend_coupons
from msingi.products.shop.models.pricing import Coupon, PersonalUse, Use, coupons, personal_uses
from msingi.products.shop.queries.pricing import standings
from msingi.products.shop.rules.coupons import MOST_WAITING, CouponCrowded, CouponRefused
from msingi.products.shop.tests.small_shop import plant_what_is_missing

HOUR = 3600


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def shop(world: World) -> None:
    await plant_what_is_missing()


@atomic
async def make(code: str, **more: Any) -> None:
    await coupons.add(Coupon(id=code, **{"kind": "percent", "value": 1000, **more}))


async def refused(act: Awaitable[Any]) -> str:
    with pytest.raises(CouponRefused) as caught:
        await act
    reason: str = caught.value.details["reason"]
    return reason


async def count(code: str) -> tuple[int, int]:
    """How often it is spent, and how many hold it."""
    found = await coupons.get(code)
    return found.spent, len(found.uses)


async def end_holds(code: str, ago: timedelta = timedelta(seconds=1)) -> None:
    """Let all holds of a coupon have ended so long ago."""
    for store in (coupons, personal_uses):
        ended = {"$set": {"uses.$[].until": clock.now() - ago}}
        await store.raw.update_many({"_id": {"$regex": f"^{code}"}, "uses.0": {"$exists": True}}, ended)


async def attempts(*acts: Awaitable[Any]) -> tuple[int, list[str]]:
    """How many of these, done at once, came through; and why the others did not."""
    found = await asyncio.gather(*acts, return_exceptions=True)
    problems = [each for each in found if isinstance(each, BaseException)]
    assert all(isinstance(each, Problem) for each in problems), problems
    reasons = [each.details.get("reason", each.code) for each in problems if isinstance(each, Problem)]
    return len(found) - len(problems), reasons


# ---- many at once


@pytest.mark.parametrize("limit", [1, 7])
async def test_p3_of_a_hundred_buyers_as_many_get_a_coupon_as_there_are(limit: int) -> None:
    await make("FEW", limit=limit)
    held, reasons = await attempts(*(hold_coupons(f"o{each}", ["FEW"], f"p{each}", HOUR) for each in range(100)))
    assert (held, set(reasons), len(reasons)) == (limit, {"used_up"}, 100 - limit)
    assert await count("FEW") == (0, limit)
    holding = {each.order_id for each in (await coupons.get("FEW")).uses}
    beyond = await asyncio.gather(*(spend_coupons(each, ["FEW"], f"p{each[1:]}") for each in holding))
    assert beyond == [[]] * limit
    assert await count("FEW") == (limit, 0)


async def test_p3_a_person_with_two_carts_uses_a_coupon_once() -> None:
    await make("ONCE", limit_each=1)
    for person in ("ann", "bob"):
        orders = [f"{person}{each}" for each in range(10)]
        held, reasons = await attempts(*(hold_coupons(each, ["ONCE"], person, HOUR) for each in orders))
        assert (held, set(reasons)) == (1, {"used_by_you"})
    assert sorted([each.id async for each in personal_uses.each({})]) == ["ONCE.ann", "ONCE.bob"]


async def test_p3_holding_spending_and_releasing_at_once_never_gives_out_too_many() -> None:
    await make("FEW", limit=5)

    async def buy(number: int) -> int:
        order = f"o{number}"
        try:
            await hold_coupons(order, ["FEW"], None, HOUR)
        except CouponRefused:
            return 0
        if number % 3:
            await release_coupons(order, ["FEW"], None)
            return 0
        return int(not (await spend_coupons(order, ["FEW"], None)))

    spent = sum(await asyncio.gather(*(buy(each) for each in range(90))))
    assert await count("FEW") == (spent, 0)
    assert spent <= 5
    spent += sum([await buy(number) for number in range(90, 120, 3)])  # what was released can be had again
    assert spent == 5


async def test_what_runs_out_is_decided_without_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    await make("FEW", limit=50, limit_each=5)

    def start_session() -> None:
        raise AssertionError("a transaction on a document that many want")

    with monkeypatch.context() as alone:
        alone.setattr(state.mongo(), "start_session", start_session)
        await hold_coupons("o1", ["FEW"], "ann", HOUR)
        await spend_coupons("o1", ["FEW"], "ann")
        await release_coupons("o1", ["FEW"], "ann")
    assert await count("FEW") == (1, 0)


# ---- exactly once


async def test_c2_holding_again_for_the_same_order_counts_once() -> None:
    await make("FEW", limit=2, limit_each=1)
    for _ in range(3):
        await hold_coupons("o1", ["few ", "FEW"], "ann", HOUR)
    await attempts(*(hold_coupons("o1", ["FEW"], "ann", HOUR) for _ in range(10)))
    assert await count("FEW") == (0, 1)
    assert len((await personal_uses.get("FEW.ann")).uses) == 1
    standing = (await standings(["FEW"], "ann", "o1"))["FEW"]
    assert (standing.held, standing.own) == (0, 0)  # its own hold does not stand in its way
    standing = (await standings(["FEW"], "ann"))["FEW"]
    assert (standing.held, standing.own) == (1, 1)


async def test_c2_spending_again_for_the_same_order_counts_once() -> None:
    await make("FEW", limit=2, limit_each=2)
    await make("ANY")
    await hold_coupons("o1", ["FEW", "ANY"], "ann", HOUR)
    found = await asyncio.gather(*(spend_coupons("o1", ["FEW", "ANY"], "ann") for _ in range(10)))
    assert found == [[]] * 10
    assert (await count("FEW"), await count("ANY")) == ((1, 0), (1, 0))
    assert (await personal_uses.get("FEW.ann")).spent == 1


async def test_what_was_spent_is_not_given_back() -> None:
    await make("FEW", limit=1)
    await hold_coupons("o1", ["FEW"], None, HOUR)
    await spend_coupons("o1", ["FEW"], None)
    await release_coupons("o1", ["FEW"], None)
    assert await refused(hold_coupons("o2", ["FEW"], None, HOUR)) == "used_up"


async def test_what_is_released_is_there_for_the_next() -> None:
    await make("FEW", limit=1, limit_each=1)
    await hold_coupons("o1", ["FEW"], "ann", HOUR)
    assert await refused(hold_coupons("o2", ["FEW"], "ann", HOUR)) in ("used_up", "used_by_you")
    for _ in range(2):
        await release_coupons("o1", ["FEW"], "ann")
    await hold_coupons("o2", ["FEW"], "ann", HOUR)
    assert await count("FEW") == (0, 1)


async def test_of_several_coupons_all_are_held_or_none() -> None:
    await make("AFTER", limit=1)
    await make("BEFORE", limit=1, limit_each=1)
    await hold_coupons("o1", ["AFTER"], None, HOUR)
    assert await refused(hold_coupons("o2", ["BEFORE", "AFTER"], "ann", HOUR)) == "used_up"
    assert await count("BEFORE") == (0, 0)
    await hold_coupons("o3", ["BEFORE"], "ann", HOUR)


async def test_holding_and_spending_can_join_a_transaction() -> None:
    await make("FEW", limit=1)

    @atomic
    async def both() -> list[str]:
        await hold_coupons("o1", ["FEW"], None, HOUR)
        return await spend_coupons("o1", ["FEW"], None)

    assert await both() == []
    assert await count("FEW") == (1, 0)


# ---- by the clock of the database


async def test_a_hold_ends_by_the_clock_of_the_database_whatever_a_process_believes() -> None:
    await make("FEW", limit=1)
    await hold_coupons("o1", ["FEW"], None, HOUR)
    with clock.shifted(timedelta(days=2)):
        assert await refused(hold_coupons("o2", ["FEW"], None, HOUR)) == "used_up"
    await end_holds("FEW")
    await hold_coupons("o2", ["FEW"], None, HOUR)


async def test_a_hold_lasts_so_many_seconds() -> None:
    await make("FEW", limit=1)
    await hold_coupons("o1", ["FEW"], None, 1)
    async with asyncio.timeout(10):
        while True:
            try:
                await hold_coupons("o2", ["FEW"], None, 1)
                break
            except CouponRefused:
                await asyncio.sleep(0.1)
    (until,) = [each.until for each in (await coupons.get("FEW")).uses if each.order_id == "o1"]
    assert clock.now() >= until


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"starts_at": timedelta(minutes=5)}, "not_yet"),
        ({"ends_at": timedelta(minutes=-5)}, "ended"),
        ({"closed": True}, "closed"),
    ],
)
async def test_a_coupon_that_is_not_open_is_not_held(more: dict[str, Any], reason: str) -> None:
    more = {name: clock.now() + each if isinstance(each, timedelta) else each for name, each in more.items()}
    await make("SHUT", limit=5, **more)
    assert await refused(hold_coupons("o1", ["SHUT"], None, HOUR)) == reason
    assert await count("SHUT") == (0, 0)


async def test_a_coupon_that_nobody_made_is_not_held() -> None:
    assert await refused(hold_coupons("o1", ["NOBODYS"], None, HOUR)) == "unknown"


async def test_what_is_counted_for_each_person_needs_a_person() -> None:
    await make("ONCE", limit_each=1)
    assert await refused(hold_coupons("o1", ["ONCE"], None, HOUR)) == "person_unknown"


# ---- late money


async def test_money_that_comes_late_still_spends_the_coupon_if_there_is_one_left() -> None:
    await make("FEW", limit=2, limit_each=1)
    await hold_coupons("late", ["FEW"], "ann", HOUR)
    await end_holds("FEW")
    await hold_coupons("o2", ["FEW"], "bob", HOUR)  # which does not sweep away what ended just now
    assert await spend_coupons("late", ["FEW"], "ann") == []
    assert await count("FEW") == (1, 1)


async def test_money_that_comes_late_is_counted_beyond_the_limit_if_others_have_the_rest() -> None:
    await make("FEW", limit=1)
    await hold_coupons("late", ["FEW"], None, HOUR)
    await end_holds("FEW")
    await hold_coupons("o2", ["FEW"], None, HOUR)
    assert await spend_coupons("late", ["FEW"], None) == ["FEW"]
    assert await spend_coupons("o2", ["FEW"], None) == []
    assert await spend_coupons("late", ["FEW"], None) == []  # it is counted, and is not counted again
    assert await count("FEW") == (2, 0)
    assert await refused(hold_coupons("o3", ["FEW"], None, HOUR)) == "used_up"


async def test_money_whose_hold_is_not_even_written_there_any_more_counts_too() -> None:
    await make("FEW", limit=2, limit_each=1)
    await hold_coupons("late", ["FEW"], "ann", HOUR)
    await release_coupons("late", ["FEW"], "ann")  # it had expired
    assert await spend_coupons("late", ["FEW"], "ann") == []
    await hold_coupons("o2", ["FEW"], "bob", HOUR)
    await release_coupons("o2", ["FEW"], "bob")
    await hold_coupons("o3", ["FEW"], "bob", HOUR)
    assert await spend_coupons("o3", ["FEW"], "bob") == []
    assert await spend_coupons("o2", ["FEW"], "bob") == ["FEW"]
    assert ((await coupons.get("FEW")).spent, (await personal_uses.get("FEW.bob")).spent) == (3, 2)


async def test_a_hold_is_honoured_when_the_limit_was_lowered_meanwhile() -> None:
    await make("FEW", limit=2)
    await hold_coupons("o1", ["FEW"], None, HOUR)
    await hold_coupons("o2", ["FEW"], None, HOUR)
    await coupons.raw.update_one({"_id": "FEW"}, {"$set": {"limit": 1}})
    assert await spend_coupons("o1", ["FEW"], None) == []
    assert await spend_coupons("o2", ["FEW"], None) == []


async def test_holds_that_ended_long_ago_are_swept_away() -> None:
    await make("FEW", limit=5)
    await hold_coupons("old", ["FEW"], None, HOUR)
    await end_holds("FEW", timedelta(hours=25))
    await hold_coupons("new", ["FEW"], None, HOUR)
    assert [each.order_id for each in (await coupons.get("FEW")).uses] == ["new"]


async def test_one_document_never_holds_more_than_it_can_bear() -> None:
    await make("MANY", limit=10**6)
    later = clock.now() + timedelta(hours=1)
    waiting = [{"order_id": f"w{each}", "until": later} for each in range(MOST_WAITING - 1)]
    await coupons.raw.update_one({"_id": "MANY"}, {"$set": {"uses": waiting}})
    await hold_coupons("last", ["MANY"], None, HOUR)
    with pytest.raises(CouponCrowded):
        await hold_coupons("beyond", ["MANY"], None, HOUR)
    await hold_coupons("last", ["MANY"], None, HOUR)
    ended = clock.now() - timedelta(minutes=1)
    await coupons.raw.update_one({"_id": "MANY"}, {"$set": {"uses.$[].until": ended}})
    await hold_coupons("beyond", ["MANY"], None, HOUR)  # those that ended give way
    assert await count("MANY") == (0, 1)


async def test_what_never_runs_out_is_held_by_nobody() -> None:
    await make("ANY")
    await asyncio.gather(*(hold_coupons(f"o{each}", ["ANY"], None, HOUR) for each in range(5)))
    assert await count("ANY") == (0, 0)
    await asyncio.gather(*(spend_coupons(f"o{each}", ["ANY"], None) for each in range(5)))
    assert await count("ANY") == (5, 0)


async def test_a_hold_is_stored_as_the_database_wants_it() -> None:
    await make("FEW", limit=2)
    await hold_coupons("$order", ["FEW"], None, HOUR)  # no variable, whatever it looks like
    (use,) = (await coupons.get("FEW")).uses
    assert isinstance(use, Use)
    assert use.order_id == "$order"
    assert timedelta(minutes=59) < use.until - clock.now() <= timedelta(hours=1, seconds=5)
    assert PersonalUse(person="x").uses == []
