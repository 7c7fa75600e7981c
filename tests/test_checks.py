"""The checks are right and can fail: held against a small server of another make, whole and with one promise broken."""

import base64
import difflib
import io
import json
import re
import secrets
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import nh3
import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt

from msingi import checks
from msingi.checks import running
from msingi.checks.command import check as command
from msingi.checks.harness import SUITES, Answer, Failed, World, try_one
from msingi.checks.report import show

FAULTS = {
    "strangers_hear_403": "Another person's note does not exist: 404 on every route, never 403",
    "unknown_fields_are_dropped": "Fields that a form does not know are refused, and nothing is stored",
    "bad_json_crashes": "What is no JSON is 400, not 500",
    "html_is_not_cleaned": "Rendered Markdown runs nothing",
    "versions_rise_for_nothing": "A change that changes nothing does not raise the version",
    "search_takes_patterns": "Patterns and operators in a search are plain text",
    "pages_count_offsets": "Pages neither repeat nor skip while notes are added and removed",
    "conflicts_tell_too_little": "An edit of an old version is refused with all that is needed to merge",
    "writers_race": "Of twenty edits of the same version exactly one wins",
    "keys_race": "Twenty requests at once with one Idempotency-Key make one note",
    "keys_are_shared": "An Idempotency-Key belongs to the person who sent it",
    "deletions_are_not_told": "A sync shows what changed since the last one, deletions included",
}


# ---- what is proven


def test_a_server_of_another_make_that_keeps_the_contract_passes_all_notes_checks() -> None:
    outcomes = outcomes_with("")
    assert {title for title, outcome in outcomes.items() if outcome == "failed"} == set()
    assert list(outcomes.values()).count("passed") >= 50


@pytest.mark.parametrize(("fault", "title"), FAULTS.items())
def test_a_broken_promise_is_named_by_its_own_check_and_no_other(fault: str, title: str) -> None:
    assert [name for name, outcome in outcomes_with(fault).items() if outcome == "failed"] == [title]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in checks.NAMES if name != "accounts"])  # see test_account_drills
def test_our_own_server_passes_every_check_of_a_suite(name: str, served_house: str) -> None:
    done = CliRunner().invoke(command, [name, "--url", served_house, "--json"])
    told = json.loads(done.output)
    assert [each for each in told["checks"] if each["outcome"] == "failed"] == []
    assert done.exit_code == 0
    assert told["summary"]["passed"] >= 30


def test_a_server_without_sign_in_is_checked_with_what_one_person_can_see() -> None:
    with serving("no_sign_in") as url, World(url, url, anonymous=True) as world:
        running.prepare("notes", world)
        outcomes = {result.check: result.outcome for result in running.results("notes", world)}
    assert [title for title, outcome in outcomes.items() if outcome == "failed"] == []
    assert outcomes["Without signing in, nothing opens"] == "skipped"
    assert outcomes["A note can be read back"] == "passed"


def test_every_suite_has_a_few_dozen_checks_with_titles_of_their_own() -> None:
    assert set(SUITES) == set(checks.NAMES)
    for name, suite in SUITES.items():
        titles = [one.title for one in suite]
        assert len(titles) >= 30, name
        assert len(set(titles)) == len(titles), name


def test_a_failed_check_tells_what_was_asked_what_came_what_should_have_come_and_a_hint() -> None:
    with serving("unknown_fields_are_dropped") as url, World(url, url) as world:
        (found,) = running.results("notes", world, only="Fields that a form does not know")
    assert found.outcome == "failed"
    assert found.asked.startswith("PATCH /v1/notes/")
    assert '"colour": "red"' in found.asked
    assert found.came.startswith("200 {")
    assert found.should == "422"
    assert "colour" in found.hint


