"""Tasks over HTTP: who may do what, and that each promise of docs/contracts/tasks.md holds."""

import csv
import io
import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from icalendar import Calendar

from msingi.kit.testing import PEOPLE, Client, World, access_table
from msingi.products.tasks.models import graphs, members, relations, tasks
from msingi.products.tasks.product import product

VIEW = {
    *("id", "project_id", "title", "description", "labels", "priority", "due", "recurrence", "assignees", "parent_id"),
    *("position", "status", "completed_at", "completed_by", "next_id", "created_by"),
    *("created_at", "updated_at", "version"),
}

test_z1_access = access_table(
    product,
    """
                                         nobody  eve  bob  ann  admin
    GET    /                             401     200  200  200  200
    GET    /projects                     401     200  200  200  200
    POST   /projects                     401     201  201  201  201
    GET    /projects/farm                401     404  200  200  404
    PATCH  /projects/farm                401     404  403  200  404
    DELETE /projects/farm                401     404  403  204  404
    GET    /projects/farm/members        401     404  200  200  404
    PUT    /projects/farm/members/eve    401     404  403  200  404
    DELETE /projects/farm/members/bob    401     404  204  204  404
    GET    /projects/farm/export         401     404  200  200  404
    GET    /projects/farm/tasks          401     404  200  200  404
    POST   /projects/farm/tasks          401     404  201  201  404
    GET    /hay                          401     404  200  200  404
    PATCH  /hay                          401     404  200  200  404
    DELETE /hay                          401     404  204  204  404
    PUT    /hay/completion               401     404  200  200  404
    DELETE /hay/completion               401     404  200  200  404
    PUT    /hay/position                 401     404  200  200  404
    GET    /hay/subtasks                 401     404  200  200  404
    GET    /hay/relations                401     404  200  200  404
    PUT    /hay/blocks/vet               401     404  204  204  404
    DELETE /hay/blocks/vet               401     404  204  204  404
    GET    /hay/comments                 401     404  200  200  404
    POST   /hay/comments                 401     404  201  201  404
    PATCH  /hay/comments/price           401     404  200  403  404
    DELETE /hay/comments/price           401     404  204  204  404
    DELETE /hay/comments/agreed          401     404  403  204  404
    GET    /hay/reminders                401     404  200  200  404
    POST   /hay/reminders                401     404  201  201  404
    DELETE /hay/reminders/cash           401     404  204  404  404
    POST   /questions/house.data         401     403  403  403  403
    """,
    body={
        "POST /projects": {"name": "The garden"},
        "PATCH /projects/farm": {"name": "Our farm"},
        "PUT /projects/farm/members/eve": {"role": "viewer"},
        "POST /projects/farm/tasks": {"title": "Feed the hens"},
        "PATCH /hay": {"title": "Buy straw"},
        "PUT /hay/position": {"after": "vet"},
        "POST /hay/comments": {"body": "Done?"},
        "PATCH /hay/comments/price": {"body": "350 now."},
        "POST /hay/reminders": {"minutes_before_due": 5},
    },
)

# In the shop ann only looks on, and bob owns it.
test_z1_access_of_a_viewer = access_table(
    product,
    """
                                         ann  bob
    GET    /                             200  200
    GET    /projects                     200  200
    POST   /projects                     201  201
    GET    /projects/shop                200  200
    PATCH  /projects/shop                403  200
    DELETE /projects/shop                403  204
    GET    /projects/shop/members        200  200
    PUT    /projects/shop/members/eve    403  200
    DELETE /projects/shop/members/ann    204  204
    DELETE /projects/shop/members/bob    403  409
    GET    /projects/shop/export         200  200
    GET    /projects/shop/tasks          200  200
    POST   /projects/shop/tasks          403  201
    GET    /flour                        200  200
    PATCH  /flour                        403  200
    DELETE /flour                        403  204
    PUT    /flour/completion             403  200
    DELETE /flour/completion             403  200
    PUT    /flour/position               403  200
    GET    /flour/subtasks               200  200
    GET    /flour/relations              200  200
    PUT    /flour/blocks/airtime         403  204
    DELETE /flour/blocks/airtime         403  204
    GET    /flour/comments               200  200
    POST   /flour/comments               403  201
    PATCH  /flour/comments/none          404  404
    DELETE /flour/comments/none          404  404
    GET    /flour/reminders              200  200
    POST   /flour/reminders              201  201
    DELETE /flour/reminders/none         404  404
    POST   /questions/house.data         403  403
    """,
    body={
        "POST /projects": {"name": "The garden"},
        "PATCH /projects/shop": {"name": "Our shop"},
        "PUT /projects/shop/members/eve": {"role": "viewer"},
        "POST /projects/shop/tasks": {"title": "Sell eggs"},
        "PATCH /flour": {"title": "Weigh the flour"},
        "PUT /flour/position": {"after": "airtime"},
        "POST /flour/comments": {"body": "Done?"},
        "PATCH /flour/comments/none": {"body": "x"},
        "POST /flour/reminders": {"at": "2035-01-01T00:00:00Z"},
    },
)


