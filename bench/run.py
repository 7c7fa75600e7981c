"""Requests per second of the house beside a bare handler, in one run, in turns: `make bench`.

Each workload is measured in several rounds, one after the other in each round, so that a noisy minute hits all of
them. What counts is the ratio of medians; absolute figures are this machine's.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from msingi import catalog
from msingi.kit import app as kit_app
from msingi.kit import config, embedded

EMAIL, PASSWORD = "bench@msingi.test", "a long walk to the market"
LUA = """
wrk.method = "{method}"
{known}
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{body}'
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        print("bench needs wrk: apt-get install wrk", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        workloads = prepare(stack, options)
        rates = measure(workloads, options)
    report = shown(rates, options)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def prepare(stack: ExitStack, options: argparse.Namespace) -> dict[str, list[str]]:
    """Start everything and fill in what is read; returns the wrk command of each workload."""
    folder, environ = databases(stack)
    settings = config.load(config.Settings, environ)
    asyncio.run(kit_app.prepare(settings, catalog.products()))
    bare = stack.enter_context(serving("bench.bare:app", environ, options.processes))
    full = stack.enter_context(serving("bench.full:app", environ, options.processes))
    token, note = plant(full)
    read = script(folder, "read", "GET", token, "")
    write = script(folder, "write", "POST", token, '{"title": "Rain", "body": "Eight millimetres.", "tags": ["farm"]}')
    wrk = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s"]
    return {
        "bare hello": [*wrk, f"{bare}/hello"],
        "hello behind the whole chain": [*wrk, f"{full}/hello"],
        "the same, signed in": [*wrk, "-s", read, f"{full}/hello"],
        "one document by id": [*wrk, "-s", read, f"{full}/v1/notes/{note}"],
        "a page of 20": [*wrk, "-s", read, f"{full}/v1/notes?limit=20"],
        "one write (note, revision and counter in a transaction)": [*wrk, "-s", write, f"{full}/v1/notes"],
    }


def databases(stack: ExitStack) -> tuple[Path, dict[str, str]]:
    """A folder and both databases for this run; returns it and the environment of a house on them, without limits."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    servers = embedded.start(folder / "data")
    stack.callback(servers.release)
    return folder, {
        **os.environ,
        "MONGO_URL": servers.mongo_url,
        "REDIS_URL": servers.redis_url,
        "MSINGI_DATABASE": "bench",
        "MSINGI_ANONYMOUS_LIMIT": "10000000/minute",
        "MSINGI_MEMBER_LIMIT": "10000000/minute",
    }


@contextmanager
def serving(target: str, environ: dict[str, str], processes: int) -> Any:
    """An application in Granian, on a free port, logs to nowhere."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--no-access-log", "--loop", "uvloop"]
    command += ["--port", str(port), "--workers", str(processes), target]
    process = subprocess.Popen(command, env={**environ, "MSINGI_PORT": str(port)}, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                httpx.get(f"{url}/hello", timeout=1).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        else:
            raise RuntimeError(f"{target} did not start")
        yield url
    finally:
        process.terminate()
        process.wait(30)


def plant(url: str) -> tuple[str, str]:
    """An account with 200 notes; returns its token and a note's id."""
    with httpx.Client(base_url=url, timeout=30) as client:
        person = {"email": EMAIL, "password": PASSWORD, "name": "Bench"}
        client.post("/v1/accounts/register", json=person).raise_for_status()
        signed = client.post("/v1/accounts/sign-in", json={"email": EMAIL, "password": PASSWORD}).raise_for_status()
        token = signed.json()["access_token"]
        client.headers["authorization"] = f"Bearer {token}"
        for number in range(200):
            note = {"title": f"Note {number}", "body": "Buy **wire** and nails. " * 8, "tags": ["farm"]}
            made = client.post("/v1/notes", json=note).raise_for_status()
        return token, made.json()["id"]


def script(folder: Path, name: str, method: str, token: str | None, body: str) -> str:
    path = folder / f"{name}.lua"
    known = f'wrk.headers["Authorization"] = "Bearer {token}"' if token else ""
    path.write_text(LUA.format(method=method, known=known, body=body))
    return str(path)


def measure(workloads: dict[str, list[str]], options: argparse.Namespace) -> dict[str, list[float]]:
    """Rounds of all workloads in turn, after one round that does not count."""
    rates: dict[str, list[float]] = {name: [] for name in workloads}
    for turn in range(options.rounds + 1):
        for name, command in workloads.items():
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            if "Non-2xx" in said:
                raise SystemExit(f"{name}: wrong answers:\n{said}")
            found = re.search(r"Requests/sec:\s+([\d.]+)", said)
            if turn and found:
                rates[name].append(float(found[1]))
    return rates


def shown(rates: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    """The table, printed, and the same as data."""
    bare = statistics.median(rates["bare hello"])
    rows = []
    print(f"\n{'workload':<58}{'requests/s':>12}{'of bare':>9}{'bare costs 1, this':>20}")
    for name, found in rates.items():
        rate = statistics.median(found)
        rows.append({"workload": name, "rates": found, "median": rate, "of_bare": rate / bare})
        print(f"{name:<58}{rate:>12.0f}{rate / bare:>9.2f}{bare / rate:>20.2f}")
    spread = max((max(found) - min(found)) / statistics.median(found) for found in rates.values())
    if spread > 0.25:
        print(f"\nThe machine was noisy: rounds of one workload differ by up to {spread:.0%}.")
    about = {name: version(name) for name in ("litestar", "granian", "pymongo", "msgspec")}
    return {
        "at": datetime.now(UTC).isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": about,
        "options": {name: value for name, value in vars(options).items() if name != "json"},
        "rows": rows,
    }


if __name__ == "__main__":
    raise SystemExit(main())