def test_the_report_for_people_ends_with_the_sum_and_the_exit_code_is_1() -> None:
    with serving("bad_json_crashes") as url:
        done = CliRunner().invoke(command, ["notes", "--url", url, "--only", "JSON"])
    assert done.exit_code == 1
    assert "✗ What is no JSON is 400, not 500" in done.output
    assert "asked  POST /v1/notes" in done.output
    assert done.output.rstrip().endswith("2 passed, 1 failed, 0 skipped")


def test_the_report_for_programs_is_json_with_a_summary_and_the_exit_code_is_0() -> None:
    with serving("") as url:
        done = CliRunner().invoke(command, ["notes", "--url", url, "--only", "read back", "--json"])
    told = json.loads(done.output)
    assert done.exit_code == 0
    assert [(each["check"], each["outcome"]) for each in told["checks"]] == [("A note can be read back", "passed")]
    assert told["summary"] == {"passed": 1, "failed": 0, "skipped": 0}


def test_a_server_that_is_not_there_is_one_clear_sentence_and_exit_code_2() -> None:
    done = CliRunner().invoke(command, ["notes", "--url", "http://127.0.0.1:9"])
    assert done.exit_code == 2
    assert "does not answer" in done.output
    assert "Traceback" not in done.output


def test_a_server_where_nobody_can_register_is_exit_code_2_and_says_so() -> None:
    with serving("no_sign_in") as url:
        done = CliRunner().invoke(command, ["notes", "--url", url])
    assert done.exit_code == 2
    assert "POST /v1/accounts/register" in done.output
    assert "--anonymous" in done.output


def test_nothing_checked_is_no_success() -> None:
    assert show("notes", "http://x", [], as_json=True) == 1


def test_a_check_that_stumbles_over_an_odd_answer_has_failed_and_the_run_goes_on() -> None:
    with serving("") as url, World(url, url) as world:
        stumbled = try_one(
            type(SUITES["notes"][0])("stumbles", lambda world: world.ann.get("/v1/notes").data["x"]), world
        )
    assert stumbled.outcome == "failed"
    assert "KeyError" in stumbled.came


def test_passwords_and_tokens_stand_in_no_report() -> None:
    with serving("no_sign_in") as url, World(url, url) as world, pytest.raises(Failed) as failed:
        world.person("Ann")
    assert '"password": "…"' in failed.value.asked
    assert "check-" not in failed.value.asked.partition("password")[2]


def test_a_429_that_says_how_long_is_waited_out() -> None:
    with serving("limited_at_first") as url, World(url, url) as world:
        answer: Answer = world.nobody.get("/v1/notes")
    assert answer.status == 401


def outcomes_with(fault: str) -> dict[str, str]:
    """What came of each notes check on the server below, with one promise broken."""
    with serving(fault) as url, World(url, url) as world:
        running.prepare("notes", world)
        return {result.check: result.outcome for result in running.results("notes", world)}


# ---- a server of another make: docs/contracts/notes.md in memory, on the standard library


class Problem(Exception):
    def __init__(self, status: int, code: str, **more: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.more = status, code, more


class Memory:
    """All that the server knows, and the promise that it breaks."""

    def __init__(self, fault: str) -> None:
        self.fault, self.lock = fault, threading.RLock()
        self.people: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, str] = {}
        self.notes: dict[str, dict[str, Any]] = {}
        self.revisions: dict[str, list[dict[str, Any]]] = {}
        self.changes: list[tuple[str, str, int, bool]] = []
        self.replies: dict[Any, tuple[bytes, Any]] = {}
        self.keepers: dict[Any, str] = {}
        self.refused = 1 if fault == "limited_at_first" else 0


