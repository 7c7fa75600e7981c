"""A till that takes M-Pesa, all of it real but the phones: whatever happens on the way ends in one truth."""

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import clock, fetch, state
from msingi.kit.payments import models, mpesa_facts
from msingi.kit.payments.models import Payment
from msingi.kit.payments.till import Till
from msingi.kit.tests import counter
from msingi.kit.tests.mpesa_served import Ear, Sandbox, ear, paybill, sandbox, served, until

__all__ = ["ear", "sandbox", "served"]  # fixtures


@pytest_asyncio.fixture(loop_scope="session")
async def till(sandbox: Sandbox, ear: Ear, running: state.State, monkeypatch: pytest.MonkeyPatch) -> Till:
    """A till that hears at a socket."""
    monkeypatch.setattr(fetch, "_backoff", lambda attempt: 0.01)
    await counter.prepare()
    made = counter.till(paybill(sandbox, ear.url))

    async def hear(segment: str, body: bytes) -> None:
        await made.hear("mpesa", {}, body, segment)

    ear.hear = hear
    return made


async def opened(till: Till, amount: int = 129_900) -> Payment:
    return await counter.opened(till, amount, phone="+254712345678", note="Order MS-4F7K")


async def now_of(payment: Payment) -> Payment:
    return await models.payments(counter.PRODUCT).get(payment.id)


async def ended(payment: Payment, state: str = "captured") -> Payment:
    """The payment, once it has come to that without anybody asking."""
    async with asyncio.timeout(30):
        while (found := await now_of(payment)).state != state:
            await asyncio.sleep(0.02)
    return found


async def reconciled(till: Till, after: timedelta = timedelta(minutes=2)) -> None:
    with clock.shifted(after):
        await till.reconcile()


async def test_a_payment_with_mpesa(till: Till) -> None:
    payment = await opened(till)
    assert (payment.state, payment.action) == ("pending", {"kind": "prompt", "phone": "…678"})
    paid = await ended(payment)
    assert (paid.captured, paid.odd, paid.ask_at) == (129_900, [], None)
    assert paid.receipt


async def test_c8_a_lost_answer_is_unknown_until_the_callback_tells_what_it_was(till: Till, sandbox: Sandbox) -> None:
    await sandbox.faults(push={"fault": "cut"}, callback={"fault": "held"})
    payment = await opened(till)
    assert (payment.state, payment.reference) == ("unknown", None)
    await reconciled(till)  # nobody can be asked
    assert (await now_of(payment)).state == "unknown"
    while (await sandbox.control())["held"] < 1:
        await asyncio.sleep(0.02)
    await sandbox.control(release="kept")
    paid = await ended(payment)
    assert (paid.captured, paid.odd, paid.in_doubt) == (129_900, [], False)
    assert paid.reference
    assert (await sandbox.control())["asked"]["mpesa.push"] == 1


async def test_c9_a_lost_callback_is_made_up_for_by_asking(till: Till, sandbox: Sandbox) -> None:
    await sandbox.faults(callback={"fault": "lost"})
    payment = await opened(till)
    for minutes in range(1, 60, 3):
        await reconciled(till, timedelta(minutes=minutes))
        paid = await now_of(payment)
        if paid.state == "captured":
            break
    assert (paid.captured, paid.receipt, paid.odd) == (129_900, None, [])


async def test_c9_a_callback_after_the_question_adds_its_receipt_and_no_money(till: Till, sandbox: Sandbox) -> None:
    await sandbox.faults(callback={"fault": "held"})
    payment = await opened(till)
    while (await sandbox.control())["held"] < 1:
        await asyncio.sleep(0.02)
    await reconciled(till)
    assert (await now_of(payment)).captured == 129_900
    await sandbox.control(release="kept")
    paid = await now_of(payment)
    assert (paid.captured, paid.odd, len(paid.facts)) == (129_900, [], 2)
    assert paid.receipt


