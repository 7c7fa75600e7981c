"""Orders from the moment they are placed: who sees them, how they are paid, cancelled, and expire."""

import asyncio
import random
from itertools import permutations
from typing import Any

import pytest

from msingi.kit import mail
from msingi.kit.actors import Actor
from msingi.kit.mail import rendered
from msingi.kit.payments.face import Fact
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import PEOPLE, Client, World
from msingi.products.accounts.contract import UserErased
from msingi.products.shop.actions import coupons, money
from msingi.products.shop.actions import invoices as invoice_actions
from msingi.products.shop.actions import orders as order_actions
from msingi.products.shop.actions import stock as stock_actions
from msingi.products.shop.contract import OrderMoved
from msingi.products.shop.jobs import orders as jobs
from msingi.products.shop.models.catalogue import products as goods
from msingi.products.shop.models.orders import invoices, orders
from msingi.products.shop.models.pricing import coupons as coupon_rows
from msingi.products.shop.queries import orders as queries
from msingi.products.shop.queries.orders import payments_of
from msingi.products.shop.tests.ordering import (
    Killed,
    bank,
    check_books,
    die_once,
    drifts,
    end_hold,
    figures,
    key,
    paid,
    pay,
    place,
    products,
    sell_out,
    settled,
    state_of,
    tell,
)
from msingi.products.shop.till import till

__all__ = ["bank", "products"]


async def letters() -> list[tuple[str, str]]:
    return [(each.template, each.to) for each in await mail.written()]


async def kinds(order_id: str) -> list[str]:
    return [each.kind for each in (await orders.get(order_id)).timeline]


async def mobile() -> Bank:
    found: Any = till().providers["mobile"]
    assert isinstance(found, Bank)
    return found


# ---- who sees what


async def test_z1_people_see_their_own_orders_and_staff_sees_all(
    ann: Client, bob: Client, admin: Client, nobody: Client, bank: Bank
) -> None:
    mine, theirs = (await place(ann))["id"], (await place(bob))["id"]
    assert [each["id"] for each in (await ann.get("/orders"))["items"]] == [mine]
    assert [each["id"] for each in (await admin.get("/orders"))["items"]] == [theirs, mine]
    for path in ("", "/timeline", "/invoice"):
        await bob.get(f"/orders/{mine}{path}", expect=404)
        await nobody.get(f"/orders/{mine}{path}", expect=404)
    for client in (bob, nobody):
        await client.put(f"/orders/{mine}/cancellation", reason="mine now", expect=404)
        await client.post(f"/orders/{mine}/payments", provider="bank", headers=key(), expect=404)
        lines = [{"line_id": "1", "quantity": 1}]
        await client.post(f"/orders/{mine}/returns", lines=lines, reason="x", headers=key(), expect=404)
    assert await state_of(mine) == "awaiting_payment"
    shown = await admin.get(f"/orders/{mine}")
    assert shown["customer_id"] == "ann"
    assert shown["lines"][0]["allocations"] == [{"location_id": "nairobi", "quantity": 2}]
    assert "allocations" not in (await ann.get(f"/orders/{mine}"))["lines"][0]


async def test_an_etag_changes_when_only_the_payment_does(ann: Client, bank: Bank) -> None:
    id = (await place(ann))["id"]
    await ann.get(f"/orders/{id}")
    mark = ann.last.headers["etag"]
    await ann.get(f"/orders/{id}", headers={"if-none-match": mark}, expect=304)
    await tell(bank, bank.fail(f"{id}-1"))
    shown = await ann.get(f"/orders/{id}", headers={"if-none-match": mark}, expect=200)
    assert shown["payments"][0]["state"] == "failed"


async def test_only_who_pays_sees_what_to_pay_with(ann: Client, admin: Client, bank: Bank) -> None:
    id = (await place(ann))["id"]
    assert (await ann.get(f"/orders/{id}"))["payments"][0]["action"] == {"kind": "prompt"}
    assert "action" not in (await admin.get(f"/orders/{id}"))["payments"][0]


