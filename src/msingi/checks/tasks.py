"""The tasks suite: docs/contracts/tasks.md, held against a server."""

import csv
import io
import json
from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from msingi.checks import rules
from msingi.checks.harness import NO_BODY, Answer, Caller, Failed, World, check, fresh, need_of_all, together, until
from msingi.checks.live import Event, Listener, inner, said

PROJECTS = "/v1/tasks/projects"
PROJECT = ("id", "name", "description", "owner_id", "role", "created_at", "updated_at", "version")
TASK = (
    *("id", "project_id", "title", "description", "labels", "priority", "due", "recurrence", "assignees", "parent_id"),
    *(
        "position",
        "status",
        "completed_at",
        "completed_by",
        "next_id",
        "created_by",
        "created_at",
        "updated_at",
        "version",
    ),
)


def new_project(caller: Caller, **members: str) -> dict[str, Any]:
    """A new project of the caller's; `members` are role=user_id."""
    project: dict[str, Any] = caller.post(PROJECTS, {"name": fresh("Farm ")}).want(201).fields(*PROJECT)
    for role, user_id in members.items():
        caller.put(f"{PROJECTS}/{project['id']}/members/{user_id}", {"role": role}).want(200, 201)
    return project


def new_task(caller: Caller, project: dict[str, Any], title: str = "", **more: Any) -> dict[str, Any]:
    """A new task in a project."""
    answer = caller.post(tasks_of(project), {"title": title or fresh("task "), **more}).want(201)
    return dict(answer.fields(*TASK))


def inside(project: dict[str, Any], rest: str = "") -> str:
    """The address of a project, or of something below it."""
    return f"{PROJECTS}/{project['id']}{rest}"


def tasks_of(project: dict[str, Any], query: str = "") -> str:
    """The address of a project's tasks."""
    return inside(project, "/tasks") + (query and "?" + query)


def at(task: dict[str, Any], rest: str = "") -> str:
    """The address of a task, or of something below it."""
    return f"/v1/tasks/{task['id']}{rest}"


def shown(caller: Caller, path: str) -> list[dict[str, Any]]:
    """All tasks of a list."""
    return rules.walk(caller, path + ("&" if "?" in path else "?") + "limit=100")


# ---- who asks


@check("Without signing in, nothing opens")
def _(world: World) -> None:
    for method, path in (
        ("GET", PROJECTS),
        ("POST", PROJECTS),
        ("GET", "/v1/tasks"),
        ("GET", "/v1/tasks/x"),
        ("GET", "/v1/tasks/live?topic=x"),
    ):
        rules.needs_sign_in(world, method, path)


@check(
    "A stranger's project does not exist: 404 on every route, never 403",
    hint="look things up through the caller's memberships",
)
def _(world: World) -> None:
    project = new_project(world.ann)
    one, two = new_task(world.ann, project, "secret"), new_task(world.ann, project)
    comment = world.ann.post(at(one, "/comments"), {"body": "secret"}).want(201).data
    tries: tuple[tuple[str, str, Any], ...] = (
        ("GET", inside(project), NO_BODY),
        ("PATCH", inside(project), {"name": "mine"}),
        ("DELETE", inside(project), NO_BODY),
        ("GET", inside(project, "/members"), NO_BODY),
        ("PUT", inside(project, f"/members/{world.eve.id}"), {"role": "admin"}),
        ("DELETE", inside(project, f"/members/{world.ann.id}"), NO_BODY),
        ("GET", tasks_of(project), NO_BODY),
        ("POST", tasks_of(project), {"title": "mine"}),
        ("GET", inside(project, "/export"), NO_BODY),
        ("GET", at(one), NO_BODY),
        ("PATCH", at(one), {"title": "mine"}),
        ("DELETE", at(one), NO_BODY),
        ("PUT", at(one, "/completion"), NO_BODY),
        ("DELETE", at(one, "/completion"), NO_BODY),
        ("PUT", at(one, "/position"), {"after": two["id"]}),
        ("GET", at(one, "/subtasks"), NO_BODY),
        ("GET", at(one, "/relations"), NO_BODY),
        ("PUT", at(one, f"/blocks/{two['id']}"), NO_BODY),
        ("DELETE", at(one, f"/blocks/{two['id']}"), NO_BODY),
        ("GET", at(one, "/comments"), NO_BODY),
        ("POST", at(one, "/comments"), {"body": "mine"}),
        ("PATCH", at(one, f"/comments/{comment['id']}"), {"body": "mine"}),
        ("DELETE", at(one, f"/comments/{comment['id']}"), NO_BODY),
        ("GET", at(one, "/reminders"), NO_BODY),
        ("POST", at(one, "/reminders"), {"at": "2031-01-01T00:00:00Z"}),
        ("GET", f"/v1/tasks/live?topic=tasks/projects/{project['id']}", NO_BODY),
    )
    for method, path, body in tries:
        world.eve.ask(method, path, json=body).problem(404)
    now = world.ann.get(at(one)).want(200)
    now.need(now.data == one, "the task unchanged after a stranger's tries")


@check("Lists show nobody else's projects and tasks")
def _(world: World) -> None:
    word = fresh("private")
    project = new_project(world.ann)
    new_task(world.ann, project, word, labels=[word])
    for path in (
        f"{PROJECTS}?limit=100",
        "/v1/tasks?limit=100",
        f"/v1/tasks?q={word}",
        f"/v1/tasks?label={word}",
        f"/v1/tasks?project={project['id']}",
    ):
        answer = world.eve.get(path)
        seen = answer.status == 200 and (word.encode() in answer.content or project["name"].encode() in answer.content)
        answer.want(200, 404).need(not seen, "no trace of another person's project")


