from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msingi.kit import money
from msingi.kit.money import CurrencyMismatch, Money

amounts = st.integers(-(10**13), 10**13)
rates = st.integers(0, 10_000)
weights = st.lists(st.integers(0, 10**6), min_size=1, max_size=30)


# ---- the first law: what is computed is rounded half away from zero


@pytest.mark.parametrize(
    ("value", "whole"),
    [("5/2", 3), ("-5/2", -3), ("1/2", 1), ("-1/2", -1), ("7/3", 2), ("8/3", 3), ("-7/3", -2), ("0", 0), ("4", 4)],
)
def test_a_half_goes_away_from_zero(value: str, whole: int) -> None:
    assert money.rounded(Fraction(value)) == whole


@given(amounts, st.integers(1, 10**6))
def test_rounding_is_that_of_decimal_arithmetic(over: int, under: int) -> None:
    value = Fraction(over, under)
    exact = (value * 2).denominator == 1 or abs(value * 2 - round(value * 2)) > 0
    assert exact
    assert abs(value - money.rounded(value)) <= Fraction(1, 2)
    assert money.rounded(-value) == -money.rounded(value)
    if under in (1, 2, 4, 5, 8, 10, 16, 20, 25, 100, 1000):
        assert money.rounded(value) == int((Decimal(over) / under).quantize(Decimal(1), ROUND_HALF_UP))


@given(amounts, rates)
def test_a_part_differs_from_the_exact_one_by_half_a_unit_at_most(amount: int, rate: int) -> None:
    assert abs(money.part(amount, rate) - Fraction(amount * rate, 10_000)) <= Fraction(1, 2)
    assert money.part(-amount, rate) == -money.part(amount, rate)


@given(st.integers(0, 10**12), rates)
def test_tax_that_was_added_is_the_tax_that_is_contained(net: int, rate: int) -> None:
    tax = money.part(net, rate)
    assert money.part_within(net + tax, rate) == tax


@given(st.integers(0, 10**12), rates)
def test_what_is_contained_is_never_more_than_the_whole(gross: int, rate: int) -> None:
    assert 0 <= money.part_within(gross, rate) <= gross
    assert abs(money.part_within(gross, rate) - Fraction(gross * rate, 10_000 + rate)) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("gross", "tax"), [(1160, 160), (116, 16), (100, 14), (1, 0), (4, 1), (0, 0), (99_999, 13_793)]
)
def test_kenyan_tax_within_a_price(gross: int, tax: int) -> None:
    assert money.part_within(gross, 1600) == tax


# ---- the second law: what is shared out is shared by largest remainder


@given(amounts, weights)
def test_the_parts_are_always_the_whole(amount: int, weights: list[int]) -> None:
    parts = money.shared(amount, weights)
    assert (sum(parts), len(parts)) == (amount, len(weights))


@given(amounts, weights)
def test_a_share_differs_from_the_exact_one_by_less_than_a_unit(amount: int, weights: list[int]) -> None:
    exact = weights if sum(weights) else [1] * len(weights)
    for part, weight in zip(money.shared(amount, weights), exact, strict=True):
        assert abs(part - Fraction(amount * weight, sum(exact))) < 1


@given(amounts, weights)
def test_what_goes_back_is_shared_as_what_came(amount: int, weights: list[int]) -> None:
    assert money.shared(-amount, weights) == [-each for each in money.shared(amount, weights)]


@given(st.integers(0, 10**9), weights)
def test_who_weighs_more_never_gets_less(amount: int, weights: list[int]) -> None:
    by_weight = sorted(zip(weights, money.shared(amount, weights), strict=True))
    for (light, less), (heavy, more) in pairwise(by_weight):
        assert less <= more or light == heavy


def test_the_earlier_of_equals_gets_the_odd_unit() -> None:
    assert money.shared(100, [1, 1, 1]) == [34, 33, 33]
    assert money.shared(-100, [1, 1, 1]) == [-34, -33, -33]
    assert money.shared(2, [0, 0, 0]) == [1, 1, 0]
    assert money.shared(5, [0, 1]) == [0, 5]
    assert money.shared(10, [3, 3, 4]) == [3, 3, 4]


def test_the_largest_remainder_comes_first() -> None:
    assert money.shared(10, [1, 6]) == [1, 9]  # 1.43 and 8.57
    assert money.shared(7, [5, 1, 1]) == [5, 1, 1]
    assert money.shared(3, [5, 3, 2]) == [1, 1, 1]  # of 1.5, 0.9 and 0.6 the last two are rounded up


@pytest.mark.parametrize("weights", [[], [1, -1], [-1]])
def test_shares_need_weights(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        money.shared(100, weights)


# ---- money


@given(amounts, amounts)
def test_money_adds_up_exactly(one: int, other: int) -> None:
    kes, more = Money(one, "KES"), Money(other, "KES")
    assert (kes + more) - more == kes
    assert money.total([kes, more, -kes], "KES") == more
    assert (kes < more) == (one < other)
    assert (kes <= more) == (one <= other)


def test_currencies_are_not_mixed() -> None:
    kes, usd = Money(1, "KES"), Money(1, "USD")
    for mix in (lambda: kes + usd, lambda: kes - usd, lambda: kes < usd, lambda: kes <= usd):
        with pytest.raises(CurrencyMismatch, match="KES and USD"):
            mix()
    with pytest.raises(CurrencyMismatch):
        money.total([usd], "KES")
    assert kes != usd
    assert money.total([], "KES") == Money(0, "KES")


def test_currencies_are_those_of_the_standard() -> None:
    assert money.is_currency("KES")
    assert not money.is_currency("KSH")
    assert not money.is_currency("kes")
    assert [money.decimals(code) for code in ("KES", "USD", "UGX", "JPY", "KWD")] == [2, 2, 0, 0, 3]


def test_money_is_shown_as_people_write_it() -> None:
    shown = [money.shown(Money(129_900, each)) for each in ("KES", "USD", "UGX", "KWD", "XQQ")]
    assert shown == ["Ksh1,299.00", "US$1,299.00", "UGX129,900", "KWD129.900", "XQQ1,299.00"]
    assert money.shown(Money(-129_900, "KES"), "sw") == "-Ksh\xa01,299.00"
    assert money.shown(Money(10**13 + 1, "KES"), "unheard of") == "Ksh100,000,000,000.01"