async def test_the_list_is_filtered_by_state_number_and_time(ann: Client, bank: Bank, world: World) -> None:
    first = await paid(ann, bank, world)
    second = await place(ann)
    assert [each["id"] for each in (await ann.get("/orders?state=confirmed"))["items"]] == [first]
    assert [each["id"] for each in (await ann.get(f"/orders?number={second['number']}"))["items"]] == [second["id"]]
    made = second["created_at"]
    assert [each["id"] for each in (await ann.get(f"/orders?created_at[lt]={made}"))["items"]] == [first]
    await ann.get("/orders?state=lost", expect=422)
    await ann.get("/orders?email=ann", expect=422)
    (one,) = (await ann.get("/orders?limit=1"))["items"]
    assert (one["items"], one["total"]) == (2, 24_000)


async def test_the_history_reads_in_the_callers_language(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world)
    said = (await ann.get(f"/orders/{id}/timeline?language=sw"))["items"]
    assert [each["kind"] for each in said] == ["placed", "payment_asked", "money_received", "confirmed"]
    assert said[0]["text"] == "Umeagiza."
    assert said[2]["text"].replace("\xa0", " ").endswith("240.00.")
    assert {"by", "public"}.isdisjoint(said[0])
    english = await ann.get(f"/orders/{id}/timeline", headers={"accept-language": "en"})
    assert english["items"][0]["text"] == "You ordered."
    assert (await admin.get(f"/orders/{id}/timeline"))["items"][0]["by"] == "ann"
    await ann.get(f"/orders/{id}/timeline?language=fr", expect=422)


# ---- paying


async def test_a_payment_confirms_the_order_once(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann, {"tea-250": 2, "kikoi-red": 1})
    await pay(bank, placed["id"])
    await pay(bank, placed["id"])
    await world.work()
    shown = await ann.get(f"/orders/{placed['id']}")
    assert (shown["state"], shown["paid"], shown["refunded"]) == ("confirmed", 174_000, 0)
    assert await figures("tea-250") == (100, 2, 0)
    assert await figures("kikoi-red") == (5, 1, 0)
    assert await kinds(placed["id"]) == ["placed", "payment_asked", "money_received", "confirmed"]
    assert await letters() == [("order_placed", "ann@msingi.test"), ("order_paid", "ann@msingi.test")]
    assert (await goods.get("tea")).sold == 2
    moved = [each for each in await world.events() if isinstance(each, OrderMoved)]
    assert [(each.before, each.after) for each in moved] == [
        ("awaiting_payment", "awaiting_payment"),
        ("awaiting_payment", "confirmed"),
    ]
    await check_books([bank])
    assert await drifts() == []


async def test_too_little_money_does_not_confirm_and_the_rest_can_be_paid(
    ann: Client, bank: Bank, world: World
) -> None:
    placed = await place(ann)
    await pay(bank, placed["id"], 20_000)
    await world.work()
    assert await state_of(placed["id"]) == "awaiting_payment"
    again = await ann.post(f"/orders/{placed['id']}/payments", provider="mobile", headers=key(), expect=201)
    assert again["payments"][-1]["amount"] == 4_000
    await pay(await mobile(), placed["id"])
    await world.work()
    assert await state_of(placed["id"]) == "confirmed"
    await check_books([bank, await mobile()])


async def test_what_is_paid_twice_goes_back_by_itself(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann)
    bank.script["void"].append("refused")
    await ann.post(f"/orders/{placed['id']}/payments", provider="mobile", headers=key(), expect=201)
    await tell(bank, bank.pay(f"{placed['id']}-1"))
    await pay(await mobile(), placed["id"])
    await settled(world)
    shown = await ann.get(f"/orders/{placed['id']}")
    assert (shown["state"], shown["paid"], shown["refunded"]) == ("confirmed", 48_000, 24_000)
    assert [(each["amount"], each["state"]) for each in shown["refunds"]] == [(24_000, "done")]
    assert bank.returned + (await mobile()).returned == 24_000
    assert ("order_refunded", "ann@msingi.test") in await letters()
    await check_books([bank, await mobile()])