@check("A viewer reads everything and changes nothing")
def _(world: World) -> None:
    project = new_project(world.ann, viewer=world.bob.id)
    one, two = new_task(world.ann, project), new_task(world.ann, project)
    for path in (
        inside(project),
        inside(project, "/members"),
        tasks_of(project),
        at(one),
        at(one, "/comments"),
        at(one, "/relations"),
        inside(project, "/export"),
    ):
        world.bob.get(path).want(200)
    seen = world.bob.get(inside(project)).want(200)
    seen.need(seen.data["role"] == "viewer", 'role "viewer"')
    tries: tuple[tuple[str, str, Any], ...] = (
        ("PATCH", inside(project), {"name": "x"}),
        ("DELETE", inside(project), NO_BODY),
        ("PUT", inside(project, f"/members/{world.bob.id}"), {"role": "admin"}),
        ("POST", tasks_of(project), {"title": "x"}),
        ("PATCH", at(one), {"title": "x"}),
        ("DELETE", at(one), NO_BODY),
        ("PUT", at(one, "/completion"), NO_BODY),
        ("PUT", at(one, "/position"), {"after": two["id"]}),
        ("PUT", at(one, f"/blocks/{two['id']}"), NO_BODY),
        ("POST", at(one, "/comments"), {"body": "x"}),
    )
    for method, path, body in tries:
        world.bob.ask(method, path, json=body).problem(403)
    now = world.ann.get(at(one)).want(200)
    now.need(now.data["version"] == 1, "the task unchanged")


@check("An editor works on tasks, but not on the project and its members")
def _(world: World) -> None:
    project = new_project(world.ann, editor=world.bob.id)
    task = new_task(world.bob, project)
    world.bob.patch(at(task), {"title": "edited"}).want(200)
    world.bob.put(at(task, "/completion")).want(200)
    comment = world.ann.post(at(task, "/comments"), {"body": "Ann's"}).want(201).data
    world.bob.patch(at(task, f"/comments/{comment['id']}"), {"body": "x"}).problem(403)
    world.bob.delete(at(task, f"/comments/{comment['id']}")).problem(403)
    world.bob.patch(inside(project), {"name": "x"}).problem(403)
    world.bob.put(inside(project, f"/members/{world.eve.id}"), {"role": "viewer"}).problem(403)
    world.bob.delete(inside(project)).problem(403)
    world.bob.delete(at(task)).want(204)


@check("An admin looks after project and members, but cannot delete it nor touch the owner")
def _(world: World) -> None:
    project = new_project(world.ann, admin=world.bob.id)
    world.bob.patch(inside(project), {"name": "Renamed"}).want(200)
    world.bob.put(inside(project, f"/members/{world.eve.id}"), {"role": "viewer"}).want(200, 201)
    world.eve.get(inside(project)).want(200)
    world.bob.delete(inside(project, f"/members/{world.eve.id}")).want(204)
    world.eve.get(inside(project)).problem(404, hint="who is removed sees nothing from then on")
    world.bob.delete(inside(project)).problem(403)
    world.bob.put(inside(project, f"/members/{world.ann.id}"), {"role": "viewer"}).problem(409, code="owner_stays")
    world.bob.delete(inside(project, f"/members/{world.ann.id}")).problem(409, code="owner_stays")
    world.ann.delete(inside(project, f"/members/{world.ann.id}")).problem(409, code="owner_stays")


@check("A member may leave, and is taken off the tasks")
def _(world: World) -> None:
    project = new_project(world.ann, viewer=world.bob.id)
    task = new_task(world.ann, project, assignees=[world.bob.id])
    world.bob.delete(inside(project, f"/members/{world.bob.id}")).want(204)
    world.bob.get(inside(project)).problem(404)
    until(
        lambda: world.ann.get(at(task)),
        lambda answer: answer.want(200).data["assignees"] == [],
        "nobody assigned any more",
    )


@check("The members are listed with their roles, the owner too")
def _(world: World) -> None:
    project = new_project(world.ann, editor=world.bob.id)
    answer = world.ann.get(inside(project, "/members"))
    roles = {item["user_id"]: item["role"] for item in answer.page()}
    answer.need(roles == {world.ann.id: "owner", world.bob.id: "editor"}, "Ann as owner and Bob as editor")
    changed = world.ann.put(inside(project, f"/members/{world.bob.id}"), {"role": "viewer"}).want(200)
    changed.need(changed.data["role"] == "viewer", "role viewer")
    for role in ("owner", "king", "", None, 7):
        world.ann.put(inside(project, f"/members/{world.eve.id}"), {"role": role}).problem(422)


# ---- projects


@check("A project can be made, read, changed and deleted with all that is in it")
def _(world: World) -> None:
    answer = world.ann.post(PROJECTS, {"name": "  The farm  "}).want(201)
    project = answer.fields(*PROJECT)
    rules.is_stored(answer)
    answer.need(
        (project["name"], project["description"], project["role"]) == ("The farm", "", "owner"),
        "name trimmed, description empty, role owner",
    )
    answer.need(project["owner_id"] == world.ann.id, "owner_id to be the caller's id")
    world.ann.get(inside(project)).want(200).need(True, "")
    changed = world.ann.patch(inside(project), {"description": "hens"}, headers={"If-Match": '"1"'}).want(200)
    changed.need(
        (changed.data["description"], changed.data["name"], changed.data["version"]) == ("hens", "The farm", 2),
        "the change, version 2",
    )
    world.ann.patch(inside(project), {"name": "x"}, headers={"If-Match": '"1"'}).problem(409, code="stale")
    task = new_task(world.ann, project)
    world.ann.delete(inside(project)).want(204)
    world.ann.get(inside(project)).problem(404)
    world.ann.get(at(task)).problem(404)


@check("A project's name is held to its rules")
def _(world: World) -> None:
    for form in ({}, {"name": ""}, {"name": "   "}, {"name": "x" * 101}, {"name": 7}, {"name": {"$gt": ""}}):
        rules.refuses(world.ann.post(PROJECTS, form), "/name")


# ---- one task