async def add(client: Client, title: str = "Feed the hens", project: str = "farm", **fields: Any) -> Any:
    return await client.post(f"/projects/{project}/tasks", json={"title": title, **fields}, expect=201)


def cursor(*parts: Any) -> str:
    """A cursor as somebody might forge one."""
    return urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


async def ids(client: Client, path: str) -> list[str]:
    return [each["id"] for each in (await client.get(path))["items"]]


# ---- projects and members


async def test_a_project_is_owned_by_whoever_makes_it(eve: Client) -> None:
    made = await eve.post("/projects", name=" The garden ", expect=201)
    assert eve.last.headers["location"] == f"/v1/tasks/projects/{made['id']}"
    assert (made["name"], made["description"], made["owner_id"], made["role"]) == ("The garden", "", "eve", "owner")
    assert (made["version"], made["created_at"]) == (1, made["updated_at"])
    assert await eve.get(f"/projects/{made['id']}") == made
    assert eve.last.headers["etag"] == '"1"'
    await eve.get(f"/projects/{made['id']}", headers={"if-none-match": '"1"'}, expect=304)
    assert await ids(eve, "/projects") == [made["id"]]


async def test_projects_are_listed_with_ones_own_role(bob: Client) -> None:
    found = await bob.get("/projects?sort=name")
    assert [(each["id"], each["role"]) for each in found["items"]] == [("shop", "owner"), ("farm", "editor")]


async def test_a_project_changes_only_on_the_version_that_was_seen(ann: Client) -> None:
    changed = await ann.patch("/projects/farm", name="Our farm", headers={"if-match": '"1"'})
    assert (changed["name"], changed["version"]) == ("Our farm", 2)
    problem = await ann.patch("/projects/farm", name="Mine", headers={"if-match": '"1"'}, expect=409)
    assert problem["code"] == "stale"
    same = await ann.patch("/projects/farm", name=" Our farm")
    assert same["version"] == 2
    await ann.delete("/projects/farm", headers={"if-match": '"1"'}, expect=409)
    await ann.get("/projects/farm")


async def test_a_removed_project_is_gone_with_all_that_was_in_it(ann: Client, bob: Client, world: World) -> None:
    await ann.delete("/projects/farm", expect=204)
    for path in ("/projects/farm", "/hay", "/hay/comments", "/projects/farm/tasks"):
        await ann.get(path, expect=404)
    assert "hay" not in await ids(bob, "/")
    await world.work()
    left = {"project_id": "farm"}
    assert [await store.count(left) for store in (tasks, relations, members)] == [0, 0, 0]
    assert await graphs.count({}) == 1
    assert "flour" in await ids(bob, "/")


async def test_a_member_gets_a_role_and_another_one(ann: Client, eve: Client) -> None:
    added = await ann.put("/projects/farm/members/eve", role="viewer")
    assert (added["user_id"], added["role"], added["version"]) == ("eve", "viewer", 1)
    assert (await ann.put("/projects/farm/members/eve", role="viewer"))["version"] == 1
    await eve.patch("/hay", title="Mine", expect=403)
    assert (await ann.put("/projects/farm/members/eve", role="editor"))["version"] == 2
    await eve.patch("/hay", title="Ours")
    found = await eve.get("/projects/farm/members")
    assert [(each["user_id"], each["name"]) for each in found["items"]] == [
        ("ann", "Ann"),
        ("bob", "Bob"),
        ("eve", "Eve"),
    ]


async def test_the_owner_stays(ann: Client) -> None:
    assert (await ann.put("/projects/farm/members/ann", role="viewer", expect=409))["code"] == "owner_stays"
    assert (await ann.delete("/projects/farm/members/ann", expect=409))["code"] == "owner_stays"
    assert (await ann.put("/projects/farm/members/bob", role="owner", expect=422))["code"] == "invalid_fields"


