"""What happens when several write at once."""

import asyncio
import random
from collections.abc import Awaitable, Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from msingi.kit.clock import now
from msingi.kit.errors import AlreadyExists, Problem, Stale
from msingi.kit.testing import PEOPLE, World
from msingi.kit.unit import guarded
from msingi.products.tasks import queries, rules
from msingi.products.tasks.actions import completion, members, projects, relations, reminders
from msingi.products.tasks.actions import tasks as acting
from msingi.products.tasks.contract import TaskCompleted
from msingi.products.tasks.graph import reached
from msingi.products.tasks.models import Task, tasks
from msingi.products.tasks.models import members as member_rows
from msingi.products.tasks.models import reminders as reminder_rows
from msingi.products.tasks.queries import SeenTask
from msingi.products.tasks.schemas import Move, NewReminder, NewTask, RecurrenceForm, TaskPatch

ann = PEOPLE["ann"]


def in_days(days: int) -> datetime:
    return now() + timedelta(days=days)


async def seen(task_id: str) -> SeenTask:
    return await queries.task(task_id, ann)


async def at_once(acts: Iterable[Awaitable[Any]]) -> list[Any]:
    """The results of all, refusals among them; what is no refusal fails the test."""
    results = await asyncio.gather(*acts, return_exceptions=True)
    faults = [each for each in results if isinstance(each, BaseException) and not isinstance(each, Problem)]
    assert not faults, faults
    return results


async def test_twenty_who_complete_what_recurs_make_one_that_follows(world: World) -> None:
    for round in range(3):
        task = await tasks.find({"chain": "hay", "status": "open"})
        assert task
        hay = await seen(task.id)
        results = await at_once(completion.complete(hay, None) for _ in range(20))
        assert {each.next_id for each in results} == {(await tasks.get(task.id)).next_id}
        assert await tasks.count({"chain": "hay"}) == round + 2
    assert sorted(each.link for each in await tasks.many({"chain": "hay"})) == [1, 2, 3, 4]
    assert [type(event) for event in await world.events()] == [TaskCompleted] * 3


async def test_completing_and_opening_at_once_still_makes_one_that_follows(world: World) -> None:
    hay = await seen("hay")
    acts = [completion.complete(hay, None) if number % 2 else completion.reopen(hay, None) for number in range(24)]
    await at_once(acts)
    assert await tasks.count({"chain": "hay"}) == 2


async def test_of_many_with_the_same_version_one_wins(world: World) -> None:
    vet = await seen("vet")
    patches = (acting.edit(vet, TaskPatch(title=f"Ask {number}"), ann, 1) for number in range(10))
    results = await at_once([*patches, *(completion.complete(vet, 1) for _ in range(10))])
    assert len([each for each in results if isinstance(each, Task)]) == 1
    assert {type(each) for each in results if isinstance(each, Problem)} == {Stale}
    assert (await tasks.get("vet")).version == 2


async def test_of_many_moves_of_the_same_version_one_wins(world: World) -> None:
    vet = await seen("vet")
    places = ["hay", "fence", "posts"] * 3
    results = await at_once(acting.move(vet, Move(after=place), ann, 1) for place in places)
    assert len([each for each in results if isinstance(each, Task)]) == 1
    assert {type(each) for each in results if isinstance(each, Problem)} == {Stale}
    assert (await tasks.get("vet")).version == 2


@pytest.mark.parametrize("twin", [{"position": "a0"}, {"position": "b00", "chain": "hay", "link": 1}])
async def test_the_database_itself_refuses_a_second_one_in_the_same_place(world: World, twin: dict[str, Any]) -> None:
    @guarded
    async def add() -> Task:
        return await tasks.add(Task(project_id="farm", title="A twin", created_by="ann", **twin))

    with pytest.raises(AlreadyExists):
        await add()


async def test_no_patch_of_another_field_is_lost(world: World) -> None:
    vet = await seen("vet")
    patches: list[dict[str, Any]] = [
        {"title": "Ask the vet about the red hen"},
        {"description": "She limps."},
        {"labels": ["hens", "urgent"]},
        {"priority": 5},
        {"assignees": ["bob"]},
        {"parent_id": "hay"},
    ]
    await at_once(acting.edit(vet, TaskPatch(**each), ann, None) for each in patches)
    after = await tasks.get("vet")
    assert all(getattr(after, name) == value for patch in patches for name, value in patch.items())
    assert after.version == 7
    assert {"red", "limps"} <= set(after.words)


