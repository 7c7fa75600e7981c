"""What it costs when there is more: documents, connections, sockets: `make bench ARGS=growth`.

Sizes of data stand side by side, each with a web process of its own, and are asked in turns; what a find reads is taken
from MongoDB's profiler, and a collection scan, or a find that reads much more than it returns, fails the run. What
counts is how flat a line is: absolute figures are this machine's. `python -m bench report` puts the tables of the last
growth that was kept (`--json bench/growth.json`) into docs/bench.md.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
from pymongo import MongoClient

from bench import load, measure, meter, race, sockets
from bench.kept import spans
from bench.measure import Entrant, How
from bench.race import progress
from bench.report import by_workload, ratio
from bench.wire import Wrong
from msingi.kit import embedded

PARTS = ("data", "connections", "sockets")
AT_ONCE = ("hello", "document", "create")  # workloads that more and more connections ask for
LOOKED_AT = 6  # requests of each workload whose commands are looked at
OFTENER = 2  # times as many documents as are returned: what a command may read, and SPARE more
SPARE = 3
SMALL = 50  # documents: a collection with fewer may be read whole
Row = dict[str, Any]


def main(arguments: Sequence[str] = (), stacks: Any = None) -> int:
    options = _options(arguments)
    stacks = stacks or race.known_stacks()
    report: Row = {"at": f"{datetime.now(UTC):%Y-%m-%d}", "machine": race.machine()}
    try:
        with ExitStack() as stack:
            ground = stack.enter_context(standing(stacks, options))
            for part in [options.only] if options.only else PARTS:
                report[part] = MEASURES[part](ground, options)
    except Wrong as reason:
        print(f"A wrong answer, so there are no figures: {reason}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    print("\n".join(told(report)))
    return int(any(row["faults"] for row in report.get("data", ())))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench growth", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    parser.add_argument("--stack", default="msingi")
    parser.add_argument("--sizes", type=race.numbers, default=[10_000, 100_000, 1_000_000], help="documents")
    parser.add_argument("--connections", type=race.numbers, default=[1, 4, 16, 64, 256])
    parser.add_argument("--sockets", type=race.numbers, default=[1, 10, 100, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args(arguments)


@dataclass
class Ground:
    """What all parts stand on."""

    stacks: Any
    stack: Any
    servers: embedded.Servers
    folder: Path
    how: How

    @contextmanager
    def entrant(self, name: str, number: int, size: int, sockets: int = 0) -> Iterator[Entrant]:
        """The stack with one web process, on data of this size. Raises CannotStart."""
        progress(f"starting {self.stack.title} with {size:,} documents")
        place = race.place_for(self.stacks, self.servers, self.folder, name, number)
        with self.stack.start(place, 1) as running:
            yield Entrant(self.stack, running, race.planted(self.stacks, self.stack, running, size, sockets))

    def workloads(self, names: Sequence[str] = ()) -> list[Any]:
        return [each for each in self.stacks.WORKLOADS if not names or each.name in names]


@contextmanager
def standing(stacks: Any, options: argparse.Namespace) -> Iterator[Ground]:
    """Databases, a process that asks, and the stack's parts. Raises CannotInstall."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="growth-")))
        servers = embedded.start(folder / "data")
        stack.callback(servers.release)
        chosen = next(each for each in stacks.STACKS if each.name == options.stack)
        (race.KEPT / chosen.name).mkdir(parents=True, exist_ok=True)
        chosen.install(race.KEPT.absolute() / chosen.name)
        pool = stack.enter_context(load.beside())
        how = How(pool, folder, min(16, *options.connections[-1:]), options.seconds, list(servers.pids.values()))
        yield Ground(stacks, chosen, servers, folder, how)


# ---- data


def more_data(ground: Ground, options: argparse.Namespace) -> list[Row]:
    """Each workload at each size, in turns; and what its commands read."""
    asked = [each for each in ground.workloads() if each.told_by == "answer" and each.kind in ("read", "write")]
    rows: dict[tuple[str, int], Row] = {}
    with ExitStack() as stack:
        sizes = {
            size: stack.enter_context(ground.entrant(f"data{size}", number, size))
            for number, size in enumerate(options.sizes, 1)
        }
        for workload in asked:
            for size, entrant in sizes.items():
                measure.learn(entrant, workload, ground.how)
                faults, read = plans(ground, entrant, workload)
                row = {"workload": workload.name, "title": workload.title, "size": size, "rates": []}
                rows[workload.name, size] = row | {"read": read, "faults": faults}
                measure.fast(entrant, workload, ground.how, options.seconds / 2)
        for turn in range(options.rounds):
            for workload in asked:
                for size, entrant in sizes.items():
                    rates = rows[workload.name, size]["rates"]
                    about = rates[-1] if rates else 0.0
                    rates.append(measure.fast(entrant, workload, ground.how, options.seconds, about).rate)
            progress(f"data: round {turn + 1} of {options.rounds}")
    return list(rows.values())


