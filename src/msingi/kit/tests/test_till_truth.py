"""What is true of a payment does not hang on when it was said: pure, without a database."""

import itertools
import random
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from msingi.kit.payments import truth
from msingi.kit.payments.face import Fact
from msingi.kit.payments.models import Payment, Refund
from msingi.kit.payments.truth import Said

AT = datetime(2026, 1, 2, tzinfo=UTC)


def payment(**more: Any) -> Payment:
    given: dict[str, Any] = {
        "id": "p1",
        "purpose": "counter.order:1",
        "provider": "bank",
        "amount": 1000,
        "currency": "KES",
        "state": "pending",
        "reference": "ref",
        "created_at": AT,
        "updated_at": AT,
        **more,
    }
    return Payment(**given)


def fact(id: str, kind: Any, amount: int = 0, **more: Any) -> Fact:
    return Fact(id=id, reference=more.pop("reference", "ref"), kind=kind, amount=amount, **more)


def said(*facts: Fact, credits: str = "") -> list[Said]:
    return [Said(each, credits) for each in facts]


def told(start: Payment, *facts: Fact) -> Payment:
    return truth.told_by(start, said(*facts), AT)


def one_by_one(start: Payment, facts: list[Fact]) -> Payment:
    """As the till does it: after each fact it is computed again from all that is known by then."""
    for known in range(1, len(facts) + 1):
        start = told(start, *sorted(facts[:known], key=lambda each: each.id))
    return start


def comparable(found: Payment) -> dict[str, Any]:
    """All of it but the steps in which the money was heard of, which add up to the same."""
    shown = structs.asdict(found)
    moved = [(each.kind, each.amount) for each in shown.pop("movements")]
    assert sum(amount for kind, amount in moved if kind == "captured") == found.captured
    assert sum(amount for kind, amount in moved if kind == "refunded") == found.refunded
    return shown


FIVE = [
    fact("1", "pending"),
    fact("2", "failed", code="declined"),
    fact("3", "captured", 1000, currency="KES", receipt="R1"),
    fact("4", "captured", 900, currency="KES", receipt="R1"),
    fact("5", "refunded", 300, refund="r1"),
]


def test_c9_all_permutations_of_five_facts_end_in_one_state() -> None:
    start = payment(refunds=[Refund(id="r1", amount=300, reason="", asked_by="ann", asked_at=AT, state="sent")])
    ends = [comparable(one_by_one(start, list(order))) for order in itertools.permutations(FIVE)]
    assert all(end == ends[0] for end in ends)
    assert (ends[0]["state"], ends[0]["captured"], ends[0]["refunded"]) == ("captured", 1000, 300)
    assert ends[0]["odd"] == ["amount: asked 1000, captured 900", "contradiction: told to be failed, and captured"]


KINDS = ("pending", "authorised", "captured", "failed", "voided", "refunded", "refund_failed", "disputed")


def one_receipt(id: str, kind: Any, amount: int, reference: str, receipt: bool, by_hand: str, **more: Any) -> Fact:
    """A fact as providers make them: a reference tells one receipt, or none; by hand there are several."""
    given = (f"R-{reference}" if receipt else "") if reference else by_hand
    return fact(id, kind, amount, reference=reference, receipt=given, **more)


facts = st.lists(
    st.builds(
        one_receipt,
        st.integers(0, 30).map(str),
        st.sampled_from(KINDS),
        st.sampled_from([0, 0, 10, 400, 999, 1000, 1001]),
        currency=st.sampled_from(["", "KES", "KES", "USD"]),
        reference=st.sampled_from(["ref", "ref", "ref", "other", ""]),
        receipt=st.booleans(),
        by_hand=st.sampled_from(["R-ref", "R-other", "R9"]),
        refund=st.sampled_from(["", "r1", "r2"]),
        code=st.sampled_from(["", "late", "poor"]),
        at=st.sampled_from([None, AT]),
    ),
    unique_by=lambda each: each.id,
    max_size=12,
)
OURS = [Refund(id="r1", amount=400, reason="", asked_by="ann", asked_at=AT, state="sent")]


