"""Each list of tasks walks an index in its order, and reads no more than it answers with, however many there are."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from msingi.kit import lanes
from msingi.kit.ids import new_id
from msingi.kit.testing import Client, World
from msingi.products.tasks.models import tasks

MANY = 600
LIMIT = 10


@pytest_asyncio.fixture(loop_scope="session")
async def many(world: World) -> None:
    """So many more tasks on the farm, every third of them open, that differ in what they can be sorted by."""
    like = await tasks.raw.find_one({"_id": "vet"})
    assert like is not None
    began = datetime(2026, 1, 1, tzinfo=UTC)
    rows: list[dict[str, Any]] = []
    for number in range(MANY):
        at = began + timedelta(minutes=number % 100)
        changes = {"_id": new_id(), "position": f"z{number:05}", "created_at": at, "updated_at": at, "due": at}
        rows.append(
            {**like, "chain": None, **changes, "priority": number % 4, "status": "done" if number % 3 else "open"}
        )
    await tasks.raw.insert_many(rows)


@pytest.mark.parametrize("sort", ["position", "-created_at", "created_at", "-updated_at", "due", "-priority"])
async def test_a_list_in_any_order_reads_what_it_shows(
    many: None, ann: Client, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    assert await read(ann, monkeypatch, f"sort={sort}") <= LIMIT + 1


async def test_the_open_ones_newest_first_read_what_they_show(
    many: None, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await read(ann, monkeypatch, "status=open&sort=-created_at") <= LIMIT + 1


async def read(client: Client, monkeypatch: pytest.MonkeyPatch, query: str) -> int:
    """How many documents or keys at most, and nothing sorted, the finds of two pages of a list examine."""
    asked: list[tuple[Any, dict[str, Any]]] = []
    plain = lanes.find

    async def find(collection: Any, where: Any, *, sort: Any = None, limit: int = 0, fields: Any = None) -> Any:
        if collection.name == "tasks":
            asked.append((collection, lanes.asking(collection, where, sort, limit, fields)))
        return await plain(collection, where, sort=sort, limit=limit, fields=fields)

    monkeypatch.setattr(lanes, "find", find)
    first = await client.get(f"/projects/farm/tasks?limit={LIMIT}&{query}")
    assert len(first["items"]) == LIMIT
    assert first["next"]
    monkeypatch.undo()
    examined: list[int] = []
    for collection, command in asked:
        del command["$db"]
        told = await collection.database.command("explain", command, verbosity="executionStats")
        assert '"SORT"' not in str(told["queryPlanner"]["winningPlan"]).replace("'", '"'), query
        seen = told["executionStats"]
        examined.append(max(seen["totalDocsExamined"], seen["totalKeysExamined"]))
    assert examined, "no list was asked for"
    return max(examined)
