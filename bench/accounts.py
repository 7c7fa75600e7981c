"""What signing in gives away, and what a crowd at its door costs the others: `make bench ARGS=accounts`.

Two web processes of the whole house on real databases, asked over HTTP. Whoever asks shares this machine's cores with
them, so latencies are upper bounds.
"""

import argparse
import asyncio
import itertools
import json
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx

from bench.meter import percentile
from bench.run import databases, script, serving
from msingi import catalog
from msingi.kit import app as kit_app
from msingi.kit import config

PASSWORD, WRONG = "a long walk to the market", "a long walk to nowhere"
SIGN_IN = "/v1/accounts/sign-in"
PER_ADDRESS = 60  # wrong tries from one, which may have a hundred
Rows = list[tuple[str, str, str]]  # what, how much, what is promised


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="bench accounts", description=__doc__)
    parser.add_argument("--tries", type=int, default=200, help="of each kind, to tell addresses apart")
    parser.add_argument("--storm", type=int, default=10, help="seconds")
    parser.add_argument("--rounds", type=int, default=50, help="of signing out")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        first, second = prepare(stack)
        crowd = Crowd(first, options.tries)
        rows = [
            *enumeration(first, crowd, options.tries),
            *asyncio.run(storm([first, second], crowd, options.storm)),
            *refreshing(first, crowd),
            *revocation(first, second, crowd, options.rounds),
            *signed_in(stack, first, crowd),
        ]
    print()
    for what, much, promised in rows:
        print(f"{what:<66}{much:>24}   {promised}")
    if options.json:
        options.json.write_text(json.dumps([{"what": row[0], "is": row[1]} for row in rows], indent=2) + "\n")
    return 0


def prepare(stack: ExitStack) -> tuple[str, str]:
    """Two web processes on one pair of databases."""
    _, environ = databases(stack)
    environ |= {"MSINGI_DEMO_PASSWORD": PASSWORD, "MSINGI_LOG_LEVEL": "error", "MSINGI_PRODUCTS": "accounts,notes"}
    products = catalog.products()
    kinds = [config.Settings, *(product.settings for product in products if product.settings)]
    parts = config.load_all(kinds, environ)
    settings = parts.pop(config.Settings)
    asyncio.run(kit_app.prepare(settings, products))
    asyncio.run(kit_app.plant(settings, [each for each in products if each.name == "accounts"], parts))
    first, second = (stack.enter_context(serving("bench.full:app", environ, 1)) for _ in range(2))
    return first, second


class Crowd:
    """People who have an account, who have a disabled one, and who have none; each is tried a few times only."""

    def __init__(self, url: str, tries: int) -> None:
        size = tries // 8 + 1
        self.known = [f"known{number}@example.org" for number in range(size)]
        self.disabled = [f"gone{number}@example.org" for number in range(size)]
        self.unknown = [f"other{number}@example.org" for number in range(size)]
        with httpx.Client(base_url=url, timeout=30) as http:
            form = {"email": "admin@msingi.test", "password": PASSWORD}
            token = http.post(SIGN_IN, json=form).raise_for_status().json()["access_token"]
            http.headers["authorization"] = f"Bearer {token}"
            for email in [*self.known, *self.disabled]:
                person = {"email": email, "password": PASSWORD, "name": "Bench"}
                made = http.post("/v1/accounts/users", json=person).raise_for_status().json()
                if email in self.disabled:
                    path = f"/v1/accounts/users/{made['id']}"
                    http.patch(path, json={"disabled": True}).raise_for_status()