@settings(max_examples=60, deadline=None)
@given(facts, st.randoms(use_true_random=False))
def test_c9_any_facts_in_any_order_end_in_one_state(found: list[Fact], chance: random.Random) -> None:
    start = payment(refunds=OURS, capture=False)
    shuffled = [*found, *chance.sample(found, len(found) // 2)]  # some come twice
    chance.shuffle(shuffled)
    unique = list({each.id: each for each in shuffled}.values())
    assert comparable(one_by_one(start, unique)) == comparable(one_by_one(start, sorted(found, key=lambda f: f.id)))


@settings(max_examples=60, deadline=None)
@given(facts)
def test_c9_what_is_captured_and_refunded_never_goes_down(found: list[Fact]) -> None:
    start = payment(refunds=OURS)
    for known in range(len(found) + 1):
        after = told(start, *found[:known])
        assert after.captured >= start.captured
        assert after.refunded >= start.refunded
        assert after.movements[: len(start.movements)] == start.movements
        assert (after.state == "captured") == (after.captured > 0)
        assert told(after, *found[:known]) == after
        start = after


def test_a_failure_never_wins_over_money() -> None:
    assert told(payment(), fact("1", "failed"), fact("2", "captured", 1000)).state == "captured"
    assert told(payment(state="captured", captured=1000), fact("1", "failed")).state == "captured"


def test_the_reason_of_a_failure_is_the_latest_that_was_told() -> None:
    early, late = fact("2", "failed", code="busy", at=AT.replace(day=1)), fact("1", "failed", code="poor", at=AT)
    assert told(payment(), early, late).code == told(payment(), late, early).code == "poor"
    assert told(payment(), early, fact("3", "captured", 1000)).code == ""


def test_a_try_that_failed_is_shown_while_another_may_follow() -> None:
    assert (told(payment(), fact("1", "pending", code="declined")).state) == "pending"
    assert (told(payment(), fact("1", "pending", code="declined")).code) == "declined"


def test_an_underpayment_does_not_count_as_full_and_is_odd() -> None:
    after = told(payment(), fact("1", "captured", 900, currency="KES"))
    assert (after.state, after.captured, after.odd) == ("captured", 900, ["amount: asked 1000, captured 900"])


def test_an_overpayment_counts_and_is_odd() -> None:
    after = told(payment(), fact("1", "captured", 1200))
    assert after.captured == 1200
    assert after.odd == ["amount: asked 1000, captured 1200", "amount: asked 1000, captured 1200 in all"]


def test_another_currency_does_not_count_at_all() -> None:
    after = told(payment(), fact("1", "captured", 1000, currency="UGX", receipt="R1"))
    assert (after.state, after.captured, after.receipts) == ("pending", 0, [])
    assert after.odd == ["currency: asked KES, captured 1000 UGX"]


def test_a_negative_amount_does_not_count_at_all() -> None:
    after = told(payment(captured=1000, state="captured"), fact("1", "refunded", -5))
    assert (after.refunded, after.odd) == (0, ["currency: asked KES, refunded -5"])


def test_who_says_no_amount_means_what_was_asked_for() -> None:
    assert told(payment(), fact("1", "captured")).captured == 1000
    assert told(payment(capture=False, wanted="capture", to_capture=600), fact("1", "captured")).captured == 600
    assert told(payment(), fact("1", "captured"), fact("2", "captured", 1000)).captured == 1000


def test_a_payer_who_was_asked_twice_and_paid_twice_has_paid_twice() -> None:
    one, two = fact("1", "captured", 1000, receipt="R1"), fact("2", "captured", 1000, receipt="R2", reference="again")
    after = told(payment(), one, two)
    assert (after.captured, after.receipts) == (2000, ["R1", "R2"])
    assert after.odd == ["amount: asked 1000, captured 2000 in all", "reference: again beside ref"]


def test_money_that_came_by_hand_is_the_same_as_was_told_of_when_its_receipt_says_so() -> None:
    by_hand = fact("c2b", "captured", 1000, reference="", receipt="R1")
    assert told(payment(), by_hand).captured == 1000
    assert told(payment(), by_hand, fact("1", "captured", 1000, receipt="R1")).captured == 1000
    assert told(payment(), by_hand, fact("1", "captured", 1000, receipt="R2")).captured == 2000
    without_receipt = told(payment(), by_hand, fact("1", "captured"))
    assert without_receipt.captured == 1000  # it may be the same, so it does not count twice
    assert told(without_receipt, by_hand, fact("1", "captured"), fact("2", "captured", receipt="R2")).captured == 2000


def test_a_receipt_of_another_payment_credits_nothing() -> None:
    start = payment()
    after = truth.told_by(start, said(fact("1", "captured", 1000, receipt="R1"), credits="p0"), AT)
    assert (after.captured, after.receipts, after.odd) == (0, [], ["receipt: R1 credits p0 already"])


def test_a_refund_that_was_made_at_the_provider_is_known_and_odd() -> None:
    paid = fact("1", "captured", 1000)
    after = told(
        payment(), paid, fact("2", "refunded", 100, receipt="re_9"), fact("3", "refunded", 100, receipt="re_9")
    )
    assert (after.refunded, [each.id for each in after.refunds], after.refunds[0].state) == (100, ["re_9"], "done")
    assert after.odd == ["refund: re_9 was not asked for here, 100 went back"]
    assert comparable(told(after, paid, fact("2", "refunded", 100, receipt="re_9")))["refunded"] == 100


def test_a_refund_that_failed_frees_what_it_had_reserved() -> None:
    start = payment(captured=1000, state="captured", refunds=OURS)
    after = told(start, fact("1", "refund_failed", refund="r1", code="closed"))
    assert (after.refunds[0].state, after.refunds[0].code, truth.live(after.refunds)) == ("failed", "closed", 0)


def test_a_refund_that_came_back_stays_for_a_person_to_decide() -> None:
    start = payment(captured=1000, state="captured", refunds=OURS)
    gone, back = fact("1", "refunded", 400, refund="r1"), fact("2", "refund_failed", refund="r1")
    for order in ([gone, back], [back, gone]):
        after = one_by_one(start, order)
        assert (after.refunded, after.refunds[0].state) == (400, "done")
        assert after.odd == ["contradiction: refund r1 told to be done, and failed"]


def test_a_dispute_is_shown_to_people() -> None:
    after = told(payment(), fact("1", "captured", 1000), fact("2", "disputed", 1000, code="fraudulent"))
    assert after.odd == ["dispute: 1000 KES, fraudulent"]


def test_a_wish_that_came_too_late_is_odd() -> None:
    after = told(payment(wanted="void"), fact("1", "captured", 1000))
    assert (after.captured, after.odd) == (1000, ["void: wanted, but it was captured"])
    assert truth.is_settled(after)


def test_a_doubt_ends_with_money_or_for_certain_without() -> None:
    doubtful = payment(in_doubt=True, state="unknown")
    assert told(doubtful).state == told(doubtful, fact("1", "pending")).state == "unknown"
    for end in ("captured", "failed", "voided"):
        after = told(doubtful, fact("1", end))
        assert (after.state, after.in_doubt, truth.is_settled(after)) == (end, False, True)


def test_a_capture_in_doubt_is_not_over_because_it_was_set_aside() -> None:
    doubtful = payment(in_doubt=True, wanted="capture", to_capture=1000, capture=False)
    after = told(doubtful, fact("1", "authorised", 1000))
    assert (after.state, truth.is_wanting(after), truth.is_settled(after)) == ("unknown", True, False)