Reply = tuple[int, Any, dict[str, str]]
FORM = {"title", "body", "tags"}
KNOWN = {"limit", "after", "sort", "q", "state", "pinned", "tag", "created_at", "updated_at"}
STATES = {"active", "archived", "trashed", "all"}


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@contextmanager
def serving(fault: str) -> Iterator[str]:
    """The server on a port of its own, breaking one promise."""
    memory = Memory(fault)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet, or each answer waits 40 ms for an acknowledgement
        server_version, sys_version = "another-make", ""

        def answer(self) -> None:
            try:
                status, body, headers = handle(memory, self)
            except Problem as problem:
                status, headers = problem.status, {"Content-Type": "application/problem+json"}
                headers |= problem.more.pop("headers", {})
                told = {"type": f"/problems/{problem.code}", "title": problem.code, "status": status}
                body = {**told, "detail": problem.code, "code": problem.code, "request_id": "r", **problem.more}
            content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            always = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "X-Request-ID": "r"}
            for name, value in {**always, "Cache-Control": "no-store", **headers}.items():
                self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if status not in (204, 304) else b"")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *what: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        request_queue_size = 64
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def handle(memory: Memory, request: BaseHTTPRequestHandler) -> Reply:
    raw = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    split = urlsplit(request.path)
    path, query = unquote(split.path), parse_qsl(split.query, keep_blank_values=True)
    if memory.refused:
        memory.refused -= 1
        raise Problem(429, "quota_exceeded", headers={"Retry-After": "0"})
    if path.startswith("/v1/accounts/") and memory.fault != "no_sign_in":
        return accounts(memory, path, body_of(memory, request, raw), request)
    if not path.startswith("/v1/notes"):
        raise Problem(404, "not_found")
    owner = "everybody" if memory.fault == "no_sign_in" else owner_of(memory, request)
    return once(memory, request, owner, path, raw, lambda: route(memory, request, owner, path, query, raw))


def accounts(memory: Memory, path: str, form: Any, request: BaseHTTPRequestHandler) -> Reply:
    if path.endswith("/register"):
        memory.people[form["email"]] = {"id": secrets.token_hex(8), **form}
        return 201, {"id": memory.people[form["email"]]["id"]}, {}
    if path.endswith("/sign-in"):
        person, token = memory.people[form["email"]], secrets.token_hex(8)
        memory.tokens[token] = person["id"]
        return 200, {"access_token": token, "refresh_token": "r", "token_type": "Bearer", "expires_in": 600}, {}
    return 200, {"id": owner_of(memory, request)}, {}


def owner_of(memory: Memory, request: BaseHTTPRequestHandler) -> str:
    token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
    if token not in memory.tokens:
        raise Problem(401, "sign_in_first", headers={"WWW-Authenticate": "Bearer"})
    return memory.tokens[token]


def body_of(memory: Memory, request: BaseHTTPRequestHandler, raw: bytes) -> Any:
    if not raw:
        return {}
    if len(raw) > 1_000_000:
        raise Problem(413, "too_large")
    if request.headers.get("Content-Type", "").split(";")[0] != "application/json":
        raise Problem(415, "unsupported_media")
    try:
        return json.loads(raw, parse_constant=lambda name: int("NaN"))
    except RecursionError:
        raise Problem(400, "malformed") from None
    except ValueError:
        raise Problem(500 if memory.fault == "bad_json_crashes" else 400, "malformed") from None


def once(
    memory: Memory, request: BaseHTTPRequestHandler, owner: str, path: str, raw: bytes, act: Callable[[], Reply]
) -> Reply:
    key = request.headers.get("Idempotency-Key")
    if key is None or request.command != "POST":
        return act()
    if not 1 <= len(key) <= 255:
        raise Problem(400, "bad_idempotency_key")
    place = key if memory.fault == "keys_are_shared" else (owner, key)
    asked = path.encode() + raw
    if memory.fault == "keys_race":
        seen = place in memory.replies
        time.sleep(0 if seen else 0.2)
        if not seen:
            memory.replies[place], memory.keepers[place] = (asked, act()), owner
    with memory.lock:
        if place not in memory.replies:
            memory.replies[place], memory.keepers[place] = (asked, act()), owner
        first, reply = memory.replies[place]
    if first != asked and not (memory.fault == "keys_are_shared" and memory.keepers[place] != owner):
        raise Problem(422, "idempotency_key_reused")
    return reply


