"""What may be said and done about stock, bare."""

import pytest

from msingi.kit.drift import Drift
from msingi.kit.ids import new_id, time_of
from msingi.products.shop.models.stock import place_of, stock_id
from msingi.products.shop.rules.stock import (
    BadVariants,
    Place,
    Sums,
    drifts,
    in_order,
    is_low,
    level,
    own,
    receipt,
    variants_asked,
)


@pytest.mark.parametrize(
    ("left", "told"), [(-1, "none"), (0, "none"), (1, "few"), (3, "few"), (4, "in_stock"), (10**9, "in_stock")]
)
def test_guests_hear_roughly_how_much_there_is(left: int, told: str) -> None:
    assert level(left) == told


@pytest.mark.parametrize(
    ("unsold", "low_at", "low"), [(0, 0, False), (5, 0, False), (5, 5, True), (6, 5, False), (0, 1, True)]
)
def test_stock_is_low_at_its_threshold_and_never_without_one(unsold: int, low_at: int, low: bool) -> None:
    assert is_low(unsold, low_at) is low


def test_variants_are_asked_for_each_once_and_in_their_order() -> None:
    assert variants_asked("b, a,,b ,c") == ["b", "a", "c"]
    assert len(variants_asked(",".join(map(str, range(100))))) == 100


@pytest.mark.parametrize("text", ["", " , ", ",".join(map(str, range(101)))])
def test_no_variant_or_too_many_are_refused(text: str) -> None:
    with pytest.raises(BadVariants):
        variants_asked(text)


def test_a_receipt_is_the_same_each_time_and_another_for_anything_else() -> None:
    order, other = new_id(), new_id()
    assert receipt(order, "a.b") == receipt(order, "a.b")
    assert len({receipt(order, "a.b"), receipt(order, "a.c"), receipt(other, "a.b")}) == 3


def test_a_receipt_is_an_id_of_the_orders_time() -> None:
    order = new_id()
    assert len(receipt(order, "a.b")) == len(order)
    assert abs((time_of(receipt(order, "a.b")) - time_of(order)).total_seconds()) < 1


def test_a_stock_tells_its_variant_and_its_place_even_if_the_variant_has_full_stops() -> None:
    assert place_of(stock_id("tea.250.g", "nairobi")) == ("tea.250.g", "nairobi")


def test_everybody_takes_in_the_same_order() -> None:
    assert in_order([("b", "x"), ("a", "y"), ("a", "x"), ("b", "x")]) == [("a", "x"), ("a", "y"), ("b", "x")]


def test_an_orders_own_places_are_those_where_it_holds_something() -> None:
    assert own({"tea": [Place("x", 2), Place("y")], "salt": [Place("y", 1)]}) == [("tea", "x"), ("salt", "y")]


def test_each_drift_is_named() -> None:
    derived = {"a": Sums(5, 1), "b": Sums(2, 0), "gone": Sums(1, 0)}
    found = {"a": Sums(5, 1), "b": Sums(3, 1), "new": Sums(0, 0)}
    assert drifts(derived, found) == [
        Drift("stock_on_hand", "b", 2, 3),
        Drift("stock_allocated", "b", 0, 1),
        Drift("stock_on_hand", "gone", 1, 0),
    ]
