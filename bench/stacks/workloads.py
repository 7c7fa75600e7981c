"""The rows of the contract: what each asks, and how one sees that the answer is right."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import cycle
from typing import Any

from bench.stacks.faces import Request, Workload
from bench.stacks.world import PASSWORD, World

REQUESTS = 4_000  # of a plan, where nothing else decides
UPDATES = 40_000
UPDATED = 2_000  # tasks that are updated in turn: more than are ever asked for at the same time
Headers = Mapping[str, str]
Row = dict[str, Any]
JSON = {"content-type": "application/json"}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


PAST = b'{"at":"2026-01-02T03:04:05Z"}'
TASK = _names(
    "id project_id title description labels priority due recurrence assignees parent_id position status "
    "completed_at completed_by next_id created_by created_at updated_at version"
)
NOTE = _names("id title excerpt tags pinned state trashed_at created_at updated_at version body html")
CARD = _names("id slug title brand category_id tags picture price compare_at from_price variants")
REMINDER = _names("id task_id at minutes_before_due channel sent_at created_at updated_at version")
SIGNED_IN = frozenset({"access_token", "refresh_token", "token_type", "expires_in"})
PICTURE = _names("id file width height url jpeg_url sizes")
BODY = "Buy **wire** and nails at the _market_, before the rain.\n\n" + "- ten bales of hay, if they are dry\n" * 5
EXCERPT = 200
SECURITY = ("x-content-type-options", "x-frame-options", "referrer-policy", "strict-transport-security")


# ---- what is asked


def _hello(world: World) -> list[Request]:
    return [Request("GET", "/health")]


def _document(world: World) -> list[Request]:
    some, bearers = random.choices(world.tasks, k=REQUESTS), cycle(world.bearers())
    return [Request("GET", f"/v1/tasks/{id}", next(bearers), expect=project) for id, project in some]


def _page(world: World) -> list[Request]:
    bearers = cycle(world.bearers())
    return [
        Request(
            "GET",
            f"/v1/tasks/projects/{project}/tasks?status=open&sort=-created_at&limit=20",
            next(bearers),
            expect=min(20, world.open_tasks[project]),
        )
        for project in random.choices(list(world.open_tasks), k=REQUESTS)
    ]


def _cached(world: World) -> list[Request]:
    return [Request("GET", "/v1/shop/products?limit=20")]


def _search(world: World) -> list[Request]:
    bearers = cycle(world.bearers())
    return [
        Request(
            "GET",
            f"/v1/tasks/projects/{word.project}/tasks?q={word.text}&limit=20",
            next(bearers),
            expect=(word.text, min(20, word.found)),
        )
        for word in random.choices(world.words, k=REQUESTS)
    ]


def _create(world: World) -> list[Request]:
    bearers = cycle(world.bearers())
    forms = [{"title": f"Note {number}", "body": f"{BODY}{number}", "tags": ["farm"]} for number in range(REQUESTS)]
    return [
        Request("POST", "/v1/notes", next(bearers) | JSON, json.dumps(form).encode(), expect=form) for form in forms
    ]


def _update(world: World) -> list[Request]:
    """Each task in turn, again and again, each time at the version that the time before left behind."""
    ids = [id for id, _ in random.sample(world.tasks, min(UPDATED, len(world.tasks)))]
    at, bearers, found = world.versions(ids), world.bearers(), []
    for turn in range(max(1, min(UPDATES // len(ids), 40))):
        for number, id in enumerate(ids):
            version = at[id] + turn
            priority = version % 6  # differs from the one before, so that there is something to write
            headers = bearers[number % len(bearers)] | JSON | {"if-match": f'"{version}"'}
            body = b'{"priority":%d}' % priority
            found.append(Request("PATCH", f"/v1/tasks/{id}", headers, body, expect=(version + 1, priority)))
    return found


def _sign_in(world: World) -> list[Request]:
    forms = [{"email": each.email, "password": PASSWORD} for each in world.people]
    return [Request("POST", "/v1/accounts/sign-in", JSON, json.dumps(form).encode()) for form in forms]


def _transaction(world: World) -> list[Request]:
    """Reminders of tasks by people, of which each pair may have twenty: a new plan begins with other pairs."""
    bearers = world.bearers()
    pairs = [(id, number) for id, _ in world.tasks for number in range(len(bearers))]
    return [
        Request("POST", f"/v1/tasks/{id}/reminders", bearers[number] | JSON, PAST, expect=id)
        for id, number in random.sample(pairs, min(20_000, len(pairs)))
    ]


def _publish(world: World) -> list[Request]:
    """Each live task gets a text that it has not: its followers hear of every change."""
    mark, bearers = random.randbytes(6).hex(), cycle(world.bearers())
    return [
        Request(
            "PATCH",
            f"/v1/tasks/{id}",
            next(bearers) | JSON,
            json.dumps({"description": f"Round {turn} of {mark}"}).encode(),
            expect=f"Round {turn} of {mark}",
        )
        for turn in range(20)
        for id in world.live_tasks
    ]


def _upload(world: World) -> list[Request]:
    headers = {"authorization": f"Bearer {world.token(world.admin)}", "content-type": "image/png"}
    return [Request("POST", "/v1/shop/pictures", headers, world.picture)]


# ---- whether the answer is right


def _hello_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    return _wrong(200, status, headers, body, lambda said: None if said == {"status": "ok"} else "not `status: ok`")


def _document_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    def look(said: Row) -> str | None:
        if wrong := _fields(said, TASK):
            return wrong
        id = request.path.rpartition("/")[2]
        return None if (said["id"], said["project_id"]) == (id, request.expect) else f"{said['id']} instead of {id}"

    return _wrong(200, status, headers, body, look)


def _page_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    def look(said: Row) -> str | None:
        items = said["items"]
        if len(items) != request.expect or (len(items) == 20) != isinstance(said["next"], str):
            return f"{len(items)} tasks instead of {request.expect}, next {said['next']}"
        times = [datetime.fromisoformat(each["created_at"]) for each in items]
        if times != sorted(times, reverse=True) or any(each["status"] != "open" for each in items):
            return "not the open ones, the newest first"
        return next((wrong for each in items if (wrong := _fields(each, TASK))), None)

    return _wrong(200, status, headers, body, look)


def _cached_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    def look(said: Row) -> str | None:
        if len(said["items"]) != 20 or not isinstance(said["next"], str):
            return f"{len(said['items'])} products instead of 20, next {said['next']}"
        return next((wrong for each in said["items"] if (wrong := _fields(each, CARD))), None)

    return _wrong(200, status, headers, body, look)


def _search_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    def look(said: Row) -> str | None:
        word, count = request.expect
        if len(said["items"]) != count:
            return f"{len(said['items'])} tasks instead of {count} that hold {word}"
        texts = [f"{each['title']} {each['description']}" for each in said["items"]]
        if not all(word in text for text in texts):
            return f"a task without {word}"
        return next((wrong for each in said["items"] if (wrong := _fields(each, TASK))), None)

    return _wrong(200, status, headers, body, look)


def _create_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    def look(said: Row) -> str | None:
        if wrong := _fields(said, NOTE):
            return wrong
        form = request.expect
        if (said["title"], said["body"], said["tags"]) != (form["title"], form["body"], form["tags"]):
            return "not the note that was sent"
        if "<strong>wire</strong>" not in said["html"] or said["html"].count("<li>") != 5:
            return "its Markdown is not rendered"
        if said["excerpt"] != form["body"][:EXCERPT] or headers.get("location") != f"/v1/notes/{said['id']}":
            return "another excerpt, or another address"
        return None if (said["version"], said["state"]) == (1, "active") else "not new"

    return _wrong(201, status, headers, body, look)


def _update_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    def look(said: Row) -> str | None:
        if wrong := _fields(said, TASK):
            return wrong
        found = said["version"], said["priority"]
        if headers.get("etag") != f'"{said["version"]}"':
            return f"ETag {headers.get('etag')} of version {said['version']}"
        return None if found == request.expect else f"version and priority {found} instead of {request.expect}"

    return _wrong(200, status, headers, body, look)


def _sign_in_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    def look(said: Row) -> str | None:
        if wrong := _fields(said, SIGNED_IN):
            return wrong
        whole = said["access_token"].count(".") == 2 and len(said["refresh_token"]) >= 32
        return None if whole and (said["token_type"], said["expires_in"]) == ("Bearer", 600) else "no such tokens"

    return _wrong(200, status, headers, body, look)


def _reminder_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    def look(said: Row) -> str | None:
        if wrong := _fields(said, REMINDER):
            return wrong
        return None if said["task_id"] == request.expect and said["sent_at"] is None else "not what was asked for"

    return _wrong(201, status, headers, body, look)


def _publish_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    def look(said: Row) -> str | None:
        return _fields(said, TASK) or (None if said["description"] == request.expect else "not what was written")

    return _wrong(200, status, headers, body, look)


def _upload_is_right(request: Request, status: int, headers: Headers, body: bytes) -> str | None:
    def look(said: Row) -> str | None:
        if wrong := _fields(said, PICTURE):
            return wrong
        return None if len(said["id"]) == 64 and (said["width"], said["height"]) == (1870, 1870) else "another picture"

    return _wrong(201, status, headers, body, look)


def _fields(said: Row, wanted: frozenset[str]) -> str | None:
    return None if said.keys() == wanted else f"fields {sorted(said.keys() ^ wanted)} too many or too few"


def _wrong(wanted: int, status: int, headers: Headers, body: bytes, look: Callable[[Any], str | None]) -> str | None:
    """What of an answer is wrong: its status, its headers, its length, or what `look` sees. Names are in lower case."""
    if status != wanted:
        return f"status {status} instead of {wanted}: {body[:200].decode(errors='replace')}"
    lacking = [name for name in (*SECURITY, "x-request-id") if not headers.get(name)]
    if lacking:
        return f"no {', '.join(lacking)}"
    if "content-length" in headers and int(headers["content-length"]) != len(body):
        return f"{len(body)} bytes instead of {headers['content-length']}"
    if headers.get("content-encoding", "identity") != "identity":
        return "compressed, though nobody asked for that"
    try:
        return look(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        return f"not the answer of the contract: {type(fault).__name__} {fault}"


WORKLOADS: Sequence[Workload] = (
    Workload("hello", "read", "hello", _hello, _hello_is_right),
    Workload("document", "read", "one document by id", _document, _document_is_right),
    Workload("page", "read", "a page of 20, filtered and sorted", _page, _page_is_right),
    Workload("cached", "read", "a page of 20 that is cached", _cached, _cached_is_right),
    Workload("search", "read", "full-text search", _search, _search_is_right),
    Workload("create", "write", "create", _create, _create_is_right),
    Workload("update", "write", "conditional update", _update, _update_is_right, once=True),
    Workload("sign-in", "other", "sign in (argon2id)", _sign_in, _sign_in_is_right, at_once=8),
    Workload(
        "transaction",
        "write",
        "a transaction of two documents and an event",
        _transaction,
        _reminder_is_right,
        once=True,
    ),
    Workload("job", "other", "enqueue to done", _transaction, _reminder_is_right, once=True, told_by="job"),
    Workload("publish", "other", "publish to sockets", _publish, _publish_is_right, told_by="sockets"),
    Workload("upload", "other", "upload of 10 MB", _upload, _upload_is_right, at_once=8),
)
