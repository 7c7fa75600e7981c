"""What Stripe's objects say as facts, its amounts, and its codes as people read them: no server, no waiting."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from msingi.kit.payments.stripe_codes import DECLINED, OTHERWISE, TEXTS, text_of
from msingi.kit.payments.stripe_facts import (
    HEARD,
    PAYMENT,
    REFUND,
    Event,
    Intent,
    Refund,
    Told,
    of_event,
    of_intent,
    of_refund,
    ours,
    takes,
    theirs,
)

CURRENCIES = ["KES", "UGX", "TZS", "RWF", "BIF", "USD", "EUR", "JPY", "ISK", "KWD", "TND", "MGA", "HUF", "XAF"]


@pytest.mark.parametrize(
    ("amount", "currency", "told"),
    [
        (129900, "KES", 129900),
        (500, "UGX", 50000),  # no cents any more, and told in hundredths
        (500, "RWF", 500),
        (500, "JPY", 500),
        (1050, "USD", 1050),
        (500, "ISK", 50000),
        (12340, "KWD", 12340),
    ],
)
def test_amounts_are_told_in_stripes_own_units(amount: int, currency: str, told: int) -> None:
    assert (theirs(amount, currency), ours(told, currency.lower())) == (told, amount)


@given(some.integers(0, 10**9), some.sampled_from(CURRENCIES))
def test_what_is_told_and_read_back_is_the_same_sum(amount: int, currency: str) -> None:
    told = theirs(amount, currency)
    assert told is not None
    assert ours(told, currency) == amount


def test_a_part_that_our_units_cannot_tell_is_never_added() -> None:
    assert ours(50099, "ugx") == 500


@pytest.mark.parametrize(
    ("amount", "currency", "taken"),
    [
        (5000, "KES", True),
        (99_999_999, "KES", True),
        (100_000_000, "KES", False),
        (0, "KES", False),
        (-5, "KES", False),
        (50, "USD", True),
        (49, "USD", False),
        (1000, "UGX", True),
        (999_999, "UGX", True),
        (1_000_000, "UGX", False),
        (12340, "KWD", True),
        (12345, "KWD", False),  # thousandths go in tens
        (5000, "QQQ", False),
        (5000, "kes", False),
    ],
)
def test_sums_that_stripe_does_not_take_are_known_beforehand(amount: int, currency: str, taken: bool) -> None:
    assert takes(amount, currency) is taken


def intent(status: str, **more: Any) -> Intent:
    return Intent(id="pi_1", amount=5000, currency="kes", status=status, metadata={PAYMENT: "p1"}, **more)


@pytest.mark.parametrize(
    ("said", "id", "kind", "amount", "code"),
    [
        (intent("requires_payment_method"), "pi_1.pending", "pending", 0, ""),
        (intent("requires_action"), "pi_1.pending", "pending", 0, ""),
        (intent("processing"), "pi_1.pending", "pending", 0, ""),
        (intent("requires_capture", amount_capturable=4000), "pi_1.authorised.4000", "authorised", 4000, ""),
        (intent("succeeded", amount_received=4500), "pi_1.captured.4500", "captured", 4500, ""),
        (intent("succeeded"), "pi_1.captured.5000", "captured", 5000, ""),
        (intent("canceled", cancellation_reason="abandoned"), "pi_1.voided", "voided", 0, "abandoned"),
        (intent("a status of tomorrow"), "pi_1.pending", "pending", 0, ""),
    ],
)
def test_each_status_is_one_fact(said: Intent, id: str, kind: str, amount: int, code: str) -> None:
    (fact,) = of_intent(said)
    assert (fact.id, fact.kind, fact.amount, fact.code) == (id, kind, amount, code)
    assert (fact.reference, fact.payment, fact.currency) == ("pi_1", "p1", "KES")


def test_a_declined_card_is_no_end_and_each_try_is_a_fact_of_its_own() -> None:
    facts = []
    for charge in ("ch_1", "ch_2"):
        failed = {"code": "card_declined", "decline_code": "lost_card", "charge": charge}
        said = msgspec.convert({**DECLINED_INTENT, "last_payment_error": failed}, Intent)
        facts += of_intent(said)
    assert [(fact.id, fact.kind, fact.code) for fact in facts] == [
        ("pi_1.declined.ch_1", "pending", "lost_card"),
        ("pi_1.declined.ch_2", "pending", "lost_card"),
    ]


DECLINED_INTENT = {"id": "pi_1", "amount": 5000, "currency": "kes", "status": "requires_payment_method"}


@pytest.mark.parametrize("type", [type for type in HEARD if type.startswith("payment_intent.")])
def test_a_callback_and_a_poll_that_say_the_same_are_one_fact(type: str) -> None:
    for status in ("succeeded", "canceled", "requires_capture", "requires_payment_method", "processing"):
        said = intent(status, latest_charge="ch_1")
        heard = of_event(Event(id="evt_1", type=type, data=Told(msgspec.to_builtins(said)), created=1_700_000_000))
        assert [fact.id for fact in heard] == [fact.id for fact in of_intent(said)]


def test_what_somebody_else_began_and_events_of_other_kinds_say_nothing() -> None:
    theirs = msgspec.to_builtins(intent("succeeded")) | {"metadata": {}}
    assert of_event(Event("evt_1", "payment_intent.succeeded", Told(theirs))) == []
    assert of_event(Event("evt_1", "customer.created", Told({"id": "cus_1"}))) == []


def test_a_refund_says_nothing_until_it_is_decided_and_may_fail_after_it_was_paid_out() -> None:
    said = Refund(id="re_1", amount=700, currency="ugx", payment_intent="pi_1", metadata={REFUND: "r1"})
    assert of_refund(msgspec.structs.replace(said, status="pending")) == []
    (done,) = of_refund(msgspec.structs.replace(said, status="succeeded"))
    (failed,) = of_refund(msgspec.structs.replace(said, status="failed", failure_reason="lost_or_stolen_card"))
    assert (done.id, done.kind, done.amount, done.refund, done.receipt) == (
        "re_1.refunded",
        "refunded",
        7,
        "r1",
        "re_1",
    )
    assert (failed.id, failed.kind, failed.code) == ("re_1.refund_failed", "refund_failed", "lost_or_stolen_card")


def test_what_older_versions_tell_as_a_refund_of_money_that_never_came_is_none() -> None:
    said = {"id": "re_1", "amount": 700, "currency": "kes", "status": "succeeded", "payment_intent": "pi_1"}
    ours = said | {"metadata": {REFUND: "r1"}}

    def heard(refund: dict[str, Any], version: str) -> list[str]:
        return [fact.kind for fact in of_event(Event("evt_1", "refund.created", Told(refund), 1, version))]

    assert heard(said, "2024-12-18.acacia") == []
    assert heard(ours, "2024-12-18.acacia") == ["refunded"]
    assert heard(said, "2026-10-28.endive") == ["refunded"]  # somebody made it in Stripe's own pages


def test_facts_keep_no_secret_of_the_payers() -> None:
    (fact,) = of_intent(intent("succeeded", client_secret="pi_1_secret_x", latest_charge="ch_1"))
    assert b"secret" not in msgspec.json.encode(fact)


def test_every_code_is_told_in_both_languages() -> None:
    for code, (english, swahili) in TEXTS.items():
        assert english != swahili, code
        assert english.endswith("."), code
        assert swahili.endswith("."), code
        assert (text_of(code), text_of(code, "sw")) == (english, swahili)


def test_who_holds_a_lost_or_stolen_card_is_not_told_that_it_is_known() -> None:
    for code in ("lost_card", "stolen_card", "fraudulent", "pickup_card", "merchant_blacklist"):
        assert TEXTS[code] == DECLINED


def test_a_code_of_tomorrow_is_told_in_general_words() -> None:
    assert (text_of("never_heard_of"), text_of("never_heard_of", "sw")) == OTHERWISE