def route(
    memory: Memory, request: BaseHTTPRequestHandler, owner: str, path: str, query: list[tuple[str, str]], raw: bytes
) -> Reply:
    method, parts = request.command, path.split("/")[3:]
    asked = dict(query)
    if not parts:
        if method not in ("GET", "POST"):
            raise Problem(405, "method_not_allowed", headers={"Allow": "GET, POST"})
        with memory.lock:
            return (
                listed(memory, owner, query) if method == "GET" else made(memory, owner, body_of(memory, request, raw))
            )
    whole: dict[str, Callable[..., Reply]] = {"tags": tags, "changes": changes, "export": export}
    if len(parts) == 1 and parts[0] in whole and method == "GET":
        with memory.lock:
            return whole[parts[0]](memory, owner, asked)
    with memory.lock:
        note = found(memory, owner, parts[0])
    form = body_of(memory, request, raw)
    if memory.fault == "writers_race" and method == "PATCH":
        guard(memory, request, note, form)
        time.sleep(0.2 if "If-Match" in request.headers else 0)
        with memory.lock:
            return saved(memory, note, form)
    with memory.lock:
        return one(memory, request, note, parts[1:], asked, form)


def found(memory: Memory, owner: str, id: str) -> dict[str, Any]:
    note = memory.notes.get(id)
    if note and note["owner"] != owner and memory.fault == "strangers_hear_403":
        raise Problem(403, "forbidden")
    if note is None or note["owner"] != owner:
        raise Problem(404, "not_found")
    return note


def one(
    memory: Memory,
    request: BaseHTTPRequestHandler,
    note: dict[str, Any],
    rest: list[str],
    asked: dict[str, str],
    form: Any,
) -> Reply:
    method = request.command
    match (method, *rest):
        case ("GET",):
            etag = f'"{note["version"]}"'
            if etag in (request.headers.get("If-None-Match") or ""):
                return 304, None, {"ETag": etag}
            return shown(memory, note)
        case ("GET", "revisions"):
            items = [{k: each[k] for k in ("version", "title", "created_at")} for each in memory.revisions[note["id"]]]
            return page(items, dict(asked), "-version", lambda item: item["version"])
        case ("GET", "revisions", version):
            return 200, revision(memory, note, version), {}
        case ("GET", "diff"):
            return diff(memory, note, asked)
    if method == "GET":
        raise Problem(404, "not_found")
    guard(memory, request, note, form if method == "PATCH" else {})
    match (method, *rest):
        case ("PATCH",):
            return saved(memory, note, form)
        case ("DELETE",):
            del memory.notes[note["id"]]
            told(memory, note, gone=True)
            return 204, None, {}
        case ("POST", "restorations"):
            if type(form.get("version")) is not int:
                raise Problem(422, "invalid_fields", errors=[{"pointer": "/version"}])
            old = revision(memory, note, str(form["version"]))
            _, view, headers = saved(memory, note, {name: old[name] for name in FORM})
            return 201, view, headers
        case ("PUT" | "DELETE", "pin" | "archive" | "trash" as what):
            return turned(memory, note, what, method == "PUT")
    raise Problem(404, "not_found")


def guard(memory: Memory, request: BaseHTTPRequestHandler, note: dict[str, Any], form: Any) -> None:
    given = request.headers.get("If-Match")
    if given in (None, "*"):
        return
    if not re.fullmatch(r'"\d+"', given or ""):
        raise Problem(422, "bad_if_match")
    version = int((given or "").strip('"'))
    if version == note["version"]:
        return
    if memory.fault == "conflicts_tell_too_little":
        raise Problem(409, "note_changed")
    kept = [each for each in memory.revisions[note["id"]] if each["version"] <= version]
    raise Problem(409, "note_changed", base=kept[-1] if kept else None, theirs=shown(memory, note)[1], yours=form)