@check("A task can be made with little, and with everything")
def _(world: World) -> None:
    project = new_project(world.ann)
    little = world.ann.post(tasks_of(project), {"title": " Buy hay "}).want(201)
    task = little.fields(*TASK)
    rules.is_stored(little)
    plain = {
        "title": "Buy hay",
        "description": "",
        "labels": [],
        "priority": 0,
        "due": None,
        "recurrence": None,
        "assignees": [],
        "parent_id": None,
    }
    little.need({name: task[name] for name in plain} == plain, f"the defaults {json.dumps(plain)}")
    little.need(
        (task["status"], task["completed_at"], task["next_id"], task["version"]) == ("open", None, None, 1),
        "an open task, version 1",
    )
    little.need(
        (task["project_id"], task["created_by"]) == (project["id"], world.ann.id), "its project and who made it"
    )
    form = {
        "title": "Ng'ombe 🐄",
        "description": "x\ny",
        "labels": ["Hens ", "hens", "hay"],
        "priority": 5,
        "due": "2031-02-02T08:00:00+03:00",
        "assignees": [world.ann.id],
    }
    full = world.ann.post(tasks_of(project), form).want(201)
    read = world.ann.get(at(full.data)).want(200)
    read.need(read.data == full.data, "the task as it was made")
    read.need(read.data["labels"] == ["hens", "hay"], 'labels ["hens", "hay"]: trimmed, lower case, no doubles')
    read.need(
        datetime.fromisoformat(read.data["due"]) == datetime.fromisoformat("2031-02-02T05:00:00+00:00"),
        "due 2031-02-02T05:00:00Z, the same moment in UTC",
    )
    read.need(read.data["assignees"] == [world.ann.id], "Ann assigned")


@check("A task can be changed, emptied field by field, and deleted")
def _(world: World) -> None:
    project = new_project(world.ann)
    task = new_task(world.ann, project, due="2031-01-01T00:00:00Z", priority=3, labels=["x"])
    answer = world.ann.patch(at(task), {"due": None, "labels": []}).want(200)
    now = answer.data
    answer.need(
        (now["due"], now["labels"], now["priority"], now["title"]) == (None, [], 3, task["title"]),
        "due null, no labels, the rest as it was",
    )
    answer.need(now["version"] == 2, "version 2")
    same = world.ann.patch(at(task), {"priority": 3}).want(200)
    same.need(same.data["version"] == 2, "still version 2: nothing changed")
    world.ann.delete(at(task)).want(204)
    world.ann.get(at(task)).problem(404)
    world.ann.delete(at(task)).problem(404)


@check("A task's fields are held to their rules")
def _(world: World) -> None:
    project = new_project(world.ann)
    task = new_task(world.ann, project)
    wrong: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("title", ("", "   ", "x" * 201, 7, None)),
        ("description", ("x" * 20_001, None)),
        ("labels", ([""], ["a,b"], ["x" * 51], [f"l{n}" for n in range(21)], "x", [{"$gt": ""}])),
        ("priority", (-1, 6, 1.5, "3", None)),
        ("due", ("tomorrow", "2031-01-01", "2031-01-01T00:00:00", 7)),
        ("assignees", ("x", [7])),
        ("parent_id", (7,)),
        ("recurrence", ("FREQ=DAILY", {}, {"rule": 7})),
    )
    for name, values in wrong:
        for value in values:
            rules.refuses(world.ann.patch(at(task), {name: value}), f"/{name}")
    rules.refuses(world.ann.post(tasks_of(project), {}), "/title")


@check(
    "Fields that a form does not know are refused, and nothing is stored",
    hint="list the fields you take; refuse all others",
)
def _(world: World) -> None:
    project = new_project(world.ann)
    task = new_task(world.ann, project)
    extra = {
        "colour": "red",
        "id": "x",
        "version": 9,
        "status": "done",
        "completed_at": None,
        "position": "a",
        "project_id": "x",
        "created_by": "x",
        "next_id": "x",
    }

    def unchanged() -> Any:
        return world.ann.get(at(task)).want(200).data, len(shown(world.ann, tasks_of(project)))

    rules.refuses_unknown_fields(lambda form: world.ann.patch(at(task), form), {"title": "refused"}, extra, unchanged)
    rules.refuses_unknown_fields(
        lambda form: world.ann.post(tasks_of(project), form), {"title": "refused"}, extra, unchanged
    )


@check("Only members are given tasks")
def _(world: World) -> None:
    project = new_project(world.ann, viewer=world.bob.id)
    task = new_task(world.ann, project, assignees=[world.bob.id, world.bob.id])
    world.ann.get(at(task)).want(200).need(task["assignees"] == [world.bob.id], "Bob once")
    world.ann.patch(at(task), {"assignees": [world.eve.id]}).problem(422, code="not_a_member")
    world.ann.post(tasks_of(project), {"title": "x", "assignees": [world.eve.id]}).problem(422, code="not_a_member")


@check("What is no JSON is 400, not 500")
def _(world: World) -> None:
    project = new_project(world.ann)
    rules.refuses_what_is_no_json(world.ann, "POST", tasks_of(project))


@check("A body that is too deep or too large is refused")
def _(world: World) -> None:
    rules.refuses_what_is_too_deep_or_large(world.ann, tasks_of(new_project(world.ann)), "title")


@check("What says that it is not JSON is 415")
def _(world: World) -> None:
    rules.refuses_other_media(world.ann, PROJECTS, b'{"name": "x"}')


@check("An id that never was is 404, whatever it looks like")
def _(world: World) -> None:
    rules.refuses_odd_ids(world.ann, "/v1/tasks/{id}")
    rules.refuses_odd_ids(world.ann, PROJECTS + "/{id}")


# ---- lists


def few(world: World, number: int = 7) -> tuple[dict[str, Any], set[str]]:
    """A project with some tasks: the project, and their ids."""
    project = new_project(world.ann)
    return project, {new_task(world.ann, project, f"task {n}")["id"] for n in range(number)}


@check("Pages follow one another to the end")
def _(world: World) -> None:
    project, ids = few(world)
    for sort in ("position", "-created_at", "priority", "due"):
        path = tasks_of(project, f"limit=3&sort={sort}")
        items = rules.walk(world.ann, path)
        rules.shows_each_once([item["id"] for item in items], ids, world.ann.get(path))
    rules.follows_links(world.ann, tasks_of(project, "limit=3"), ids)