@pytest.mark.parametrize("who", ["zed", "a b", "x" * 65, "%24where", "ann:bob"])
async def test_nobody_is_no_member(ann: Client, who: str) -> None:
    assert (await ann.put(f"/projects/farm/members/{who}", role="viewer", expect=422))["code"] == "no_such_user"
    await ann.delete(f"/projects/farm/members/{who}", expect=404)


async def test_whoever_is_removed_has_no_tasks_left_and_sees_nothing(ann: Client, bob: Client) -> None:
    await ann.delete("/projects/farm/members/bob", expect=204)
    assert (await ann.get("/hay"))["assignees"] == []
    for path in ("/hay", "/projects/farm", "/hay/reminders"):
        await bob.get(path, expect=404)
    assert await ids(bob, "/projects") == ["shop"]
    await ann.put("/projects/farm/members/bob", role="viewer")
    assert await ids(bob, "/hay/reminders") == []


# ---- one task


async def test_a_task_comes_back_as_it_was_sent(ann: Client) -> None:
    made = await add(
        ann,
        " Feed the hens ",
        description="Two cups.",
        labels=[" Hens", "daily", "HENS"],
        priority=2,
        due="2026-02-02T08:00:00.1239+03:00",
        assignees=["bob", "ann", "bob"],
    )
    assert made.keys() == VIEW
    assert ann.last.headers["location"] == f"/v1/tasks/{made['id']}"
    assert (made["title"], made["labels"], made["assignees"]) == ("Feed the hens", ["hens", "daily"], ["bob", "ann"])
    assert (made["due"], made["status"], made["created_by"]) == ("2026-02-02T05:00:00.123000Z", "open", "ann")
    assert (made["version"], made["created_at"]) == (1, made["updated_at"])
    assert await ann.get(f"/{made['id']}") == made
    assert ann.last.headers["etag"] == '"1"'


@pytest.mark.parametrize(
    ("form", "pointer"),
    [
        ({}, "/title"),
        ({"title": ""}, "/title"),
        ({"title": " \n "}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"title": f"x{' ' * 200}x"}, "/title"),
        ({"title": {"$gt": ""}}, "/title"),
        ({"title": "x", "description": "x" * 20_001}, "/description"),
        ({"title": "x", "labels": ["a,b"]}, "/labels/0"),
        ({"title": "x", "labels": [" "]}, "/labels/0"),
        ({"title": "x", "labels": ["x" * 51]}, "/labels/0"),
        ({"title": "x", "labels": ["a"] * 21}, "/labels"),
        ({"title": "x", "priority": 6}, "/priority"),
        ({"title": "x", "priority": -1}, "/priority"),
        ({"title": "x", "due": "2026-02-02T05:00:00"}, "/due"),
        ({"title": "x", "due": "soon"}, "/due"),
        ({"title": "x", "assignees": ["a"] * 21}, "/assignees"),
        ({"title": "x", "recurrence": {"rule": ""}}, "/recurrence/rule"),
        ({"title": "x", "recurrence": {"rule": "FREQ=DAILY", "zone": "UTC"}}, "/recurrence/zone"),
        ({"title": "x", "status": "done"}, "/status"),
        ({"title": "x", "position": "a0"}, "/position"),
        ({"title": "x", "created_by": "bob"}, "/created_by"),
        ({"title": "x", "project_id": "shop"}, "/project_id"),
        ({"title": "x", "version": 9}, "/version"),
        ({"title": "x", "chain": "hay"}, "/chain"),
    ],
)
async def test_z2_a_form_takes_what_it_lists_and_nothing_else(ann: Client, form: dict[str, Any], pointer: str) -> None:
    problem = await ann.post("/projects/farm/tasks", json=form, expect=422)
    assert problem["code"] == "invalid_fields"
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert len(await ids(ann, "/projects/farm/tasks")) == 5


async def test_lengths_are_counted_without_the_blanks_at_both_ends(ann: Client) -> None:
    made = await add(ann, f"  {'x' * 200}\n ", labels=[f" {'y' * 50} "])
    assert (len(made["title"]), len(made["labels"][0])) == (200, 50)
    problem = await ann.patch(f"/{made['id']}", title=f"x{' ' * 400_000}x", expect=422)
    assert problem["errors"][0]["pointer"] == "/title"


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"assignees": ["eve"]}, "not_a_member"),
        ({"recurrence": {"rule": "FREQ=DAILY"}}, "recurrence_needs_due"),
        ({"due": "2026-02-02T05:00:00Z", "recurrence": {"rule": "FREQ=MINUTELY"}}, "bad_rule"),
        ({"due": "2026-02-02T05:00:00Z", "recurrence": {"rule": "FREQ=DAILY", "time_zone": "Mars/X"}}, "unknown_zone"),
        ({"due": "9999-12-31T23:59:59-10:00"}, "time_out_of_range"),
        ({"parent_id": "flour"}, "other_project"),
    ],
)
async def test_what_a_task_cannot_be_is_refused(ann: Client, form: dict[str, Any], code: str) -> None:
    assert (await ann.post("/projects/farm/tasks", json={"title": "x", **form}, expect=422))["code"] == code
    assert (await ann.patch("/vet", json=form, expect=422))["code"] == code
    assert (await ann.get("/vet"))["version"] == 1