async def test_a_recurrence_and_no_due_never_stay_together(world: World) -> None:
    for number in range(5):
        made = await acting.add(await queries.member("farm", ann), NewTask(title=f"T{number}", due=in_days(1)), ann)
        task = SeenTask(made, await queries.member("farm", ann))
        weekly = TaskPatch(recurrence=RecurrenceForm(rule="FREQ=WEEKLY"))
        await at_once([acting.edit(task, weekly, ann, None), acting.edit(task, TaskPatch(due=None), ann, None)])
        after = await tasks.get(made.id)
        assert after.recurrence is None or after.due is not None


async def test_moves_at_once_leave_a_total_order(world: World) -> None:
    names = ["hay", "fence", "posts", "wire", "vet"]
    here = await queries.member("farm", ann)

    async def move() -> Any:
        what, where = random.sample(names, 2)
        form = Move(after=where) if random.random() < 0.5 else Move(before=where)
        return await acting.move(await seen(what), form, ann, None)

    made = [acting.add(here, NewTask(title=f"New {number}"), ann) for number in range(8)]
    results = await at_once([*(move() for _ in range(30)), *made])
    assert not [each for each in results if isinstance(each, Problem)]
    positions = [each.position async for each in tasks.each({"project_id": "farm"})]
    assert len(positions) == len(set(positions)) == 13


async def test_all_who_go_to_the_same_place_get_there(world: World) -> None:
    everybody = [await seen(each) for each in ("fence", "posts", "wire", "vet")]
    await at_once(acting.move(each, Move(after="hay"), ann, None) for each in everybody)
    order = [each.id async for each in queries.all_tasks("farm")]
    assert order[0] == "hay"
    assert set(order[1:]) == {"fence", "posts", "wire", "vet"}


async def test_a_circle_closed_by_several_at_once_stays_open(world: World) -> None:
    """Each of the arrows is harmless alone; one of each ring must be refused."""
    ring = ["hay", "fence", "posts", "wire", "vet"]
    await relations.unrelate(await seen("posts"), "fence", ann)
    await relations.unrelate(await seen("wire"), "fence", ann)
    arrows = [*zip(ring, [*ring[1:], ring[0]], strict=True), *zip(ring, [*ring[2:], *ring[:2]], strict=True)]
    results = await at_once([relations.relate(await seen(source), target, ann) for source, target in arrows])
    refused = [each for each in results if isinstance(each, Problem)]
    assert {type(each) for each in refused} == {rules.WouldBeACircle}
    drawn = await queries.blocking("farm")
    assert sum(map(len, drawn.values())) + len(refused) == 10
    assert all(each not in reached(drawn, each) for each in ring)


async def test_parents_taken_at_once_make_no_circle(world: World) -> None:
    ring = ["hay", "vet", "wire", "posts"]
    pairs = zip(ring, [*ring[1:], ring[0]], strict=True)
    results = await at_once(
        [acting.edit(await seen(child), TaskPatch(parent_id=parent), ann, None) for child, parent in pairs]
    )
    refused = [each for each in results if isinstance(each, Problem)]
    assert [type(each) for each in refused] == [rules.WouldBeACircle]
    parts = await queries.parts("farm")
    assert all(each not in reached(parts, each) for each in ring)


async def test_no_subtask_is_left_without_its_parent(world: World) -> None:
    here = await queries.member("farm", ann)
    adds = (acting.add(here, NewTask(title=f"Part {number}", parent_id="fence"), ann) for number in range(6))
    await at_once([*adds, acting.remove(await seen("fence"), None)])
    assert await tasks.find({"_id": "fence"}) is None
    assert await tasks.count({"parent_id": "fence"}) == 0


async def test_a_reminder_made_while_due_moves_moves_along(world: World) -> None:
    for number in range(5):
        due = in_days(10 + number)
        hay = await seen("hay")
        reminder, _ = await at_once(
            [
                reminders.add(hay, NewReminder(minutes_before_due=number)),
                acting.edit(hay, TaskPatch(due=due), ann, None),
            ]
        )
        kept = await reminder_rows.get(reminder.id)
        assert kept.at == rules.before(rules.moment(due), number)


async def test_a_member_let_in_by_several_at_once_is_in_once(world: World) -> None:
    here = await queries.member("farm", ann)
    roles: list[Any] = ["viewer", "editor", "admin"] * 3
    results = await at_once(members.let_in(here, "eve", role, None) for role in roles)
    assert not [each for each in results if isinstance(each, Problem)]
    assert await member_rows.count({"project_id": "farm", "user_id": "eve"}) == 1


async def test_a_project_is_removed_once(world: World) -> None:
    farm = await queries.project("farm", ann)
    results = await at_once(projects.remove(farm, None) for _ in range(5))
    assert len([each for each in results if each is None]) == 1
    assert await member_rows.count({"project_id": "farm"}) == 0
