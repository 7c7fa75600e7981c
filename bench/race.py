"""The same requests to each stack, in turns, on the same databases: `make bench ARGS=race`.

All stacks of a run are up at once, and idle while another is asked, which is checked. In each round every workload goes
to every stack in an order of chance, first as fast as it answers, then all at the same rate, which is a share of what
the slowest of them manages. What counts are ratios of medians. A stack that cannot be installed or started is
named and left out; an answer that is wrong ends the run without a figure.
"""

import argparse
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench import limit, load, measure, meter, report
from bench.kept import Kept
from bench.measure import Entrant, How
from bench.wire import Wrong
from msingi.console.figures import OURS, Run
from msingi.kit import embedded

KEPT = Path(".msingi") / "bench"  # what stacks install: the next run finds it there
WARM = 0.5  # of a measurement's seconds: as long is asked before, and does not count
FOLLOWED = 10  # sockets of one person, at most
BEGAN = time.monotonic()


def main(arguments: Sequence[str] = (), stacks: Any = None) -> int:
    options = _options(arguments)
    try:
        run = race(options, stacks or known_stacks())
    except Wrong as reason:
        print(f"A wrong answer, so there are no figures: {reason}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    print(report.text(run))
    return 0 if run.rows else 1


def known_stacks() -> Any:
    from bench import stacks  # noqa: PLC0415  (they bring more than the tests of this need)

    return stacks


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench race", description=__doc__)
    parser.add_argument("--stacks", type=names, help="these alone: msingi,express")
    parser.add_argument("--workloads", type=names, help="these alone: hello,create")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--processes", type=numbers, default=[1, 2], help="web processes of each stack: 1,2")
    parser.add_argument("--rate-share", type=float, default=0.5, help="of what the slowest manages, for latencies")
    parser.add_argument("--size", type=int, default=10_000, help="documents")
    parser.add_argument("--sockets", type=int, default=1000, help="that hear what is published")
    parser.add_argument("--json", type=Path, help="write the figures here; bench/last.json is what README shows")
    return parser.parse_args(arguments)


def names(given: str) -> list[str]:
    return given.split(",")


def numbers(given: str) -> list[int]:
    return sorted(int(each) for each in given.split(","))


def progress(text: str) -> None:
    """Say on stderr what is going on, with the seconds since the beginning."""
    print(f"{time.monotonic() - BEGAN:6.0f} s  {text}", file=sys.stderr, flush=True)


# ---- a race


@dataclass
class Course:
    """What a race runs on, and what has been found so far."""

    stacks: Any
    options: argparse.Namespace
    workloads: list[Any]
    kept: Kept
    servers: embedded.Servers
    folder: Path
    how: How


def race(options: argparse.Namespace, stacks: Any) -> Run:
    """Every stack with each number of web processes. Raises Wrong."""
    kept = Kept([each for each in stacks.STACKS if not options.stacks or each.name in options.stacks])
    workloads = [each for each in stacks.WORKLOADS if not options.workloads or each.name in options.workloads]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="race-")))
        servers = embedded.start(folder / "data")
        stack.callback(servers.release)
        pool = stack.enter_context(load.beside())
        how = How(pool, folder, options.connections, options.seconds, list(servers.pids.values()), options.sockets)
        course = Course(stacks, options, workloads, kept, servers, folder, how)
        ready = installed(course)
        for processes in options.processes:
            with started(course, ready, processes) as entrants:
                measured(course, entrants, processes)
    return kept.finished(machine(), {name: value for name, value in vars(options).items() if name != "json"})


def installed(course: Course) -> list[Any]:
    """Those whose parts can be had here; the others are named."""
    ready = []
    for each in course.kept.entered:
        progress(f"installing {each.title}")
        folder = KEPT.absolute() / each.name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            each.install(folder)
        except course.stacks.CannotInstall as reason:
            course.kept.leave_out(each, 0, f"cannot be installed: {reason}")
        else:
            ready.append(each)
    return ready


@contextmanager
def started(course: Course, ready: Sequence[Any], processes: int) -> Iterator[list[Entrant]]:
    """Those that come up, each with data and databases of its own; the others are named."""
    with ExitStack() as stack:
        entrants = []
        for number, each in enumerate(ready, 1):
            progress(f"starting {each.title}, web processes: {processes}")
            try:
                place = place_for(course.stacks, course.servers, course.folder, f"{each.name}{processes}", number)
                running = stack.enter_context(each.start(place, processes))
            except course.stacks.CannotStart as reason:
                course.kept.leave_out(each, processes, f"does not start: {reason}")
                continue
            course.kept.versions[each.name] = dict(running.versions)
            world = planted(course.stacks, each, running, course.options.size, course.options.sockets)
            entrants.append(Entrant(each, running, world))
        yield entrants


