"""What those who follow a project are told, as it stands in the stream that every web process tails."""

from typing import Any

import msgspec
import pytest

from msingi.kit import state
from msingi.kit.errors import NotFound
from msingi.kit.live.telling import LOOK_AGAIN, STREAM
from msingi.kit.testing import PEOPLE, Client, World
from msingi.products.tasks.product import product


async def told() -> list[tuple[str, str, Any]]:
    """Topic, kind and data of all that was told, without the kit's own signs."""
    entries = await state.redis().xrange(STREAM)
    said = [
        (each[b"topic"].decode(), each[b"kind"].decode(), msgspec.json.decode(each[b"data"])) for _, each in entries
    ]
    return [each for each in said if not each[1].startswith("!")]


async def test_every_change_of_a_project_is_told_on_its_topic(ann: Client, bob: Client) -> None:
    made = await ann.post("/projects/farm/tasks", title="Feed the hens", expect=201)
    task = made["id"]
    await ann.patch(f"/{task}", priority=4)
    await ann.put(f"/{task}/position", before="hay")
    await bob.put(f"/{task}/completion")
    await bob.delete(f"/{task}/completion")
    comment = await bob.post(f"/{task}/comments", body="They are fed.", expect=201)
    await ann.delete(f"/{task}", expect=204)
    await ann.put("/projects/farm/members/eve", role="viewer")
    about = {"task_id": task}
    assert await told() == [
        ("tasks/projects/farm", "task_added", about | {"version": 1}),
        ("tasks/projects/farm", "task_changed", about | {"version": 2}),
        ("tasks/projects/farm", "task_moved", about | {"version": 3}),
        ("tasks/projects/farm", "task_completed", about | {"version": 4}),
        ("tasks/projects/farm", "task_reopened", about | {"version": 5}),
        ("tasks/projects/farm", "comment_added", about | {"version": 5, "comment_id": comment["id"]}),
        ("tasks/projects/farm", "task_removed", about | {"version": 5}),
        ("tasks/projects/farm", "members_changed", {"user_id": "eve"}),
    ]


async def test_what_follows_a_completed_task_is_told_too(ann: Client) -> None:
    done = await ann.put("/hay/completion")
    assert [(kind, data["task_id"]) for _, kind, data in await told()] == [
        ("task_completed", "hay"),
        ("task_added", done["next_id"]),
    ]


async def test_what_changed_nothing_or_was_refused_is_not_told(ann: Client, bob: Client) -> None:
    await ann.patch("/hay", title="Buy hay")
    await ann.put("/vet/position", after="wire")
    await ann.put("/posts/blocks/fence", expect=204)
    await ann.patch("/hay", title="Mine", headers={"if-match": '"9"'}, expect=409)
    await ann.put("/fence/blocks/posts", expect=409)
    await ann.patch("/flour", title="Mine", expect=403)
    assert await told() == []


async def test_whoever_is_removed_is_shown_out(ann: Client) -> None:
    await ann.delete("/projects/farm/members/bob", expect=204)
    said = await state.redis().xrange(STREAM)
    assert [(each[b"topic"], each[b"kind"]) for _, each in said] == [
        (b"tasks/projects/farm", b"members_changed"),
        (b"tasks/projects/farm", LOOK_AGAIN.encode()),
    ]


async def test_z1_only_members_may_follow_a_project(world: World) -> None:
    (topic,) = product.topics
    assert topic.values("tasks/projects/farm") == ("farm",)
    for name in ("ann", "bob"):
        await topic.see("farm", PEOPLE[name])
    for name in ("eve", "admin"):
        with pytest.raises(NotFound):
            await topic.see("farm", PEOPLE[name])