def made(memory: Memory, owner: str, form: Any) -> Reply:
    values = checked(memory, form, {"title"})
    note = {
        "id": secrets.token_hex(8),
        "owner": owner,
        "body": "",
        "tags": [],
        **values,
        "version": 0,
        "created_at": now(),
    }
    note |= {"number": len(memory.changes), "pinned": False, "state": "active", "before": "active", "trashed_at": None}
    memory.notes[note["id"]], memory.revisions[note["id"]] = note, []
    touched(memory, note)
    kept(memory, note)
    _, view, headers = shown(memory, note)
    return 201, view, {**headers, "Location": f"/v1/notes/{note['id']}"}


def saved(memory: Memory, note: dict[str, Any], form: Any) -> Reply:
    if note["state"] == "trashed":
        raise Problem(409, "note_in_trash")
    values = checked(memory, form, set())
    if any(note[name] != value for name, value in values.items()):
        note |= values
        touched(memory, note)
        kept(memory, note)
    elif memory.fault == "versions_rise_for_nothing":
        note["version"] += 1
    return shown(memory, note)


def turned(memory: Memory, note: dict[str, Any], what: str, on: bool) -> Reply:
    if note["state"] == "trashed" and what != "trash":
        raise Problem(409, "note_in_trash")
    before = dict(note)
    if what == "pin":
        note["pinned"] = on
    elif what == "archive":
        note["state"] = "archived" if on else "active"
    elif on != (note["state"] == "trashed"):
        state = "trashed" if on else note["before"]
        note |= {"before": note["state"], "state": state, "trashed_at": now() if on else None}
    if note != before:
        touched(memory, note)
    return shown(memory, note)


def touched(memory: Memory, note: dict[str, Any]) -> None:
    note |= {"version": note["version"] + 1, "updated_at": now()}
    told(memory, note)


def told(memory: Memory, note: dict[str, Any], gone: bool = False) -> None:
    memory.changes.append((note["owner"], note["id"], note["version"], gone))


def kept(memory: Memory, note: dict[str, Any]) -> None:
    copy = {name: note[name] for name in ("version", "title", "body", "tags")}
    memory.revisions[note["id"]].append({**copy, "created_at": note["updated_at"]})


def checked(memory: Memory, form: Any, required: set[str]) -> dict[str, Any]:
    if not isinstance(form, dict):
        raise Problem(422, "invalid_fields", errors=[{"pointer": ""}])
    rules = {
        "title": lambda it: isinstance(it, str) and 1 <= len(it.strip()) <= 200,
        "body": lambda it: isinstance(it, str) and len(it) <= 100_000,
        "tags": lambda it: isinstance(it, list) and len(it) <= 20 and all(map(is_tag, it)),
    }
    wrong = [name for name in FORM if name in form and not rules[name](form[name])] + list(required - set(form))
    unknown = sorted(set(form) - FORM)
    if wrong or (unknown and memory.fault != "unknown_fields_are_dropped"):
        errors = [{"pointer": f"/{name}", "in": "body", "message": "will not do"} for name in [*wrong, *unknown]]
        raise Problem(422, "invalid_fields", errors=errors)
    values = {name: form[name] for name in FORM & set(form)}
    if "title" in values:
        values["title"] = values["title"].strip()
    if "tags" in values:
        values["tags"] = list(dict.fromkeys(tag.strip().lower() for tag in values["tags"]))
    return values


def is_tag(it: Any) -> bool:
    return isinstance(it, str) and 1 <= len(it.strip()) <= 50 and "," not in it


def shown(memory: Memory, note: dict[str, Any]) -> Reply:
    html = MarkdownIt().render(note["body"])
    if memory.fault == "html_is_not_cleaned":
        html = MarkdownIt("commonmark", {"html": True}).render(note["body"])
    view = {
        **item(note),
        "body": note["body"],
        "html": html if memory.fault == "html_is_not_cleaned" else nh3.clean(html),
    }
    return 200, view, {"ETag": f'"{note["version"]}"'}


def item(note: dict[str, Any]) -> dict[str, Any]:
    hidden = {"owner", "number", "before", "body"}
    return {name: value for name, value in note.items() if name not in hidden} | {"excerpt": note["body"][:200]}


