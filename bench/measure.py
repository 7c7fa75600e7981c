"""One measurement: a workload on a stack that runs, as fast as it answers, or so many a second."""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import jobs, load, meter, sockets
from bench.openloop import Shape

CHECKED = 24  # requests of a plan that are asked one by one before all else, each answer checked whole
SLOW = 0.25  # of the time: what the requests of all connections take, one after the other, where few fit into it
FEWEST = 8  # requests of a measurement, however slow a stack is


@dataclass
class Entrant:
    """A stack that runs, what was planted there, and what its answers must be like."""

    stack: Any  # bench.stacks.Stack
    running: Any  # bench.stacks.Running
    world: Any  # bench.stacks.World
    shapes: dict[str, Shape] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)  # workloads of which few fit into the time

    @property
    def pids(self) -> list[int]:
        """Of its web processes and of its workers."""
        return [*self.running.pids, *self.running.worker_pids]


@dataclass(frozen=True)
class How:
    """How hard and how long it is asked, by whom, and the processes of the databases."""

    pool: ProcessPoolExecutor
    folder: Path
    connections: int
    seconds: float
    databases: list[int]
    sockets: int = 0  # that hear what is published

    def wide(self, workload: Any) -> int:
        return min(self.connections, workload.at_once or self.connections)


@dataclass(frozen=True)
class Fast:
    """So many a second; ms of CPU for each, of the server and of the databases; and the client's part of a core."""

    rate: float
    cpu_ms: float
    database_ms: float
    client: float


def learn(entrant: Entrant, workload: Any, how: How) -> None:
    """Ask a few one by one, check each whole, and keep what the answers are like. Raises Wrong."""
    requests = workload.plan(entrant.world)[:CHECKED]
    began = time.monotonic()
    entrant.shapes[workload.name] = load.asked(how.pool, entrant.running.url, requests, workload.right)
    if (time.monotonic() - began) / len(requests) * how.wide(workload) > how.seconds * SLOW:
        entrant.slow.add(workload.name)


def fast(entrant: Entrant, workload: Any, how: How, seconds: float, about: float = 0.0) -> Fast:
    """As fast as it answers, for so many seconds; `about` is the rate that is expected, where one is known."""
    pids = entrant.pids
    server, databases = meter.cpu_seconds(pids), meter.cpu_seconds(how.databases)
    pace = (_in_batches if workload.once or workload.name in entrant.slow else _for_so_long)(
        entrant, workload, how, seconds, about
    )
    meter.settle([*pids, *how.databases])
    return Fast(
        rate=pace.requests / pace.seconds,
        cpu_ms=(meter.cpu_seconds(pids) - server) * 1000 / pace.requests,
        database_ms=(meter.cpu_seconds(how.databases) - databases) * 1000 / pace.requests,
        client=pace.client,
    )


def _for_so_long(entrant: Entrant, workload: Any, how: How, seconds: float, _: float) -> load.Pace:
    return load.fastest(
        entrant.running.url,
        workload.plan(entrant.world),
        entrant.shapes[workload.name],
        connections=how.wide(workload),
        seconds=seconds,
        folder=how.folder,
    )


def _in_batches(entrant: Entrant, workload: Any, how: How, seconds: float, about: float) -> load.Pace:
    """Batch after batch, each of as many as fit into the time and answered whole.

    For requests that may be sent once only, and for those that take so long that the end of the time cuts many off.
    """
    answered, took, client = 0, 0.0, 0.0
    while took < seconds * 0.9:
        left = (answered / took if took else about) * (seconds - took)
        requests, count = workload.plan(entrant.world), max(round(left), FEWEST, how.wide(workload))
        count = min(count, len(requests)) if workload.once else count
        pace = load.through(
            how.pool,
            entrant.running.url,
            requests,
            entrant.shapes[workload.name],
            workload.right,
            connections=how.wide(workload),
            count=count,
        )
        answered, took, client = answered + pace.requests, took + pace.seconds, max(client, pace.client)
    return load.Pace(answered, took, client)


def steady(entrant: Entrant, workload: Any, how: How, seconds: float, rate: float) -> list[float]:
    """Latencies in ms at so many a second, from when each was due; shorter where a plan may not be begun again."""
    requests = workload.plan(entrant.world)
    if workload.once:
        seconds = min(seconds, len(requests) / rate)
    seen = load.steady(
        how.pool,
        entrant.running.url,
        requests,
        entrant.shapes[workload.name],
        workload.right,
        connections=how.wide(workload),
        rate=rate,
        seconds=max(seconds, FEWEST / rate),
    )
    meter.settle([*entrant.pids, *how.databases])
    return [each * 1000 for each in seen.latencies]


# ---- what an answer alone does not tell


def told(entrant: Entrant, workload: Any, how: How, seconds: float) -> tuple[Fast, list[float]]:
    """How many changes a second all sockets hear of, or jobs are done; ms from asking until the last heard, or done."""
    return (_published if workload.told_by == "sockets" else _worked)(entrant, workload, how, seconds)


def _published(entrant: Entrant, workload: Any, how: How, seconds: float) -> tuple[Fast, list[float]]:
    requests = workload.plan(entrant.world)
    party = party_of(entrant, requests, how, seconds)
    seen = how.pool.submit(sockets.publish, party).result()
    load.check(requests, workload.right, seen.samples)
    count = len(seen.latencies)
    fast = Fast(count / seen.seconds, seen.server * 1000 / count, seen.databases * 1000 / count, seen.client)
    return fast, [each * 1000 for each in seen.latencies]


def party_of(entrant: Entrant, requests: Sequence[Any], how: How, seconds: float) -> sockets.Party:
    """So many sockets of the people who may follow, a fair number of each."""
    from bench.stacks.clients import TOPIC  # noqa: PLC0415  (the tests of this do without the stacks)
    from bench.stacks.world import CONNECTIONS_EACH  # noqa: PLC0415

    world, place = entrant.world, urlsplit(entrant.running.url)
    people = world.followers[: -(-how.sockets // CONNECTIONS_EACH)]
    tokens = [world.token(each) for each in people]
    return sockets.Party(
        host=place.hostname or "127.0.0.1",
        port=place.port or 80,
        topic=TOPIC,
        tokens=[tokens[number % len(tokens)] for number in range(how.sockets)],
        raws=[load.raw(each, entrant.running.url) for each in requests],
        seconds=seconds,
        pids=entrant.pids,
        databases=how.databases,
    )


def _worked(entrant: Entrant, workload: Any, how: How, seconds: float) -> tuple[Fast, list[float]]:
    requests, place = workload.plan(entrant.world), urlsplit(entrant.running.url)
    server, databases = meter.cpu_seconds(entrant.pids), meter.cpu_seconds(how.databases)
    shape, host, port = entrant.shapes[workload.name], place.hostname or "127.0.0.1", place.port or 80
    job = jobs.Work(entrant.running.url, requests, shape, host, port, how.wide(workload), seconds)
    done = how.pool.submit(jobs.work, job).result()
    count = done.count + len(done.latencies)
    load.check(requests[len(done.latencies) :], workload.right, done.samples[:CHECKED])
    meter.settle([*entrant.pids, *how.databases])
    server, databases = meter.cpu_seconds(entrant.pids) - server, meter.cpu_seconds(how.databases) - databases
    fast = Fast(done.count / done.seconds, server * 1000 / count, databases * 1000 / count, 0.0)
    return fast, [each * 1000 for each in done.latencies]