async def test_a_payment_that_its_provider_does_not_let_go_is_asked_to_once(
    ann: Client, bank: Bank, world: World
) -> None:
    placed = await place(ann)
    bank.script["void"].extend(["refused"] * 20)  # and each refusal is something that is told of the payment
    await ann.put(f"/orders/{placed['id']}/cancellation", reason="No")
    await settled(world)
    assert [call for call, _ in bank.calls].count("void") == 1
    await pay(bank, placed["id"])  # the payer was faster, or their phone slow
    await settled(world)
    shown = await ann.get(f"/orders/{placed['id']}")
    assert (shown["state"], shown["paid"], shown["refunded"]) == ("cancelled", 24_000, 24_000)
    await check_books([bank])


async def test_money_beyond_the_total_goes_back_by_itself(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann)
    await pay(bank, placed["id"], 30_000)
    await settled(world)
    shown = await ann.get(f"/orders/{placed['id']}")
    assert (shown["state"], shown["paid"], shown["refunded"]) == ("confirmed", 30_000, 6_000)
    await check_books([bank])


async def test_a_refund_that_fails_is_told_and_can_be_asked_for_anew(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    id = await paid(ann, bank, world)
    bank.script["refund"].append("refused")
    await ann.put(f"/orders/{id}/cancellation", reason="No")
    await settled(world)
    assert (await kinds(id)).count("refund_failed") == 1
    assert "refund_failed" not in [each["kind"] for each in (await ann.get(f"/orders/{id}/timeline"))["items"]]
    asked = await admin.post(f"/orders/{id}/refunds", amount=24_000, reason="Again", headers=key(), expect=201)
    packed = world.client(Actor(id="boss", roles=frozenset({"shop_owner"}), methods=frozenset({"pwd"})))
    async with packed.http:
        await packed.put(f"/orders/{id}/refunds/{asked['id']}/approval")
    await settled(world)
    assert bank.returned == 24_000
    await check_books([bank])


async def test_too_little_money_goes_back_when_the_order_expires(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann)
    await pay(bank, placed["id"], 20_000)
    await world.work()
    await end_hold()
    await jobs.expire_unpaid()
    await settled(world)
    shown = await ann.get(f"/orders/{placed['id']}")
    assert (shown["state"], shown["paid"], shown["refunded"]) == ("expired", 20_000, 20_000)
    await check_books([bank])


async def test_what_went_back_when_the_order_expired_does_not_go_back_again_when_it_is_paid_late(
    ann: Client, bank: Bank, world: World
) -> None:
    placed = await place(ann)
    await pay(bank, placed["id"], 20_000)
    await world.work()
    await ann.post(f"/orders/{placed['id']}/payments", provider="bank", headers=key(), expect=201)
    bank.script["void"].append("refused")
    await end_hold()
    await jobs.expire_unpaid()
    await settled(world)
    assert bank.returned == 20_000
    await pay(bank, placed["id"], 24_000)
    await settled(world)
    shown = await ann.get(f"/orders/{placed['id']}")
    assert (shown["state"], shown["paid"], shown["refunded"]) == ("confirmed", 44_000, 20_000)
    assert bank.returned == 20_000
    await check_books([bank])


async def test_p1_the_same_payment_asked_for_at_once_is_one(ann: Client, bank: Bank, world: World) -> None:
    bank.script["begin"].append("refused")
    placed = await place(ann)
    path = f"/orders/{placed['id']}/payments"
    await ann.post(path, provider="mobile", expect=400)
    await asyncio.gather(*(ann.post(path, provider="mobile", headers=key(), expect=[201, 409]) for _ in range(10)))
    found = await payments_of(placed["id"])
    live = [each for each in found if each.state == "pending"]
    assert len(live) == 1
    await pay(await mobile(), placed["id"])
    await settled(world)
    assert (await orders.get(placed["id"])).state == "confirmed"
    assert (await mobile()).charged - (await mobile()).returned == 24_000


async def test_what_is_paid_is_not_paid_again(ann: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world)
    refused = await ann.post(f"/orders/{id}/payments", provider="bank", headers=key(), expect=409)
    assert refused["code"] == "not_in_this_state"


async def test_what_is_not_held_any_more_is_not_paid(ann: Client, bank: Bank) -> None:
    placed = await place(ann)
    await end_hold()
    refused = await ann.post(f"/orders/{placed['id']}/payments", provider="mobile", headers=key(), expect=409)
    assert refused["code"] == "hold_ended"


# ---- invoices


async def test_invoices_have_no_gaps_and_an_order_has_one(ann: Client, bank: Bank, world: World) -> None:
    ids = [(await place(ann))["id"] for _ in range(6)]
    for id in ids:
        await pay(bank, id)
    await asyncio.gather(*(money.settle(id) for id in ids for _ in range(3)))
    numbers = sorted([each.id for each in await invoices.many({})])
    year = numbers[0][:4]
    assert numbers == [f"{year}-{place:06d}" for place in range(1, 7)]
    assert sorted([(await orders.get(id)).invoice or "" for id in ids]) == numbers


async def test_an_invoice_that_was_numbered_by_a_process_that_died_is_found_again(
    ann: Client, bank: Bank, world: World
) -> None:
    first, second = (await place(ann))["id"], (await place(ann))["id"]
    number = await invoice_actions.number_invoice(second)
    for id in (first, second):
        await pay(bank, id)
    await world.work()
    assert (await orders.get(second)).invoice == number
    assert await invoices.count({}) == 2


async def test_an_invoice_says_what_was_paid_for(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann, {"tea-250": 2}, shipping_id="nairobi-rider")
    await ann.get(f"/orders/{placed['id']}/invoice", expect=404)
    await pay(bank, placed["id"])
    await world.work()
    shown = await ann.get(f"/orders/{placed['id']}/invoice")
    assert shown["number"].endswith("-000001")
    assert shown["seller"]["name"] == "Duka"
    assert shown["totals"] == placed["totals"]
    (vat,) = shown["taxes"]
    assert vat["amount"] == placed["totals"]["tax"]
    assert vat["base"] + vat["amount"] == 24_000 + 20_000


# ---- cancelling


async def test_who_ordered_cancels_before_it_is_paid(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann, {"kikoi-red": 2}, coupons=["ASANTE500"])
    gone = await ann.put(f"/orders/{placed['id']}/cancellation", reason="Too dear")
    assert gone["state"] == "cancelled"
    assert await figures("kikoi-red") == (5, 0, 0)
    assert (await coupon_rows.get("ASANTE500")).uses == []
    await settled(world)
    assert bank.accounts[f"{placed['id']}-1"].state == "voided"
    assert await letters() == [("order_placed", "ann@msingi.test"), ("order_cancelled", "ann@msingi.test")]
    assert "Too dear" in rendered((await mail.written())[-1]).text


async def test_what_was_paid_for_a_cancelled_order_goes_back(ann: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world, {"kikoi-red": 2}, coupons=["ASANTE500"])
    assert (await coupon_rows.get("ASANTE500")).spent == 1
    await ann.put(f"/orders/{id}/cancellation", reason="Changed my mind")
    await settled(world)
    shown = await ann.get(f"/orders/{id}")
    assert (shown["state"], shown["paid"], shown["refunded"]) == ("cancelled", 250_000, 250_000)
    coupon = await coupon_rows.get("ASANTE500")
    assert (coupon.spent, coupon.uses, coupon.spent_by) == (0, [], [])
    assert await figures("kikoi-red") == (5, 0, 0)
    await check_books([bank])
    assert await drifts() == []


async def test_cancelling_twice_at_once_gives_back_once(ann: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world, {"kikoi-red": 2})
    acts = (ann.put(f"/orders/{id}/cancellation", reason="No", expect=[200, 409]) for _ in range(6))
    await asyncio.gather(*acts)
    await settled(world)
    assert await figures("kikoi-red") == (5, 0, 0)
    assert bank.returned == 300_000
    assert (await kinds(id)).count("cancelled") == 1
    assert [template for template, _ in await letters()].count("order_cancelled") == 1
    assert await drifts() == []


@pytest.mark.parametrize("order", ["cancel first", "money first", "at once"])
async def test_a_cancellation_and_the_money_that_come_together_lose_neither(
    ann: Client, bank: Bank, world: World, order: str
) -> None:
    for _ in range(6 if order == "at once" else 1):
        placed = await place(ann, {"kikoi-red": 2})
        bank.script["void"].append("refused")  # the payer was faster
        cancel = ann.put(f"/orders/{placed['id']}/cancellation", reason="No", expect=[200, 409])

        async def money_comes(id: str = placed["id"]) -> None:
            await pay(bank, id)
            await money.settle(id)

        if order == "cancel first":
            await cancel
            await money_comes()
        elif order == "money first":
            await money_comes()
            await cancel
        else:
            await asyncio.gather(cancel, money_comes())
        await settled(world)
        assert await state_of(placed["id"]) == "cancelled"
        assert await figures("kikoi-red") == (5, 0, 0)
    assert bank.charged == bank.returned > 0
    await check_books([bank])
    assert await drifts() == []


async def test_staff_cancels_but_those_who_only_send_do_not(
    ann: Client, bank: Bank, world: World, admin: Client
) -> None:
    id = (await place(ann))["id"]
    packer = world.client(Actor(id="packer", roles=frozenset({"user", "shop_warehouse"}), methods=frozenset({"pwd"})))
    async with packer.http:
        await packer.get(f"/orders/{id}")
        await packer.put(f"/orders/{id}/cancellation", reason="No", expect=403)
        await packer.post(f"/orders/{id}/payments", provider="bank", headers=key(), expect=403)
    await admin.put(f"/orders/{id}/cancellation", reason="Fraud")
    assert await state_of(id) == "cancelled"
    assert (await orders.get(id)).timeline[-1].by == "admin"


# ---- time


async def test_an_order_that_nobody_pays_expires_by_the_databases_clock(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann, {"kikoi-red": 2}, coupons=["ASANTE500"])
    await jobs.expire_unpaid()
    assert await state_of(placed["id"]) == "awaiting_payment"
    await end_hold()
    await jobs.expire_unpaid()
    await world.work()
    assert await state_of(placed["id"]) == "expired"
    assert bank.accounts[f"{placed['id']}-1"].state == "voided"
    assert await figures("kikoi-red") == (5, 0, 0)
    assert (await coupon_rows.get("ASANTE500")).uses == []
    assert (await letters())[-1] == ("order_cancelled", "ann@msingi.test")
    assert "not paid in time" in rendered((await mail.written())[-1]).text


async def test_money_that_nobody_has_told_of_yet_is_asked_about_before_an_order_expires(
    ann: Client, bank: Bank, world: World
) -> None:
    placed = await place(ann, {"kikoi-red": 2})
    bank.pay(f"{placed['id']}-1")  # and its callback never comes
    await end_hold()
    await jobs.expire_unpaid()
    await world.work()
    assert await state_of(placed["id"]) == "confirmed"
    assert await figures("kikoi-red") == (5, 2, 0)


async def test_c8_an_order_whose_payment_is_unknown_does_not_expire(ann: Client, bank: Bank, world: World) -> None:
    bank.script["begin"].append("lost")
    bank.script["find"].append("unheard")
    placed = await place(ann, {"kikoi-blue": 1})
    await end_hold()
    await jobs.expire_unpaid()
    assert await state_of(placed["id"]) == "awaiting_payment"
    assert placed["payments"][0]["state"] == "unknown"
    bank.pay(f"{placed['id']}-1")
    await settled(world)
    assert await state_of(placed["id"]) == "confirmed"
    assert await figures("kikoi-blue") == (1, 1, 0)
    await check_books([bank])


async def test_late_money_gets_the_goods_if_they_are_still_there(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann, {"kikoi-red": 2})
    bank.script["void"].append("refused")
    await end_hold()
    await jobs.expire_unpaid()
    assert await state_of(placed["id"]) == "expired"
    await pay(bank, placed["id"])
    await world.work()
    assert await state_of(placed["id"]) == "confirmed"
    assert await figures("kikoi-red") == (5, 2, 0)
    assert await drifts() == []


async def test_late_money_gets_the_goods_from_elsewhere(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann, {"tea-250": 2}, shipping_id="nairobi-rider")
    bank.script["void"].append("refused")
    await end_hold()
    await jobs.expire_unpaid()
    await sell_out("tea-250")
    await pay(bank, placed["id"])
    await world.work()
    order = await orders.get(placed["id"])
    assert order.state == "confirmed"
    assert [each.location_id for each in order.lines[0].allocations] == ["mombasa"]
    assert await figures("tea-250", "mombasa") == (20, 2, 0)


async def test_late_money_for_what_is_gone_makes_it_short_and_a_person_decides(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    placed = await place(ann, {"kikoi-blue": 1, "kikoi-red": 1})
    bank.script["void"].append("refused")
    await end_hold()
    await jobs.expire_unpaid()
    await sell_out("kikoi-blue")
    await pay(bank, placed["id"])
    await settled(world)
    shown = await ann.get(f"/orders/{placed['id']}")
    assert (shown["state"], shown["paid"], shown["refunded"]) == ("short", 300_000, 0)
    (refund,) = shown["refunds"]
    assert (refund["state"], refund["amount"]) == ("waiting", 300_000)
    assert await figures("kikoi-red") == (5, 0, 0)
    assert ("order_short", "ann@msingi.test") in await letters()
    await admin.put(f"/orders/{placed['id']}/refunds/{refund['id']}/approval")
    await settled(world)
    shown = await ann.get(f"/orders/{placed['id']}")
    assert (shown["state"], shown["refunded"]) == ("short", 300_000)
    await check_books([bank])
    assert await drifts() == []


async def test_a_short_order_can_be_filled_instead(ann: Client, admin: Client, bank: Bank, world: World) -> None:
    placed = await place(ann, {"kikoi-blue": 1})
    bank.script["void"].append("refused")
    await end_hold()
    await jobs.expire_unpaid()
    await sell_out("kikoi-blue")
    await pay(bank, placed["id"])
    await settled(world)
    path = f"/orders/{placed['id']}"
    (refund,) = (await admin.get(path))["refunds"]
    refused = await admin.put(f"{path}/allocation", expect=409)
    assert refused["code"] == "not_in_this_state"  # its money is about to go back
    await admin.delete(f"{path}/refunds/{refund['id']}/approval")
    assert (await admin.put(f"{path}/allocation", expect=409))["code"] == "still_short"
    await stock_actions.receive("kikoi-blue", "nairobi", 1, "found one", PEOPLE["admin"])
    assert (await admin.put(f"{path}/allocation"))["state"] == "confirmed"
    await settled(world)
    shown = await admin.get(path)
    assert (shown["state"], shown["refunded"], shown["invoice"] is not None) == ("confirmed", 0, True)
    assert await figures("kikoi-blue") == (1, 1, 0)


# ---- facts in any order


def story(id: str) -> list[Fact]:
    """All that a provider may say of one payment, some of it twice, some of it wrong."""
    known: dict[str, Any] = {"reference": f"ref-{id}"}
    return [
        Fact(id=f"{id}.pending", kind="pending", **known),
        Fact(id=f"{id}.failed", kind="failed", code="timeout", **known),
        Fact(id=f"{id}.captured", kind="captured", amount=24_000, currency="KES", receipt=f"R-ref-{id}", **known),
        Fact(id=f"{id}.captured", kind="captured", amount=24_000, currency="KES", receipt=f"R-ref-{id}", **known),
        Fact(id=f"{id}.polled", kind="captured", amount=24_000, currency="KES", receipt=f"R-ref-{id}", **known),
    ]


async def test_c9_facts_in_any_order_end_in_one_state(ann: Client, bank: Bank, world: World) -> None:
    orders_of_facts = list(permutations(range(5)))
    random.Random(9).shuffle(orders_of_facts)
    ends = set()
    for chosen in orders_of_facts[:24]:
        placed = await place(ann, {"tea-250": 2})
        bank.pay(f"{placed['id']}-1")
        facts = story(f"{placed['id']}-1")
        for number in chosen:
            await tell(bank, [facts[number]])
            if number % 2:
                await money.settle(placed["id"])
        await world.work()
        shown = await ann.get(f"/orders/{placed['id']}")
        ends.add((shown["state"], shown["paid"], shown["refunded"], len(shown["refunds"])))
        assert (await kinds(placed["id"])).count("confirmed") == 1
    assert ends == {("confirmed", 24_000, 0, 0)}
    assert await figures("tea-250") == (100, 48, 0)
    assert await invoices.count({}) == 24
    await check_books([bank])
    assert await drifts() == []


async def test_c9_facts_that_come_all_at_once_confirm_once(ann: Client, bank: Bank, world: World) -> None:
    placed = await place(ann, {"kikoi-red": 2})
    bank.pay(f"{placed['id']}-1")
    facts = bank.facts(f"ref-{placed['id']}-1")
    await asyncio.gather(*(tell(bank, [each]) for each in facts * 5))
    await asyncio.gather(*(money.settle(placed["id"]) for _ in range(8)))
    await world.work()
    assert await kinds(placed["id"]) == ["placed", "payment_asked", "money_received", "confirmed"]
    assert await figures("kikoi-red") == (5, 2, 0)
    assert await invoices.count({}) == 1


# ---- the process dies


STEPS = [
    (money, "_note"),
    (money, "_claim"),
    (stock_actions, "allocate"),
    (money, "_confirmed"),
    (coupons, "spend_coupons"),
    (money, "_note_spent"),
    (invoice_actions, "_number"),
    (invoice_actions, "_put_invoice"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("where", "name"), STEPS, ids=[name for _, name in STEPS])
async def test_c3_whoever_dies_between_charge_and_order_loses_nothing(
    ann: Client, bank: Bank, world: World, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, after: bool
) -> None:
    placed = await place(ann, {"kikoi-red": 2}, coupons=["ASANTE500"])
    await pay(bank, placed["id"])
    die_once(monkeypatch, where, name, after=after)
    with pytest.raises(Killed):
        await money.settle(placed["id"])
    await world.work()
    order = await orders.get(placed["id"])
    assert (order.state, order.paid) == ("confirmed", 250_000)
    assert await kinds(order.id) == ["placed", "payment_asked", "money_received", "confirmed"]
    assert await figures("kikoi-red") == (5, 2, 0)
    assert await invoices.count({}) == 1
    coupon = await coupon_rows.get("ASANTE500")
    assert (coupon.spent, coupon.uses) == (1, [])
    assert await drifts() == []


GIVING_BACK = [(order_actions, "let_go"), (money, "give_up"), (money, "_ask_back"), (Bank, "refund")]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("where", "name"), GIVING_BACK, ids=[name for _, name in GIVING_BACK])
async def test_c3_whoever_dies_while_money_goes_back_sends_it_once(
    ann: Client, bank: Bank, world: World, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, after: bool
) -> None:
    id = await paid(ann, bank, world, {"kikoi-red": 2})
    await ann.put(f"/orders/{id}/cancellation", reason="No")
    if where is order_actions:
        where = money
    die_once(monkeypatch, where, name, after=after)
    with pytest.raises(Killed):
        await money.settle(id)
    await settled(world)
    await settled(world)
    assert bank.returned == 300_000
    assert (await orders.get(id)).refunded == 300_000
    assert len((await payments_of(id))[0].refunds) == 1
    await check_books([bank])


# ---- letters


@pytest.mark.parametrize("language", ["en", "sw"])
@pytest.mark.parametrize("template", sorted({"order_placed", *jobs.LETTERS.values()}))
async def test_each_letter_reads_in_both_languages(world: World, template: str, language: str) -> None:
    letter = await mail.send(
        template,
        to="ann@msingi.test",
        language=language,
        product="shop",
        name="Ann www.evil.example",
        number="MS-ABCDEFGH",
        order_id="1",
        kind="cancelled",
        lines=[{"title": "<b>Tea</b>", "quantity": 2}],
        total="KSh 240.00",
        amount="KSh 120.00",
        reason="<script>",
        carrier="G4S",
        tracking="T-1",
        code="402817",
        shipping="Rider",
        papers=[{"name": "C2026-000001", "address": "https://duka.example/shop/papers/C2026-000001.pdf?until=1&key=x"}],
    )
    said = rendered(letter)
    assert letter.language == language
    assert "MS-ABCDEFGH" in said.subject
    for text in (said.text, said.html):
        assert text
        assert "{" not in text.replace("{display", "")
        assert "www.evil.example" not in text
    assert "<b>Tea" not in said.html
    assert "<script>" not in said.html


# ---- people who are no more


async def test_who_is_erased_is_in_no_order_any_more_and_the_figures_stay(
    ann: Client, admin: Client, bank: Bank, world: World
) -> None:
    over = (await place(ann))["id"]
    await ann.put(f"/orders/{over}/cancellation", reason="No")
    going_on = await paid(ann, bank, world, {"kikoi-red": 1})
    before = await orders.get(going_on)
    await world.tell(UserErased(user_id="ann"))
    await world.work()
    gone = await orders.get(over)
    assert (gone.customer_id, gone.email, gone.address, gone.person) == (None, "", None, "")
    kept = await orders.get(going_on)
    assert kept.customer_id is None
    assert kept.address == before.address  # it is still to be brought there
    assert (kept.totals, kept.lines, kept.paid) == (before.totals, before.lines, before.paid)
    assert "ann" not in {each.by for order in (gone, kept) for each in order.timeline}
    await ann.get(f"/orders/{going_on}", expect=404)
    assert (await ann.get("/orders"))["items"] == []
    await admin.put(f"/orders/{going_on}/cancellation", reason="Nobody is there")
    await settled(world)
    kept = await orders.get(going_on)
    assert (kept.email, kept.address, kept.person) == ("", None, "")
    for payment in [*await payments_of(over), *await payments_of(going_on)]:
        assert (payment.payer_id, payment.email, payment.phone) == (None, "", "")
    await world.tell(UserErased(user_id="ann"))
    await world.work()
    await check_books([bank])


async def test_a_person_takes_all_their_orders_away(ann: Client, bob: Client, bank: Bank, world: World) -> None:
    id = await paid(ann, bank, world)
    await place(bob)
    found = await queries.person("ann")
    (order,) = found["orders"]
    assert order["id"] == id
    assert order["timeline"][-1]["text"] == "It is paid, and the goods are set aside for you."
    assert {"cart", "coupons"} <= set(found)
    assert (await queries.person("eve"))["orders"] == []