async def test_z3_answers_carry_only_what_is_declared(ann: Client) -> None:
    for each in (await ann.get("/projects/farm/tasks"))["items"]:
        assert each.keys() == VIEW
    first = (await ann.get("/projects/farm/members"))["items"][0]
    assert first.keys() == {"user_id", "role", "name", "created_at", "updated_at", "version"}


async def test_a_patch_changes_what_it_says_and_nothing_else(ann: Client) -> None:
    before = await ann.get("/hay")
    after = await ann.patch("/hay", json={"priority": 5, "due": before["due"], "labels": ["Cows ", "to-buy"]})
    assert (after["priority"], after["version"]) == (5, 2)
    assert {**before, "priority": 5, "version": 2, "updated_at": after["updated_at"]} == after
    assert after["updated_at"] > before["updated_at"]
    assert await ann.patch("/hay", json={"priority": 5}) == after
    assert await ann.patch("/hay", json={}) == after
    emptied = await ann.patch("/hay", json={"due": None, "recurrence": None, "assignees": []})
    assert (emptied["due"], emptied["recurrence"], emptied["assignees"]) == (None, None, [])


async def test_a_stale_version_changes_nothing(ann: Client) -> None:
    await ann.patch("/hay", title="Buy straw")
    old = {"if-match": '"1"'}
    assert (await ann.patch("/hay", title="Mine", headers=old, expect=409))["code"] == "stale"
    for method, path in (("PUT", "/hay/completion"), ("DELETE", "/hay/completion"), ("DELETE", "/hay")):
        assert (await ann.ask(method, path, headers=old, expect=409))["code"] == "stale"
    assert (await ann.put("/hay/position", after="vet", headers=old, expect=409))["code"] == "stale"
    assert (await ann.patch("/hay", title="x", headers={"if-match": "two"}, expect=422))["code"] == "bad_if_match"
    now = await ann.get("/hay")
    assert (now["title"], now["status"], now["version"]) == ("Buy straw", "open", 2)
    await ann.patch("/hay", title="Hay", headers={"if-match": '"2"'})
    await ann.patch("/hay", title="Hay!", headers={"if-match": "*"})


async def test_p1_a_task_is_made_once_for_a_key(ann: Client) -> None:
    key = {"idempotency-key": "one-hen"}
    first = await ann.post("/projects/farm/tasks", title="Feed the hen", headers=key, expect=201)
    body = ann.last.content
    again = await ann.post("/projects/farm/tasks", title="Feed the hen", headers=key, expect=201)
    assert again == first
    assert ann.last.content == body
    other = await ann.post("/projects/farm/tasks", title="Feed the cow", headers=key, expect=422)
    assert other["code"] == "idempotency_key_reused"
    assert len(await ids(ann, "/projects/farm/tasks?q=feed")) == 1


# ---- completion and recurrence


async def test_a_task_is_completed_once_and_opened_again(ann: Client, bob: Client, world: World) -> None:
    done = await ann.put("/vet/completion")
    assert (done["status"], done["completed_by"], done["version"]) == ("done", "ann", 2)
    assert done["completed_at"]
    assert await bob.put("/vet/completion") == done
    opened = await bob.delete("/vet/completion")
    assert (opened["status"], opened["completed_at"], opened["completed_by"]) == ("open", None, None)
    assert opened["version"] == 3
    assert await ann.delete("/vet/completion") == opened
    assert [event.task_id for event in await world.events()] == ["vet"]


