"""From asking for a job until it is done: one at a time, and many at once."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvloop

from bench.load import raw
from bench.openloop import Job, Shape, through
from bench.wire import Answer, Wrong

LAST = 16  # of many at once: the ones asked for last are waited for, and then the others looked at
ALONE = 0.5  # of the time is for one at a time


@dataclass(frozen=True)
class Work:
    """Requests for jobs, each to be sent once."""

    url: str
    requests: Sequence[Any]
    shape: Shape
    host: str
    port: int
    connections: int
    seconds: float


@dataclass(frozen=True)
class Done:
    """Seconds from each request until its job was done; how many were done at once in how many seconds; answers."""

    latencies: list[float]
    count: int
    seconds: float
    samples: list[Answer]


def work(job: Work) -> Done:
    """One at a time for half of the seconds, then four times as many at once. Raises Wrong."""
    return uvloop.run(_work(job))


async def _work(job: Work) -> Done:
    async with aiohttp.ClientSession(job.url, auto_decompress=False) as client:
        latencies = await _one_at_a_time(client, job)
        many = job.requests[len(latencies) :][: 4 * max(len(latencies), LAST)]
        began = time.perf_counter()
        whole = Job(job.host, job.port, [raw(each, job.url) for each in many], job.shape, job.connections, 0, 60)
        answers = await through(whole)
        try:
            last = [_wait(client, many[each.number], each) for each in answers[-LAST:]]
            ended = max(await asyncio.gather(*last))
            for each in answers[:-LAST]:
                await _wait(client, many[each.number], each)
        except TimeoutError:
            raise Wrong("a job was not done in time") from None
    return Done(latencies, len(many), ended - began, answers)


async def _one_at_a_time(client: aiohttp.ClientSession, job: Work) -> list[float]:
    found: list[float] = []
    end = time.perf_counter() + job.seconds * ALONE
    for request in job.requests:
        if found and time.perf_counter() > end:
            break
        began = time.perf_counter()
        asked = client.request(request.method, request.path, headers=dict(request.headers), data=request.body)
        async with asked as reply:
            answer = Answer(0, reply.status, {}, await reply.read())
        if not job.shape.fits(answer.status, len(answer.body)):
            raise Wrong(f"no job: {answer.status}: {answer.body[:300]!r}")
        found.append(await _wait(client, request, answer) - began)
    return found


async def _wait(client: aiohttp.ClientSession, request: Any, answer: Answer) -> float:
    from bench.stacks.clients import wait_done  # noqa: PLC0415  (how a job is seen to be done is the stacks' to know)

    done: float = await wait_done(client, request, answer.body)
    return done
