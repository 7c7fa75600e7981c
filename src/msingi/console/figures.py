"""What the last race measured (`python -m bench race`), and its charts: places, lengths and labels in pixels."""

import math
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

LAST = Path(__file__).parents[3] / "bench" / "last.json"
OURS, REFERENCE = "msingi", "express"
LIMITS = ("bare", "driver")  # what the machine allows: a server without a framework, and the database driver alone
BAR, GAP, HEAD, AXIS = 15, 10, 22, 26  # pixels: for each stack, between workloads, for a workload's name, for the scale
TICKS = tuple(digit * 10.0**power for power in range(-2, 5) for digit in (1, 2, 5))  # milliseconds


class Row(Struct, frozen=True):
    """One workload on one stack: a figure for each round, and latencies in ms, counted from when requests were due."""

    workload: str
    kind: str
    title: str
    stack: str
    processes: int
    rates: list[float]
    cpu_ms: list[float] = []  # of the server, for one request
    database_ms: list[float] = []  # of MongoDB and Redis, for one request
    asked: float = 0.0  # so many a second, when the latencies were measured
    latencies: dict[str, float] = {}

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """How far the fastest round is from the slowest, as a part of the median."""
        return (max(self.rates) - min(self.rates)) / self.rate if self.rate else 0.0

    @property
    def cpu(self) -> float | None:
        return statistics.median(self.cpu_ms) if self.cpu_ms else None


class Taken(Struct, frozen=True):
    """A stack's memory in MB (PSS, so that what processes share counts once): before any load, and after all of it."""

    stack: str
    processes: int
    at_rest: float
    loaded: float
    workers: float = 0.0  # of the processes that do jobs, after all of it


class LeftOut(Struct, frozen=True):
    """A stack that could not be measured, and why."""

    stack: str
    processes: int
    reason: str


class Run(Struct, frozen=True):
    """A race: when, where, with what, and what came of it."""

    at: datetime
    machine: str
    stacks: dict[str, str]
    versions: dict[str, dict[str, str]]
    options: dict[str, Any]
    rows: list[Row]
    memory: list[Taken]
    left_out: list[LeftOut]
    noise: list[str]  # why the machine was too noisy to decide; empty: it was not

    def of(self, processes: int) -> list[Row]:
        return [row for row in self.rows if row.processes == processes]

    def row(self, like: Row, *stacks: str) -> Row | None:
        """The same workload on the first of these stacks on which it was measured."""
        several = {each.stack: each for each in self.of(like.processes) if each.workload == like.workload}
        return next((several[each] for each in stacks if each in several), None)

    def ratio(self, row: Row, *stacks: str) -> float | None:
        """How many times as fast a row is as the first of these stacks on which its workload was measured."""
        other = self.row(row, *stacks)
        return row.rate / other.rate if other and other.rate else None


def read(path: Path = LAST) -> Run | None:
    """The last race, if one is kept here."""
    return msgspec.json.decode(path.read_bytes(), type=Run) if path.is_file() else None


def counts(run: Run) -> list[int]:
    """Of how many web processes there are figures."""
    return sorted({row.processes for row in run.rows})


def by_workload(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.workload, []).append(row)
    return found


def number(value: float) -> str:
    """With two digits that say something at least: `12,345`, `85`, `8.5`, `0.85`."""
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


# ---- charts


class Size(Struct, frozen=True):
    """How wide a chart is, and how much of that is for the names on the left and the figures on the right."""

    name: str
    width: int
    left: int
    right: int

    @property
    def room(self) -> int:
        return self.width - self.left - self.right


SIZES = (Size("broad", 790, 150, 110), Size("narrow", 380, 132, 84))


class Line(Struct, frozen=True):
    """A stack's line of a chart: from `x` to `end` at the height `y`; `place` says which stack's colour it has."""

    y: int
    x: float
    end: float
    place: int
    name: str
    label: str


class Group(Struct, frozen=True):
    """A workload of a chart."""

    y: int
    title: str
    lines: list[Line]


class Chart(Struct, frozen=True):
    """One chart of one size."""

    title: str
    size: Size
    height: int
    groups: list[Group]
    ticks: list[tuple[float, str]] = []


def rates(run: Run, processes: int) -> list[Chart]:
    """How many a second: in each workload the fastest stack's bar is as long as there is room."""
    title = f"Requests a second, {_processes(processes)}"
    return [_chart(title, run, run.of(processes), size, _bar_of) for size in SIZES]


def _bar_of(row: Row, rows: Sequence[Row], size: Size) -> tuple[float, float, str]:
    part = row.rate / max(each.rate for each in rows)
    return size.left, size.left + max(part * size.room, 1), number(row.rate)


def latencies(run: Run, processes: int) -> list[Chart]:
    """From the median to the 99th percentile, in ms, on a scale on which each step is a factor."""
    rows = [row for row in run.of(processes) if row.latencies]
    if not rows:
        return []
    title = f"Latency in ms from when a request was due, median to 99th percentile, {_processes(processes)}"
    ticks = _ticks(rows)

    def line_of(row: Row, _: Sequence[Row], size: Size) -> tuple[float, float, str]:
        low, high = row.latencies["p50"], row.latencies["p99"]
        return _along(low, ticks, size), _along(high, ticks, size), f"{number(low)} – {number(high)}"

    charts = [_chart(title, run, rows, size, line_of) for size in SIZES]
    return [_with_ticks(chart, ticks) for chart in charts]


def _processes(count: int) -> str:
    return "one web process" if count == 1 else f"{count} web processes"


def _chart(title: str, run: Run, rows: Sequence[Row], size: Size, line_of: Any) -> Chart:
    groups, y = [], 0
    places = {name: place for place, name in enumerate(run.stacks)}
    for several in by_workload(rows).values():
        y += HEAD
        lines = []
        for row in sorted(several, key=lambda row: places[row.stack]):
            x, end, label = line_of(row, several, size)
            name = run.stacks[row.stack]
            lines.append(Line(y + BAR // 2, round(x, 1), round(end, 1), places[row.stack], name, label))
            y += BAR
        groups.append(Group(lines[0].y - BAR, several[0].title, lines))
        y += GAP
    return Chart(title, size, y, groups)


def _ticks(rows: Sequence[Row]) -> list[float]:
    low, high = min(row.latencies["p50"] for row in rows), max(row.latencies["p99"] for row in rows)
    first = max((number for number, tick in enumerate(TICKS) if tick <= low), default=0)
    last = min((number for number, tick in enumerate(TICKS) if tick >= high), default=len(TICKS) - 1)
    return list(TICKS[first : max(last, first + 1) + 1])


def _along(value: float, ticks: Sequence[float], size: Size) -> float:
    part = math.log(max(value, ticks[0]) / ticks[0]) / math.log(ticks[-1] / ticks[0])
    return size.left + min(part, 1.0) * size.room


def _with_ticks(chart: Chart, ticks: Sequence[float]) -> Chart:
    room = 10 if chart.size.name == "broad" else 5  # labels; where there are more, tens and hundreds are enough
    shown = [tick for tick in ticks if len(ticks) <= room or f"{tick:e}".startswith("1.0")]
    named = [(round(_along(tick, ticks, chart.size), 1), f"{tick:,g}") for tick in shown]
    return msgspec.structs.replace(chart, ticks=named, height=chart.height + AXIS)