async def test_completing_what_recurs_makes_the_next_once(ann: Client) -> None:
    due: dict[str, Any] = {
        "due": "2026-03-27T07:00:00Z",
        "recurrence": {"rule": "FREQ=DAILY", "time_zone": "Europe/Berlin"},
    }
    made = await add(ann, labels=["hens"], priority=2, assignees=["bob"], parent_id="fence", **due)
    assert made["recurrence"] == due["recurrence"]
    done = await ann.put(f"/{made['id']}/completion")
    following = await ann.get(f"/{done['next_id']}")
    same = ("title", "description", "labels", "priority", "assignees", "parent_id", "recurrence", "project_id")
    assert [following[name] for name in same] == [made[name] for name in same]
    assert (following["status"], following["due"], following["next_id"]) == ("open", "2026-03-28T07:00:00Z", None)
    assert following["version"] == 1
    assert (await ids(ann, "/projects/farm/tasks"))[-1] == following["id"]
    await ann.delete(f"/{made['id']}/completion")
    again = await ann.put(f"/{made['id']}/completion")
    assert again["next_id"] == following["id"]
    assert len(await ids(ann, "/projects/farm/tasks")) == 7
    third = await ann.put(f"/{following['id']}/completion")
    assert (await ann.get(f"/{third['next_id']}"))["due"] == "2026-03-29T06:00:00Z"


async def test_a_chain_ends_at_its_count(ann: Client) -> None:
    made = await add(ann, due="2026-02-02T05:00:00Z", recurrence={"rule": "FREQ=DAILY;COUNT=2"})
    second = (await ann.put(f"/{made['id']}/completion"))["next_id"]
    assert second
    assert (await ann.put(f"/{second}/completion"))["next_id"] is None


async def test_exdates_and_counting_from_completion_come_back_as_sent(ann: Client) -> None:
    rule = {"rule": "FREQ=DAILY", "time_zone": "UTC", "exdates": ["2026-02-03T05:00:00Z"]}
    made = await add(ann, due="2026-02-02T05:00:00Z", recurrence=rule)
    assert made["recurrence"] == rule
    following = (await ann.put(f"/{made['id']}/completion"))["next_id"]
    assert (await ann.get(f"/{following}"))["due"] == "2026-02-04T05:00:00Z"
    late = {"rule": "FREQ=DAILY", "time_zone": "UTC", "counted_from": "completion"}
    made = await add(ann, due="2020-02-02T05:00:00Z", recurrence=late)
    done = await ann.put(f"/{made['id']}/completion")
    assert (await ann.get(f"/{done['next_id']}"))["due"][:10] > done["completed_at"][:10]


async def test_a_blocked_task_is_completed_unless_one_asks_for_care(ann: Client) -> None:
    problem = await ann.put("/fence/completion?unless_blocked=true", expect=409)
    assert (problem["code"], sorted(problem["blocked_by"])) == ("blocked", ["posts", "wire"])
    assert (await ann.get("/fence"))["status"] == "open"
    await ann.put("/posts/completion")
    await ann.put("/wire/completion")
    assert (await ann.put("/fence/completion?unless_blocked=true"))["status"] == "done"
    await ann.put("/hay/blocks/vet", expect=204)
    assert (await ann.put("/vet/completion"))["status"] == "done"


# ---- order


async def test_a_move_puts_a_task_beside_another_and_changes_no_other(ann: Client) -> None:
    before = {each["id"]: each for each in (await ann.get("/projects/farm/tasks"))["items"]}
    assert list(before) == ["hay", "fence", "posts", "wire", "vet"]
    moved = await ann.put("/vet/position", after="hay")
    assert moved["version"] == 2
    assert await ids(ann, "/projects/farm/tasks") == ["hay", "vet", "fence", "posts", "wire"]
    await ann.put("/wire/position", before="hay")
    assert await ids(ann, "/projects/farm/tasks") == ["wire", "hay", "vet", "fence", "posts"]
    await ann.put("/wire/position", after="posts")
    assert await ids(ann, "/projects/farm/tasks?sort=-position") == ["wire", "posts", "fence", "vet", "hay"]
    assert await ann.put("/vet/position", after="hay") == moved
    for each in ("hay", "fence", "posts"):
        assert await ann.get(f"/{each}") == before[each]
    assert (await add(ann))["id"] == (await ids(ann, "/projects/farm/tasks"))[-1]


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({}, 422, "one_of_two"),
        ({"after": "hay", "before": "fence"}, 422, "one_of_two"),
        ({"after": "vet"}, 422, "not_beside_itself"),
        ({"after": "flour"}, 422, "other_project"),
        ({"after": "none"}, 404, "not_found"),
        ({"position": "a0"}, 422, "invalid_fields"),
    ],
)
async def test_a_move_names_one_other_task(ann: Client, form: dict[str, str], status: int, code: str) -> None:
    assert (await ann.put("/vet/position", json=form, expect=status))["code"] == code
    assert (await ann.get("/vet"))["version"] == 1


# ---- subtasks and relations


