"""What an order may become, what may be sent, sent back and paid back: the rules, bare."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, get_args
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msingi.kit.payments.models import Payment, Refund
from msingi.products.shop.models.catalogue import Words
from msingi.products.shop.models.orders import Allocation, Entry, Order, OrderLine, Return, Shipment, State, Tax, Totals
from msingi.products.shop.rules import bookkeeping
from msingi.products.shop.rules import orders as rules

AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
STATES: tuple[State, ...] = get_args(State)
ACTS: tuple[rules.Act, ...] = get_args(rules.Act)

TABLE = """
                    confirm    fall_short  expire   cancel     withdraw   drop_rest  ship_part       ship_all  deliver
  awaiting_payment  confirmed  short       expired  cancelled  cancelled  -          -               -         -
  confirmed         -          -           -        cancelled  cancelled  -          partly_shipped  shipped   -
  partly_shipped    -          -           -        -          -          shipped    partly_shipped  shipped   -
  shipped           -          -           -        -          -          -          -               -         delivered
  delivered         -          -           -        -          -          -          -               -         -
  cancelled         -          -           -        -          -          -          -               -         -
  expired           confirmed  short       -        -          -          -          -               -         -
  short             confirmed  -           -        -          cancelled  -          -               -         -
"""


def cells() -> list[tuple[State, rules.Act, str]]:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    assert set(head) == set(ACTS)
    assert {row[0] for row in rows} == set(STATES)
    return [(row[0], act, cell) for row in rows for act, cell in zip(head, row[1:], strict=True)]  # type: ignore[misc]


@pytest.mark.parametrize(("state", "act", "wanted"), cells())
def test_each_state_and_each_act_is_in_the_table(state: State, act: rules.Act, wanted: str) -> None:
    if wanted == "-":
        with pytest.raises(rules.NotInThisState) as refused:
            rules.after(state, act)
        assert refused.value.details == {"state": state}
    else:
        assert rules.after(state, act) == wanted


def line(id: str = "1", quantity: int = 3, price: int = 1000, **more: Any) -> OrderLine:
    known: dict[str, Any] = {
        "product_id": "tea",
        "variant_id": f"v{id}",
        "sku": "TEA",
        "title": Words(en="Tea"),
        "tax": Tax("VAT", 1600, True, 0),
        "total": quantity * price,
        "allocations": [Allocation("nairobi", quantity)],
    }
    return OrderLine(id=id, quantity=quantity, price=price, **(known | more))


def order(*lines: OrderLine, **more: Any) -> Order:
    total = sum(each.total for each in lines)
    known: dict[str, Any] = {
        "number": "MS-A",
        "email": "ann@msingi.test",
        "currency": "KES",
        "totals": Totals(goods=total, discount=0, shipping=0, tax=0, tax_added=0, rounding=0, total=total),
        "held_until": AT,
    }
    return Order(lines=list(lines), **(known | more))


def payment(captured: int, *refunds: Refund, id: str = "p", **more: Any) -> Payment:
    known: dict[str, Any] = {"provider": "bank", "amount": captured, "currency": "KES", "state": "captured"}
    return Payment(id=id, purpose="shop.order:1", captured=captured, refunds=list(refunds), **(known | more))


def refund(amount: int, reason: str = "", state: Any = "approved") -> Refund:
    return Refund(id="r", amount=amount, reason=reason, asked_by="house", asked_at=AT, state=state)


# ---- names


def test_a_number_is_the_same_for_the_same_order_and_another_at_the_next_attempt() -> None:
    numbers = {rules.number_of(id, attempt) for id in ("a", "b") for attempt in (0, 1)}
    assert len(numbers) == 4
    assert rules.number_of("a") == rules.number_of("a")
    assert all(len(each) == 11 and not set(each[3:]) & set("IO01") for each in numbers)


def test_a_purpose_names_its_order_and_no_other_thing_does() -> None:
    assert rules.order_of(rules.purpose_of("06f1")) == "06f1"
    assert [rules.order_of(each) for each in ("", "06f1", "shop.order:", "jobs.fee:06f1")] == [None] * 4


@pytest.mark.parametrize(("zone", "begins"), [("Africa/Nairobi", 21), ("Africa/Lagos", 23), ("UTC", 24)])
def test_the_year_of_an_invoice_is_that_of_the_shop(zone: str, begins: int) -> None:
    begun = datetime(2026, 12, 31, tzinfo=UTC) + timedelta(hours=begins)
    assert rules.year_of(begun - timedelta(seconds=1), ZoneInfo(zone)) == 2026
    assert rules.year_of(begun, ZoneInfo(zone)) == 2027


# ---- sending


def test_no_more_leaves_a_place_than_is_allocated_there() -> None:
    split = line(quantity=5, allocations=[Allocation("nairobi", 3), Allocation("mombasa", 2)])
    with pytest.raises(rules.NotThere) as refused:
        rules.shipping(order(split), "nairobi", {"1": 4})
    assert refused.value.details == {"line_id": "1", "left": 3, "wanted": 4}
    sent = Shipment(id="s", at=AT, location_id="nairobi", lines={"1": 2})
    split.shipped = 2
    assert rules.left_at(order(split, shipments=[sent]), split, "nairobi") == 1
    assert rules.left_at(order(split, shipments=[sent]), split, "mombasa") == 2
    assert rules.left_at(order(split, shipments=[sent]), split, "kisumu") == 0


def test_what_is_not_tracked_leaves_from_anywhere() -> None:
    service = line(tracked=False, allocations=[])
    (left,) = rules.shipping(order(service), "kisumu", {"1": 3})
    assert left.shipped == 3
    assert rules.all_shipped([left])


def test_a_line_that_the_order_does_not_have_is_refused() -> None:
    with pytest.raises(rules.NoSuchLine):
        rules.shipping(order(line()), "nairobi", {"2": 1})


def test_what_is_allocated_and_has_not_left_can_be_given_back() -> None:
    split = line(quantity=5, shipped=2, allocations=[Allocation("nairobi", 3), Allocation("mombasa", 2)])
    sent = Shipment(id="s", at=AT, location_id="nairobi", lines={"1": 2})
    assert rules.unshipped(order(split, shipments=[sent])) == {("v1", "nairobi"): 1, ("v1", "mombasa"): 2}


# ---- sending back


def delivered(*lines: OrderLine, at: datetime = AT, **more: Any) -> Order:
    sent = Shipment(
        id="s", at=at, location_id="nairobi", lines={each.id: each.quantity for each in lines}, delivered_at=at
    )
    return order(*lines, shipments=[sent], state="delivered", **more)


def test_what_was_delivered_can_be_sent_back_for_fourteen_days() -> None:
    rules.check_returnable(delivered(line()), {"1": 3}, AT + timedelta(days=14))
    with pytest.raises(rules.ReturnTooLate):
        rules.check_returnable(delivered(line()), {"1": 3}, AT + timedelta(days=14, seconds=1))


@pytest.mark.parametrize(("state", "left"), [("asked", 1), ("approved", 1), ("refused", 3)])
def test_what_somebody_asked_to_send_back_cannot_be_asked_for_twice(state: Any, left: int) -> None:
    asked = Return(id="r", at=AT, lines={"1": 2}, reason="", state=state)
    with pytest.raises(rules.NotReturnable) as refused:
        rules.check_returnable(delivered(line(), returns=[asked]), {"1": left + 1}, AT)
    assert refused.value.details["left"] == left


def test_what_was_not_delivered_cannot_be_sent_back() -> None:
    with pytest.raises(rules.NotReturnable):
        rules.check_returnable(order(line(shipped=3)), {"1": 1}, AT)


@pytest.mark.parametrize(
    ("before", "wanted", "is_allowed"),
    [
        ("asked", "approved", True),
        ("asked", "refused", True),
        ("asked", "received", False),
        ("approved", "received", True),
        ("approved", "refused", True),
        ("approved", "approved", False),
        ("refused", "approved", False),
        ("refused", "received", False),
        ("received", "approved", False),
        ("received", "refused", False),
        ("received", "received", False),
    ],
)
def test_a_return_goes_forward_only(before: Any, wanted: str, is_allowed: bool) -> None:
    found = Return(id="r", at=AT, lines={}, reason="", state=before)
    if is_allowed:
        rules.deciding(found, wanted)
    else:
        with pytest.raises(rules.ReturnDecided):
            rules.deciding(found, wanted)


def test_goods_go_back_to_where_the_last_of_them_came_from() -> None:
    first = Shipment(id="a", at=AT, location_id="nairobi", lines={"1": 2})
    second = Shipment(id="b", at=AT, location_id="mombasa", lines={"1": 1})
    found = order(line(), line("2", tracked=False), shipments=[first, second])
    assert rules.origins(found, {"1": 2, "2": 1}) == {"mombasa": {"v1": 1}, "nairobi": {"v1": 1}}


# ---- money


@given(
    quantity=st.integers(1, 40),
    total=st.integers(0, 10**7),
    cuts=st.lists(st.integers(1, 10), max_size=10),
    currency=st.sampled_from(["KES", "USD", "UGX"]),
)
def test_many_small_returns_are_worth_what_one_great_one_is(
    quantity: int, total: int, cuts: list[int], currency: str
) -> None:
    whole = order(line(quantity=quantity, total=total), currency=currency)
    given_back, now = 0, whole.lines
    for cut in [*cuts, quantity]:
        part = min(cut, quantity - now[0].returned)
        after = rules.returning(order(*now, currency=currency), {"1": part})
        step = rules.refund_for(now, after, whole)
        assert step >= 0
        given_back, now = given_back + step, after
    assert given_back == rules.refund_for(whole.lines, now, whole)
    assert total - 100 < given_back <= total
    assert given_back % (100 if currency == "KES" else 1) == 0


def test_no_return_is_worth_more_than_the_order_cost() -> None:
    rounded = order(line(quantity=1, total=10_050))
    rounded.totals = Totals(goods=10_050, discount=0, shipping=0, tax=0, tax_added=0, rounding=-50, total=10_000)
    assert rules.refund_for(rounded.lines, rules.returning(rounded, {"1": 1}), rounded) == 10_000


def test_a_refund_that_failed_counts_no_more() -> None:
    paid = payment(1000, refund(300), refund(200, state="failed"), refund(100, state="refused"))
    assert rules.given_back(paid) == 300
    assert rules.secured([paid]) == 700
    assert rules.richest([paid]) == (paid, 700)


def test_what_a_bank_set_aside_secures_an_order() -> None:
    assert rules.secured([payment(0, amount=500, state="authorised")]) == 500
    assert rules.secured([payment(0, amount=500, state="pending")]) == 0


@pytest.mark.parametrize(
    ("state", "amount", "reason"),
    [
        ("awaiting_payment", 0, ""),
        ("confirmed", 3000, rules.SURPLUS),
        ("delivered", 3000, rules.SURPLUS),
        ("cancelled", 6000, rules.NO_ORDER),
        ("expired", 6000, rules.NO_ORDER),
        ("short", 6000, rules.TOO_LATE),
    ],
)
def test_what_nobody_owes_goes_back(state: Any, amount: int, reason: str) -> None:
    assert rules.surplus(order(line(), state=state), [payment(3000), payment(3000, id="q")]) == (amount, reason)


def test_what_goes_back_for_another_reason_is_no_surplus() -> None:
    bought = order(line(), state="delivered")
    assert rules.surplus(bought, [payment(3000, refund(1000, "Return r"))])[0] == 0
    assert rules.surplus(bought, [payment(3000, refund(1000, "Return r")), payment(3000, id="q")])[0] == 3000
    assert rules.surplus(bought, [payment(3000), payment(3000, refund(3000, rules.SURPLUS), id="q")])[0] == 0
    assert rules.surplus(bought, [payment(1000, refund(1000, rules.NO_ORDER)), payment(3000, id="q")])[0] == 0


def test_money_goes_back_the_way_the_last_of_it_came() -> None:
    first, last = payment(3000, id="1"), payment(3000, refund(1000), id="2")
    for each in permutations([first, last]):
        assert rules.spread(2500, each) == [(last, 2000), (first, 500)]
    assert rules.spread(9999, [first]) == [(first, 3000)]


def test_one_who_alone_approved_and_received_needs_another() -> None:
    found = Return(id="r", at=AT, lines={}, reason="", approved_by="ann", received_by="ann")
    assert rules.is_by_one(found)
    found = Return(id="r", at=AT, lines={}, reason="", approved_by="ann", received_by="bob")
    assert not rules.is_by_one(found)


# ---- how it reads


@pytest.mark.parametrize("language", ["en", "sw"])
@pytest.mark.parametrize("kind", sorted(rules.TEXTS))
def test_each_line_of_the_history_reads_in_both_languages(kind: str, language: str) -> None:
    words = rules.TEXTS[kind]
    assert words.en
    assert words.sw
    assert words.en != words.sw
    details = {
        "amount": "129900",
        "provider": "mpesa",
        "reason": "{x} %s",
        "count": "1",
        "all": "2",
        "carrier": "G4S",
        "code": "x",
    }
    said = Entry(id="e", at=AT, kind=kind, details=details)
    text = rules.text_of(said, "KES", language)
    assert "{" not in text.replace("{x}", "")
    if "{amount}" in words.en:
        assert "1,299.00" in text


# ---- the ledger


@given(
    amounts=st.lists(
        st.tuples(st.integers(1, 50), st.integers(0, 10**6), st.integers(0, 10**5), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    shipping=st.integers(0, 10**5),
    shipping_tax=st.integers(0, 10**4),
    is_added=st.booleans(),
    rounding=st.integers(-99, 0),
)
def test_p3_whatever_an_order_is_made_of_its_postings_add_up_to_nothing(
    amounts: list[tuple[int, int, int, bool]], shipping: int, shipping_tax: int, is_added: bool, rounding: int
) -> None:
    lines = [
        line(str(number), quantity, worth // quantity, total=worth, tax=Tax("VAT", 1600, included, tax))
        for number, (quantity, worth, tax, included) in enumerate(amounts, 1)
    ]
    found = order(*lines, shipping_tax=Tax("VAT", 1600, not is_added, shipping_tax))
    carried = shipping + (shipping_tax if is_added else 0)
    found.totals = Totals(
        goods=sum(each.total for each in lines),
        discount=0,
        shipping=shipping,
        tax=0,
        tax_added=shipping_tax if is_added else 0,
        rounding=rounding,
        total=sum(each.total for each in lines) + carried + rounding,
    )
    found.timeline = [Entry(id="e", at=AT, kind="confirmed")]
    sent_back = Return(id="r", at=AT, lines={"1": 1}, reason="", state="received", refund=lines[0].total // 3)
    found.returns = [sent_back]
    paid = [payment(found.totals.total, msgspec.structs.replace(refund(70, state="done"), told=70, asked_by="ann"))]
    for state in ("confirmed", "cancelled"):
        found.state = state
        kept = bookkeeping.of_order(found, paid)
        assert all(sum(each.amount for each in posting.lines) == 0 for posting in kept)
        assert len({posting.id for posting in kept}) == len(kept) > 2
        owed = sum(each.amount for posting in kept for each in posting.lines if each.account.startswith("receivable:"))
        assert owed == (0 if state == "cancelled" else found.totals.total - 70 - sent_back.refund)


def test_what_was_never_confirmed_earns_nothing() -> None:
    assert bookkeeping.of_order(order(line(), state="expired"), [payment(3000)]) == []
