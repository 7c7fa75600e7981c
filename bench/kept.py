"""What is found out while a race goes on, and whether the machine was quiet enough to decide anything by it."""

import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from bench import meter
from bench.measure import Entrant, Fast
from msingi.console.figures import LeftOut, Row, Run, Taken

IDLE = 0.05  # of a core: a stack that uses more while nobody asks it is in the way of the others
SPREAD = 0.25  # of the median: rounds of one stack and workload that differ by more
SPUN = 0.20  # a fixed piece of work that takes so much longer than at its fastest
STOLEN = 0.02  # of the time: what the host may take
CLIENT = 0.9  # of a core: a client that uses more was measured, and not the server
Key = tuple[int, str, str]


class Kept:
    """The figures, round after round."""

    def __init__(self, entered: Sequence[Any]) -> None:
        self.entered = entered
        self.titles: dict[str, str] = {each.name: each.title for each in entered}
        self.rows: dict[Key, Row] = {}
        self.latencies: dict[Key, list[float]] = {}
        self.memory: dict[tuple[int, str], Taken] = {}
        self.left_out: list[LeftOut] = []
        self.versions: dict[str, dict[str, str]] = {}
        self.spins: list[float] = []
        self.idle: list[str] = []
        self.clients: dict[str, float] = {}
        self.ticks = meter.stolen()

    def leave_out(self, stack: Any, processes: int, reason: str) -> None:
        self.left_out.append(LeftOut(stack.name, processes, reason))

    # ---- of a stack

    def rest(self, entrant: Entrant, processes: int) -> None:
        """What it takes before anybody asks it."""
        name, running = entrant.stack.name, entrant.running
        cores = meter.idle_cores(entrant.pids)
        if cores > IDLE:
            self.idle.append(f"{entrant.stack.title} uses {cores:.0%} of a core while nobody asks it")
        self.memory[processes, name] = Taken(name, processes, meter.megabytes(running.pids, running.worker_pids), 0.0)

    def load(self, entrant: Entrant, processes: int) -> None:
        """What it takes after all that was asked."""
        name, running = entrant.stack.name, entrant.running
        at_rest = self.memory[processes, name].at_rest
        workers = meter.megabytes(running.worker_pids)
        loaded = meter.megabytes(running.pids, running.worker_pids)
        self.memory[processes, name] = Taken(name, processes, at_rest, loaded, workers)

    # ---- of a round

    def listen(self) -> None:
        """How quiet it is just now."""
        self.spins.append(meter.spin())

    def rate_of(self, entrant: Entrant, workload: Any, processes: int) -> float:
        row = self.rows.get((processes, workload.name, entrant.stack.name))
        return row.rate if row else 0.0

    def add(
        self, entrant: Entrant, workload: Any, processes: int, fast: Fast, asked: float, latencies: Sequence[float]
    ) -> None:
        key = (processes, workload.name, entrant.stack.name)
        if key not in self.rows:
            about = (workload.name, workload.kind, workload.title, entrant.stack.name, processes)
            self.rows[key] = Row(*about, rates=[], cpu_ms=[], database_ms=[], asked=asked)
        self.titles[entrant.stack.name] = entrant.stack.title
        row = self.rows[key]
        row.rates.append(fast.rate)
        row.cpu_ms.append(fast.cpu_ms)
        row.database_ms.append(fast.database_ms)
        self.latencies.setdefault(key, []).extend(latencies)
        about_client = f"{row.title}, {entrant.stack.title}"
        self.clients[about_client] = max(self.clients.get(about_client, 0.0), fast.client)

    # ---- at the end

    def finished(self, machine: str, options: Mapping[str, Any]) -> Run:
        rows = [replace(row, latencies=spans(self.latencies[key])) for key, row in self.rows.items()]
        return Run(
            at=datetime.now(UTC),
            machine=machine,
            stacks=self.titles,
            versions=self.versions,
            options=dict(options),
            rows=rows,
            memory=list(self.memory.values()),
            left_out=self.left_out,
            noise=self.noise(rows),
        )

    def noise(self, rows: Sequence[Row]) -> list[str]:
        """Each reason to doubt the figures."""
        worst = max(rows, key=lambda row: row.spread, default=None)
        found = [*self.idle]
        if worst and worst.spread > SPREAD:
            found.append(f"rounds of `{worst.title}` on {worst.stack} differ by {worst.spread:.0%} of their median")
        if self.spins and max(self.spins) / min(self.spins) - 1 > SPUN:
            more = max(self.spins) / min(self.spins) - 1
            found.append(f"the same piece of work took up to {more:.0%} longer in one round than in another")
        before, after = self.ticks, meter.stolen()
        if (share := (after[0] - before[0]) / max(after[1] - before[1], 1)) > STOLEN:
            found.append(f"the host took {share:.0%} of the time")
        return found + [
            f"the client was at its limit in {each}" for each, part in self.clients.items() if part > CLIENT
        ]


def spans(latencies: Sequence[float]) -> dict[str, float]:
    """Percentiles in ms, and the longest."""
    if not latencies:
        return {}
    if len(latencies) == 1:
        return dict.fromkeys(("p50", "p90", "p99", "max"), latencies[0])
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(latencies)}
