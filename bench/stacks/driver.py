"""The database driver alone: what three workloads ask of MongoDB, called in this process, with nothing around.

`python -m bench` asks for these as for a stack's requests: how many a second, and how long each, is what the machine
allows to whoever uses this driver.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count, cycle
from typing import Any

from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from bench.stacks.world import BEGAN, World

Row = dict[str, Any]
Act = Callable[[], Awaitable[None]]
PAGE = 20
POOL = 32  # connections, as each stack has


@asynccontextmanager
async def driver(world: World) -> AsyncIterator[Mapping[str, Act]]:
    """One call of each, by the name of the workload: `document`, `page`, `create`. Each raises if it brings too little.

    `create` inserts one document; a stack's own creating may do more, as the contract says.
    """
    place = world.running.place
    assert place is not None
    async with AsyncMongoClient[Row](place.mongo_url, maxPoolSize=POOL, tz_aware=True) as mongo:
        base = mongo[world.running.tasks_in]
        yield {
            "document": _document(base["tasks"], world),
            "page": _page(base["tasks"], world),
            "create": _create(base["driver_notes"]),
        }


def _document(tasks: AsyncCollection[Row], world: World) -> Act:
    ids = cycle([id for id, _ in world.tasks])

    async def act() -> None:
        if await tasks.find_one({"_id": next(ids)}) is None:
            raise RuntimeError("no such task")

    return act


def _page(tasks: AsyncCollection[Row], world: World) -> Act:
    projects = cycle(world.open_tasks)

    async def act() -> None:
        project = next(projects)
        wanted = {"project_id": project, "status": "open"}
        found = tasks.find(wanted, sort=[("created_at", -1), ("_id", -1)], limit=PAGE + 1)
        if len(await found.to_list()) < min(PAGE, world.open_tasks[project]):
            raise RuntimeError("too few tasks")

    return act


def _create(notes: AsyncCollection[Row]) -> Act:
    numbers = count()

    async def act() -> None:
        note = {"_id": str(ObjectId()), "title": f"Note {next(numbers)}", "body": "Buy wire and nails. " * 12}
        await notes.insert_one(note | {"owner": "driver", "tags": ["farm"], "created_at": BEGAN, "version": 1})

    return act
