"""Charts as the templates draw them: every place, label and tooltip, for a wide screen and for a narrow one."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from msingi.products.shop.rules.charts import Axis, Bar, Box, axis, bars, labelled, marks


class Size(Struct, frozen=True):
    """How large a chart is, in its own pixels, and how many names fit below it."""

    name: str
    width: int
    height: int
    left: int  # for the labels of the axis
    names: int

    @property
    def box(self) -> Box:
        return Box(left=self.left, top=30, width=self.width - self.left - 4, height=self.height - 30 - 26)


SIZES = (
    Size("broad", 790, 290, left=64, names=9),
    Size("narrow", 380, 280, left=58, names=4),
)


class Slot(Struct, frozen=True):
    """A bar with all that is above and below it, and what is said of it."""

    bar: Bar
    is_below: bool
    title: str


class Drawing(Struct, frozen=True):
    """One chart of one size."""

    size: Size
    box: Box
    ticks: list[tuple[float, str]]
    ground: float
    names: list[tuple[float, str]]
    slots: list[Slot]
    before: list[tuple[float, float, float]]


class Series(Struct, frozen=True):
    """What is drawn: values, what was at the same place before (None: nothing to compare with), names and tooltips."""

    values: Sequence[int]
    before: Sequence[int | None]
    names: Sequence[str]
    titles: Sequence[str]


def drawings(series: Series, unit: int, label: Callable[[int], str]) -> list[Drawing]:
    """The chart in each size. `unit` is the smallest step of the axis, `label` writes a tick."""
    scale = axis([*series.values, *(each for each in series.before if each is not None)], unit=unit)
    return [_drawing(series, scale, size, label) for size in SIZES]


def _drawing(series: Series, scale: Axis, size: Size, label: Callable[[int], str]) -> Drawing:
    box = size.box
    drawn = bars(series.values, scale, box)
    named = labelled(len(drawn), size.names) if drawn else ()
    return Drawing(
        size=size,
        box=box,
        ticks=[(box.height_of(each, scale), label(each)) for each in scale.ticks],
        ground=box.height_of(0, scale),
        names=[(drawn[number].middle, series.names[number]) for number in named],
        slots=[
            Slot(bar, value < 0, title) for bar, value, title in zip(drawn, series.values, series.titles, strict=True)
        ],
        before=marks(series.before, scale, drawn, box),
    )
