"""Stripe as a provider, against our stand-in of it over real sockets: when all goes well, and when it does not."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from itertools import permutations
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from msingi.kit import fetch, state
from msingi.kit.ids import new_id
from msingi.kit.payments import stripe as ours
from msingi.kit.payments import truth
from msingi.kit.payments.face import Asked, BadCallback, Fact, Provider, Refunding, Refused, Unknown
from msingi.kit.payments.models import Payment
from msingi.kit.payments.stripe import VERSION, Stripe
from msingi.kit.payments.stripe_facts import PAYMENT
from msingi.kit.testing import test_settings
from msingi.kit.tests.stripe_served import KEY, SECRET, World, sandbox, signed


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house() -> AsyncIterator[None]:
    async with state.running(test_settings()):
        yield


@pytest_asyncio.fixture
async def world(house: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(fetch, "_backoff", lambda attempt: 0.01)  # tries follow one another without the usual pause
    async with sandbox() as made:
        yield made


def asked(**changes: Any) -> Asked:
    return msgspec.structs.replace(Asked(id=new_id(), amount=12900, currency="KES", note="Order MS-1"), **changes)


def kinds(facts: Any) -> list[tuple[str, int]]:
    return [(fact.kind, fact.amount) for fact in facts]


async def paid(world: World, card: str = "pm_card_visa", **changes: Any) -> str:
    begun = await world.stripe.begin(asked(**changes))
    world.pay(begun.reference, card)
    return begun.reference


# ---- when all goes well


async def test_it_is_a_provider_and_begins_what_the_payer_confirms_in_the_browser(world: World) -> None:
    provider: Provider = world.stripe
    wanted = asked()
    begun = await provider.begin(wanted)
    intent = world.box.bank.intents[begun.reference]
    assert begun.action == {
        "kind": "confirm",
        "client_secret": intent["client_secret"],
        "publishable_key": "pk_test_1",
        "url": f"{world.url}/stripe/pay/{intent['client_secret']}",
    }
    assert (intent["amount"], intent["currency"], intent["description"]) == (12900, "kes", "Order MS-1")
    assert intent["metadata"] == {PAYMENT: wanted.id}
    assert kinds(begun.facts) == [("pending", 0)]


async def test_it_says_our_key_the_pinned_version_and_nothing_of_this_machine(world: World) -> None:
    wanted = asked(email="ann@msingi.test")
    await world.stripe.begin(wanted)
    (heard,) = world.asked
    assert heard.headers["idempotency-key"] == wanted.id
    assert heard.headers["stripe-version"] == VERSION == "2026-10-28.endive"
    assert "x-stripe-client-telemetry" not in heard.headers
    said = msgspec.json.decode(heard.headers["x-stripe-client-user-agent"])
    assert not {"platform", "telemetry_id", "uname"} & set(said)
    assert b"ann" not in heard.body  # it needs no address to take money


async def test_what_is_paid_is_captured_with_the_charge_as_receipt(world: World) -> None:
    reference = await paid(world)
    (fact,) = await world.stripe.ask(reference)
    assert (fact.kind, fact.amount, fact.currency) == ("captured", 12900, "KES")
    assert fact.receipt == world.box.bank.intents[reference]["latest_charge"]


async def test_shillings_without_cents_go_out_in_hundredths_and_come_back_whole(world: World) -> None:
    reference = await paid(world, amount=5000, currency="UGX")
    assert world.box.bank.intents[reference]["amount"] == 500000
    assert [(fact.amount, fact.currency) for fact in await world.stripe.ask(reference)] == [(5000, "UGX")]


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc"),
    ],
)
async def test_a_declined_card_tells_why_and_another_card_may_still_pay(world: World, card: str, code: str) -> None:
    begun = await world.stripe.begin(asked())
    with pytest.raises(Exception, match=r"card|security code"):
        world.pay(begun.reference, card)
    assert [(fact.kind, fact.code) for fact in await world.stripe.ask(begun.reference)] == [("pending", code)]
    world.pay(begun.reference)
    assert kinds(await world.stripe.ask(begun.reference)) == [("captured", 12900)]


async def test_money_is_set_aside_and_a_part_of_it_captured_once(world: World) -> None:
    reference = await paid(world, capture=False)
    assert kinds(await world.stripe.ask(reference)) == [("authorised", 12900)]
    first = await world.stripe.capture(reference, 9000, "KES")
    assert kinds(first) == [("captured", 9000)]
    assert await world.stripe.capture(reference, 9000, "KES") == first
    world.box.saved.clear()  # a day later
    assert kinds(await world.stripe.capture(reference, 9000, "KES")) == [("captured", 9000)]
    assert [charge["amount_captured"] for charge in world.box.bank.charges.values()] == [9000]


async def test_more_than_was_set_aside_is_not_captured(world: World) -> None:
    reference = await paid(world, capture=False)
    with pytest.raises(Refused) as refusal:
        await world.stripe.capture(reference, 12901, "KES")
    assert refusal.value.details["why"] == "amount_too_large"
    assert kinds(await world.stripe.ask(reference)) == [("authorised", 12900)]


@pytest.mark.parametrize("paid_before", [False, True])
async def test_what_is_not_captured_can_be_voided_and_then_nobody_can_pay_it(world: World, paid_before: bool) -> None:
    begun = await world.stripe.begin(asked(capture=False))
    if paid_before:
        world.pay(begun.reference)
    assert kinds(await world.stripe.void(begun.reference)) == [("voided", 0)]
    world.box.saved.clear()
    assert kinds(await world.stripe.void(begun.reference)) == [("voided", 0)]
    with pytest.raises(Refused):
        await world.stripe.capture(begun.reference, 100, "KES")
    with pytest.raises(Exception, match="status of canceled"):
        world.pay(begun.reference)


async def test_what_is_captured_cannot_be_voided(world: World) -> None:
    reference = await paid(world)
    with pytest.raises(Refused) as refusal:
        await world.stripe.void(reference)
    assert refusal.value.details["why"] == "payment_intent_unexpected_state"
    assert kinds(await world.stripe.ask(reference)) == [("captured", 12900)]


async def test_what_takes_days_is_pending_until_the_bank_has_said(world: World) -> None:
    reference = await paid(world, "pm_usBankAccount_success")
    assert kinds(await world.stripe.ask(reference)) == [("pending", 0)]
    world.box.bank.settle(reference)
    assert kinds(await world.stripe.ask(reference)) == [("captured", 12900)]


# ---- money back


def back(reference: str, amount: int = 900, **changes: Any) -> Refunding:
    return msgspec.structs.replace(
        Refunding(id=new_id(), reference=reference, amount=amount, currency="KES", reason="torn"), **changes
    )


async def test_money_goes_back_in_parts_and_each_says_which_refund_it_is(world: World) -> None:
    reference = await paid(world)
    one, two = back(reference), back(reference, 12000)
    assert [(f.kind, f.amount, f.refund) for f in await world.stripe.refund(one)] == [("refunded", 900, one.id)]
    await world.stripe.refund(two)
    facts = await world.stripe.ask(reference)
    assert [(f.kind, f.amount) for f in facts] == [("captured", 12900), ("refunded", 12000), ("refunded", 900)]
    with pytest.raises(Refused) as refusal:
        await world.stripe.refund(back(reference, 1))
    assert refusal.value.details["why"] == "charge_already_refunded"


async def test_p1_a_refund_asked_for_again_is_the_same_even_when_stripe_has_forgotten_the_key(world: World) -> None:
    wanted = back(await paid(world))
    first = await world.stripe.refund(wanted)
    again = await world.stripe.refund(wanted)
    world.box.saved.clear()  # keys live for a day
    later = await world.stripe.refund(wanted)
    assert [fact.id for fact in first] == [fact.id for fact in again] == [fact.id for fact in later]
    assert len(world.box.bank.refunds) == 1


async def test_a_refund_that_the_bank_sends_back_is_told_as_failed(world: World) -> None:
    reference = await paid(world, "pm_card_refundFail")
    wanted = back(reference)
    assert kinds(await world.stripe.refund(wanted)) == [("refunded", 900)]
    failed = (await world.stripe.ask(reference))[-1]
    assert (failed.kind, failed.refund, failed.code) == ("refund_failed", wanted.id, "expired_or_canceled_card")


async def test_a_refund_on_its_way_says_nothing_until_it_has_come(world: World) -> None:
    reference = await paid(world, "pm_card_pendingRefund")
    assert await world.stripe.refund(back(reference)) == []
    assert kinds(await world.stripe.ask(reference)) == [("captured", 12900)]
    world.box.bank.end_refund(next(iter(world.box.bank.refunds)))
    assert kinds(await world.stripe.ask(reference)) == [("captured", 12900), ("refunded", 900)]


async def test_a_dispute_is_a_fact_for_people(world: World) -> None:
    reference = await paid(world, "pm_card_createDispute")
    asked_for = (await world.stripe.ask(reference))[-1]
    (callback,) = await world.told("charge.dispute.created")
    (heard,) = world.facts(callback)
    assert (heard.kind, heard.amount, heard.code, heard.reference) == ("disputed", 12900, "fraudulent", reference)
    assert heard.id == asked_for.id


# ---- when it does not go well


async def test_p1_begun_twice_under_one_id_is_begun_once(world: World) -> None:
    wanted = asked()
    first, second = await world.stripe.begin(wanted), await world.stripe.begin(wanted)
    assert first.reference == second.reference
    assert len(world.box.bank.intents) == 1


async def test_p1_fifty_at_once_under_one_id_begin_one_payment(world: World) -> None:
    wanted, provider = asked(), world.stripe
    world.wish("create", "slow", seconds=0.3)  # so that the others find it under way
    results = await asyncio.gather(*(provider.begin(wanted) for _ in range(50)), return_exceptions=True)
    begun = {result.reference for result in results if not isinstance(result, BaseException)}
    assert {type(result) for result in results if isinstance(result, BaseException)} <= {Unknown}
    assert begun == set(world.box.bank.intents)
    assert len(begun) == 1


async def test_p1_the_same_id_for_another_sum_is_not_begun_and_not_guessed_about(world: World) -> None:
    wanted = asked()
    await world.stripe.begin(wanted)
    with pytest.raises(Unknown):
        await world.stripe.begin(msgspec.structs.replace(wanted, amount=5))
    assert [intent["amount"] for intent in world.box.bank.intents.values()] == [12900]


@pytest.mark.parametrize(
    ("fault", "times", "done"),
    [
        ("error", 1, False),
        ("error_after", 1, True),
        ("unavailable", fetch.TRIES, False),
        ("cut_before", fetch.TRIES, False),
        ("limited", fetch.TRIES, False),
        ("in_use", 1, False),
        ("nonsense", 1, False),
    ],
)
async def test_c8_an_unclear_answer_is_unknown_and_is_found_out(
    world: World, fault: str, times: int, done: bool
) -> None:
    wanted = asked()
    world.wish("create", fault, times)
    with pytest.raises(Unknown):
        await world.stripe.begin(wanted)
    assert await world.stripe.find(wanted.id) == (next(iter(world.box.bank.intents)) if done else None)


async def test_c8_a_reply_that_is_lost_is_asked_for_again_and_the_charge_is_one(world: World) -> None:
    world.wish("create", "cut", fetch.TRIES - 1)
    wanted = asked()
    begun = await world.stripe.begin(wanted)
    assert list(world.box.bank.intents) == [begun.reference]
    assert [heard.headers["idempotency-key"] for heard in world.asked] == [wanted.id] * fetch.TRIES


async def test_c8_replies_that_stay_lost_leave_it_unknown_and_it_is_found_by_our_id(world: World) -> None:
    wanted = asked()
    world.wish("create", "cut", fetch.TRIES)
    with pytest.raises(Unknown):
        await world.stripe.begin(wanted)
    assert await world.stripe.find(wanted.id) == next(iter(world.box.bank.intents))


async def test_c8_a_reply_that_comes_too_late_leaves_it_unknown_and_it_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = asked()
    world.wish("create", "slow_after", seconds=0.5)
    monkeypatch.setattr(ours, "WITHIN", 0.2)
    with pytest.raises(Unknown):
        await world.stripe.begin(wanted)
    monkeypatch.undo()
    assert await world.stripe.find(wanted.id) == next(iter(world.box.bank.intents))


@pytest.mark.parametrize("fault", ["error_after", "error"])
async def test_c8_a_capture_and_a_refund_that_nobody_heard_of_are_unknown_and_done_once(
    world: World, fault: str
) -> None:
    reference = await paid(world, capture=False)
    world.wish("capture", fault)
    with pytest.raises(Unknown):
        await world.stripe.capture(reference, 12900, "KES")
    assert kinds(await world.stripe.ask(reference)) == [
        ("captured", 12900) if fault == "error_after" else ("authorised", 12900)
    ]
    wanted = back(await paid(world))
    world.wish("refund", fault)
    with pytest.raises(Unknown):
        await world.stripe.refund(wanted)
    world.box.saved.clear()
    assert kinds(await world.stripe.refund(wanted)) == [("refunded", 900)]
    assert len(world.box.bank.refunds) == 1


async def test_c8_too_many_requests_are_tried_again_later_and_then_go_well(world: World) -> None:
    world.wish("create", "limited", fetch.TRIES - 1)
    assert (await world.stripe.begin(asked())).reference in world.box.bank.intents
    assert len(world.asked) == fetch.TRIES


async def test_c8_while_stripe_is_down_it_is_left_alone_for_a_while(world: World) -> None:
    world.wish("create", "unavailable", 100)
    for _ in range(5):
        with pytest.raises(Unknown):
            await world.stripe.begin(asked())
    assert len(world.asked) == fetch.FAILURES


async def test_an_account_that_is_not_let_in_refuses_to_begin_and_leaves_open_what_is_asked(world: World) -> None:
    reference = await paid(world)
    stranger = Stripe("sk_live_of_somebody", url=f"{world.url}/stripe")
    with pytest.raises(Refused) as refusal:
        await stranger.begin(asked())
    assert refusal.value.details["why"] == "not_set_up"
    assert "sk_" not in str(refusal.value)
    for question in (stranger.ask(reference), stranger.find(new_id())):
        with pytest.raises(Unknown):
            await question


async def test_a_payment_that_is_not_theirs_is_refused(world: World) -> None:
    with pytest.raises(Refused) as refusal:
        await world.stripe.ask("pi_of_somebody")
    assert refusal.value.details["why"] == "resource_missing"


# ---- finding


async def test_a_payment_is_found_among_others_and_one_that_never_was_is_not(world: World) -> None:
    wanted = [asked() for _ in range(120)]  # more than a page
    for each in wanted:
        world.box.bank.create({"amount": "5000", "currency": "kes", "metadata": {PAYMENT: each.id}})
    oldest = next(iter(world.box.bank.intents))
    assert await world.stripe.find(wanted[0].id) == oldest
    assert await world.stripe.find(new_id()) is None


async def test_what_is_too_far_back_for_the_list_is_looked_for_in_the_index(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "MOST_LISTED", 100)
    old = world.box.bank.create({"amount": "5000", "currency": "kes", "metadata": {PAYMENT: "it's \\ old"}})
    for _ in range(250):
        world.box.bank.create({"amount": "5000", "currency": "kes"})
    assert await world.stripe.find("it's \\ old") == old["id"]
    assert await world.stripe.find("never begun") is None
    assert any("/search" in heard.path for heard in world.asked)


async def test_the_list_is_read_no_further_back_than_our_id_is_old(world: World) -> None:
    for _ in range(250):
        world.box.bank.create({"amount": "5000", "currency": "kes"})["created"] -= 3600
    assert await world.stripe.find(new_id()) is None
    assert len(world.asked) == 1


# ---- callbacks


async def test_p2_a_callback_that_stripe_signed_is_heard_and_says_what_a_poll_says(world: World) -> None:
    reference = await paid(world)
    (callback,) = await world.told("payment_intent.succeeded")
    assert [fact.id for fact in world.facts(callback)] == [fact.id for fact in await world.stripe.ask(reference)]
    assert world.facts(callback)[0].payment == world.box.bank.intents[reference]["metadata"][PAYMENT]


BODY = '{"id": "evt_1", "type": "customer.created", "data": {"object": {}}}'
FORGED: dict[str, Callable[[int], dict[str, str]]] = {
    "another secret": lambda at: signed(BODY, "whsec_other", at),
    "six minutes ago": lambda at: signed(BODY, SECRET, at - 360),
    "in six minutes": lambda at: signed(BODY, SECRET, at + 360),
    "another body": lambda at: signed(BODY + " ", SECRET, at),
    "no signature": lambda at: {},
    "nothing in it": lambda at: {"Stripe-Signature": ""},
    "rubbish": lambda at: {"Stripe-Signature": "t=x,v1=y,,=,v1"},
    "no time": lambda at: {"Stripe-Signature": signed(BODY, SECRET, at)["Stripe-Signature"].partition(",")[2]},
    "an older scheme": lambda at: {
        "Stripe-Signature": signed(BODY, SECRET, at)["Stripe-Signature"].replace("v1", "v0")
    },
}


@pytest.mark.parametrize("how", FORGED)
def test_p2_a_callback_that_stripe_did_not_send_is_refused(how: str) -> None:
    headers = FORGED[how](int(time.time()))
    with pytest.raises(BadCallback):
        Stripe(KEY).hear(headers, BODY.encode(), SECRET)


def test_p2_five_minutes_of_difference_between_the_clocks_are_allowed() -> None:
    for difference in (-290, 290):
        assert Stripe(KEY).hear(signed(BODY, SECRET, int(time.time()) + difference), BODY.encode(), SECRET) == []


def test_p2_without_a_secret_nothing_is_believed() -> None:
    for secret in ("", " ", ","):
        with pytest.raises(BadCallback):
            Stripe(KEY).hear(signed(BODY, ""), BODY.encode(), secret)


def test_p2_while_a_secret_is_changed_the_old_and_the_new_one_are_good() -> None:
    provider = Stripe(KEY)
    for secret in ("whsec_new", "whsec_old"):
        assert provider.hear(signed(BODY, secret), BODY.encode(), "whsec_new,whsec_old") == []
    both = signed(BODY, "whsec_new")["Stripe-Signature"]
    old = signed(BODY, "whsec_old")["Stripe-Signature"].partition(",")[2]
    for known in ("whsec_new", "whsec_old"):
        assert provider.hear({"stripe-signature": f"{both},{old}"}, BODY.encode(), known) == []
    with pytest.raises(BadCallback):
        provider.hear({"stripe-signature": f"{both},{old}"}, BODY.encode(), "whsec_third")


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{}",
        "no JSON",
        '{"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": {"id": 5}}}',
        '{"id": "evt_1", "type": "charge.refunded", "data": {"object": {"id": "ch_1", "refunds": {"data": [{}]}}}}',
    ],
)
def test_p2_a_signed_callback_that_cannot_be_read_is_refused(body: str) -> None:
    with pytest.raises(BadCallback):
        Stripe(KEY).hear(signed(body, SECRET), body.encode(), SECRET)


def test_p2_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadCallback):
        Stripe(KEY).hear({"stripe-signature": "t=1,v1=00"}, b"\xff\xfe", SECRET)


async def test_p2_a_callback_signed_by_the_stand_in_as_somebody_else_or_too_late_is_refused(world: World) -> None:
    world.wish("payment_intent.succeeded", "forged")
    await paid(world)
    world.wish("payment_intent.succeeded", "stale")
    await paid(world)
    for callback in await world.told("payment_intent.succeeded", 2):
        with pytest.raises(BadCallback):
            world.facts(callback)


async def test_c9_a_lost_callback_is_made_up_for_by_asking(world: World) -> None:
    world.wish("payment_intent.succeeded", "lost")
    reference = await paid(world)
    await world.told("charge.succeeded")
    assert kinds(await world.stripe.ask(reference)) == [("captured", 12900)]
    assert not [each for each in world.callbacks if b"payment_intent.succeeded" in each.body]


async def test_c9_a_doubled_callback_is_one_fact(world: World) -> None:
    world.wish("payment_intent.succeeded", "twice")
    await paid(world)
    one, two = await world.told("payment_intent.succeeded", 2)
    assert [fact.id for fact in world.facts(one)] == [fact.id for fact in world.facts(two)]


async def test_c9_a_callback_of_the_wrong_amount_is_a_fact_of_its_own(world: World) -> None:
    world.wish("payment_intent.succeeded", "wrong_amount", amount=100)
    reference = await paid(world)
    (callback,) = await world.told("payment_intent.succeeded")
    (wrong,), (right,) = world.facts(callback), await world.stripe.ask(reference)
    assert (wrong.kind, wrong.amount) == ("captured", 100)
    assert wrong.id != right.id


async def test_c9_whatever_the_order_the_callbacks_of_a_payment_end_in_one_state(world: World) -> None:
    """A card that is declined, one that is good, a part captured, a part of that sent back; told late and doubled."""
    wanted = asked(capture=False)
    reference = (await world.stripe.begin(wanted)).reference
    world.wish("payment_intent.amount_capturable_updated", "late", seconds=0.2)
    with pytest.raises(Exception, match="declined"):
        world.pay(reference, "pm_card_chargeDeclined")
    world.pay(reference)
    await world.stripe.capture(reference, 9000, "KES")
    sent = back(reference)
    await world.stripe.refund(sent)
    await world.told("charge.refunded")
    await world.told("payment_intent.amount_capturable_updated")
    heard = [fact for callback in world.callbacks for fact in world.facts(callback)]
    said = [*{fact.id: fact for fact in [*heard, *await world.stripe.ask(reference)]}.values()]
    assert len(said) == 5
    orders: list[list[Fact]] = [list(order) for order in permutations(said)]
    orders += [random.Random(seed).choices(said, k=12) + said for seed in range(880)]
    ends = {_end(reference, order) for order in orders}
    assert len(orders) == 1000
    assert ends == {
        (
            "captured",
            12900,
            9000,
            900,
            ("amount: asked 12900, captured 9000", f"refund: {sent.id} was not asked for here, 900 went back"),
        )
    }


def _end(reference: str, order: list[Fact]) -> tuple[Any, ...]:
    """The payment after facts that came one by one, each kept once."""
    payment = Payment(id="p", purpose="t", provider="stripe", amount=12900, currency="KES", reference=reference)
    kept: dict[str, Fact] = {}
    for fact in order:
        kept.setdefault(fact.id, fact)
        at = payment.created_at
        payment = truth.told_by(payment, [truth.Said(each) for each in sorted(kept.values(), key=lambda f: f.id)], at)
    return payment.state, payment.authorised, payment.captured, payment.refunded, tuple(payment.odd)


async def test_the_library_writes_down_nothing_of_what_is_sent_and_answered(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await paid(world)
    assert [record.name for record in caplog.records if record.name.startswith("stripe")] == []