def plans(ground: Ground, entrant: Entrant, workload: Any) -> tuple[list[str], int]:
    """What is wrong with how the database answers, and how many documents the worst request made it read."""
    prefix, faults, worst = f"{entrant.running.place.database}_", list[str](), 0
    with MongoClient[Row](ground.servers.mongo_url) as mongo, httpx.Client(base_url=entrant.running.url) as client:
        bases = [mongo[name] for name in mongo.list_database_names() if name.startswith(prefix)]
        for request in workload.plan(entrant.world)[:LOOKED_AT]:
            meter.settle(entrant.pids)
            with profiled(bases):
                client.request(
                    request.method, request.path, headers=dict(request.headers), content=request.body
                ).raise_for_status()
            seen = [each for base in bases for each in base["system.profile"].find({"op": {"$ne": "insert"}})]
            seen = [each for each in seen if ".system." not in each.get("ns", ".system.")]
            worst = max(worst, sum(each.get("docsExamined", 0) for each in seen))
            faults += [fault for each in seen if (fault := fault_of(each, mongo))]
    return list(dict.fromkeys(faults)), worst


@contextmanager
def profiled(bases: Sequence[Any]) -> Iterator[None]:
    for base in bases:
        base["system.profile"].drop()
        base.command("profile", 2)
    try:
        yield
    finally:
        for base in bases:
            base.command("profile", 0)


def fault_of(told: Row, mongo: "MongoClient[Row]") -> str:
    """What the profiler tells of a command that reads what it does not need; empty if it does not."""
    plan, read = told.get("planSummary", ""), told.get("docsExamined", 0)
    back = max(told.get("nreturned", 0), told.get("nModified", 0), told.get("nMatched", 0), told.get("ndeleted", 0), 1)
    base, _, name = told["ns"].partition(".")
    suspect = "COLLSCAN" in plan or read > OFTENER * back + SPARE
    if not suspect or mongo[base][name].estimated_document_count() <= SMALL:
        return ""
    if "COLLSCAN" in plan:
        return f"{told['ns']}: a collection scan ({told.get('op')})"
    return f"{told['ns']}: {read} documents read for {back} ({plan})"


# ---- connections


def more_connections(ground: Ground, options: argparse.Namespace) -> list[Row]:
    """The same server asked over more and more connections, as fast as it answers."""
    rows: dict[tuple[str, int], Row] = {}
    with ground.entrant("connections", 8, options.sizes[0]) as entrant:
        workloads = ground.workloads(AT_ONCE)
        for workload in workloads:
            measure.learn(entrant, workload, ground.how)
            measure.fast(entrant, workload, ground.how, options.seconds / 2)
        for turn in range(options.rounds):
            for workload in workloads:
                for count in options.connections:
                    found = measure.fast(entrant, workload, replace(ground.how, connections=count), options.seconds)
                    about = {"workload": workload.name, "title": workload.title, "connections": count}
                    row = rows.setdefault((workload.name, count), {**about, "rates": [], "cpu_ms": []})
                    row["rates"].append(found.rate)
                    row["cpu_ms"].append(found.cpu_ms)
            progress(f"connections: round {turn + 1} of {options.rounds}")
    return list(rows.values())


# ---- sockets


def more_sockets(ground: Ground, options: argparse.Namespace) -> list[Row]:
    """More and more sockets that hear every change: how soon the last has heard, and what each costs."""
    rows = []
    with ground.entrant("sockets", 9, options.sizes[0], sockets=options.sockets[-1]) as entrant:
        (workload,) = ground.workloads(["publish"])
        measure.learn(entrant, workload, ground.how)
        for count in options.sockets:
            rest = meter.megabytes(entrant.pids)
            requests = workload.plan(entrant.world)
            party = measure.party_of(entrant, requests, replace(ground.how, sockets=count), options.seconds)
            seen = ground.how.pool.submit(sockets.publish, party).result()
            load.check(requests, workload.right, seen.samples)
            changes = len(seen.latencies)
            rows.append(
                {
                    "sockets": count,
                    "changes": changes,
                    "latencies": spans([each * 1000 for each in seen.latencies]),
                    "server_us": seen.server * 1e6 / changes / count,
                    "kilobytes": (seen.held - rest) * 1024 / count,
                    "client": seen.client,
                }
            )
            meter.settle(entrant.pids)
            progress(f"sockets: {count:,}")
    return rows


MEASURES = {"data": more_data, "connections": more_connections, "sockets": more_sockets}


# ---- what comes of it


def told(report: Row) -> list[str]:
    """All of it as text."""
    lines = []
    for rows in by_workload(report.get("data", ())):
        cells = [f"{row['size']:>10,}: {statistics.median(row['rates']):>8.0f}/s, reads {row['read']}" for row in rows]
        lines.append(f"{rows[0]['title']:<46}" + "".join(cells) + f"   {_flat(rows)}")
        lines += [f"    NOT RIGHT: {row['size']:,} documents: {fault}" for row in rows for fault in row["faults"]]
    for rows in by_workload(report.get("connections", ())):
        cells = [f"{row['connections']:>5}: {statistics.median(row['rates']):>7.0f}/s" for row in rows]
        lines.append(f"{rows[0]['title']:<46}" + "".join(cells))
    for row in report.get("sockets", ()):
        took = row["latencies"]
        lines.append(
            f"{row['sockets']:>6,} sockets: the last hears after {took['p50']:.1f} ms (p99 {took['p99']:.1f}), "
            f"{row['server_us']:.1f} µs of the server and {row['kilobytes']:.1f} kB for each socket"
        )
    return lines


def _flat(rows: Sequence[Row]) -> str:
    return f"{ratio(rows):.2f} times as fast at {rows[0]['size']:,} as at {rows[-1]['size']:,}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