@check("Pages neither repeat nor skip while tasks are added and removed")
def _(world: World) -> None:
    project, ids = few(world, 9)
    passing = [new_task(world.ann, project) for _ in range(4)]
    for sort in ("-created_at", "title"):

        def between(number: int) -> None:
            new_task(world.ann, project, "task 0 squeezed in")
            if passing:
                world.ann.delete(at(passing.pop())).want(204)

        path = tasks_of(project, f"limit=2&sort={sort}")
        rules.shows_each_once([item["id"] for item in rules.walk(world.ann, path, between)], ids, world.ann.get(path))


@check("Limits, cursors and orders that there are none of are refused")
def _(world: World) -> None:
    rules.refuses_bad_paging(world.ann, tasks_of(new_project(world.ann)))
    rules.refuses_bad_paging(world.ann, PROJECTS)


@check("Tasks can be sorted, both ways")
def _(world: World) -> None:
    project = new_project(world.ann)
    for title, priority, due in (("b", 1, None), ("c", 5, "2031-01-01T00:00:00Z"), ("a", 3, "2030-01-01T00:00:00Z")):
        new_task(world.ann, project, title, priority=priority, due=due)
    for sort, wanted in (
        ("title", "abc"),
        ("-title", "cba"),
        ("priority", "bac"),
        ("-priority", "cab"),
        ("due", "bac"),
        ("-due", "cab"),
        ("created_at", "bca"),
        ("-created_at", "acb"),
        ("", "bca"),
    ):
        answer = world.ann.get(tasks_of(project, f"sort={sort}" if sort else ""))
        answer.need(
            "".join(item["title"] for item in answer.page()) == wanted, f"the titles in the order {', '.join(wanted)}"
        )


@check("Tasks can be filtered, and filters go together")
def _(world: World) -> None:
    project = new_project(world.ann, viewer=world.bob.id)
    a = new_task(
        world.ann, project, "a", priority=1, labels=["hens"], due="2030-01-01T00:00:00Z", assignees=[world.bob.id]
    )
    new_task(world.ann, project, "b", priority=3, labels=["hay", "hens"], assignees=[world.ann.id])
    new_task(world.ann, project, "c", priority=5, labels=["cows"], due="2031-01-01T00:00:00Z", parent_id=a["id"])
    world.ann.put(at(a, "/completion")).want(200)
    for query, wanted in (
        ("status=open", "bc"),
        ("status=done", "a"),
        ("priority=3", "b"),
        ("priority[gte]=3", "bc"),
        ("priority[gt]=1&priority[lt]=5", "b"),
        ("label=hens", "ab"),
        ("label=hens&label=hay", "b"),
        ("label[in]=hay,cows", "bc"),
        ("label[nin]=hens", "c"),
        ("due=null", "b"),
        ("due[lt]=2030-06-01T00:00:00Z", "a"),
        ("due[gte]=2030-01-01T00:00:00Z&status=open", "c"),
        (f"assignee={world.bob.id}", "a"),
        ("assignee=me", "b"),
        ("assignee=null", "c"),
        (f"parent={a['id']}", "c"),
        ("parent=null", "ab"),
        ("completed_at[gt]=2020-01-01T00:00:00Z", "a"),
    ):
        answer = world.ann.get(tasks_of(project, f"{query}&sort=title"))
        answer.need("".join(item["title"] for item in answer.page()) == wanted, f"the tasks {', '.join(wanted)}")


@check("Filters that there are none of, and a database's operators, are refused")
def _(world: World) -> None:
    queries = (
        "colour=red",
        "status=perhaps",
        "priority=high",
        "priority[$gt]=1",
        "priority[gte]=x",
        "due[lt]=tomorrow",
        "label[$ne]=x",
        "$where=1",
        "status[$ne]=open",
        "label[regex]=.*",
    )
    rules.refuses_operators(world.ann, tasks_of(new_project(world.ann)), queries)


@check("The tasks of all projects are listed together")
def _(world: World) -> None:
    label = fresh("all")
    one, two = new_project(world.ann), new_project(world.bob, viewer=world.ann.id)
    mine, bobs = new_task(world.ann, one, labels=[label]), new_task(world.bob, two, labels=[label])
    answer = world.ann.get(f"/v1/tasks?label={label}")
    answer.need(
        [item["id"] for item in answer.page()] == [bobs["id"], mine["id"]], "the tasks of both projects, newest first"
    )
    only = world.ann.get(f"/v1/tasks?label={label}&project={one['id']}")
    only.need([item["id"] for item in only.page()] == [mine["id"]], "the tasks of one project")


def finds(caller: Caller, path: str, ids: set[str]) -> None:
    """A search shows these tasks and no others, at the latest after three seconds: an index may lag behind a little."""
    until(
        lambda: caller.get(path),
        lambda answer: {item["id"] for item in answer.page()} == ids,
        f"these {len(ids)} tasks and no others: {', '.join(sorted(ids)) or 'none'}",
    )


@check("Search finds words in title and description, in any letter case")
def _(world: World) -> None:
    project, word, other = new_project(world.ann), fresh("needle"), fresh("other")
    one, two = (
        new_task(world.ann, project, f"A {word} here"),
        new_task(world.ann, project, "x", description=f"y\n{word}, {other}"),
    )
    new_task(world.ann, project, "hay")
    for query, wanted in (
        (word, {one["id"], two["id"]}),
        (word.upper(), {one["id"], two["id"]}),
        (f"{word}%20{other}", {two["id"]}),
        (fresh("nowhere"), set()),
    ):
        finds(world.ann, tasks_of(project, f"q={query}"), wanted)


@check(
    "Patterns and operators in a search are plain text",
    hint="never put what was typed into a pattern or a query object",
)
def _(world: World) -> None:
    project = new_project(world.ann)
    new_task(world.ann, project, "plain words")
    for text in (".*", "^", '{"$gt":""}', "(zq+)+$", "[zq-", "*", "%", "' OR '1'='1", "\\"):
        answer = world.ann.get(tasks_of(project), params={"q": text})
        answer.need(answer.status == 422 or answer.page() == [], "nothing found: no task holds this")


# ---- versions, once only


@check("Who has the newest version already hears 304")
def _(world: World) -> None:
    rules.answers_304(world.ann, at(new_task(world.ann, new_project(world.ann))))


