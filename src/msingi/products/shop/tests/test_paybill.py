"""Bills that people pay by hand at M-Pesa: each shilling pays the order that it was meant for, or is seen by staff."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from msingi.kit import clock, fetch, state
from msingi.kit.payments.face import Asked, Begun, Fact
from msingi.kit.payments.models import facts, payments
from msingi.kit.payments.mpesa import MPesa
from msingi.kit.payments.mpesa_facts import still_open
from msingi.kit.payments.sandbox.daraja_says import bill, nairobi_time, new_receipt
from msingi.kit.payments.testing import Bank
from msingi.kit.testing import Client, World
from msingi.kit.tests.mpesa_served import Ear, Sandbox, ear, paybill, sandbox, served
from msingi.products.shop.models.orders import orders
from msingi.products.shop.queries import verifying
from msingi.products.shop.queries.orders import payments_of
from msingi.products.shop.rules.orders import number_in
from msingi.products.shop.tests.ordering import bank, end_hold, paid, place, products, state_of
from msingi.products.shop.till import Providers, till

__all__ = ["bank", "ear", "products", "sandbox", "served"]  # fixtures
PHONE = "+254712345678"


class Paybill(MPesa):
    """Its prompts are sent, and open until the test tells what became of them."""

    async def begin(self, asked: Asked) -> Begun:
        return Begun(reference=prompt_of(asked.id), action={"kind": "prompt"})

    async def ask(self, reference: str) -> Sequence[Fact]:
        return [still_open(reference)]


def prompt_of(payment_id: str) -> str:
    return f"ws_CO_{payment_id[-20:]}"


@pytest_asyncio.fixture(loop_scope="session")
async def mpesa(bank: Bank) -> AsyncIterator[MPesa]:
    """A paybill; what it tells is posted by the test."""
    made = Paybill(
        url="http://127.0.0.1:9",
        key="key",
        secret="secret",
        passkey="passkey",
        shortcode="174379",
        callbacks="http://msingi.test/v1/shop/callbacks/mobile",
        callback_secret="of the tests",
        initiator="duka",
        credential="sealed",
    )
    state.current().parts[Providers] = Providers({"bank": bank, "mpesa": made})
    yield made


async def by_hand(client: Client, mpesa: MPesa, account: str, amount: int, receipt: str = "") -> str:
    """Somebody pays the bill by hand, as the sandbox tells it; returns the receipt."""
    receipt = receipt or new_receipt()
    said = msgspec.json.encode(bill(receipt, nairobi_time(), amount // 100, account, PHONE[1:], "174379"))
    segment = mpesa.address("paid", "174379").rpartition("/")[2]
    answer = await client.ask("POST", f"/callbacks/mobile/{segment}", content=said, expect=200)
    assert answer["ResultCode"] == 0
    return receipt


async def push_told(client: Client, mpesa: MPesa, payment_id: str, result: int, amount: int, receipt: str) -> None:
    """The callback of a prompt."""
    items = [{"Name": "Amount", "Value": amount // 100}, {"Name": "MpesaReceiptNumber", "Value": receipt}]
    said = {
        "MerchantRequestID": "1-1-1",
        "CheckoutRequestID": prompt_of(payment_id),
        "ResultCode": result,
        "ResultDesc": "",
        **({"CallbackMetadata": {"Item": items}} if result == 0 else {}),
    }
    body = msgspec.json.encode({"Body": {"stkCallback": said}})
    segment = mpesa.address("push", payment_id).rpartition("/")[2]
    await client.ask("POST", f"/callbacks/mobile/{segment}", content=body, expect=200)


async def unmatched(admin: Client) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await admin.get("/payments/unmatched"))["items"]
    return items


async def agrees() -> None:
    """Nothing that is counted differs from its history, save stock, which this world planted without any."""
    found = [each for each in await verifying._look() if not each.what.startswith("stock_")]
    assert found == []


# ---- whose it is


@pytest.mark.parametrize(
    "typed", ["MS-4F7K2M9Q", " ms 4f7k 2m9q", "4f7k2m9q", "MS4F7K2M9Q", "ms/4F7K-2M9Q", "MS_4F7K2M9Q#"]
)
def test_an_order_is_known_by_its_number_however_it_is_typed(typed: str) -> None:
    assert number_in(typed) == "MS-4F7K2M9Q"


@pytest.mark.parametrize(
    "typed", ["", "MS-", "scribble!", "4F7K2M9", "4F7K2M9QQ", "MS-4F7K2M91", "0712345678", "é" * 8]
)
def test_what_is_no_number_is_nobodys(typed: str) -> None:
    assert number_in(typed) is None


async def test_an_order_is_paid_by_hand_without_a_prompt(
    world: World, mpesa: MPesa, ann: Client, nobody: Client, admin: Client
) -> None:
    placed = await place(ann)
    receipt = await by_hand(nobody, mpesa, placed["number"].lower(), placed["totals"]["total"])
    await world.work()
    assert await state_of(placed["id"]) == "confirmed"
    found = (await admin.get("/payments?provider=mpesa"))["items"]
    assert [(each["state"], each["receipt"], each["odd"]) for each in found] == [("captured", receipt, [])]
    assert await unmatched(admin) == []
    await agrees()


async def test_c9_the_same_confirmation_50_times_at_once_pays_once(
    world: World, mpesa: MPesa, ann: Client, nobody: Client
) -> None:
    placed = await place(ann)
    total = placed["totals"]["total"]
    receipt = new_receipt()
    await asyncio.gather(*(by_hand(nobody, mpesa, placed["number"], total, receipt) for _ in range(50)))
    await world.work()
    assert (await orders.get(placed["id"])).paid == total
    assert await payments("shop").count({"provider": "mpesa"}) == 1
    await agrees()


# ---- what does not fit


async def test_too_little_is_noted_and_the_rest_can_be_paid(
    world: World, mpesa: MPesa, ann: Client, nobody: Client
) -> None:
    placed = await place(ann)
    total = placed["totals"]["total"]
    await by_hand(nobody, mpesa, placed["number"], total - 10_000)
    await world.work()
    assert await state_of(placed["id"]) == "awaiting_payment"
    told = await ann.get(f"/orders/{placed['id']}/timeline")
    assert [each["kind"] for each in told["items"]].count("money_received") == 1
    await by_hand(nobody, mpesa, placed["number"], 10_000)
    await world.work()
    assert await state_of(placed["id"]) == "confirmed"
    await agrees()


async def test_too_much_and_what_comes_for_a_paid_order_goes_back(
    world: World, mpesa: MPesa, bank: Bank, ann: Client, nobody: Client, admin: Client
) -> None:
    order_id = await paid(ann, bank, world)
    order = await orders.get(order_id)
    await by_hand(nobody, mpesa, order.number, 5_000)
    await world.work()
    (by_itself,) = (await admin.get("/payments?provider=mpesa"))["items"]
    (refund,) = by_itself["refunds"]
    # M-Pesa does not say who paid, so that nothing can be sent by itself: staff sees that in the history.
    assert (refund["amount"], refund["state"], refund["code"]) == (5_000, "failed", "no_kenyan_mobile")
    told = await admin.get(f"/orders/{order_id}/timeline")
    assert "refund_failed" in [each["kind"] for each in told["items"]]
    assert (await orders.get(order_id)).paid == order.totals.total + 5_000
    await agrees()


async def test_what_comes_for_a_cancelled_order_is_to_go_back(
    world: World, mpesa: MPesa, ann: Client, nobody: Client, admin: Client
) -> None:
    placed = await place(ann)
    await ann.put(f"/orders/{placed['id']}/cancellation", reason="No more")
    await by_hand(nobody, mpesa, placed["number"], placed["totals"]["total"])
    await world.work()
    assert await state_of(placed["id"]) == "cancelled"
    (by_itself,) = (await admin.get("/payments?provider=mpesa"))["items"]
    assert [each["amount"] for each in by_itself["refunds"]] == [placed["totals"]["total"]]
    await agrees()


async def test_what_comes_for_an_expired_order_confirms_it_if_the_goods_are_there(
    world: World, mpesa: MPesa, ann: Client, nobody: Client
) -> None:
    placed = await place(ann)
    await end_hold(placed["id"])
    await world.work()
    await orders.raw.update_one({"_id": placed["id"]}, {"$set": {"state": "expired"}})
    await by_hand(nobody, mpesa, placed["number"], placed["totals"]["total"])
    await world.work()
    assert await state_of(placed["id"]) == "confirmed"


async def test_what_names_no_order_is_kept_until_somebody_says_whose_it_is(
    world: World, mpesa: MPesa, ann: Client, nobody: Client, admin: Client
) -> None:
    placed = await place(ann)
    total = placed["totals"]["total"]
    receipt = await by_hand(nobody, mpesa, "My shopping", total)
    await world.work()
    (money,) = await unmatched(admin)
    assert (money["amount"], money["account"], money["receipt"]) == (total, "My shopping", receipt)
    await agrees()  # money of nobody is in no payment's way
    with clock.shifted(timedelta(days=2)):  # it is not looked at by the clock any more, and is still there
        await till().reconcile()
    assert [each["id"] for each in await unmatched(admin)] == [money["id"]]

    path = f"/payments/unmatched/{money['id']}/match"
    assert (await admin.post(path, order="MS-22222222", expect=422))["code"] == "no_such_order"
    for _ in range(2):  # again it changes nothing
        matched = await admin.post(path, order=placed["number"])
        assert (matched["purpose"], matched["captured"]) == (f"shop.order:{placed['id']}", total)
    await world.work()
    assert await state_of(placed["id"]) == "confirmed"
    assert await unmatched(admin) == []
    other = await place(ann, {"coffee-500": 1})
    await world.work()
    assert (await admin.post(path, order=other["number"], expect=409))["code"] == "not_unasked"
    await agrees()


# ---- beside a prompt


async def asked(mpesa: MPesa, client: Client) -> tuple[dict[str, Any], str]:
    """An order whose prompt is on the phone, and its payment."""
    placed = await place(client, pay={"provider": "mpesa", "phone": PHONE})
    return placed, (await payments_of(placed["id"]))[0].id


@pytest.mark.parametrize("first", ["bill", "push"])
async def test_a_prompt_that_is_confirmed_as_a_bill_too_counts_once_whichever_comes_first(
    world: World, mpesa: MPesa, ann: Client, nobody: Client, first: str
) -> None:
    placed, payment_id = await asked(mpesa, ann)
    total, receipt = placed["totals"]["total"], new_receipt()
    telling = [
        lambda: by_hand(nobody, mpesa, placed["number"], total, receipt),
        lambda: push_told(nobody, mpesa, payment_id, 0, total, receipt),
    ]
    for each in telling if first == "bill" else reversed(telling):
        await each()
    await world.work()
    order = await orders.get(placed["id"])
    assert (order.state, order.paid) == ("confirmed", total)
    (payment,) = await payments_of(order.id)
    assert (payment.captured, payment.receipts, payment.odd) == (total, [receipt], [])
    await agrees()


async def test_who_pays_by_hand_while_the_prompt_is_open_has_paid(
    world: World, mpesa: MPesa, ann: Client, nobody: Client
) -> None:
    placed, payment_id = await asked(mpesa, ann)
    total = placed["totals"]["total"]
    await by_hand(nobody, mpesa, placed["number"], total)
    await push_told(nobody, mpesa, payment_id, 1032, total, "")  # and then says no to the prompt
    await world.work()
    order = await orders.get(placed["id"])
    assert (order.state, order.paid) == ("confirmed", total)
    await agrees()


async def test_who_pays_the_prompt_and_by_hand_has_paid_twice_and_gets_one_back(
    world: World, mpesa: MPesa, ann: Client, nobody: Client
) -> None:
    placed, payment_id = await asked(mpesa, ann)
    total = placed["totals"]["total"]
    await by_hand(nobody, mpesa, placed["number"], total)
    await push_told(nobody, mpesa, payment_id, 0, total, new_receipt())
    await world.work()
    order = await orders.get(placed["id"])
    assert (order.state, order.paid) == ("confirmed", 2 * total)
    refunds = [refund for each in await payments_of(order.id) for refund in each.refunds]
    assert [each.amount for each in refunds] == [total]
    await agrees()


async def test_who_says_no_to_the_prompt_and_pays_by_hand_has_paid(
    world: World, mpesa: MPesa, ann: Client, nobody: Client
) -> None:
    placed, payment_id = await asked(mpesa, ann)
    total = placed["totals"]["total"]
    await push_told(nobody, mpesa, payment_id, 1032, total, "")
    await by_hand(nobody, mpesa, placed["number"], total)
    await world.work()
    assert await state_of(placed["id"]) == "confirmed"
    assert sorted(each.state for each in await payments_of(placed["id"])) == ["captured", "failed"]
    assert all(each.odd == [] for each in await payments_of(placed["id"]))
    await agrees()


# ---- with the stand-in of M-Pesa


async def test_the_stand_in_tells_of_a_bill_paid_by_hand_once_it_knows_where(
    world: World, bank: Bank, ear: Ear, sandbox: Sandbox, ann: Client, nobody: Client, admin: Client
) -> None:
    provider = paybill(sandbox, ear.url)
    state.current().parts[Providers] = Providers({"bank": bank, "mpesa": provider})

    async def forward(segment: str, body: bytes) -> None:
        await nobody.ask("POST", f"/callbacks/mobile/{segment}", content=body, expect=200)

    ear.hear = forward
    await admin.post("/payments/paybill", expect=204)
    placed = await place(ann)
    token = await provider._fresh_token()
    for account, amount in ((placed["number"], placed["totals"]["total"]), ("nobody", 70_000)):
        await fetch.post(
            f"{sandbox.url}/mpesa/mpesa/c2b/v2/simulate",
            json={"Amount": amount // 100, "Msisdn": "254712345678", "BillRefNumber": account},
            headers={"authorization": f"Bearer {token}"},
        )
    async with asyncio.timeout(30):
        while await facts("shop").count({}) < 2:
            await asyncio.sleep(0.02)
    await world.work()
    assert await state_of(placed["id"]) == "confirmed"
    assert [(each["account"], each["amount"]) for each in await unmatched(admin)] == [("nobody", 70_000)]
    await agrees()
