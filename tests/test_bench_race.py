"""The race: latencies from when requests were due, every answer looked at, who is absent is not slow."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bench import growth, kept, load, meter, race, report, sockets, wire
from bench.kept import Kept
from bench.openloop import Shape
from bench.wire import Wrong
from msgspec.structs import replace

from msingi.console import figures
from msingi.console.figures import LeftOut, Row, Run, Taken

ROOT = Path(__file__).parents[1]
LIKE = Shape(frozenset({200}), 15, 15)
# It answers `{"status":"ok"}`; `/stall` once takes as long as told, with everybody waiting; `/chunks` comes in chunks.
SERVER = r"""
import asyncio, sys, time
stalled = False
BODIES = {b"/wrong": b'{"status":"no"}', b"/long": b'{"status":"ok", "more": 1}'}
CHUNKS = b'6\r\n{"stat\r\n9;x=1\r\nus":"ok"}\r\n0\r\n\r\n'
class Answers(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        global stalled
        for asked in data.split(b"\r\n\r\n")[:-1]:
            path = asked.split()[1]
            if path == b"/stall" and not stalled:
                stalled = True
                time.sleep(float(sys.argv[1]))
            self.transport.write(self.answer(path))
        if len(sys.argv) > 2:
            asyncio.get_running_loop().call_later(float(sys.argv[2]), self.transport.close)
    def answer(self, path):
        if path == b"/chunks":
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
        if path == b"/close":
            self.transport.close()
            return b""
        body = BODIES.get(path, b'{"status":"ok"}')
        status = b"503 Busy" if path == b"/busy" else b"200 OK"
        return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
async def main():
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Asked:
    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def asked(path: str) -> Asked:
    return Asked(path, headers={"accept": "*/*"})


def is_ok(request: Any, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
    return None if (status, body) == (200, b'{"status":"ok"}') else "not ok"


@contextmanager
def standing_in(stall: float = 0.0, idle: float = 0.0) -> Iterator[tuple[str, int]]:
    """A server that closes what is idle, or does not; its address and its process."""
    command = [sys.executable, "-c", SERVER, str(stall), *([str(idle)] if idle else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with load.beside() as found:
        yield found


# ---- the load


def test_a_stall_shows_in_the_latencies_of_all_that_was_due_meanwhile(pool: ProcessPoolExecutor) -> None:
    rate, stall = 200, 0.3
    with standing_in(stall) as (url, _):
        how = {"connections": 4, "rate": rate, "seconds": 1.0}
        seen = load.steady(pool, url, [asked("/stall")], LIKE, is_ok, **how)
    latencies = sorted(seen.latencies, reverse=True)
    assert len(latencies) == 200
    assert stall <= latencies[0]
    # Everything that was due during the stall waited for the rest of it: one each 5 ms, evenly from 300 ms down.
    for number in range(0, 50, 10):
        assert latencies[number] >= stall - number / rate - 0.005, number
    assert sum(each > 0.05 for each in latencies) >= 50  # a closed loop of 4 would have seen 4 of these


def test_what_is_due_is_sent_then_and_not_before(pool: ProcessPoolExecutor) -> None:
    with standing_in() as (url, _):
        began = time.monotonic()
        how = {"connections": 2, "rate": 100, "seconds": 0.5}
        seen = load.steady(pool, url, [asked("/chunks"), asked("/")], LIKE, is_ok, **how)
    assert time.monotonic() - began >= 0.49
    assert len(seen.latencies) == 50
    assert all(each > 0 for each in seen.latencies)
    assert len(seen.samples) >= 2  # the first of each connection


@pytest.mark.parametrize(
    ("path", "told"), [("/busy", "503"), ("/long", "26 bytes"), ("/wrong", "not ok"), ("/close", "closed")]
)
def test_an_answer_of_another_status_length_or_content_or_none_ends_it(
    pool: ProcessPoolExecutor, path: str, told: str
) -> None:
    with standing_in() as (url, _), pytest.raises(Wrong, match=told):
        load.steady(pool, url, [asked("/"), asked(path)], LIKE, is_ok, connections=2, rate=400, seconds=0.1)


def test_a_connection_that_the_server_closes_while_it_is_idle_is_opened_anew(
    pool: ProcessPoolExecutor,
) -> None:
    with standing_in(idle=0.1) as (url, _):
        seen = load.steady(pool, url, [asked("/")], LIKE, is_ok, connections=3, rate=5, seconds=1.0)
    assert len(seen.latencies) == 5


def test_each_request_of_a_plan_is_asked_once_where_twice_would_be_wrong(pool: ProcessPoolExecutor) -> None:
    with standing_in() as (url, _):
        pace = load.through(pool, url, [asked("/")] * 300, LIKE, is_ok, connections=8)
    assert pace.requests == 300
    assert 0 < pace.seconds < 10


@pytest.mark.parametrize(
    ("paths", "told"), [(["/"], ""), (["/", "/busy"], "503, 15 bytes"), (["/long", "/"], "200, 26 bytes")]
)
def test_as_many_as_it_answers_are_each_looked_at(tmp_path: Path, paths: list[str], told: str) -> None:
    def ask() -> load.Pace:
        requests = [asked(path) for path in paths]
        return load.fastest(url, requests, LIKE, connections=4, seconds=1, folder=tmp_path)

    with standing_in() as (url, _):
        if told:
            with pytest.raises(Wrong, match=told):
                ask()
        else:
            pace = ask()
            assert pace.requests > 100
            assert pace.seconds == pytest.approx(1, abs=0.3)
            assert 0 < pace.client < 1.2


def test_an_answer_is_read_however_it_comes_in_pieces() -> None:
    whole = b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n"
    for end in range(len(whole)):
        assert wire.parsed(bytearray(whole[:end])) is None, end
    assert wire.parsed(bytearray(whole)) == (200, {"x-a": "b", "transfer-encoding": "chunked"}, b"abcdef")


def test_frames_of_a_websocket_are_read_however_they_come_in_pieces() -> None:
    texts = [b"2", b"x" * 125, b"y" * 126, b"z" * 70_000]
    whole = b"\x89\x00" + b"".join(b"\x81" + length(each) + each for each in texts)
    buffer, found = bytearray(), []
    for start in range(0, len(whole), 333):
        buffer += whole[start : start + 333]
        found += sockets.frames(buffer)
    assert found == texts
    assert buffer == b""


def length(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes([size])
    return bytes([126]) + size.to_bytes(2, "big") if size < 65_536 else bytes([127]) + size.to_bytes(8, "big")


# ---- a race


class CannotInstall(Exception):
    pass


class CannotStart(Exception):
    pass


def stand_ins(path: str = "/") -> Any:
    """Stacks as bench.stacks has them: one that runs, one that cannot be had, one that does not come up."""

    @contextmanager
    def runs(place: Any, processes: int) -> Iterator[Any]:
        with standing_in() as (url, pid):
            yield SimpleNamespace(url=url, pids=[pid], worker_pids=[], versions={"python": "3"})

    def refuses(place: Any, processes: int) -> Any:
        raise CannotStart("no such port")

    def is_missing(folder: Path) -> None:
        raise CannotInstall("not to be had")

    def stack(name: str, install: Any = lambda folder: None, start: Any = runs) -> Any:
        return SimpleNamespace(name=name, title=name.title(), install=install, start=start, serves=frozenset({"hello"}))

    hello = SimpleNamespace(name="hello", kind="read", title="hello", once=True, at_once=None, told_by="answer")
    hello.plan = lambda world: [asked("/")] * 24 + [asked(path)] * 3000
    hello.right = is_ok
    return SimpleNamespace(
        STACKS=[stack("msingi"), stack("absent", install=is_missing), stack("broken", start=refuses)],
        WORKLOADS=[hello],
        CannotInstall=CannotInstall,
        CannotStart=CannotStart,
        Place=SimpleNamespace,
        World=SimpleNamespace(of_nothing=lambda running: None),
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A race of a second, on databases that nobody asks."""
    no_servers = SimpleNamespace(mongo_url="", redis_url="redis://x/0", pids={}, release=lambda: None)
    monkeypatch.setattr(race.embedded, "start", lambda folder: no_servers)
    monkeypatch.setattr(race, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(meter, "IDLE_FOR", 0.1)
    file = tmp_path / "race.json"
    return ["--rounds", "2", "--seconds", "0.2", "--processes", "1", "--connections", "2", "--json", str(file)]


def test_who_cannot_be_installed_or_does_not_start_is_named_and_left_out(
    quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert race.main(quick, stand_ins()) == 0
    run = figures.read(Path(quick[-1]))
    assert run
    assert [(each.stack, each.reason) for each in run.left_out] == [
        ("absent", "cannot be installed: not to be had"),
        ("broken", "does not start: no such port"),
    ]
    assert {row.stack for row in run.rows} == {"msingi"}
    (row,) = run.rows
    assert len(row.rates) == len(row.cpu_ms) == 2
    assert min(row.rates) > 10
    assert 0 < row.latencies["p50"] <= row.latencies["p99"] <= row.latencies["max"]
    assert 0 < row.asked < max(row.rates) * 5  # half of what it managed while it warmed up, on whatever machine
    assert run.memory[0].at_rest > 1
    assert run.versions == {"msingi": {"python": "3"}}
    told = capsys.readouterr().out
    assert "Absent (cannot be installed: not to be had)" in told
    assert "| Absent" not in report.table(run)
    assert "Left out: Absent" in report.table(run)


def test_a_wrong_answer_ends_the_race_without_a_figure(quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert race.main(quick, stand_ins("/busy")) == 1
    assert not Path(quick[-1]).exists()
    assert "A wrong answer, so there are no figures: hello, Msingi:" in capsys.readouterr().err


# ---- growth


def test_a_scan_and_a_find_that_reads_much_more_than_it_returns_are_faults() -> None:
    class Mongo(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            counts = {"large": 1000, "small": growth.SMALL}
            return {each: SimpleNamespace(estimated_document_count=lambda n=n: n) for each, n in counts.items()}

    def fault(name: str, read: int, back: int, plan: str = "IXSCAN { a: 1 }") -> str:
        told = {"ns": f"base.{name}", "op": "query", "docsExamined": read, "nreturned": back, "planSummary": plan}
        return growth.fault_of(told, Mongo())

    assert fault("large", 21, 21) == ""
    assert fault("large", 45, 21) == ""
    assert fault("large", 46, 21) == "base.large: 46 documents read for 21 (IXSCAN { a: 1 })"
    assert fault("large", 1, 1, "COLLSCAN") == "base.large: a collection scan (query)"
    assert fault("small", 50, 1, "COLLSCAN") == ""


def test_the_tables_say_how_it_grows() -> None:
    def row(by: str, step: int, rates: list[float]) -> dict[str, Any]:
        return {"workload": "hello", "title": "hello", by: step, "rates": rates, "read": 3}

    took = {"sockets": 1000, "latencies": {"p50": 18.4, "p99": 27.0}, "server_us": 16.8, "kilobytes": 138.3}
    tables = report.growth_tables(
        {
            "at": "2026-01-02",
            "machine": "a machine, 2 cores",
            "data": [row("size", 10_000, [900.0, 1000.0, 1100.0]), row("size", 1_000_000, [800.0, 80.0, 900.0])],
            "connections": [row("connections", 1, [300.0]), row("connections", 256, [400.0])],
            "sockets": [took],
        }
    )
    assert tables.splitlines() == [
        "Measured on 2026-01-02 (a machine, 2 cores), one web process.",
        "",
        "| requests a second, by documents | 10,000 | 1,000,000 | the fewest ÷ the most | documents read, at most |",
        "|---|---:|---:|---:|---:|",
        "| hello | 1,000 | 800 | 1.25 | 3 |",
        "",
        "| requests a second, by connections | 1 | 256 |",
        "|---|---:|---:|",
        "| hello | 300 | 400 |",
        "",
        "| sockets | until the last has heard, ms (p99) | server for each socket, µs | memory of a socket, kB |",
        "|---:|---:|---:|---:|",
        "| 1,000 | 18.4 (27) | 16.8 | 138 |",
    ]


def test_the_page_shows_what_the_last_growths_file_says() -> None:
    page = (ROOT / "docs" / "bench.md").read_text("utf-8")
    assert report.with_growth(page) == page


# ---- what is said of it


def fixed_run() -> Run:
    def row(workload: str, stack: str, rates: list[float], latencies: dict[str, float]) -> Row:
        return Row(workload, "read", workload, stack, 1, rates, [0.1], [0.05], 100.0, latencies)

    return Run(
        at=datetime(2026, 1, 2, tzinfo=UTC),
        machine="a machine, 2 cores",
        stacks={"msingi": "Msingi", "express": "Express 5", "bare": "bare Granian", "fastapi": "FastAPI"},
        versions={},
        options={"rounds": 3, "connections": 16},
        rows=[
            row("hello", "msingi", [9000.0, 10000.0, 11000.0], {"p50": 0.4, "p99": 2.0}),
            row("hello", "express", [4000.0, 4000.0, 4400.0], {"p50": 1.0, "p99": 40.0}),
            row("hello", "bare", [20000.0], {"p50": 0.2, "p99": 0.5}),
            row("create", "msingi", [30.0], {}),
            row("create", "express", [60.0], {}),
        ],
        memory=[Taken("msingi", 1, 80.0, 100.0, 50.0)],
        left_out=[LeftOut("fastapi", 0, "cannot be installed: no\nnetwork | here")],
        noise=[],
    )


def test_the_table_says_what_the_file_says() -> None:
    table = report.table(fixed_run())
    assert [line for line in table.splitlines() if line.startswith("|")] == [
        "|  | Msingi | Express 5 | Msingi ÷ Express 5 | the limit | Msingi ÷ the limit |",
        "|---|---:|---:|---:|---:|---:|",
        "| hello | 10,000 ± 10% | 4,000 ± 5% | **2.50** | 20,000 ± 0% | **0.50** |",
        "| create | 30 ± 0% | 60 ± 0% | **0.50** |  |  |",
    ]
    assert "2026-01-02 (a machine, 2 cores)" in table
    assert "Left out: FastAPI (cannot be installed: no network / here)." in table
    assert "Msingi with 1: 80 and 100 MB (and 50 of its workers)" in table
    assert "noisy" not in table


def test_a_noisy_machine_is_told_in_the_table() -> None:
    table = report.table(replace(fixed_run(), noise=["the host took 9% of the time"]))
    assert "**The machine was too noisy to decide by these figures**: the host took 9% of the time." in table


def test_rounds_spins_and_stolen_time_beyond_their_bounds_are_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "stolen", lambda: (0.0, 100.0))
    quiet = Kept([])
    quiet.spins = [0.010, 0.0115]
    rows = [each for each in fixed_run().rows if each.workload == "hello"]
    assert quiet.noise(rows) == []
    assert quiet.noise([replace(rows[0], rates=[8000.0, 10000.0, 10900.0])]) == [
        "rounds of `hello` on msingi differ by 29% of their median"
    ]
    quiet.spins = [0.010, 0.013]
    assert quiet.noise(rows) == ["the same piece of work took up to 30% longer in one round than in another"]
    quiet.spins = []
    quiet.clients = {"hello, Bare": kept.CLIENT + 0.01}
    assert quiet.noise(rows) == ["the client was at its limit in hello, Bare"]
    quiet.clients = {}
    monkeypatch.setattr(meter, "stolen", lambda: (30.0, 1100.0))
    assert quiet.noise(rows) == ["the host took 3% of the time"]


def test_the_charts_are_as_long_as_the_figures() -> None:
    run = fixed_run()
    for chart in figures.rates(run, 1):
        ours, express, bare = chart.groups[0].lines
        room = chart.size.room
        assert [round(each.end - each.x) for each in (ours, express, bare)] == [room // 2, round(room / 5), room]
        assert [each.label for each in (ours, express, bare)] == ["10,000", "4,000", "20,000"]
    for chart in figures.latencies(run, 1):
        ours, express, _ = chart.groups[0].lines
        assert len(chart.groups) == 1  # what was measured without latencies has no line
        places = {label: x for x, label in chart.ticks}
        assert ours.x < places["1"] < ours.end < places["10"] < express.end
    html = report.html(figures.rates(run, 1)[0], "rates")
    assert html.count("<rect") == 5
    assert "<script" not in html


def test_readmes_table_is_what_the_last_races_file_says() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert report.with_table(readme, figures.read()) == readme
    other = report.with_table(readme, fixed_run())
    assert other != readme
    assert report.with_table(other, figures.read()) == readme
