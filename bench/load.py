"""The load: as many requests as a server answers, and so many a second with each latency counted from when it was due.

Two clients, since the two questions want different ones.

*As many as it answers* (`fastest`) is a closed loop, so the client must be far cheaper than the server. That is wrk,
from Debian: about 5 µs of one core for each request, and the same with the Lua that looks at every answer's status and
length; Node's barest handler takes four times as much. wrk cannot say which request an answer belongs to, so answers
are checked whole in the other part of each round.

*So many a second* (`steady`) is an open loop: what is due is due, whether or not the server has answered what came
before. None of the tools to be had measures that: wrk has no rate, h2load and hey count from when they send, autocannon
adds made-up values afterwards and, being Node, costs as much as a server. So it is bench.openloop, a small client on
uvloop's protocols, in a process of its own. A server that cannot keep the rate shows it in its latencies.
"""

import resource
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from bench import openloop
from bench.openloop import Job, Seen, Shape
from bench.wire import Answer, Wrong

SLACK, PART = 32, 0.02  # bytes, or a part, that answers may be longer or shorter than those just checked whole
WRK = """
local asked, at, statuses = {{}}, 0, {{{statuses}}}
wrong, example = 0, ""
function init()
  local file = io.open("{folder}/requests.bin", "rb")
  for size in io.lines("{folder}/sizes.txt") do asked[#asked + 1] = file:read(tonumber(size)) end
end
function request()
  at = at % #asked + 1
  return asked[at]
end
function response(status, headers, body)
  if not statuses[status] or #body < {shortest} or #body > {longest} then
    wrong = wrong + 1
    if wrong == 1 then example = status .. ", " .. #body .. " bytes: " .. body:sub(1, 300):gsub("[^ -~]", ".") end
  end
end
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function done(summary)
  local e, first = summary.errors, threads[1]
  io.write(string.format("=== %d %d %d %d %s", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.timeout, first:get("wrong"), first:get("example")))
end
"""


class Request(Protocol):
    """What is asked: as bench.stacks has it."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


Right = Callable[[Request, int, Mapping[str, str], bytes], str | None]


@dataclass(frozen=True)
class Pace:
    """What a server answered while it was asked as fast as it answers; and the client's own share of a core."""

    requests: int
    seconds: float
    client: float


def raw(request: Request, url: str) -> bytes:
    """The request as it goes over the wire."""
    head = [f"{request.method} {request.path} HTTP/1.1", f"Host: {urlsplit(url).netloc}"]
    head += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        head.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join([*head, "", ""]).encode() + request.body


@contextmanager
def beside() -> Iterator[ProcessPoolExecutor]:
    """A process for the open loop and the sockets: what the bench does itself would count as the server's slowness."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


# ---- right or wrong


def asked(pool: ProcessPoolExecutor, url: str, requests: Sequence[Request], right: Right) -> Shape:
    """Ask each once, one after the other, and check each answer whole; what all later answers must be like."""
    seen = pool.submit(openloop.in_turn, _job(url, requests)).result()
    check(requests, right, seen.samples)
    return like(seen.samples)


def check(requests: Sequence[Request], right: Right, answers: Sequence[Answer]) -> None:
    """Raises Wrong with the first answer that is not as it should be."""
    for answer in answers:
        request = requests[answer.number % len(requests)]
        fault = right(request, answer.status, answer.headers, answer.body)
        if fault:
            raise Wrong(f"{request.method} {request.path}: {answer.status}, {fault}: {answer.body[:300]!r}")


def like(answers: Sequence[Answer]) -> Shape:
    lengths = [len(answer.body) for answer in answers]
    statuses = frozenset(answer.status for answer in answers)
    slack = max(SLACK, round(max(lengths) * PART))
    return Shape(statuses, max(min(lengths) - slack, 0), max(lengths) + slack)


# ---- as many as it answers


def fastest(
    url: str, requests: Sequence[Request], shape: Shape, *, connections: int, seconds: float, folder: Path
) -> Pace:
    """Ask over so many connections, again as soon as there is an answer. Raises Wrong if any answer was."""
    lua = _written(folder, [raw(request, url) for request in requests], shape)
    before = _client_seconds()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s", "--timeout", "30s", "-s", lua, url]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    _, mark, told = said.stdout.partition("=== ")
    if said.returncode or not mark:
        raise Wrong(f"wrk: {said.stderr or said.stdout}")
    answered, took, lost, wrong, example = [*told.split(" ", 4), ""][:5]
    if int(lost) or float(wrong) or not int(answered):
        raise Wrong(f"{wrong} wrong answers of {answered}, {lost} connections lost: {example}")
    duration = int(took) / 1e6
    return Pace(int(answered), duration, (_client_seconds() - before) / duration)


def _written(folder: Path, raws: Sequence[bytes], shape: Shape) -> str:
    (folder / "requests.bin").write_bytes(b"".join(raws))
    (folder / "sizes.txt").write_text("".join(f"{len(each)}\n" for each in raws))
    statuses = ", ".join(f"[{status}] = true" for status in sorted(shape.statuses))
    lua = WRK.format(folder=folder, statuses=statuses, shortest=shape.shortest, longest=shape.longest)
    (folder / "load.lua").write_text(lua)
    return str(folder / "load.lua")


def _client_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def through(
    pool: ProcessPoolExecutor,
    url: str,
    requests: Sequence[Request],
    shape: Shape,
    right: Right,
    *,
    connections: int,
    count: int = 0,
) -> Pace:
    """Ask each request once, or `count` in all, over so many connections. Raises Wrong if an answer was."""
    job = replace(_job(url, requests, shape, connections, seconds=60), count=count)
    seen = pool.submit(openloop.steadily, job).result()
    check(requests, right, seen.samples)
    return Pace(len(seen.latencies), max(seen.latencies), seen.client)


# ---- so many a second


def steady(
    pool: ProcessPoolExecutor,
    url: str,
    requests: Sequence[Request],
    shape: Shape,
    right: Right,
    *,
    connections: int,
    rate: float,
    seconds: float,
) -> Seen:
    """Ask so many a second, evenly. Raises Wrong if any answer is, or never comes."""
    seen = pool.submit(openloop.steadily, _job(url, requests, shape, connections, rate, seconds)).result()
    check(requests, right, seen.samples)
    return seen


def _job(
    url: str,
    requests: Sequence[Request],
    shape: Shape | None = None,
    connections: int = 1,
    rate: float = 0,
    seconds: float = 0,
) -> Job:
    """Without a rate all are due at once, and each is asked once."""
    place = urlsplit(url)
    raws = [raw(request, url) for request in requests]
    return Job(place.hostname or "127.0.0.1", place.port or 80, raws, shape, connections, rate, seconds)
