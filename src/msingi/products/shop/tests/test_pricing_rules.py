"""The arithmetic of prices: every law of docs/contracts/shop-cart.md, on any cart whatever."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from msingi.products.shop.models.pricing import Coupon, ShippingMethod, TaxRate
from msingi.products.shop.rules import coupons as coupon_rules
from msingi.products.shop.rules import pricing
from msingi.products.shop.rules.coupons import BadCoupon, Standing
from msingi.products.shop.rules.pricing import BadShipping, Priced, price

AT = datetime(2026, 6, 1, tzinfo=UTC)


class Thing(Struct, frozen=True):
    """Something to be sold, with no more to it than a price needs."""

    variant_id: str
    price: int
    weight: int = 0
    tax_class: str = "standard"
    category_ids: tuple[str, ...] = ()


def standing(code: str = "CODE", kind: Any = "percent", value: int = 0, **more: Any) -> Standing:
    held, own = more.pop("held", 0), more.pop("own", 0)
    if kind == "amount":
        more.setdefault("currency", "KES")
    return Standing(coupon=Coupon(id=code, kind=kind, value=value, **more), at=AT, held=held, own=own)


def rate(per: int, *, included: bool = True, tax_class: str = "standard") -> TaxRate:
    return TaxRate(country="KE", tax_class=tax_class, rate=per, included=included)


def taxes(*rates: TaxRate) -> dict[str, TaxRate]:
    return {each.tax_class: each for each in rates}


def courier(**more: Any) -> ShippingMethod:
    given = {"prices": {"KES": [(1_000, 35_000), (10_000, 60_000)]}, "countries": ["KE"], **more}
    return ShippingMethod(id="courier", name="Courier", **given)


def reasons(priced: Priced[Any]) -> list[tuple[str, str]]:
    return [(each.details["coupon"], each.details["reason"]) for each in priced.notices]


# ---- whatever is bought

KINDS = st.sampled_from(["percent", "amount", "free_shipping"])
THINGS = st.builds(
    Thing,
    variant_id=st.just("x"),
    price=st.integers(0, 10**9),
    weight=st.integers(0, 300),
    tax_class=st.sampled_from(["standard", "zero", "unknown"]),
    category_ids=st.sampled_from([(), ("a",), ("a", "b")]),
)
LINES = st.lists(st.tuples(THINGS, st.integers(1, 1000)), max_size=12)
CURRENCIES = st.sampled_from(["KES", "USD", "UGX", "TZS"])


@st.composite
def any_coupons(draw: st.DrawFn) -> list[Standing]:
    found = []
    for number in range(draw(st.integers(0, 4))):
        kind = draw(KINDS)
        most = {"percent": 10_000, "amount": 10**9, "free_shipping": 0}[kind]
        found.append(
            standing(
                f"C{number}",
                kind,
                draw(st.integers(min(1, most), most)),
                stacks=draw(st.booleans()),
                priority=draw(st.integers(0, 2)),
                category_ids=draw(st.sampled_from([[], ["a"], ["b"]])),
                currency=draw(CURRENCIES) if kind == "amount" else None,
            )
        )
    return found


@st.composite
def any_taxes(draw: st.DrawFn) -> dict[str, TaxRate]:
    included = draw(st.booleans())
    return taxes(rate(draw(st.integers(0, 3000)), included=included), rate(0, tax_class="zero"))


SHIPPING = st.one_of(
    st.none(),
    st.builds(
        lambda cost, free: courier(
            prices={each: [(10**9, cost)] for each in ("KES", "USD", "UGX", "TZS")},
            free_from={"KES": free} if free else {},
        ),
        st.integers(0, 10**6),
        st.sampled_from([0, 1000, 10**6]),
    ),
)


@settings(max_examples=300, deadline=None)
@given(LINES, CURRENCIES, any_taxes(), any_coupons(), SHIPPING)
def test_p3_the_parts_are_always_the_whole_and_nothing_is_negative(
    lines: list[tuple[Thing, int]],
    currency: str,
    there: dict[str, TaxRate],
    coupons: list[Standing],
    shipping: ShippingMethod | None,
) -> None:
    found = price(lines, currency, there, coupons=coupons, shipping=shipping)
    totals = found.totals
    assert totals.goods == sum(thing.price * quantity for thing, quantity in lines)
    assert totals.discount == sum(each.discount for each in found.lines)
    assert totals.tax == sum(each.tax.amount for each in found.lines) + found.shipping_tax.amount
    expected = totals.goods - totals.discount + totals.shipping + totals.tax_added + totals.rounding
    assert totals.total == expected
    for each in found.lines:
        net = each.quantity * each.price - each.discount
        assert 0 <= each.discount <= each.quantity * each.price
        assert each.total == net + (0 if each.tax.included else each.tax.amount)
        assert 0 <= each.tax.amount <= max(each.total, 0)
    lines_and_shipping = sum(each.total for each in found.lines) + totals.shipping
    assert totals.total == lines_and_shipping + totals.rounding + (
        0 if found.shipping_tax.included else found.shipping_tax.amount
    )
    step = pricing.WHOLE.get(currency, 1)
    assert totals.total >= 0
    assert totals.total % step == 0
    assert -step < totals.rounding <= 0
    assert min(totals.goods, totals.discount, totals.shipping, totals.tax, totals.tax_added) >= 0


@settings(max_examples=200, deadline=None)
@given(LINES, any_taxes(), any_coupons(), SHIPPING)
def test_no_other_set_of_coupons_would_have_been_cheaper(
    lines: list[tuple[Thing, int]], there: dict[str, TaxRate], coupons: list[Standing], shipping: ShippingMethod | None
) -> None:
    total = price(lines, "KES", there, coupons=coupons, shipping=shipping).totals.total
    assert total <= price(lines, "KES", there, shipping=shipping).totals.total
    for each in coupons:
        assert total <= price(lines, "KES", there, coupons=[each], shipping=shipping).totals.total
    stacking = [each for each in coupons if each.coupon.stacks]
    assert total <= price(lines, "KES", there, coupons=stacking, shipping=shipping).totals.total


@settings(max_examples=200, deadline=None)
@given(LINES, any_taxes(), any_coupons())
def test_coupons_that_are_used_may_stand_together_and_each_is_used_or_named(
    lines: list[tuple[Thing, int]], there: dict[str, TaxRate], coupons: list[Standing]
) -> None:
    found = price(lines, "KES", there, coupons=coupons)
    used = [each.coupon for each in coupons if each.coupon.id in found.coupons]
    assert len(used) <= 1 or all(each.stacks for each in used)
    assert sorted([*found.coupons, *(code for code, _ in reasons(found))]) == sorted(each.coupon.id for each in coupons)


# ---- discounts


def test_a_discount_is_shared_by_largest_remainder_and_the_earlier_line_has_the_odd_one() -> None:
    lines = [(Thing("a", 100), 1), (Thing("b", 100), 1), (Thing("c", 100), 1)]
    found = price(lines, "USD", taxes(), coupons=[standing(kind="amount", value=100, currency="USD")])
    assert [each.discount for each in found.lines] == [34, 33, 33]


def test_a_discount_falls_only_on_the_goods_that_it_is_for() -> None:
    lines = [(Thing("tea", 1000, category_ids=("hot", "drinks")), 2), (Thing("radio", 5000), 1)]
    found = price(lines, "USD", taxes(), coupons=[standing(value=5000, category_ids=["drinks"])])
    assert [each.discount for each in found.lines] == [1000, 0]
    found = price(lines[1:], "USD", taxes(), coupons=[standing(value=5000, category_ids=["drinks"])])
    assert (found.totals.discount, reasons(found)) == (0, [("CODE", "no_goods")])


def test_an_amount_never_takes_off_more_than_there_is() -> None:
    found = price([(Thing("a", 300), 1)], "KES", taxes(rate(1600)), coupons=[standing(kind="amount", value=50_000)])
    assert (found.totals.discount, found.totals.total, found.totals.tax) == (300, 0, 0)


def test_coupons_are_taken_off_one_after_the_other_by_priority_and_then_by_code() -> None:
    lines = [(Thing("a", 10_000), 1)]
    percent = standing("PERCENT", value=1000, stacks=True, priority=1)
    amount = standing("AMOUNT", "amount", 1000, stacks=True, priority=0)
    assert price(lines, "KES", taxes(), coupons=[percent, amount]).totals.discount == 1000 + 900
    amount.coupon.priority = 2
    found = price(lines, "KES", taxes(), coupons=[amount, percent])
    assert (found.totals.discount, found.coupons) == (1000 + 1000, ["PERCENT", "AMOUNT"])


def test_what_does_not_stack_stands_alone_if_that_is_cheaper() -> None:
    lines = [(Thing("a", 10_000), 1)]
    stacking = [standing("ONE", value=1000, stacks=True), standing("TWO", value=1000, stacks=True)]
    found = price(lines, "USD", taxes(), coupons=[*stacking, standing("ALONE", value=1500)])
    assert (found.coupons, found.totals.discount, reasons(found)) == (
        ["ONE", "TWO"],
        1900,
        [("ALONE", "does_not_stack")],
    )
    found = price(lines, "USD", taxes(), coupons=[*stacking, standing("ALONE", value=2000)])
    assert (found.coupons, found.totals.discount) == (["ALONE"], 2000)
    assert reasons(found) == [("ONE", "does_not_stack"), ("TWO", "does_not_stack")]


def test_of_equally_cheap_sets_the_one_whose_first_coupon_comes_first_is_taken() -> None:
    lines = [(Thing("a", 10_000), 1)]
    both = [standing("B", value=1000, priority=1), standing("C", value=1000, priority=0)]
    assert price(lines, "USD", taxes(), coupons=both).coupons == ["C"]


def test_a_coupon_that_takes_nothing_off_is_not_used_up() -> None:
    free = standing("SAFARI", "free_shipping")
    lines = [(Thing("a", 10_000, weight=500), 1)]
    assert price(lines, "KES", taxes(), coupons=[free]).coupons == ["SAFARI"]  # shipping is not chosen yet
    found = price(lines, "KES", taxes(), coupons=[free], shipping=courier())
    assert (found.coupons, found.totals.shipping, found.totals.total) == (["SAFARI"], 0, 10_000)
    found = price(lines, "KES", taxes(), coupons=[free], shipping=courier(free_from={"KES": 10_000}))
    assert (found.coupons, reasons(found)) == ([], [("SAFARI", "takes_nothing_off")])


@pytest.mark.parametrize(
    ("coupon", "reason"),
    [
        (standing(value=1000, closed=True), "closed"),
        (standing(value=1000, starts_at=AT + timedelta(seconds=1)), "not_yet"),
        (standing(value=1000, ends_at=AT), "ended"),
        (standing(value=1000, limit=3, spent=2, held=1), "used_up"),
        (standing(value=1000, limit_each=2, own=2), "used_by_you"),
        (standing(value=1000, currency="USD"), "other_currency"),
        (standing(value=1000, currency="KES", minimum=10_001), "below_minimum"),
        (standing(value=1000, category_ids=["shoes"]), "no_goods"),
    ],
)
def test_a_coupon_that_cannot_be_used_is_named_with_its_reason(coupon: Standing, reason: str) -> None:
    found = price([(Thing("a", 10_000), 1)], "KES", taxes(), coupons=[coupon])
    assert (found.totals.discount, found.coupons, reasons(found)) == (0, [], [("CODE", reason)])


def test_a_coupon_at_its_very_limits_can_be_used() -> None:
    edge = standing(
        value=1000,
        starts_at=AT,
        ends_at=AT + timedelta(milliseconds=1),
        limit=3,
        spent=1,
        held=1,
        limit_each=2,
        own=1,
        currency="KES",
        minimum=10_000,
    )
    assert price([(Thing("a", 10_000), 1)], "KES", taxes(), coupons=[edge]).totals.discount == 1000


# ---- tax


def test_tax_is_rounded_half_away_from_zero_line_by_line() -> None:
    lines = [(Thing("a", 1160), 1), (Thing("b", 999), 1), (Thing("c", 33), 1)]
    within = price(lines, "USD", taxes(rate(1600)))
    assert [each.tax.amount for each in within.lines] == [160, 138, 5]  # 137.79…, 4.55…
    assert (within.totals.tax, within.totals.tax_added, within.totals.total) == (303, 0, 2192)
    added = price(lines, "USD", taxes(rate(1600, included=False)))
    assert [each.tax.amount for each in added.lines] == [186, 160, 5]  # 185.6, 159.84, 5.28
    assert (added.totals.tax, added.totals.tax_added, added.totals.total) == (351, 351, 2192 + 351)
    half = price([(Thing("a", 25), 1)], "USD", taxes(rate(1000, included=False)))
    assert half.totals.tax == 3  # 2.5


def test_tax_is_of_what_is_left_after_the_discount() -> None:
    found = price([(Thing("a", 11_600), 1)], "USD", taxes(rate(1600)), coupons=[standing(value=5000)])
    assert (found.lines[0].tax.amount, found.lines[0].total) == (800, 5800)


def test_where_no_rate_is_known_there_is_no_tax() -> None:
    found = price([(Thing("a", 11_600), 1)], "USD", {})
    assert (found.totals.tax, found.totals.total, found.lines[0].tax) == (0, 11_600, pricing.UNTAXED)


def test_tax_on_shipping_is_in_the_totals_too() -> None:
    lines = [(Thing("a", 10_000, weight=900), 1)]
    within = price(lines, "KES", taxes(rate(1600)), shipping=courier())
    assert (within.totals.tax, within.totals.total) == (1379 + 4828, 45_000)
    added = price(lines, "KES", taxes(rate(1600, included=False)), shipping=courier())
    assert (added.totals.tax_added, added.totals.total) == (1600 + 5600, 45_000 + 7200)


# ---- rounding of the total


@pytest.mark.parametrize(
    ("currency", "rounding", "total"), [("KES", -99, 12_300), ("TZS", -99, 12_300), ("USD", 0, 12_399)]
)
def test_what_is_paid_in_whole_shillings_is_rounded_down(currency: str, rounding: int, total: int) -> None:
    totals = price([(Thing("a", 12_399), 1)], currency, taxes()).totals
    assert (totals.rounding, totals.total, totals.goods) == (rounding, total, 12_399)


# ---- shipping


@pytest.mark.parametrize(
    ("weight", "cost"), [(0, 35_000), (1_000, 35_000), (1_001, 60_000), (10_000, 60_000), (10_001, None)]
)
def test_shipping_costs_what_the_first_step_says_that_is_heavy_enough(weight: int, cost: int | None) -> None:
    assert pricing.shipping_cost(courier(), "KES", weight, 0) == cost


def test_shipping_is_free_from_an_amount_that_is_reckoned_after_discounts() -> None:
    method = courier(free_from={"KES": 10_000})
    lines = [(Thing("a", 10_000, weight=1), 1)]
    assert price(lines, "KES", taxes(), shipping=method).totals.shipping == 0
    less = standing(kind="amount", value=100)
    assert price(lines, "KES", taxes(), shipping=method, coupons=[less]).totals.shipping == 35_000


@pytest.mark.parametrize(
    ("method", "country", "town", "weight", "reason"),
    [
        (courier(), "KE", "Kisumu", 10, None),
        (courier(towns=["Nairobi"]), "KE", " nairobi ", 10, None),
        (courier(towns=["Nairobi"]), "KE", "Kisumu", 10, "elsewhere"),
        (courier(), "TZ", "Arusha", 10, "elsewhere"),
        (courier(), "KE", "Kisumu", 10_001, "too_heavy"),
        (courier(prices={"USD": [(1, 1)]}), "KE", "Kisumu", 10, "other_currency"),
        (courier(closed=True), "KE", "Kisumu", 10, "unknown"),
        (None, "KE", "Kisumu", 10, "unknown"),
    ],
)
def test_goods_go_only_where_and_how_a_way_of_shipping_takes_them(
    method: ShippingMethod | None, country: str, town: str, weight: int, reason: str | None
) -> None:
    assert pricing.refused_shipping(method, "KES", country, town, weight) == reason


# ---- what makes no sense


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "percent", "value": 0},
        {"kind": "percent", "value": 10_001},
        {"kind": "amount", "value": 0, "currency": "KES"},
        {"kind": "amount", "value": 100},
        {"kind": "percent", "value": 100, "minimum": 5},
        {"kind": "free_shipping", "value": 5},
        {"kind": "free_shipping", "starts_at": AT, "ends_at": AT},
    ],
)
def test_a_coupon_that_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(BadCoupon):
        coupon_rules.check_coupon(Coupon(id="X", **bad))


@pytest.mark.parametrize(
    "bad",
    [
        {"prices": {"KES": []}},
        {"prices": {"KES": [(10, 1), (10, 2)]}},
        {"prices": {"KES": [(10, 1), (5, 2)]}},
        {"free_from": {"USD": 5}},
        {"kind": "pick_up"},
        {"location_id": "nairobi"},
        {"days": (3, 1)},
    ],
)
def test_a_way_of_shipping_that_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(BadShipping):
        pricing.check_shipping(courier(**bad))