async def test_a_task_is_not_its_own_ancestor(ann: Client) -> None:
    assert await ids(ann, "/fence/subtasks") == ["posts", "wire"]
    deep = await add(ann, "Sharpen the saw", parent_id="posts")
    for parent in ("fence", "posts", deep["id"]):
        assert (await ann.patch("/fence", parent_id=parent, expect=409))["code"] == "would_be_a_circle"
    assert (await ann.patch("/fence", parent_id="none", expect=404))["code"] == "not_found"
    moved = await ann.patch("/posts", parent_id="vet")
    assert moved["parent_id"] == "vet"
    assert (await ann.patch("/fence", parent_id=deep["id"]))["parent_id"] == deep["id"]
    assert (await ann.patch("/fence", json={"parent_id": None}))["parent_id"] is None


async def test_a_task_goes_with_its_subtasks_and_what_hangs_on_them(ann: Client) -> None:
    deep = await add(ann, "Sharpen the saw", parent_id="posts")
    await ann.put(f"/{deep['id']}/blocks/vet", expect=204)
    await ann.delete("/fence", expect=204)
    for each in ("fence", "posts", "wire", deep["id"]):
        await ann.get(f"/{each}", expect=404)
    assert await ids(ann, "/projects/farm/tasks") == ["hay", "vet"]
    assert await ann.get("/vet/relations") == {"blocks": [], "blocked_by": []}
    assert await relations.count({}) == 0
    await ann.delete("/fence", expect=404)


async def test_relations_show_both_sides(ann: Client) -> None:
    assert await ann.get("/fence/relations") == {
        "blocks": [],
        "blocked_by": [
            {"id": "posts", "title": "Cut twelve posts", "status": "open"},
            {"id": "wire", "title": "Buy barbed wire", "status": "open"},
        ],
    }
    await ann.put("/posts/blocks/fence", expect=204)
    assert len((await ann.get("/fence/relations"))["blocked_by"]) == 2
    await ann.delete("/posts/blocks/fence", expect=204)
    await ann.delete("/posts/blocks/fence", expect=204)
    assert [each["id"] for each in (await ann.get("/fence/relations"))["blocked_by"]] == ["wire"]


async def test_what_would_close_a_circle_is_refused(ann: Client) -> None:
    await ann.put("/fence/blocks/vet", expect=204)
    for blocker, blocked in (("fence", "posts"), ("vet", "wire"), ("vet", "vet")):
        problem = await ann.put(f"/{blocker}/blocks/{blocked}", expect=409)
        assert problem["code"] == "would_be_a_circle"
    assert (await ann.put("/vet/blocks/flour", expect=422))["code"] == "other_project"
    await ann.put("/vet/blocks/none", expect=404)
    await ann.put("/vet/blocks/hay", expect=204)


# ---- lists


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=open&label=to-buy", ["hay", "wire"]),
        ("label=To-Buy&label=cows", ["hay"]),
        ("label[in]=hens,cows", ["hay", "fence", "vet"]),
        ("label[nin]=hens,cows", ["posts", "wire"]),
        ("assignee=me", ["posts"]),
        ("assignee=bob", ["hay", "wire"]),
        ("assignee=null", ["fence", "vet"]),
        ("assignee[ne]=null", ["hay", "posts", "wire"]),
        ("parent=null", ["hay", "fence", "vet"]),
        ("parent=fence", ["posts", "wire"]),
        ("priority[gte]=4", ["fence", "vet"]),
        ("priority=0", ["posts", "wire"]),
        ("due=null", ["posts", "wire", "vet"]),
        ("due[lt]=2000-01-01T00:00:00Z", []),
        ("sort=-priority", ["fence", "vet", "hay", "wire", "posts"]),
        ("sort=due", ["posts", "vet", "wire", "fence", "hay"]),
        ("sort=-due", ["hay", "fence", "wire", "vet", "posts"]),
        ("sort=title", ["vet", "wire", "hay", "posts", "fence"]),
        ("q=BUY", ["wire", "hay"]),
        ("q=buy wanjiku", ["hay"]),
        ("q=buy&sort=position", ["hay", "wire"]),
        ("q=fen", []),
        ("q=.*", []),
        ('q={"$gt": ""}', []),
        ("q=wanjiku&priority[gt]=3", []),
    ],
)
async def test_a_list_is_filtered_sorted_and_searched(ann: Client, query: str, found: list[str]) -> None:
    assert await ids(ann, f"/projects/farm/tasks?{query}") == found


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("status=closed", "bad_filter"),
        ("status[$ne]=x", "bad_filter"),
        ("priority[$gt]=", "bad_filter"),
        ("priority=high", "bad_filter"),
        ("colour=red", "bad_filter"),
        ("project=farm", "bad_filter"),
        ("due[lt]=yesterday", "bad_filter"),
        ("due[lt]=9999-12-31T23:59:59-12:00", "bad_filter"),
        (f"priority[gte]={2**63}", "bad_filter"),
        (f"priority[in]=1,{2**70}", "bad_filter"),
        (f"sort=priority&after={cursor('1priority', 2**70, 'hay')}", "bad_cursor"),
        (f"sort=due&after={cursor('1due', '9999-12-31T23:59:59-12:00', 'hay')}", "bad_cursor"),
        (f"q=hay&after={cursor('best', 2**70, 'hay')}", "bad_cursor"),
        ("sort=colour", "bad_sort"),
        ("after=nonsense", "bad_cursor"),
        ("q=hay&after=nonsense", "bad_cursor"),
        ("limit=0", "invalid_fields"),
        ("limit=101", "invalid_fields"),
    ],
)
async def test_i1_what_a_list_does_not_know_is_refused(ann: Client, query: str, code: str) -> None:
    for path in ("/projects/farm/tasks", "/"):
        if query != "project=farm" or path != "/":
            assert (await ann.get(f"{path}?{query}", expect=422))["code"] == code