def enumeration(url: str, crowd: Crowd, tries: int) -> Rows:
    """How well the time of an answer tells who has an account: three kinds of address in turns, in chance order."""
    times: dict[str, list[float]] = {"known": [], "unknown": [], "disabled": []}
    whole: dict[str, set[str]] = {kind: set() for kind in times}
    doors = places(url)
    for turn in range(-5, tries):
        http = next(doors)
        for kind in random.sample(list(times), 3):
            people = getattr(crowd, kind)
            form = {"email": people[turn % len(people)], "password": WRONG}
            began = time.perf_counter()
            reply = http.post(SIGN_IN, json=form)
            took = time.perf_counter() - began
            if turn >= 0:
                times[kind].append(took * 1000)
                whole[kind].add(f"{reply.status_code} {said(reply)}")
    rows = [("answers to a wrong password, of all kinds", f"{len(set.union(*whole.values()))}", "1 (A6)")]
    for kind in ("unknown", "disabled"):
        gap = abs(statistics.median(times["known"]) - statistics.median(times[kind]))
        rows.append((f"known against {kind}: d', {tries} tries each", f"{distance(times, kind):.2f}", "< 0.2 (A6)"))
        rows.append((f"known against {kind}: gap of medians", f"{gap:.2f} ms", "<= 5 ms (A6)"))
    return rows


def places(url: str) -> Iterator[httpx.Client]:
    """Clients at as many addresses as it takes, each kept for some tries."""
    for number in itertools.count(2):
        transport = httpx.HTTPTransport(local_address=f"127.0.{number // 250}.{number % 250 + 1}")
        with httpx.Client(base_url=url, transport=transport, timeout=30) as http:
            yield from itertools.repeat(http, PER_ADDRESS // 3)


def said(reply: httpx.Response) -> str:
    body = {name: value for name, value in reply.json().items() if name != "request_id"}
    return json.dumps([body, sorted(set(reply.headers))])


def distance(times: dict[str, list[float]], kind: str) -> float:
    """d': the distance of the means in standard deviations. The slowest in a hundred tell of the machine only."""
    one, other = (sorted(times[each])[: int(len(times[each]) * 0.99)] for each in ("known", kind))
    spread = ((statistics.variance(one) + statistics.variance(other)) / 2) ** 0.5
    return abs(statistics.mean(one) - statistics.mean(other)) / spread


# ---- a crowd


async def storm(urls: list[str], crowd: Crowd, seconds: int) -> Rows:
    """Fifty sign-ins a second, and beside them somebody who asks for something else."""
    limits = httpx.Limits(max_connections=400)
    transports = [httpx.AsyncHTTPTransport(local_address=f"127.1.0.{number}", limits=limits) for number in range(1, 21)]
    homes = [httpx.AsyncClient(transport=each, timeout=30) for each in transports]
    turns = itertools.count()
    replies: list[tuple[int, float]] = []

    async def one() -> None:
        turn = next(turns)
        form = {"email": crowd.known[turn % len(crowd.known)], "password": PASSWORD}
        began = time.perf_counter()
        reply = await homes[turn % len(homes)].post(f"{urls[turn % len(urls)]}{SIGN_IN}", json=form)
        replies.append((reply.status_code, time.perf_counter() - began))

    loop = asyncio.get_running_loop()
    # A process of its own: the crowd keeps this one too busy to tell how long somebody else waits.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as beside:
        quiet = await loop.run_in_executor(beside, probing, urls, 3)
        waits = loop.run_in_executor(beside, probing, urls, seconds)
        async with asyncio.TaskGroup() as group:
            for _ in range(seconds * 50):
                group.create_task(one())
                await asyncio.sleep(1 / 50)
        busy = await waits
    for home in homes:
        await home.aclose()
    statuses = Counter(status for status, _ in replies)
    shed = [took for status, took in replies if status == 503]
    return [
        ("another route while all is quiet: p99", f"{percentile(quiet, 99) * 1000:.0f} ms", ""),
        (
            "another route while 50 a second sign in: p99",
            f"{percentile(busy, 99) * 1000:.0f} ms",
            "< 100 ms (A7)",
        ),
        ("sign-ins by status", " ".join(f"{status}: {count}" for status, count in sorted(statuses.items())), ""),
        ("the slowest 503", f"{max(shed) * 1000:.0f} ms" if shed else "none", "< 1 s (A7)"),
    ]


def probing(urls: list[str], seconds: float) -> list[float]:
    """How long another route takes, asked thirty times a second."""
    took, ends = [], time.perf_counter() + seconds
    with httpx.Client(timeout=30) as http:
        for url in itertools.cycle(urls):
            began = time.perf_counter()
            if began > ends:
                break
            http.get(f"{url}/.well-known/jwks.json").raise_for_status()
            took.append(time.perf_counter() - began)
            time.sleep(1 / 30)
    return took


# ---- sessions


def tokens(http: httpx.Client, crowd: Crowd) -> dict[str, Any]:
    form = {"email": random.choice(crowd.known), "password": PASSWORD}
    found: dict[str, Any] = http.post(SIGN_IN, json=form).raise_for_status().json()
    return found


def refreshing(url: str, crowd: Crowd) -> Rows:
    """A hundred at once show the same refresh token."""
    with httpx.Client(base_url=url, timeout=30) as http:
        form = {"refresh_token": tokens(http, crowd)["refresh_token"]}

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=httpx.Limits(max_connections=100)) as http:
            return await asyncio.gather(*(http.post("/v1/accounts/refresh", json=form) for _ in range(100)))

    replies = asyncio.run(all_at_once())
    children = {reply.json()["refresh_token"] for reply in replies if reply.status_code == 200}
    statuses = " ".join(
        f"{count} x {status}" for status, count in Counter(each.status_code for each in replies).items()
    )
    return [("children of 100 parallel refreshes", f"{len(children)} ({statuses})", "1 (A10)")]