def revision(memory: Memory, note: dict[str, Any], version: str) -> dict[str, Any]:
    if not version.isdigit():
        raise Problem(422, "invalid_fields")
    for each in memory.revisions[note["id"]]:
        if each["version"] == int(version):
            return each
    raise Problem(404, "not_found")


def diff(memory: Memory, note: dict[str, Any], asked: dict[str, str]) -> Reply:
    versions = [each["version"] for each in memory.revisions[note["id"]]]
    to = revision(memory, note, asked.get("to", str(versions[-1])))
    before = versions[max(versions.index(to["version"]) - 1, 0)]
    start = revision(memory, note, asked.get("from", str(before)))
    lines = difflib.unified_diff(start["body"].splitlines(), to["body"].splitlines(), lineterm="")
    both = {name: {"from": start[name], "to": to[name]} for name in ("title", "tags")}
    return 200, {"from": start["version"], "to": to["version"], **both, "body": "\n".join(lines)}, {}


def listed(memory: Memory, owner: str, query: list[tuple[str, str]]) -> Reply:
    tests: list[Callable[[dict[str, Any]], bool]] = [lambda note: note["owner"] == owner]
    asked = dict(query)
    for name, value in query:
        tests.append(filter_of(memory, name, value))
    if "state" not in asked:
        tests.append(lambda note: note["state"] == "active")
    chosen = [note for note in memory.notes.values() if all(test(note) for test in tests)]
    orders = {
        "created_at": lambda note: note["number"],
        "updated_at": lambda n: n["updated_at"],
        "title": lambda n: n["title"],
    }
    sort = asked.get("sort", "-created_at")
    if sort.removeprefix("-") not in orders:
        raise Problem(422, "bad_sort")
    offsets = memory.fault == "pages_count_offsets"
    rows = sorted(chosen, key=lambda note: (orders[sort.removeprefix("-")](note), note["id"]))
    return page(rows, asked, sort, orders[sort.removeprefix("-")], item, offsets, query)


def filter_of(memory: Memory, given: str, value: str) -> Callable[[dict[str, Any]], bool]:
    name, _, compared = given.partition("[")
    compared = compared.rstrip("]")
    if name not in KNOWN or (compared and name not in ("tag", "created_at", "updated_at")):
        raise Problem(422, "bad_filter")
    if name == "state":
        if value not in STATES:
            raise Problem(422, "bad_filter")
        return lambda note: value in ("all", note["state"])
    if name == "pinned":
        if value not in ("true", "false"):
            raise Problem(422, "bad_filter")
        return lambda note: note["pinned"] == (value == "true")
    if name == "tag":
        if compared not in ("", "in", "nin"):
            raise Problem(422, "bad_filter")
        return lambda note: bool(set(value.split(",")) & set(note["tags"])) != (compared == "nin")
    if name in ("created_at", "updated_at"):
        return time_filter(name, compared, value)
    if name == "q":
        return searched(memory, value)
    return lambda note: True


def time_filter(name: str, compared: str, value: str) -> Callable[[dict[str, Any]], bool]:
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
    }
    try:
        at = datetime.fromisoformat(value)
        test = compare[compared]
    except (ValueError, KeyError):
        raise Problem(422, "bad_filter") from None
    return lambda note: test(datetime.fromisoformat(note[name]), at)


def searched(memory: Memory, text: str) -> Callable[[dict[str, Any]], bool]:
    words = re.findall(r"\w+", text.lower())

    def test(note: dict[str, Any]) -> bool:
        inside = " ".join([note["title"], note["body"], *note["tags"]]).lower()
        if memory.fault == "search_takes_patterns" and not words:
            return True
        return bool(words) and set(words) <= set(re.findall(r"\w+", inside))

    return test