async def walk(client: Client, path: str) -> list[str]:
    found, after = [], ""
    while True:
        page = await client.get(f"{path}&limit=2{after}")
        found += [each["id"] for each in page["items"]]
        if page["next"] is None:
            return found
        assert 'rel="next"' in client.last.headers["link"]
        after = f"&after={page['next']}"


@pytest.mark.parametrize("query", ["sort=-priority", "sort=due", "sort=-due", "q=a", "", "sort=-updated_at"])
async def test_a_walk_through_the_pages_shows_everything_once(ann: Client, query: str) -> None:
    for number in range(5):
        await add(ann, f"Plant a row {number}", priority=number % 3, description="a")
    path = f"/projects/farm/tasks?{query}"
    whole = await ids(ann, f"{path}&limit=100")
    assert len(whole) == (10 if "q" not in query else 5)
    assert await walk(ann, path) == whole


async def test_all_ones_tasks_are_those_of_all_ones_projects(ann: Client, bob: Client, eve: Client) -> None:
    made = await add(bob, "Sell eggs", project="shop")
    assert await ids(ann, "/?limit=1") == [made["id"]]
    assert set(await ids(ann, "/?project=shop")) == {"flour", "airtime", made["id"]}
    assert set(await ids(bob, "/?assignee=me")) == {"hay", "wire", "flour"}
    assert await ids(bob, "/?q=flour") == ["flour"]
    assert await ids(eve, "/") == []
    assert await ids(eve, "/?project=farm&q=hay") == []


# ---- comments and reminders


async def test_comments_come_oldest_first_and_stay_their_authors(ann: Client, bob: Client) -> None:
    made = await ann.post("/hay/comments", body="Ask her again.", expect=201)
    assert made.keys() == {"id", "task_id", "author_id", "body", "created_at", "updated_at", "version"}
    assert (made["task_id"], made["author_id"]) == ("hay", "ann")
    assert (await ids(bob, "/hay/comments"))[-1] == made["id"]
    assert (await ids(bob, "/hay/comments?sort=-created_at"))[0] == made["id"]
    path = f"/hay/comments/{made['id']}"
    await bob.patch(path, body="No.", expect=403)
    await bob.delete(path, expect=403)
    changed = await ann.patch(path, body="Ask him again.", headers={"if-match": '"1"'})
    assert (changed["body"], changed["version"]) == ("Ask him again.", 2)
    await ann.patch(path, body="Late.", headers={"if-match": '"1"'}, expect=409)
    await ann.patch("/vet/comments/price", body="x", expect=404)
    for body in ("", "x" * 10_001):
        await ann.post("/hay/comments", body=body, expect=422)


