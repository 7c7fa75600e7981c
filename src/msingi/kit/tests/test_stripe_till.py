"""The till with Stripe, end to end: our stand-in misbehaves over real sockets, and there is one truth in the end."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import clock, fetch, state
from msingi.kit.payments.face import BadCallback, Refused
from msingi.kit.payments.models import Payment
from msingi.kit.payments.till import Till
from msingi.kit.tests import counter
from msingi.kit.tests.stripe_served import SECRET, Heard, World, sandbox, until


@pytest_asyncio.fixture
async def world(running: state.State, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(fetch, "_backoff", lambda attempt: 0.01)
    await counter.prepare()
    async with sandbox() as made:
        yield made


async def opened(world: World, **more: Any) -> tuple[Till, Payment]:
    till = counter.till(world.stripe)
    return till, await counter.opened(till, 12900, **more)


async def hear(till: Till, callback: Heard) -> None:
    await till.hear("stripe", callback.headers, callback.body, SECRET)


async def reconciled(till: Till, payment: Payment, seconds: float = 3600) -> Payment:
    with clock.shifted(timedelta(seconds=seconds)):
        await till.reconcile()
    return await till.kept.get(payment.id)


async def test_a_payment_is_opened_paid_in_the_browser_and_heard_of(world: World) -> None:
    till, payment = await opened(world)
    assert (payment.state, payment.action["kind"]) == ("pending", "confirm")
    world.pay(payment.reference or "")
    (callback,) = await world.told("payment_intent.succeeded")
    await hear(till, callback)
    paid = await till.kept.get(payment.id)
    assert (paid.state, paid.captured, paid.odd, paid.ask_at) == ("captured", 12900, [], None)
    assert paid.receipt == world.box.bank.intents[payment.reference or ""]["latest_charge"]


@pytest.mark.parametrize("fault", ["error_after", "error", "nonsense", "cut", "unavailable"])
async def test_c8_a_payment_that_nobody_heard_an_answer_of_is_unknown_and_never_called_failed(
    world: World, fault: str
) -> None:
    world.wish("create", fault, fetch.TRIES)
    till, payment = await opened(world)
    assert (payment.state, payment.code) == ("unknown", "")
    world.faults.clear()
    known = await reconciled(till, payment, 60)
    if fault in ("error_after", "cut"):  # it had been done
        assert known.reference in world.box.bank.intents
        world.pay(known.reference or "")
        assert (await reconciled(till, known)).captured == 12900
    else:
        assert (known.state, known.reference) == ("unknown", None)
    assert len(world.box.bank.intents) <= 1


async def test_c9_a_callback_that_comes_before_our_reply_finds_its_payment(world: World) -> None:
    till = counter.till(world.stripe)
    world.wish("create", "slow_after", seconds=0.5)
    opening = asyncio.create_task(counter.opened(till, 12900))
    await until(lambda: bool(world.box.bank.intents))
    reference = next(iter(world.box.bank.intents))
    world.pay(reference)
    (callback,) = await world.told("payment_intent.succeeded")
    await hear(till, callback)
    payment = await opening
    assert (payment.reference, (await till.kept.get(payment.id)).captured) == (reference, 12900)


async def test_c9_lost_doubled_and_late_callbacks_end_in_one_state(world: World) -> None:
    world.wish("payment_intent.succeeded", "lost")
    till, payment = await opened(world)
    with pytest.raises(Exception, match="declined"):
        world.pay(payment.reference or "", "pm_card_chargeDeclined")
    world.pay(payment.reference or "")
    (declined,) = await world.told("payment_intent.payment_failed")
    assert (await reconciled(till, payment)).captured == 12900
    for callback in [declined, declined, *await world.told("payment_intent.created")]:
        await hear(till, callback)
    paid = await till.kept.get(payment.id)
    assert (paid.state, paid.captured, paid.odd) == ("captured", 12900, [])


async def test_p2_a_forged_callback_changes_nothing(world: World) -> None:
    world.wish("payment_intent.succeeded", "forged")
    till, payment = await opened(world)
    world.pay(payment.reference or "")
    (callback,) = await world.told("payment_intent.succeeded")
    with pytest.raises(BadCallback):
        await hear(till, callback)
    assert (await till.kept.get(payment.id)).captured == 0


async def test_a_callback_of_the_wrong_amount_is_shown_to_people(world: World) -> None:
    world.wish("payment_intent.succeeded", "wrong_amount", amount=100)
    till, payment = await opened(world)
    world.pay(payment.reference or "")
    (callback,) = await world.told("payment_intent.succeeded")
    await hear(till, callback)
    assert (await till.kept.get(payment.id)).odd == ["amount: asked 12900, captured 100"]


async def test_money_is_set_aside_captured_and_sent_back_as_the_till_wishes(world: World) -> None:
    till, payment = await opened(world, capture=False)
    world.pay(payment.reference or "")
    assert (await reconciled(till, payment)).state == "authorised"
    world.wish("capture", "error_after")
    assert (await till.capture(payment.id)).state == "unknown"
    assert (await reconciled(till, payment)).captured == 12900
    refund = await till.ask_refund(payment.id, 900, "torn", "ann", needs_approval=False)
    done = await till.send_refund(payment.id, refund.id)
    assert [(each.id, each.state) for each in done.refunds] == [(refund.id, "done")]
    assert (done.refunded, len(world.box.bank.refunds)) == (900, 1)


async def test_p3_what_is_not_captured_of_a_sum_set_aside_is_no_refund(world: World) -> None:
    till, payment = await opened(world, capture=False)
    world.pay(payment.reference or "")
    await reconciled(till, payment)
    await till.capture(payment.id, 9000)
    await world.told("charge.captured")
    for callback in list(world.callbacks):
        await hear(till, callback)
    paid = await till.kept.get(payment.id)
    assert (paid.captured, paid.refunded, paid.refunds, paid.odd) == (9000, 0, [], [])
    assert world.box.bank.intents[payment.reference or ""]["amount_received"] == 9000


async def test_a_refund_made_in_stripes_own_pages_is_counted_and_shown_to_people(world: World) -> None:
    till, payment = await opened(world)
    world.pay(payment.reference or "")
    world.box.bank.refund({"payment_intent": payment.reference, "amount": "900"})
    (callback,) = await world.told("refund.created")
    await hear(till, callback)
    paid = await reconciled(till, payment)
    assert (paid.captured, paid.refunded) == (12900, 900)
    assert any("was not asked for here" in each for each in paid.odd)


async def test_what_is_given_up_cannot_be_paid_any_more(world: World) -> None:
    till, payment = await opened(world)
    assert (await till.void(payment.id)).state == "voided"
    with pytest.raises(Exception, match="canceled"):
        world.pay(payment.reference or "")


async def test_money_that_came_before_it_was_given_up_is_not_lost(world: World) -> None:
    till, payment = await opened(world)
    world.pay(payment.reference or "")
    with pytest.raises(Refused):
        await till.void(payment.id)
    assert (await reconciled(till, payment)).captured == 12900


async def test_a_dispute_is_shown_to_people(world: World) -> None:
    till, payment = await opened(world)
    world.pay(payment.reference or "", "pm_card_createDispute")
    for type in ("payment_intent.succeeded", "charge.dispute.created"):
        (callback,) = await world.told(type)
        await hear(till, callback)
    paid = await till.kept.get(payment.id)
    assert (paid.state, paid.captured) == ("captured", 12900)
    assert any("12900" in each and "fraudulent" in each for each in paid.odd)