@check("Of twenty edits of the same version exactly one wins")
def _(world: World) -> None:
    task = new_task(world.ann, new_project(world.ann))
    edits = [
        lambda n=n: world.ann.patch(at(task), {"title": f"writer {n}"}, headers={"If-Match": '"1"'}) for n in range(20)
    ]
    won = rules.one_wins(together(*edits))
    now = world.ann.get(at(task)).want(200)
    now.need((now.data["version"], now.data["title"]) == (2, won.data["title"]), "version 2 with the winner's title")


@check("What was decided on an old version is not done")
def _(world: World) -> None:
    task = new_task(world.ann, new_project(world.ann))
    world.ann.patch(at(task), {"title": "newer"}).want(200)
    old = {"If-Match": '"1"'}
    world.ann.patch(at(task), {"title": "older"}, headers=old).problem(409, code="stale")
    world.ann.put(at(task, "/completion"), headers=old).problem(409, code="stale")
    world.ann.delete(at(task), headers=old).problem(409, code="stale")
    now = world.ann.get(at(task)).want(200)
    now.need((now.data["title"], now.data["status"]) == ("newer", "open"), "the task untouched")
    rules.needs_a_good_if_match(world.ann, at(task), {"title": "x"})


@check("The same Idempotency-Key gives the same answer again")
def _(world: World) -> None:
    project = new_project(world.ann)

    def make(key: str, form: dict[str, Any]) -> Answer:
        return world.ann.post(tasks_of(project), form, headers={"Idempotency-Key": key})

    rules.replays(make, {"title": "once"}, {"title": "another"})
    rules.refuses_bad_keys(make, {"title": "x"})
    answer = world.ann.get(tasks_of(project))
    answer.need(len(answer.page()) == 1, "one task made")


@check("Twenty requests at once with one Idempotency-Key make one task")
def _(world: World) -> None:
    project = new_project(world.ann)
    rules.is_made_once(
        lambda key, form: world.ann.post(tasks_of(project), form, headers={"Idempotency-Key": key}),
        {"title": "race"},
        lambda: len(shown(world.ann, tasks_of(project))),
    )


# ---- completion and recurrence


@check("A task can be completed and opened again, and twice is the same as once")
def _(world: World) -> None:
    task = new_task(world.ann, new_project(world.ann))
    done = world.ann.put(at(task, "/completion")).want(200)
    done.need(
        (done.data["status"], done.data["completed_by"]) == ("done", world.ann.id), "status done, completed by Ann"
    )
    done.need(
        done.data["completed_at"] is not None and done.data["next_id"] is None, "a time in completed_at, no next_id"
    )
    again = world.ann.put(at(task, "/completion")).want(200)
    again.need(again.data == done.data, "the very same task again: nothing changed")
    back = world.ann.delete(at(task, "/completion")).want(200)
    back.need(
        (back.data["status"], back.data["completed_at"], back.data["completed_by"]) == ("open", None, None),
        "an open task",
    )
    once = world.ann.delete(at(task, "/completion")).want(200)
    once.need(once.data["version"] == back.data["version"], "the same version: nothing changed")


