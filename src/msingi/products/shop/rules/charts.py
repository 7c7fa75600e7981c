"""The arithmetic of charts: round numbers for an axis, and where things lie on it, in pixels from the top left."""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from msgspec import Struct

from msingi.kit.money import rounded

ROUND = (1, 2, 5)  # and ten times, a hundred times these
GAP = 0.25  # of what each bar has for itself


class Axis(Struct, frozen=True):
    """An axis with nothing on it, from the first of its ticks to the last."""

    ticks: tuple[int, ...]

    def part(self, value: int) -> float:
        """How far up a value lies: 0 at the low end, 1 at the high end."""
        low, high = self.ticks[0], self.ticks[-1]
        return (value - low) / (high - low)


class Box(Struct, frozen=True):
    """Where the bars and lines are drawn."""

    left: float
    top: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def height_of(self, value: int, axis: Axis) -> float:
        """Where a value lies, from the top."""
        return round(self.bottom - axis.part(value) * self.height, 1)


class Bar(Struct, frozen=True):
    """A bar, which stands on nothing or hangs from it; `middle` is that of all that it has for itself, `room`."""

    x: float
    y: float
    width: float
    height: float
    middle: float
    room: float


def axis(values: Iterable[int], *, unit: int = 1, about: int = 4) -> Axis:
    """An axis for these values and nothing, with no more than `about` + 2 ticks at round numbers of `unit`s."""
    all_of_them = [0, *values]
    low, high = min(all_of_them), max(all_of_them)
    step = unit * round_number(-(-(high - low) // (about * unit)))
    first, last = low // step, max(-(-high // step), low // step + 1)
    return Axis(tuple(number * step for number in range(first, last + 1)))


def round_number(least: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, 100 … that is no less."""
    size = 1
    while True:
        for each in ROUND:
            if each * size >= least:
                return each * size
        size *= 10


def bars(values: Sequence[int], axis: Axis, box: Box) -> list[Bar]:
    """A bar for each value, side by side."""
    room = box.width / max(len(values), 1)
    ground = box.height_of(0, axis)
    found = []
    for number, value in enumerate(values):
        end = box.height_of(value, axis)
        found.append(
            Bar(
                x=round(box.left + room * (number + GAP / 2), 1),
                y=min(end, ground),
                width=round(room * (1 - GAP), 1),
                height=round(abs(end - ground), 1),
                middle=round(box.left + room * (number + 0.5), 1),
                room=round(room, 1),
            )
        )
    return found


def marks(values: Sequence[int | None], axis: Axis, drawn: Sequence[Bar], box: Box) -> list[tuple[float, float, float]]:
    """A short level line for each value, as wide as the bar that it is to be compared with: from x, to x, and y."""
    return [
        (bar.x, round(bar.x + bar.width, 1), box.height_of(value, axis))
        for value, bar in zip(values, drawn, strict=True)
        if value is not None
    ]


def labelled(count: int, most: int) -> range:
    """Which of so many steps are named where there is room for `most` names: at even distances, the last one always."""
    every = -(-count // most) or 1
    return range((count - 1) % every, count, every)


def share(value: int, most: int) -> float:
    """So many percent of the most, to draw: what there is shows, however little."""
    if value <= 0 or most <= 0:
        return 0.0
    return max(round(100 * value / most, 1), 0.5)


def percent(value: int, of: int) -> int | None:
    """So many percent, rounded; None of nothing."""
    return rounded(Fraction(100 * value, of)) if of else None


def change(now: int, before: int) -> int | None:
    """By how many percent it is more than before; None where nothing was before, or less."""
    return percent(now - before, before) if before > 0 else None