async def test_c9_a_callback_before_the_reply_and_fifty_of_them_pay_once(till: Till, sandbox: Sandbox) -> None:
    await sandbox.faults(push={"fault": "callback_first"}, callback={"fault": "many", "times": 50})
    paid = await ended(await opened(till))
    assert (paid.captured, paid.odd, len(paid.facts)) == (129_900, [], 1)
    states = [state for state, *_ in await counter.told()]
    assert (states[0], states[-1], states.count("captured")) == ("new", "captured", 1)


async def test_c9_a_wrong_amount_is_taken_as_it_is_and_shown(till: Till, sandbox: Sandbox) -> None:
    await sandbox.faults(callback={"fault": "wrong_amount"})
    paid = await ended(await opened(till))
    assert (paid.captured, paid.odd) == (129_800, ["amount: asked 129900, captured 129800"])


async def test_a_phone_that_never_answers_ends_as_failed_in_the_end(till: Till, ear: Ear, sandbox: Sandbox) -> None:
    await sandbox.faults(payer={"fault": "ignores"})
    payment = await opened(till)
    await until(lambda: ear.bodies)
    await reconciled(till)
    assert (await now_of(payment)).state == "pending"
    await reconciled(till, mpesa_facts.SETTLED + timedelta(minutes=5))
    failed = await now_of(payment)
    assert (failed.state, failed.code, failed.ask_at) == ("failed", "no_answer", None)


async def test_c8_a_refund_whose_answer_and_result_are_lost_is_sent_once(till: Till, sandbox: Sandbox) -> None:
    paid = await ended(await opened(till))
    await sandbox.faults(payout={"fault": "cut"}, result={"fault": "lost"})
    refund = await till.ask_refund(paid.id, 50_000, "broken", "ann", needs_approval=True)
    await till.approve_refund(paid.id, refund.id, "bob")
    back = await till.send_refund(paid.id, refund.id)
    assert [each.state for each in back.refunds] == ["unknown"]
    for minutes in range(2, 40, 2):
        await reconciled(till, timedelta(minutes=minutes))
        back = await now_of(paid)
        if back.refunded:
            break
    assert ([each.state for each in back.refunds], back.refunded, back.odd) == (["done"], 50_000, [])


TROUBLE: dict[str, list[dict[str, Any]]] = {
    "push": [
        *({"fault": name} for name in ("cut", "error", "error_after", "nonsense", "callback_first", "in_use", "stale")),
        {"fault": "limited"},
        {"fault": "late_reply", "seconds": 0.1},
    ],
    "payer": [
        {"fault": "pays"},
        {"fault": "ends", "code": "1032"},
        {"fault": "ends", "code": "1"},
        {"fault": "ends", "code": "9999"},
        {"fault": "ignores"},
        {"fault": "late_pin", "seconds": 0.1},
    ],
    "callback": [
        {"fault": "many", "times": 5},
        {"fault": "late", "seconds": 0.5},
        {"fault": "bare"},
        {"fault": "held"},
    ],
    "query": [{"fault": name} for name in ("error", "cut", "limited", "nonsense")],
}


@pytest.mark.parametrize("seed", range(3))
async def test_p3_after_any_trouble_what_we_captured_is_what_mpesa_took(
    till: Till, ear: Ear, sandbox: Sandbox, seed: int
) -> None:
    chance = random.Random(seed)
    for kind, faults in TROUBLE.items():
        await sandbox.control(faults={f"mpesa.{kind}": [chance.choice(faults) for _ in range(12)]})
    payments = [await opened(till, number * 100) for number in range(1, 31)]
    for round in range(8):
        await asyncio.sleep(0.1)
        await sandbox.control(release="shuffled")
        await reconciled(till, timedelta(minutes=2 * round))
    statement = (await fetch.get(f"{sandbox.url}/mpesa/statement")).body.decode()
    taken = sorted(fact.amount for fact in mpesa_facts.of_statement(statement))
    for _ in range(40):
        await sandbox.control(release="shuffled")
        await reconciled(till, timedelta(minutes=30))
        kept = [await now_of(payment) for payment in payments]
        if sorted(each.captured for each in kept if each.captured) == taken:
            break
    assert sorted(each.captured for each in kept if each.captured) == taken
    receipts = [each.receipt for each in kept if each.receipt]
    assert len(receipts) == len(set(receipts))