async def test_reminders_are_ones_own(ann: Client, bob: Client) -> None:
    due = (await ann.get("/hay"))["due"]
    made = await ann.post("/hay/reminders", minutes_before_due=0, expect=201)
    assert (made["at"], made["minutes_before_due"], made["channel"], made["sent_at"]) == (due, 0, "email", None)
    assert await ids(ann, "/hay/reminders") == [made["id"]]
    assert await ids(bob, "/hay/reminders") == ["cash"]
    await bob.delete(f"/hay/reminders/{made['id']}", expect=404)
    await ann.delete(f"/hay/reminders/{made['id']}", expect=204)
    assert await ids(ann, "/hay/reminders") == []


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "one_of_two"),
        ({"at": "2026-02-02T04:30:00Z", "minutes_before_due": 5}, "one_of_two"),
        ({"minutes_before_due": 5}, "reminder_needs_due"),
        ({"minutes_before_due": -1}, "invalid_fields"),
        ({"minutes_before_due": 525_601}, "invalid_fields"),
        ({"at": "2026-02-02T04:30:00"}, "invalid_fields"),
    ],
)
async def test_a_reminder_has_one_time(ann: Client, form: dict[str, Any], code: str) -> None:
    assert (await ann.post("/vet/reminders", json=form, expect=422))["code"] == code


async def test_reminders_move_along_with_due(bob: Client) -> None:
    await bob.patch("/hay", due="2035-01-01T10:00:00Z")
    (found,) = (await bob.get("/hay/reminders"))["items"]
    assert (found["at"], found["version"]) == ("2035-01-01T09:00:00Z", 2)
    done = await bob.put("/hay/completion")
    (along,) = (await bob.get(f"/{done['next_id']}/reminders"))["items"]
    assert (along["at"], along["minutes_before_due"]) == ("2035-01-08T09:00:00Z", 60)


# ---- export


async def test_a_project_is_taken_away_whole_as_json(bob: Client) -> None:
    await bob.put("/vet/position", before="hay")
    found = await bob.get("/projects/farm/export")
    assert bob.last.headers["content-disposition"].startswith("attachment")
    assert found.keys() == {"exported_at", "project", "members", "tasks"}
    assert found["project"] == await bob.get("/projects/farm")
    assert found["tasks"] == (await bob.get("/projects/farm/tasks"))["items"]
    assert [each["user_id"] for each in found["members"]] == ["ann", "bob"]


async def test_i1_no_cell_of_a_csv_is_a_formula(ann: Client) -> None:
    for title in ("=1+1", "+1", "-1", "@SUM(A1)", 'a "quoted", title'):
        await add(ann, title, description="\tx\nline", labels=["-a", "b"])
    await ann.get("/projects/farm/export?format=csv")
    assert ann.last.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(ann.last.text, newline="")))
    assert ",".join(rows[0]) == (
        "id,title,description,status,priority,due,labels,assignees,parent_id,recurrence,position,completed_at,"
        "created_at,updated_at"
    )
    assert rows[0]["labels"] == "cows;to-buy"
    assert [row["title"] for row in rows[5:]] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", 'a "quoted", title']
    assert {row["description"] for row in rows[5:]} == {"'\tx\nline"}
    assert {row["labels"] for row in rows[5:]} == {"'-a;b"}
    assert rows[0]["recurrence"] == "FREQ=WEEKLY"


async def test_a_calendar_reads_the_export(ann: Client) -> None:
    await add(ann, "A;B,C\r\nBEGIN:VALARM", due="2026-02-02T05:00:00Z", recurrence={"rule": "FREQ=DAILY;BYDAY=MO,TU"})
    await ann.put("/vet/completion")
    await ann.get("/projects/farm/export?format=ics")
    assert ann.last.headers["content-type"].startswith("text/calendar")
    todos = {str(each["uid"]): each for each in Calendar.from_ical(ann.last.text).walk("VTODO")}
    assert len(todos) == 6
    assert (str(todos["vet"]["status"]), str(todos["vet"]["priority"])) == ("COMPLETED", "3")
    assert (str(todos["hay"]["status"]), str(todos["hay"]["priority"])) == ("NEEDS-ACTION", "5")
    assert "due" in todos["hay"]
    assert todos["hay"]["rrule"].to_ical() == b"FREQ=WEEKLY"
    (odd,) = (each for uid, each in todos.items() if uid not in ("hay", "fence", "posts", "wire", "vet"))
    assert str(odd["summary"]).split() == ["A;B,C", "BEGIN:VALARM"]
    assert b"BEGIN:VALARM\r\n" not in ann.last.content.replace(b"\\nBEGIN", b"")


async def test_an_export_is_json_csv_or_ics(ann: Client) -> None:
    assert (await ann.get("/projects/farm/export?format=xml", expect=422))["code"] == "bad_format"


async def test_z4_a_member_row_is_the_only_way_in(world: World) -> None:
    await members.raw.delete_many({"user_id": "ann"})
    client = world.client(PEOPLE["ann"])
    async with client.http:
        for path in ("/projects/farm", "/hay", "/projects/farm/tasks"):
            await client.get(path, expect=404)
        assert await ids(client, "/") == []