def recurring(
    world: World, rule: str, due: str, zone: str = "UTC", **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A new project with one task that recurs."""
    project = new_project(world.ann)
    return project, new_task(world.ann, project, due=due, recurrence={"rule": rule, "time_zone": zone}, **more)


def completed(world: World, task: dict[str, Any]) -> dict[str, Any]:
    """The task that follows when this one is completed."""
    answer = world.ann.put(at(task, "/completion")).want(200)
    answer.need(isinstance(answer.data["next_id"], str), "next_id to name the next occurrence")
    return dict(world.ann.get(at({"id": answer.data["next_id"]})).want(200).fields(*TASK))


@check("Completing a recurring task makes the next one")
def _(world: World) -> None:
    _, task = recurring(
        world, "FREQ=WEEKLY;BYDAY=MO,TH", "2031-01-06T05:00:00Z", priority=4, labels=["hens"], description="grain"
    )
    following = completed(world, task)
    answer = world.ann.get(at(following)).want(200)
    answer.need(moment(following["due"]) == moment("2031-01-09T05:00:00Z"), "due on Thursday 2031-01-09T05:00:00Z")
    same = ("title", "description", "labels", "priority", "assignees", "project_id", "recurrence")
    answer.need(all(following[name] == task[name] for name in same), f"the same {', '.join(same)}")
    answer.need(
        following["status"] == "open" and following["position"] > task["position"], "an open task further down the list"
    )
    third = completed(world, following)
    answer = world.ann.get(at(third)).want(200)
    answer.need(moment(third["due"]) == moment("2031-01-13T05:00:00Z"), "due on Monday 2031-01-13T05:00:00Z")


@check(
    "Twenty completions at once make one next task",
    hint="complete and make the next in one transaction, guarded by the task still being open",
)
def _(world: World) -> None:
    project, task = recurring(world, "FREQ=DAILY", "2031-01-01T05:00:00Z")
    answers = together(*[lambda: world.ann.put(at(task, "/completion"))] * 20)
    fine = {answer.status for answer in answers} <= {200, 409, 503}
    need_of_all(answers, fine and any(answer.status == 200 for answer in answers), "20 × 200")
    named = {answer.data["next_id"] for answer in answers if answer.status == 200}
    need_of_all(answers, len(named) == 1, f"all to name the same next_id; there are {len(named)}")
    tasks = shown(world.ann, tasks_of(project))
    need_of_all(
        answers, len(tasks) == 2, f"two tasks in the project, the done one and the next; there are {len(tasks)}"
    )


@check("Opening a recurring task again and completing it once more makes no second next")
def _(world: World) -> None:
    project, task = recurring(world, "FREQ=DAILY", "2031-01-01T05:00:00Z")
    following = completed(world, task)
    world.ann.delete(at(task, "/completion")).want(200)
    again = completed(world, task)
    answer = world.ann.get(tasks_of(project))
    answer.need(again["id"] == following["id"] and len(answer.page()) == 2, "the same next task, two tasks in all")


@check("COUNT and UNTIL end a recurrence")
def _(world: World) -> None:
    for rule in ("FREQ=DAILY;COUNT=3", "FREQ=DAILY;UNTIL=20310103T050000Z"):
        _, task = recurring(world, rule, "2031-01-01T05:00:00Z")
        last = completed(world, completed(world, task))
        answer = world.ann.put(at(last, "/completion")).want(200)
        answer.need(answer.data["next_id"] is None, f"no fourth one: {rule} ends after three")


@check("A recurring task keeps its time on the wall when summer time begins")
def _(world: World) -> None:
    _, task = recurring(world, "FREQ=WEEKLY", "2031-03-24T07:00:00Z", "Europe/Berlin")
    following = completed(world, task)
    local = moment(following["due"]).astimezone(ZoneInfo("Europe/Berlin"))
    answer = world.ann.get(at(following)).want(200)
    answer.need(
        (local.day, local.hour) == (31, 8),
        "due on 31 March at 8:00 in Berlin, which is 06:00 UTC",
        "count in the task's time zone, then turn to UTC",
    )


@check("A recurrence is held to its rules")
def _(world: World) -> None:
    project = new_project(world.ann)
    due = {"title": "x", "due": "2031-01-01T05:00:00Z"}
    world.ann.post(tasks_of(project), {"title": "x", "recurrence": {"rule": "FREQ=DAILY"}}).problem(
        422, code="recurrence_needs_due"
    )
    for rule in (
        "nonsense",
        "",
        "FREQ=SOMETIMES",
        "FREQ=SECONDLY",
        "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;INTERVAL=x",
        "DTSTART:20310101T000000Z\nRRULE:FREQ=DAILY",
    ):
        world.ann.post(tasks_of(project), due | {"recurrence": {"rule": rule}}).problem(422)
    world.ann.post(tasks_of(project), due | {"recurrence": {"rule": "FREQ=DAILY", "time_zone": "Moon/Crater"}}).problem(
        422
    )
    plain = world.ann.post(tasks_of(project), due | {"recurrence": {"rule": "FREQ=DAILY"}}).want(201)
    told = plain.data["recurrence"] or {}
    plain.need((told.get("rule"), told.get("time_zone")) == ("FREQ=DAILY", "UTC"), "time_zone UTC if none is given")
    world.ann.patch(at(plain.data), {"due": None}).problem(422, code="recurrence_needs_due")


# ---- order


@check("A task can be moved, and only that task changes")
def _(world: World) -> None:
    project = new_project(world.ann)
    a, b, c = (new_task(world.ann, project, title) for title in "abc")
    moved = world.ann.put(at(c, "/position"), {"before": a["id"]}).want(200)
    moved.need(moved.data["version"] == 2, "version 2")
    for title, body, wanted in (
        ("", None, "cab"),
        ("c", {"after": b["id"]}, "abc"),
        ("a", {"after": b["id"]}, "bac"),
        ("c", {"before": a["id"]}, "bca"),
    ):
        if body:
            world.ann.put(at({"a": a, "b": b, "c": c}[title], "/position"), body).want(200)
        answer = world.ann.get(tasks_of(project))
        items = answer.page()
        answer.need("".join(item["title"] for item in items) == wanted, f"the order {', '.join(wanted)}")
        answer.need(
            [item["position"] for item in items] == sorted(item["position"] for item in items),
            "positions that ascend as text",
        )
    answer = world.ann.get(at(b)).want(200)
    answer.need(answer.data["version"] == 1, "the task that others were moved around unchanged: version 1")


@check("Moves that make no sense are refused")
def _(world: World) -> None:
    project, other = new_project(world.ann), new_project(world.ann)
    a, b, elsewhere = new_task(world.ann, project), new_task(world.ann, project), new_task(world.ann, other)
    for body in ({}, {"after": a["id"]}, {"after": b["id"], "before": b["id"]}, {"after": 7}, {"first": True}):
        world.ann.put(at(a, "/position"), body).problem(422)
    world.ann.put(at(a, "/position"), {"after": elsewhere["id"]}).problem(422, code="other_project")
    world.ann.put(at(a, "/position"), {"after": "no-such-task"}).problem(404, 422)


@check("After many moves at once every task still has a place of its own")
def _(world: World) -> None:
    project = new_project(world.ann)
    first, second, *others = (new_task(world.ann, project) for _ in range(10))
    moves = [lambda task=task: world.ann.put(at(task, "/position"), {"after": first["id"]}) for task in others]
    answers = together(*moves)
    need_of_all(answers, {answer.status for answer in answers} <= {200, 409, 503}, "200 for each")
    listed = world.ann.get(tasks_of(project, "limit=100"))
    places = [item["position"] for item in listed.page()]
    listed.need(
        len(set(places)) == 10 and places == sorted(places),
        "ten different positions, in order",
        "a unique index on project and position; try again on a clash",
    )
    order = [item["id"] for item in listed.page()]
    listed.need(order[0] == first["id"], "the first task still first")
    if all(answer.status == 200 for answer in answers):
        listed.need(order[-1] == second["id"], "all that were moved between the first and the second task")


@check("Fifty moves into the same gap work")
def _(world: World) -> None:
    project = new_project(world.ann)
    a, b, c = (new_task(world.ann, project, title) for title in "abc")
    for number in range(25):
        world.ann.put(at(c, "/position"), {"after": a["id"]}).want(200)
        world.ann.put(at(b, "/position"), {"after": a["id"]}).want(200)
        if number in (0, 24):
            answer = world.ann.get(tasks_of(project))
            answer.need("".join(item["title"] for item in answer.page()) == "abc", "the order a, b, c")


# ---- subtasks and relations


@check("Subtasks belong to a parent, and go with it")
def _(world: World) -> None:
    project, other = new_project(world.ann), new_project(world.ann)
    parent, elsewhere = new_task(world.ann, project), new_task(world.ann, other)
    child = new_task(world.ann, project, parent_id=parent["id"])
    answer = world.ann.get(at(parent, "/subtasks"))
    answer.need([item["id"] for item in answer.page()] == [child["id"]], "the subtask")
    world.ann.patch(at(parent), {"parent_id": child["id"]}).problem(409, code="would_be_a_circle")
    world.ann.patch(at(parent), {"parent_id": parent["id"]}).problem(409, code="would_be_a_circle")
    world.ann.patch(at(child), {"parent_id": elsewhere["id"]}).problem(422, code="other_project")
    world.ann.patch(at(child), {"parent_id": "no-such-task"}).problem(404, 422)
    world.ann.delete(at(parent)).want(204)
    world.ann.get(at(child)).problem(404)


@check("A task can block others, and both sides tell")
def _(world: World) -> None:
    project = new_project(world.ann)
    a, b = new_task(world.ann, project, "a"), new_task(world.ann, project, "b")
    for _ in range(2):
        world.ann.put(at(a, f"/blocks/{b['id']}")).want(204)
    for task, side, other in ((a, "blocks", b), (b, "blocked_by", a)):
        answer = world.ann.get(at(task, "/relations")).want(200)
        found = answer.fields("blocks", "blocked_by")[side]
        answer.need([each["id"] for each in found] == [other["id"]], f"{side} with one task")
        answer.need((found[0].get("title"), found[0].get("status")) == (other["title"], "open"), "its title and status")
    world.ann.delete(at(a, f"/blocks/{b['id']}")).want(204)
    answer = world.ann.get(at(b, "/relations")).want(200)
    answer.need(answer.data["blocked_by"] == [], "nothing blocking any more")
    elsewhere = new_task(world.ann, new_project(world.ann))
    world.ann.put(at(a, f"/blocks/{elsewhere['id']}")).problem(422, code="other_project")
    world.ann.put(at(a, "/blocks/no-such-task")).problem(404)


@check("A circle of blocking tasks is refused, however long")
def _(world: World) -> None:
    project = new_project(world.ann)
    chain = [new_task(world.ann, project) for _ in range(5)]
    for one, two in pairwise(chain):
        world.ann.put(at(one, f"/blocks/{two['id']}")).want(204)
    for back, front in ((4, 0), (1, 0), (3, 1), (2, 2)):
        world.ann.put(at(chain[back], f"/blocks/{chain[front]['id']}")).problem(409, code="would_be_a_circle")
    world.ann.put(at(chain[0], f"/blocks/{chain[4]['id']}")).want(204, hint="two roads to one task are no circle")


@check(
    "Requests that close a circle together, at the same moment, do not all get through",
    hint="guard the graph of a project by one version, so that two edits of it cannot pass each other",
)
def _(world: World) -> None:
    project = new_project(world.ann)
    for _ in range(4):
        ring = [new_task(world.ann, project) for _ in range(4)]
        paths = [at(one, f"/blocks/{two['id']}") for one, two in zip(ring, [*ring[1:], ring[0]], strict=True)]
        answers = together(*[lambda path=path: world.ann.put(path) for path in paths])
        need_of_all(answers, {answer.status for answer in answers} <= {204, 409, 503}, "204 or 409")
        blocked = [world.ann.get(at(task, "/relations")).want(200).data["blocked_by"] for task in ring]
        need_of_all(answers, not all(blocked), "at least one of the four refused, so that there is no circle")
        need_of_all(answers, any(blocked), "at least one of the four let through")


@check("Parents that would close a circle at the same moment do not all get through")
def _(world: World) -> None:
    project = new_project(world.ann)
    a, b = new_task(world.ann, project), new_task(world.ann, project)
    answers = together(
        lambda: world.ann.patch(at(a), {"parent_id": b["id"]}), lambda: world.ann.patch(at(b), {"parent_id": a["id"]})
    )
    need_of_all(answers, {answer.status for answer in answers} <= {200, 409, 503}, "200 for one, 409 for the other")
    parents = [world.ann.get(at(task)).want(200).data["parent_id"] for task in (a, b)]
    need_of_all(answers, parents.count(None) >= 1, "one of the two without a parent")


# ---- comments and reminders


@check("Comments can be written, read in order, changed and deleted")
def _(world: World) -> None:
    project = new_project(world.ann, editor=world.bob.id)
    task = new_task(world.ann, project)
    first = world.ann.post(at(task, "/comments"), {"body": "one"}).want(201)
    rules.is_stored(first)
    told = first.fields("task_id", "author_id", "body")
    first.need(
        (told["task_id"], told["author_id"], told["body"]) == (task["id"], world.ann.id, "one"), "task, author and body"
    )
    second = world.bob.post(at(task, "/comments"), {"body": "two"}).want(201)
    answer = world.ann.get(at(task, "/comments"))
    answer.need([item["body"] for item in answer.page()] == ["one", "two"], "the oldest first")
    changed = world.ann.patch(at(task, f"/comments/{first.data['id']}"), {"body": "ONE"}).want(200)
    changed.need((changed.data["body"], changed.data["version"]) == ("ONE", 2), "the change, version 2")
    world.ann.patch(at(task, f"/comments/{second.data['id']}"), {"body": "not mine"}).problem(403)
    world.ann.delete(at(task, f"/comments/{second.data['id']}")).want(
        204, hint="the owner may delete anybody's comment"
    )
    for body in ({}, {"body": ""}, {"body": "x" * 10_001}, {"body": 7}):
        rules.refuses(world.ann.post(at(task, "/comments"), body), "/body")
    other = new_task(world.ann, project)
    world.ann.patch(at(other, f"/comments/{first.data['id']}"), {"body": "x"}).problem(404)


@check("Reminders belong to one person, and follow the due time")
def _(world: World) -> None:
    project = new_project(world.ann, viewer=world.bob.id)
    task = new_task(world.ann, project, due="2031-01-01T05:00:00Z")
    made = world.ann.post(at(task, "/reminders"), {"minutes_before_due": 30}).want(201)
    told = made.fields("id", "task_id", "at", "minutes_before_due", "channel", "sent_at")
    made.need(
        (moment(told["at"]), told["channel"], told["sent_at"]) == (moment("2031-01-01T04:30:00Z"), "email", None),
        "at 04:30, by email, not sent yet",
    )
    world.bob.post(at(task, "/reminders"), {"at": "2031-01-01T00:00:00Z"}).want(
        201, hint="viewers may have themselves reminded"
    )
    mine = world.ann.get(at(task, "/reminders"))
    mine.need([item["id"] for item in mine.page()] == [told["id"]], "only one's own reminders")
    world.bob.delete(at(task, f"/reminders/{told['id']}")).problem(404)
    world.ann.patch(at(task), {"due": "2031-01-02T05:00:00Z"}).want(200)
    until(
        lambda: world.ann.get(at(task, "/reminders")),
        lambda answer: moment(answer.page()[0]["at"]) == moment("2031-01-02T04:30:00Z"),
        "the reminder moved along with due",
    )
    world.ann.delete(at(task, f"/reminders/{told['id']}")).want(204)
    for body in (
        {},
        {"at": "2031-01-01T00:00:00Z", "minutes_before_due": 5},
        {"minutes_before_due": -1},
        {"at": "soon"},
    ):
        world.ann.post(at(task, "/reminders"), body).problem(422)
    without = new_task(world.ann, project)
    world.ann.post(at(without, "/reminders"), {"minutes_before_due": 5}).problem(422, code="reminder_needs_due")


# ---- live


def follow(caller: Caller, project: dict[str, Any], last: str = "") -> Listener:
    return Listener(caller, f"/v1/tasks/live?topic=tasks/projects/{project['id']}", last)


def heard(live: Listener, task: dict[str, Any], kind: str = "") -> Event:
    """The first message on a task, of a kind if one is given."""
    should = f"a message{kind and f' of the kind {kind}'} whose data names the task {task['id']}"
    return live.wait_for(
        lambda event: inner(event).get("task_id") == task["id"] and kind in ("", said(event).get("kind")), should
    )


@check("Members hear live what happens in a project")
def _(world: World) -> None:
    project = new_project(world.ann, viewer=world.bob.id)
    with follow(world.bob, project) as live:
        task = new_task(world.ann, project)
        world.ann.patch(at(task), {"title": "changed"}).want(200)
        world.ann.put(at(task, "/completion")).want(200)
        for kind in ("task_added", "task_changed", "task_completed"):
            event = heard(live, task, kind)
            if not event.get("id"):
                raise Failed(f"GET {live.path}", str(event), "an id with each message")


@check("Who comes back to a live stream hears what was missed")
def _(world: World) -> None:
    project = new_project(world.ann)
    with follow(world.ann, project) as live:
        first = new_task(world.ann, project)
        last = heard(live, first)
    missed = [new_task(world.ann, project) for _ in range(3)]
    with follow(world.ann, project, last.get("id", "")) as live:
        for task in missed:
            heard(live, task)
        again = [event for event in live.events if inner(event).get("task_id") == first["id"]]
        if again:
            asked = f"GET {live.path} [Last-Event-ID: {last.get('id')}]"
            raise Failed(asked, str(again), "only what came after that id")


# ---- export


@check("A project can be taken away as JSON")
def _(world: World) -> None:
    project = new_project(world.ann)
    one, two = new_task(world.ann, project), new_task(world.ann, project)
    for query in ("", "?format=json"):
        answer = world.ann.get(inside(project, "/export" + query)).want(200)
        answer.need("attachment" in answer.headers.get("content-disposition", ""), "Content-Disposition: attachment")
        told = answer.fields("exported_at", "project", "members", "tasks")
        answer.need([each["id"] for each in told["tasks"]] == [one["id"], two["id"]], "both tasks, in order")
    world.ann.get(inside(project, "/export?format=doc")).problem(422)


@check("A project can be taken away as CSV, and no cell is run by a spreadsheet")
def _(world: World) -> None:
    project = new_project(world.ann)
    new_task(
        world.ann, project, "=1+1", description='a "quote", and\na line', labels=["x", "y"], due="2031-01-01T05:00:00Z"
    )
    answer = world.ann.get(inside(project, "/export?format=csv")).want(200)
    answer.need(answer.headers.get("content-type", "").startswith("text/csv"), "Content-Type: text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    answer.need(len(rows) == 1, "a header line and one task")
    answer.need(rows[0].get("title") == "'=1+1", "the title '=1+1 with a ' in front, since it begins with =")
    answer.need(
        (rows[0].get("description"), rows[0].get("labels")) == ('a "quote", and\na line', "x;y"),
        "the description whole, the labels as x;y",
    )


@check("A project can be taken away as a calendar")
def _(world: World) -> None:
    project = new_project(world.ann)
    task = new_task(
        world.ann,
        project,
        "Hay, straw; and\\more",
        due="2031-01-01T05:00:00Z",
        priority=5,
        recurrence={"rule": "FREQ=DAILY"},
    )
    world.ann.put(at(task, "/completion")).want(200)
    answer = world.ann.get(inside(project, "/export?format=ics")).want(200)
    answer.need(answer.headers.get("content-type", "").startswith("text/calendar"), "Content-Type: text/calendar")
    text = answer.content.decode().replace("\r\n ", "").replace("\r\n\t", "")
    answer.need(
        text.startswith("BEGIN:VCALENDAR\r\n") and text.rstrip().endswith("END:VCALENDAR"),
        "a VCALENDAR, its lines ended by CR LF",
    )
    answer.need(text.count("BEGIN:VTODO") == 2, "a VTODO for each of the two tasks")
    for line in (
        "SUMMARY:Hay\\, straw\\; and\\\\more",
        "STATUS:COMPLETED",
        "STATUS:NEEDS-ACTION",
        "PRIORITY:1",
        "RRULE:FREQ=DAILY",
    ):
        answer.need(line in text, f"the line {line}")


# ---- around it


@check("An address that is none is 404 as a problem, with the id of the request")
def _(world: World) -> None:
    rules.has_request_id(world.ann, PROJECTS)


@check("Answers carry the headers that keep browsers and proxies out of it")
def _(world: World) -> None:
    rules.has_safe_headers(world, world.ann, PROJECTS)


@check("Limits are told in a way that can be read")
def _(world: World) -> None:
    rules.tells_its_limits(world.ann, PROJECTS)


def moment(text: Any) -> datetime:
    """A time in an answer."""
    return datetime.fromisoformat(str(text))
