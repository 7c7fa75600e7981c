"""Whether every stack answers every workload rightly: `python -m bench stacks --check`."""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import aiohttp

from bench.stacks import STACKS, WORKLOADS, CannotInstall, CannotStart, Place, Stack, Workload, World, plant
from bench.stacks.clients import following, wait_done
from msingi.kit import embedded

CACHE = Path.home() / ".cache" / "msingi-bench"
ASKED = 20  # requests of each workload
FOLLOWERS = 100


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="bench stacks", description=__doc__)
    parser.add_argument("--check", action="store_true", help="what it does anyway")
    parser.add_argument("--only", type=lambda given: given.split(","), help="these stacks: express,fastify")
    parser.add_argument("--size", type=int, default=200, help="tasks")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the peers' own parts are kept")
    options = parser.parse_args(arguments)
    found: dict[str, dict[str, str] | str] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running, nor any data
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = embedded.start(folder / "data")
        stack.callback(servers.release)
        for each in STACKS:
            if options.only and each.name not in options.only:
                continue
            place = Place(folder / each.name, servers.mongo_url, servers.redis_url, f"check-{each.name}")
            print(f"{each.title} …", file=sys.stderr, flush=True)
            found[each.name] = checked(each, place, options.cache, options.size, options.processes)
    _show(found)
    return int(any(isinstance(each, str) or any(each.values()) for each in found.values()))


def checked(stack: Stack, place: Place, cache: Path, size: int, processes: int) -> dict[str, str] | str:
    """What is wrong by workload, empty where nothing is; or why the stack is left out."""
    try:
        stack.install(cache)
        with stack.start(place, processes) as running:
            world = plant(running, size) if stack.serves is None else World.of_nothing(running)
            return asyncio.run(answered(world, [each for each in WORKLOADS if _has(stack, each)]))
    except (CannotInstall, CannotStart) as reason:
        return str(reason)


def _has(stack: Stack, workload: Workload) -> bool:
    return stack.serves is None or workload.name in stack.serves


async def answered(world: World, workloads: Sequence[Workload]) -> dict[str, str]:
    """Ask a few requests of each workload; the first thing that is wrong of each, empty where nothing is."""
    async with aiohttp.ClientSession(world.running.url, auto_decompress=False) as client:
        client.headers.pop("Accept-Encoding", None)
        return {each.name: await _first_wrong(client, world, each) for each in workloads}


async def _first_wrong(client: aiohttp.ClientSession, world: World, workload: Workload) -> str:
    requests = list(workload.plan(world))[: ASKED if workload.name != "upload" else 2]
    skipped = ("Accept-Encoding", "User-Agent", "Content-Type")
    count = FOLLOWERS if workload.told_by == "sockets" else 0
    async with following(world, count) as followers:
        for request in requests:
            async with client.request(
                request.method,
                request.path,
                headers=dict(request.headers),
                data=BytesIO(request.body) if request.body else None,
                skip_auto_headers=skipped,
            ) as reply:
                body = await reply.read()
                headers = {name.lower(): value for name, value in reply.headers.items()}
            if wrong := workload.right(request, reply.status, headers, body):
                return wrong
            try:
                if workload.told_by == "job":
                    await wait_done(client, request, body)
                if workload.told_by == "sockets":
                    said = await reply.json()
                    await followers.all_heard(said["id"], said["version"])
            except TimeoutError:
                return "it was not told in time"
    return ""


def _show(found: dict[str, dict[str, str] | str]) -> None:
    print(f"\n{'':<14}" + "".join(f"{name:>10}" for name in found))
    for workload in WORKLOADS:
        print(f"{workload.name:<14}", end="")
        for told in found.values():
            wrong = told.get(workload.name, "-") if isinstance(told, dict) else "left out"
            print(f"{'right' if wrong == '' else 'WRONG' if wrong not in ('-', 'left out') else wrong:>10}", end="")
        print()
    for name, told in found.items():
        if isinstance(told, str):
            print(f"{name} is left out: {told}")
            continue
        for row, wrong in told.items():
            if wrong:
                print(f"{name}, {row}: {wrong}")