def planted(stacks: Any, stack: Any, running: Any, size: int, sockets: int) -> Any:
    """Data, where the stack keeps any, and people enough to hold the sockets."""
    if stack.serves is not None:
        return stacks.World.of_nothing(running)
    return stacks.plant(running, size, followers=sockets // FOLLOWED)


def place_for(stacks: Any, servers: embedded.Servers, folder: Path, name: str, number: int) -> Any:
    """A folder, a MongoDB database and a Redis database that nobody else of the run has."""
    place = stacks.Place(
        folder=folder / name,
        mongo_url=servers.mongo_url,
        redis_url=f"{servers.redis_url.rsplit('/', 1)[0]}/{number}",
        database=f"race-{name}",
    )
    place.folder.mkdir(parents=True)
    return place


def measured(course: Course, entrants: Sequence[Entrant], processes: int) -> None:
    """All rounds, after a first that does not count."""
    for each in entrants:
        meter.settle(each.pids)
        course.kept.rest(each, processes)
    rates = {workload.name: warmed(course, entrants, workload) for workload in course.workloads}
    for turn in range(course.options.rounds):
        course.kept.listen()
        for workload in course.workloads:
            several = _who_serve(entrants, workload)
            for each in random.sample(several, len(several)):
                with saying(each, workload):
                    measure_once(course, each, workload, processes, rates[workload.name])
            if processes == 1 and workload.name in limit.CALLS:
                measure_limit(course, entrants, workload)
        progress(f"web processes: {processes}, round {turn + 1} of {course.options.rounds}")
    course.kept.listen()
    for each in entrants:
        course.kept.load(each, processes)


def warmed(course: Course, entrants: Sequence[Entrant], workload: Any) -> float:
    """Check each stack's answers whole, then ask it for a while; the rate at which latencies will be measured."""
    progress(f"warming up: {workload.title}")
    rates = []
    for each in _who_serve(entrants, workload):
        with saying(each, workload):
            measure.learn(each, workload, course.how)
            if workload.told_by == "answer":
                rates.append(measure.fast(each, workload, course.how, course.how.seconds * WARM).rate)
            else:
                measure.told(each, workload, course.how, course.how.seconds * WARM)
    return min(rates, default=0.0) * float(course.options.rate_share)


def measure_limit(course: Course, entrants: Sequence[Entrant], workload: Any) -> None:
    """The driver alone, in one process as one web process has it, on our data."""
    for ours in entrants:
        if ours.stack.name == OURS:
            driver = replace(ours, stack=Driver(limit.NAME, limit.TITLE))
            course.kept.add(driver, workload, 1, limit.fast(ours, workload.name, course.how), 0.0, [])


class Driver(NamedTuple):
    """What stands in the figures where a stack does."""

    name: str
    title: str


@contextmanager
def saying(entrant: Entrant, workload: Any) -> Iterator[None]:
    """So that a wrong answer says whose it was, and to what."""
    try:
        yield
    except Wrong as reason:
        raise Wrong(f"{workload.title}, {entrant.stack.title}: {reason}") from None


def measure_once(course: Course, entrant: Entrant, workload: Any, processes: int, rate: float) -> None:
    how, about = course.how, course.kept.rate_of(entrant, workload, processes)
    measure.learn(entrant, workload, how)  # what was written since may have made answers longer
    if workload.told_by == "answer":
        fast = measure.fast(entrant, workload, how, how.seconds, about)
        latencies = measure.steady(entrant, workload, how, how.seconds, rate)
    else:
        fast, latencies = measure.told(entrant, workload, how, how.seconds)
    course.kept.add(entrant, workload, processes, fast, rate, latencies)


def _who_serve(entrants: Sequence[Entrant], workload: Any) -> list[Entrant]:
    return [each for each in entrants if each.stack.serves is None or workload.name in each.stack.serves]


def machine() -> str:
    """The processor, its cores, the memory and the system."""
    told = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in told if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB, Linux {platform.release().split('-')[0]}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
