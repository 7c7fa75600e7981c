"""The arithmetic of charts: ticks are round and hold all, bars stand on nothing, labels keep their distance."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msingi.products.shop.rules.charts import Box, axis, bars, change, labelled, marks, percent, round_number, share

VALUES = st.lists(st.integers(-(10**11), 10**11), max_size=40)
BOX = Box(left=50, top=10, width=400, height=200)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([], (0, 1)),
        ([0, 0], (0, 1)),
        ([3], (0, 1, 2, 3)),
        ([37, 12], (0, 10, 20, 30, 40)),
        ([41], (0, 20, 40, 60)),
        ([100], (0, 50, 100)),
        ([90, -30], (-50, 0, 50, 100)),
        ([-3], (-3, -2, -1, 0)),
    ],
)
def test_ticks_are_round_numbers_around_all_values(values: list[int], ticks: tuple[int, ...]) -> None:
    assert axis(values).ticks == ticks


def test_ticks_of_money_are_whole_units_of_it() -> None:
    assert axis([129_950], unit=100).ticks == (0, 50_000, 100_000, 150_000)
    assert axis([40], unit=100).ticks == (0, 100)


@given(VALUES, st.sampled_from([1, 100]))
def test_an_axis_holds_all_its_values_and_nothing_and_has_few_ticks(values: list[int], unit: int) -> None:
    ticks = axis(values, unit=unit).ticks
    assert ticks[0] <= min([0, *values])
    assert ticks[-1] >= max([0, *values])
    assert 0 in ticks
    assert 2 <= len(ticks) <= 6
    (step,) = {after - before for before, after in pairwise(ticks)}
    assert step % unit == 0
    assert str(step // unit).rstrip("0") in ("1", "2", "5")


@given(st.integers(0, 10**15))
def test_a_round_number_is_the_next_one(least: int) -> None:
    found = round_number(least)
    assert found >= least
    assert found == 1 or found < 2.5 * least + 1


@given(VALUES)
def test_bars_lie_in_their_box_and_reach_from_nothing_to_their_value(values: list[int]) -> None:
    scale = axis(values)
    ground = BOX.height_of(0, scale)
    drawn = bars(values, scale, BOX)
    assert len(drawn) == len(values)
    for value, bar in zip(values, drawn, strict=True):
        assert BOX.left <= bar.x
        assert bar.x + bar.width <= BOX.left + BOX.width + 0.2
        assert BOX.top - 0.1 <= bar.y
        assert bar.y + bar.height <= BOX.bottom + 0.2
        assert (bar.y if value < 0 else bar.y + bar.height) == pytest.approx(ground, abs=0.11)
        assert (bar.y + bar.height if value < 0 else bar.y) == pytest.approx(BOX.height_of(value, scale), abs=0.11)


def test_bars_are_as_high_as_their_values() -> None:
    one, two = bars([100, 50], axis([100, 50]), BOX)
    assert (one.y, one.height, one.middle) == (10, 200, 150)
    assert (two.y, two.height, two.middle) == (110, 100, 350)
    assert one.x + one.width < two.x


def test_marks_lie_across_the_bars_that_they_are_compared_with() -> None:
    scale = axis([100, 50])
    drawn = bars([100, 50], scale, BOX)
    assert marks([50, 100], scale, drawn, BOX) == [(75.0, 225.0, 110.0), (275.0, 425.0, 10.0)]
    assert marks([None, 0], scale, drawn, BOX) == [(275.0, 425.0, 210.0)]


@given(st.integers(1, 1200), st.integers(1, 20))
def test_labels_are_few_evenly_spaced_and_the_last_is_there(count: int, most: int) -> None:
    found = labelled(count, most)
    assert 1 <= len(found) <= most
    assert found[-1] == count - 1
    assert found[0] >= 0


def test_shares_and_changes_are_what_a_person_reckons() -> None:
    assert (share(50, 200), share(1, 10_000), share(0, 10), share(5, 0)) == (25.0, 0.5, 0.0, 0.0)
    assert (percent(1, 3), percent(1, 8), percent(5, 0)) == (33, 13, None)
    assert (change(150, 100), change(50, 100), change(5, 0), change(5, -10)) == (50, -50, None, None)