def page(
    rows: list[dict[str, Any]],
    asked: dict[str, str],
    sort: str,
    value: Callable[[dict[str, Any]], Any],
    view: Callable[[dict[str, Any]], Any] = lambda row: row,
    offsets: bool = False,
    query: list[tuple[str, str]] | None = None,
) -> Reply:
    """A page of rows that are sorted upwards."""
    limit = asked.get("limit", "20")
    if not limit.isdigit() or not 1 <= int(limit) <= 100:
        raise Problem(422, "invalid_fields")
    rows = rows[::-1] if sort.startswith("-") else rows

    def place(row: dict[str, Any]) -> list[Any]:
        return [value(row), row.get("id", "")]

    if "after" in asked:
        try:
            way, last = json.loads(base64.urlsafe_b64decode(asked["after"]))
        except ValueError:
            raise Problem(422, "bad_cursor") from None
        if way != sort:
            raise Problem(422, "bad_cursor")
        down = sort.startswith("-")
        beyond = [row for row in rows if (place(row) < last[:2] if down else place(row) > last[:2])]
        rows = rows[last[2] :] if offsets else beyond
    chosen, more = rows[: int(limit)], len(rows) > int(limit)
    if not more:
        return 200, {"items": [view(row) for row in chosen], "next": None}, {}
    count = len(chosen) + (json.loads(base64.urlsafe_b64decode(asked["after"]))[1][2] if "after" in asked else 0)
    cursor = base64.urlsafe_b64encode(json.dumps([sort, [*place(chosen[-1]), count]]).encode()).decode()
    kept_query = "&".join(f"{name}={text}" for name, text in query or [] if name != "after")
    link = {"Link": f'</v1/notes?{kept_query}&after={cursor}>; rel="next"'} if query is not None else {}
    return 200, {"items": [view(row) for row in chosen], "next": cursor}, link


def tags(memory: Memory, owner: str, asked: dict[str, str]) -> Reply:
    mine = [note for note in memory.notes.values() if note["owner"] == owner and note["state"] != "trashed"]
    used = [tag for note in mine for tag in note["tags"]]
    return 200, {"items": [{"tag": tag, "count": used.count(tag)} for tag in sorted(set(used))], "next": None}, {}


def changes(memory: Memory, owner: str, asked: dict[str, str]) -> Reply:
    cursor, limit = asked.get("cursor", "0"), asked.get("limit", "100")
    if not cursor.isdigit() or not limit.isdigit() or not 1 <= int(limit) <= 500:
        raise Problem(422, "bad_cursor")
    items, position = [], int(cursor)
    while position < len(memory.changes) and len(items) < int(limit):
        who, id, version, gone = memory.changes[position]
        position += 1
        note = memory.notes.get(id)
        if who != owner or (gone and memory.fault == "deletions_are_not_told"):
            continue
        if gone:
            items.append({"change": "deleted", "id": id, "version": version, "deleted_at": now(), "note": None})
        elif note and note["version"] == version:
            items.append({"change": "saved", "id": id, "version": version, "note": shown(memory, note)[1]})
    return 200, {"items": items, "cursor": str(position), "more": position < len(memory.changes)}, {}


def export(memory: Memory, owner: str, asked: dict[str, str]) -> Reply:
    mine = [note for note in memory.notes.values() if note["owner"] == owner]
    attached = {"Content-Disposition": 'attachment; filename="notes"'}
    if asked.get("format", "zip") == "json":
        return 200, {"exported_at": now(), "notes": [shown(memory, note)[1] for note in mine]}, attached
    if asked.get("format", "zip") != "zip":
        raise Problem(422, "invalid_fields")
    kept_in = io.BytesIO()
    with zipfile.ZipFile(kept_in, "w") as file:
        for note in mine:
            names = ("id", "title", "tags", "state", "pinned", "created_at", "updated_at", "version")
            matter = "".join(f"{name}: {json.dumps(note[name])}\n" for name in names)
            file.writestr(f"note-{note['id']}.md", f"---\n{matter}---\n{note['body']}")
    return 200, kept_in.getvalue(), {**attached, "Content-Type": "application/zip"}