def revocation(first: str, second: str, crowd: Crowd, rounds: int) -> Rows:
    """Sign out at one process; how long until each refuses the access token."""
    seen: dict[str, list[float]] = {first: [], second: []}
    with httpx.Client(timeout=30) as http:
        for _ in range(rounds):
            form = {"email": random.choice(crowd.known), "password": PASSWORD}
            token = http.post(f"{first}{SIGN_IN}", json=form).raise_for_status().json()["access_token"]
            headers = {"authorization": f"Bearer {token}"}
            for url in seen:
                http.get(f"{url}/v1/accounts/me", headers=headers).raise_for_status()
            http.post(f"{first}/v1/accounts/sign-out", headers=headers).raise_for_status()
            ended = time.perf_counter()
            for url in (second, first):
                while http.get(f"{url}/v1/accounts/me", headers=headers).status_code != 401:
                    pass
                seen[url].append(time.perf_counter() - ended)
    both = [*seen[first], *seen[second]]
    return [
        ("revocation seen by both processes: p50", f"{percentile(both, 50) * 1000:.1f} ms", ""),
        ("revocation seen by both processes: p99", f"{percentile(both, 99) * 1000:.1f} ms", "<= 1 s (A11)"),
    ]


def signed_in(stack: ExitStack, url: str, crowd: Crowd) -> Rows:
    """A request of somebody signed in beside one of nobody, to the same handler."""
    if not shutil.which("wrk"):
        return [("signed in against anonymous", "needs wrk", "<= 1.1")]
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    with httpx.Client(base_url=url, timeout=30) as http:
        token = tokens(http, crowd)["access_token"]
    wrk = ["wrk", "-t1", "-c16", "-d3s", f"{url}/hello", "-s"]
    ways = {who: [*wrk, script(folder, who, "GET", known, "")] for who, known in (("anyone", None), ("ann", token))}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(4):
        for way, command in ways.items():
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = re.search(r"Requests/sec:\s+([\d.]+)", told)
            if found and "Non-2xx" not in told:
                rates[way].append(float(found[1]))
    anonymous, known = (statistics.median(rates[way][1:]) for way in ways)
    return [("a signed-in request costs, of an anonymous one", f"{anonymous / known:.2f}", "<= 1.1")]
