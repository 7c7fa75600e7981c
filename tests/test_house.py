"""What holds for the whole house, each product alone and all together, asked through the real server."""

import json
import re
import secrets
import string
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from bson import BSON
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.serving import HOUSE, Served, own_databases, serving, wait_until

from msingi import catalog
from msingi.kit.edge import API_SECURITY, SECURITY
from msingi.kit.events import Event
from msingi.kit.openapi import sample_of
from msingi.kit.tests import copies

Json = dict[str, Any]
Operation = tuple[str, str, Json]

USUAL = {
    *("README", "__init__", "product", "routes", "graphql", "live", "pages", "jobs", "seeds", "actions", "queries"),
    *("rules", "schemas", "models", "contract", "templates", "static", "tests"),
}
# Things of the seeds: Ann has them, and an admin has no more right to them than anybody else.
ANNS = {
    "note_id": "hens",
    "project_id": "farm",
    "task_id": "hay",
    "other_id": "vet",
    "comment_id": "agreed",
    "reminder_id": "cash",
    "session_id": "nobody-s",
    "user_id": "ann",
    "organisation_id": "farm",
    "account_id": "bob",
    "ended_id": "nobody-s",
    "invitation_id": "nobody-s",
    "passkey_id": "nobody-s",
    "connection_id": "nobody-s",
    "consent_id": "nobody-s",
    "client_id": "nobody-s",
    "export_id": "nobody-s",
    "name": "accounts.people",
    "key_id": "nobody-s",
    "role_name": "user",
    "limit_name": "accounts_swap_api_key",
    "version": "1",
    "product_id": "tea",
    "slug": "tea",
    "variant_id": "tea-250",
    "category_id": "drinks",
    "synonym_id": "nobody-s",
    "picture_id": "nobody-s",
    "location_id": "nairobi",
    "order_id": "nobody-s",
    "payment_id": "nobody-s",
    "refund_id": "nobody-s",
    "endpoint_id": "nobody-s",
    "delivery_id": "nobody-s",
    "return_id": "nobody-s",
    "shipment_id": "nobody-s",
    "number": "2026-000001",
    "file": "C2026-000001.pdf",
    "sheet_id": "nobody-s",
    "fact_id": "nobody-s",
    "code": "KARIBU",
    "country": "KE",
    "tax_class": "standard",
    "id": "courier",
}
LEAKS = re.compile(
    r"Traceback|pymongo|bson|litestar|msgspec\.|asyncio|/site-packages|/src/msingi|WriteError|\.py\b|errmsg", re.I
)


# ---- each product alone


def test_each_product_alone_serves_itself_and_nothing_else(alone: Served) -> None:
    name = alone.environ["MSINGI_PRODUCTS"]
    others = set(catalog.NAMES) - {name}
    with alone.client() as client:
        assert client.get("/ready").json()["status"] in ("ready", "degraded")
        described = client.get("/openapi.json").json()
        home = client.get("/").text
        for other in others:
            assert client.get(f"/openapi/{other}.json").status_code == 404
            assert client.get(f"/v1/{other}").status_code == 404
        guarded = next(each for each in operations(described) if each[2]["security"] and "{" not in each[1])
        assert client.request(guarded[0], guarded[1]).status_code == 401
        assert f"/v1/{name}" in home
        assert not any(f"/v1/{other}" in home for other in others)
        has_sign_in = client.get("/sign-in").status_code == 200
    own = {path.split("/")[2] for path in described["paths"] if path.startswith("/v1/")}
    assert own == {name}
    assert has_sign_in is (name == "accounts")


# ---- the description


def test_the_description_is_valid_openapi_3_1(served: Served) -> None:
    described = description(served)
    assert described["openapi"].startswith("3.1")
    assert [error.message for error in OpenAPIV31SpecValidator(described).iter_errors()] == []


def test_every_operation_has_an_id_a_summary_a_guard_and_says_what_may_go_wrong(served: Served) -> None:
    found = list(operations(description(served)))
    ids = [operation["operationId"] for _, _, operation in found]
    assert sorted(ids) == sorted(set(ids))
    for method, path, operation in found:
        about = f"{method} {path}"
        assert re.fullmatch(r"[a-z][a-z0-9_]+", operation["operationId"]), about
        assert operation.get("summary"), about
        assert operation.get("description"), about
        assert operation["security"] in ([], [{"bearer": []}, {"session": []}]), about
        refusals = [reply for status, reply in operation["responses"].items() if status >= "400"]
        assert refusals, about
        assert ("401" in operation["responses"]) or not operation["security"], about
        if path.startswith("/v1/"):
            product = path.split("/")[2]
            assert operation["operationId"].startswith(f"{product}_"), about
            assert operation["tags"] == [product], about


def test_every_error_is_described_as_problem_json(served: Served) -> None:
    described = description(served)
    for method, path, operation in operations(described):
        for status, reply in operation["responses"].items():
            if status >= "400":
                content = resolved(described, reply)["content"]
                assert list(content) == ["application/problem+json"], f"{method} {path} {status}"


@pytest.mark.parametrize("name", catalog.NAMES)
def test_the_description_of_one_product_holds_all_that_it_points_to(served: Served, name: str) -> None:
    with served.client() as client:
        described = client.get(f"/openapi/{name}.json").json()
    assert [error.message for error in OpenAPIV31SpecValidator(described).iter_errors()] == []
    pointers = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(described)))
    assert pointers
    for pointer in pointers:
        resolved(described, {"$ref": pointer})
    assert {path.split("/")[2] for path in described["paths"] if path.startswith("/v1/")} == {name}


def test_the_postman_collection_holds_every_operation_and_bodies_that_fit(served: Served) -> None:
    described = description(served)
    with served.client() as client:
        collection = client.get("/postman.json").json()
    assert collection["info"]["schema"] == "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
    assert {each["key"] for each in collection["variable"]} == {"base_url", "access_token"}
    requests = [item["request"] for folder in collection["item"] for item in folder["item"]]
    listed = {(request["method"], postman_path(request)) for request in requests}
    assert listed == {(method, path) for method, path, _ in operations(described)}
    for request in requests:
        assert request["url"]["raw"] == "{{base_url}}/" + "/".join(request["url"]["path"])
        if "body" in request:
            schema = body_of(described["paths"][postman_path(request)][request["method"].lower()])
            assert schema is not None
            checked(described, schema, json.loads(request["body"]["raw"]))


def postman_path(request: Json) -> str:
    return "/" + "/".join(re.sub(r"^:(\w+)$", r"{\1}", part) for part in request["url"]["path"])


# ---- the shape of a product


@pytest.mark.parametrize("name", catalog.NAMES)
def test_every_product_has_the_same_files_and_its_readme_names_any_other(name: str) -> None:
    folder = folder_of(name)
    readme = (folder / "README.md").read_text()
    for path in folder.iterdir():
        if path.stem not in USUAL and not path.name.startswith(("__", ".")):
            assert f"`{path.name}`" in readme, f"{name}/{path.name} is neither usual nor named in {name}/README.md"
    here = {path.stem for path in folder.iterdir()}
    assert {"product", "routes", "seeds", "actions", "queries", "rules", "schemas", "models", "contract"} <= here
    # A product with many nouns has a file for each: `test_stock_races`.
    tests = {path.stem.rpartition("_")[2] for path in (folder / "tests").glob("test_*.py")}
    assert tests >= {"rules", "routes", "races", *(["jobs"] if "jobs" in here else [])}


@pytest.mark.parametrize("product", catalog.products(), ids=lambda product: product.name)
def test_every_product_names_in_its_readme_the_events_it_tells_and_hears(product: Any) -> None:
    readme = (folder_of(product.name) / "README.md").read_text()
    told = {tag_of(kind) for kind in _below(Event) if kind.__module__ == f"msingi.products.{product.name}.contract"}
    heard = {tag_of(reaction.kind) for reaction in product.found.reactions}
    assert {tag for tag in told | heard if f"`{tag}`" not in readme} == set()
    named = set(re.findall(rf"`((?:{'|'.join(catalog.NAMES)})\.[a-z_]+)`", readme))
    known = {tag_of(kind) for kind in _below(Event)}
    tags = {tag for tag in named if tag.split(".")[1] not in USUAL and not is_question(tag)}
    assert tags <= known


def is_question(tag: str) -> bool:
    """Whether a name such as `accounts.people` is a question that a product answers."""
    return any(f'"{tag}"' in (folder_of(name) / "contract.py").read_text() for name in catalog.NAMES)


def tag_of(kind: type[Event]) -> str:
    tag = kind.__struct_config__.tag
    assert isinstance(tag, str), kind
    return tag


def folder_of(name: str) -> Path:
    return Path(catalog.__file__).parent / "products" / name


# ---- problems


LIST_PROBLEMS = """
import json
import msingi.asgi
from msingi.kit.errors import Problem, code_of

def below(kind):
    return {kind}.union(*(below(each) for each in kind.__subclasses__()))

print(json.dumps([[code_of(each), each.__dict__.get("__doc__"), each.status] for each in below(Problem)]))
"""


def test_every_problem_says_what_it_means_and_has_a_page(served: Served) -> None:
    problems = json.loads(copies.run([sys.executable, "-c", LIST_PROBLEMS], served.environ, HOUSE).stdout)
    codes = [code for code, _, _ in problems]
    assert len(codes) > 40
    assert sorted(codes) == sorted(set(codes))
    with served.client() as client:
        for code, meaning, status in problems:
            assert meaning, code
            page = client.get(f"/problems/{code}")
            assert page.status_code == 200, code
            assert f"<code>{code}</code>" in page.text
            assert str(status) in page.text
        assert client.get("/problems/of_the_heart").status_code == 404


def _below(kind: type[Any]) -> set[type[Any]]:
    return {each for below in kind.__subclasses__() for each in {below, *_below(below)}}


# ---- D4: no secret anywhere


def test_d4_no_password_or_token_gets_into_a_log_the_metrics_redis_or_plain_into_the_database(served: Served) -> None:
    mark = secrets.token_hex(8)
    password, wrong, newer = (f"{kind} {mark} {secrets.token_hex(8)}" for kind in ("right", "wrong", "newer"))
    form = {"email": f"{mark}@msingi.test", "password": password, "name": f"Canary {mark}"}
    key = {"Idempotency-Key": mark}
    said: list[httpx.Response] = []
    with served.client() as client:
        said.append(client.post("/v1/accounts/register", json=form, headers=key))
        credentials = {"email": form["email"], "password": password}
        signed = client.post("/v1/accounts/sign-in", json=credentials, headers=key).raise_for_status().json()
        cookie = client.post("/v1/accounts/sign-in", json=credentials | {"session": "cookie"}).cookies["sid"]
        client.cookies.clear()
        said.append(client.post("/v1/accounts/sign-in", json=credentials | {"password": wrong}))
        said.append(client.post("/v1/accounts/sign-in", json=credentials | {"password": wrong, "unknown": wrong}))
        said.append(client.post("/v1/accounts/sign-in", content=f'{{"password": "{wrong}'.encode()))
        renewed = client.post("/v1/accounts/refresh", json={"refresh_token": signed["refresh_token"]}).json()
        client.headers["authorization"] = f"Bearer {renewed['access_token']}"
        said.append(client.get("/v1/accounts/me"))
        changed = {"current_password": password, "new_password": newer}
        latest = client.post("/v1/accounts/me/password", json=changed, headers=key).raise_for_status().json()
        spoilt = {"Authorization": f"Bearer {latest['access_token']}x"}
        said.append(client.get("/v1/notes", headers=spoilt))
        said.append(client.get("/metrics"))
        client.get("/health", headers={"X-Request-ID": f"end-{mark}"})
    tokens = [each[kind] for each in (signed, renewed, latest) for kind in ("access_token", "refresh_token")]
    canaries = [password, wrong, newer, cookie, *tokens]
    wait_until(lambda: f"end-{mark}" in served.logs())
    places = {"logs": served.logs(), "replies": "".join(f"{each.headers}{each.text}" for each in said)}
    places |= {"mongo": all_of_mongo(served), "redis": all_of_redis(served)}
    assert mark in places["mongo"]  # the account is there, so this looks in the right place
    for name, text in places.items():
        assert [canary for canary in canaries if canary in text] == [], name
    assert [name for name in ("logs", "mongo", "redis") if form["email"] in places[name]] == []
    house = [served.environ["MSINGI_SECRET"], served.password]
    assert [secret for secret in house for text in places.values() if secret in text] == []


def all_of_mongo(served: Served) -> str:
    """Every document of every collection of this house, as bytes with one letter each."""
    found = []
    with served.mongo as mongo:
        for name in mongo.list_database_names():
            if name.startswith(f"{served.settings.database}_"):
                for collection in mongo[name].list_collection_names():
                    found += [bytes(BSON.encode(row)).decode("latin-1") for row in mongo[name][collection].find({})]
    return "".join(found)


def all_of_redis(served: Served) -> str:
    with redis.Redis.from_url(served.settings.redis_url) as client:
        keys: list[bytes] = list(client.scan_iter())
        return "".join(key.decode("latin-1") + (client.dump(key) or b"").decode("latin-1") for key in keys)


# ---- Z1: who is not let in


def test_z1_nobody_gets_past_the_gate_without_signing_in(served: Served) -> None:
    described = description(served)
    wrong = []
    with served.client() as nobody:
        for method, path, operation in operations(described):
            for headers in ({}, {"Authorization": "Bearer a.b.c"}, {"Cookie": "sid=made-up"}):
                if operation["security"]:
                    reply = nobody.request(method, placed(path), json=sample(described, operation), headers=headers)
                    if (reply.status_code, reply.json().get("code")) != (401, "sign_in_first"):
                        wrong.append((method, path, headers, reply.status_code))
    assert wrong == []


def test_z1_what_is_somebody_elses_cannot_be_told_from_what_is_not_there(served: Served) -> None:
    described = description(served)
    with served.sign_in("ann") as ann, served.newcomer() as eve:
        before = [ann.get(path).text for path in ("/v1/notes", "/v1/tasks/projects", "/v1/tasks/projects/farm/tasks")]
        assert ann.get("/v1/notes/hens").status_code == 200
        tried = 0
        for method, path, operation in operations(described):
            if "{" not in path or not operation["security"]:
                continue
            body = sample(described, operation)
            theirs = eve.request(method, placed(path), json=body)
            absent = eve.request(method, placed(path, dict.fromkeys(ANNS, "absent") | {"version": "1"}), json=body)
            assert theirs.status_code in (403, 404, 422), (method, path, theirs.text)
            assert told(theirs) == told(absent), (method, path)
            tried += 1
        after = [ann.get(path).text for path in ("/v1/notes", "/v1/tasks/projects", "/v1/tasks/projects/farm/tasks")]
    assert tried > 25
    assert after == before


def told(reply: httpx.Response) -> tuple[int, Json]:
    return reply.status_code, {name: value for name, value in reply.json().items() if name != "request_id"}


# ---- Z2, Z3: fields


def test_z2_an_unknown_field_is_refused_wherever_a_form_is_taken(served: Served) -> None:
    described = description(served)
    wrong = []
    with served.sign_in("ann") as ann:
        for method, path, operation in operations(described):
            body = sample(described, operation)
            if isinstance(body, dict):
                once = {"Idempotency-Key": f"{method} {placed(path)}"}  # where it is required
                reply = ann.request(
                    method, placed(path), json=body | {"owner_id": "eve", "is_admin": True}, headers=once
                )
                if reply.status_code not in (403, 404, 422):
                    wrong.append((method, path, reply.status_code))
    assert wrong == []


def test_z3_replies_hold_what_is_declared_and_nothing_else(served: Served) -> None:
    described = closed(description(served))
    tried = 0
    with served.sign_in("ann") as ann, served.sign_in("admin") as admin:
        ann.post("/v1/notes", json={"title": "A", "body": "B"}).raise_for_status()
        for method, path, operation in operations(described):
            declared = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
            if method != "GET" or "schema" not in declared or path.endswith("/live"):
                continue
            asks = [admin if "/users" in path else ann]
            for client in asks:
                reply = client.get(placed(path, ANNS | {"user_id": "bob"}))
                if reply.status_code == 200 and "json" in reply.headers["content-type"]:
                    checked(described, declared["schema"], reply.json())
                    tried += 1
    assert tried >= 20


def closed(described: Json) -> Json:
    """The same, where objects may hold no member that is not declared."""
    described = deepcopy(described)
    for schema in described["components"]["schemas"].values():
        if schema.get("properties"):
            schema["additionalProperties"] = False
    return described


# ---- I1: what means something to somebody else

NASTY: list[Any] = [
    "$where",
    "$ne",
    "a.b.$[]",
    {"$gt": ""},
    {"$where": "sleep(1000)"},
    {"a.b": {"$ne": None}},
    "nul \x00 in the middle",
    "line\r\nSet-Cookie: a=b\r\n\r\n",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "../../../../etc/passwd",
    "'; DROP TABLE notes; --",
    "\ud7ff\ufffe\U0001f600" * 50,
    [],
    [[[]]],
    None,
    True,
    -1,
    2**70,
    1e300,
]
# Words that need no body that fits: the session that asks would be over, or everybody's.
LEFT_OUT = {"accounts_sign_out", "accounts_end_other_sessions", "tasks_follow_live"}


def test_i1_operators_templates_and_paths_in_a_body_are_plain_text_or_refused(served: Served) -> None:
    described = description(served)
    wrong = []
    with served.another_admin() as admin:
        own = own_things(admin)
        for method, path, operation in operations(described):
            body = sample(described, operation)
            if not isinstance(body, dict) or operation["operationId"] in LEFT_OUT:
                continue
            for payload in NASTY:
                for form in (payload, body | dict.fromkeys(body, payload), {f"{payload}": payload}):
                    wrong += faults(admin, method, placed(path, own), json=form)
    assert wrong == []


def test_i1_operators_templates_and_paths_in_an_address_are_plain_text_or_refused(served: Served) -> None:
    described = description(served)
    wrong = []
    odd = ["%00", "a%2fb", "%ff", ".", "$", "x" * 3000, "9" * 25, "-1"]
    texts = [*odd, *(each for each in NASTY if isinstance(each, str))]
    with served.another_admin() as admin:
        own = own_things(admin)
        for method, path, operation in operations(described):
            if operation["operationId"] in LEFT_OUT:
                continue
            for text in texts:
                hostile = httpx.QueryParams([(name, text) for name in query_names(operation)])
                for name in re.findall(r"\{(\w+)\}", path):
                    wrong += faults(admin, method, placed(path, own | {name: quoted(text)}), json={})
                if method == "GET":
                    wrong += faults(admin, method, placed(path, own), params=hostile)
    assert wrong == []


def test_i1_no_json_whatever_makes_the_house_stumble(served: Served) -> None:
    described = description(served)
    taking = [
        (method, path)
        for method, path, operation in operations(described)
        if body_of(operation) and operation["operationId"] not in LEFT_OUT
    ]
    letters = st.text(max_size=20)
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | letters
    known = st.sampled_from(["title", "body", "tags", "email", "password", "name", "due", "recurrence", "$gt"])
    names = known | letters
    values = st.recursive(leaves, lambda few: st.lists(few, max_size=4) | st.dictionaries(names, few, max_size=5))
    with served.another_admin() as admin:
        own = own_things(admin)

        @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.sampled_from(taking), values)
        def ask(where: tuple[str, str], value: Any) -> None:
            assert faults(admin, where[0], placed(where[1], own), json=value) == []

        ask()


def faults(client: httpx.Client, method: str, path: str, **more: Any) -> list[tuple[Any, ...]]:
    """What is wrong with a reply to nonsense: a 5xx, or a word of what is inside."""
    reply = client.request(method, path, **more)
    is_wrong = reply.status_code >= 500
    is_wrong = is_wrong or (reply.status_code >= 400 and LEAKS.search(reply.json()["detail"]) is not None)
    is_wrong = is_wrong or "set-cookie" in reply.headers
    return [(method, path[:60], str(more)[:120], reply.status_code, reply.text[:200])] if is_wrong else []


def own_things(client: httpx.Client) -> dict[str, str]:
    """A note, a project and a task of one's own, so that nonsense reaches further than the question whose it is."""
    note = client.post("/v1/notes", json={"title": "Mine"}).raise_for_status().json()["id"]
    project = client.post("/v1/tasks/projects", json={"name": "Mine"}).raise_for_status().json()["id"]
    tasks = f"/v1/tasks/projects/{project}/tasks"
    one, other = (client.post(tasks, json={"title": title}).raise_for_status().json()["id"] for title in "ab")
    comment = client.post(f"/v1/tasks/{one}/comments", json={"body": "x"}).raise_for_status().json()["id"]
    ids = {"note_id": note, "project_id": project, "task_id": one, "other_id": other, "comment_id": comment}
    person = {"email": f"{note}@msingi.test", "password": f"long enough {note}", "name": "Whoever"}
    return ANNS | ids | {"user_id": client.post("/v1/accounts/users", json=person).raise_for_status().json()["id"]}


def query_names(operation: Json) -> list[str]:
    return [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]


def quoted(text: str) -> str:
    plain = string.ascii_letters + string.digits + "-._~%$"
    return "".join(each if each in plain else "".join(f"%{byte:02x}" for byte in each.encode()) for each in text)


# ---- H1, H6: what every reply says


def test_h1_every_reply_carries_the_security_headers_and_names_no_server(served: Served) -> None:
    with served.client() as client:
        replies = {
            200: client.get("/health"),
            401: client.get("/v1/notes"),
            404: client.get("/nowhere"),
            405: client.put("/v1/accounts/register", json={}),
            413: client.post("/v1/accounts/register", content=b" " * 1_100_000),
            415: client.post("/v1/accounts/register", content=b"a", headers={"Content-Type": "text/plain"}),
            422: client.post("/v1/accounts/register", json={}),
            400: client.post("/v1/accounts/register", content=b"{", headers={"Content-Type": "application/json"}),
        }
        page = client.get("/")
    for status, reply in replies.items():
        assert reply.status_code == status, reply.text
        assert dict(API_SECURITY).items() <= {(name.lower(), value) for name, value in reply.headers.raw}, status
    assert dict(SECURITY).items() <= {(name.lower(), value) for name, value in page.headers.raw}
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for reply in (page, *replies.values()):
        assert "x-powered-by" not in reply.headers
        assert not re.search(r"\d", reply.headers.get("server", ""))


def test_h6_every_refusal_is_a_problem_with_the_requests_id_and_nothing_of_the_inside(served: Served) -> None:
    with served.client() as client:
        asked = {"X-Request-ID": "asked-by-me"}
        replies = [
            client.get("/v1/notes", headers=asked),
            client.get("/v1/nowhere/../x%00", headers=asked),
            client.post("/v1/accounts/sign-in", json={"email": 3}, headers=asked),
            client.post("/v1/accounts/sign-in", content=b"\xff{", headers=asked | {"Content-Type": "application/json"}),
            client.request("PROPFIND", "/v1/notes", headers=asked),
        ]
    for reply in replies:
        assert 400 <= reply.status_code < 500
        assert reply.headers["content-type"].startswith("application/problem+json")
        assert reply.json()["request_id"] == reply.headers["x-request-id"] == "asked-by-me"
        assert not LEAKS.search(reply.text)


# ---- reading the description


def description(served: Served) -> Json:
    with served.client() as client:
        described: Json = client.get("/openapi.json").json()
    return described


def operations(described: Json) -> Iterator[Operation]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def resolved(described: Json, value: Json) -> Json:
    while "$ref" in value:
        here: Any = described
        for part in value["$ref"].removeprefix("#/").split("/"):
            here = here[part]
        value = here
    return value


def body_of(operation: Json) -> Json | None:
    schema: Json | None = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return schema


def sample(described: Json, operation: Json) -> Any:
    schema = body_of(operation)
    return sample_of(schema, described["components"]["schemas"]) if schema else None


def placed(path: str, ids: dict[str, str] = ANNS) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], path)


def checked(described: Json, schema: Json, value: Any) -> None:
    Draft202012Validator({**schema, "components": described["components"]}).validate(value)


def test_a9_a_product_alone_takes_the_tokens_of_accounts_elsewhere_with_only_their_keys(tmp_path: Path) -> None:
    alone: dict[str, Any] = {"parts": ["web"], "MSINGI_PROCESSES": "1"}
    here, there = own_databases(16), own_databases(24)
    with serving(tmp_path / "accounts", **there, **alone, products=["accounts"]) as accounts:
        alone["MSINGI_JWKS_URL"] = f"{accounts.url}/.well-known/jwks.json"
        with serving(tmp_path / "notes", **here, **alone, products=["notes"]) as notes, accounts.sign_in("ann") as ann:
            token = ann.headers["authorization"].removeprefix("Bearer ")
            with notes.client(token) as client:
                assert client.post("/v1/notes", json={"title": "From afar"}).status_code == 201
                assert client.get("/v1/notes").json()["items"][0]["title"] == "From afar"
            with notes.client(token[:-4] + "AAAA") as client:
                assert client.get("/v1/notes").status_code == 401
    # The accounts are gone: a process that never saw their keys can tell nothing, and lets nobody in.
    with serving(tmp_path / "late", **here, **alone, products=["notes"]) as notes, notes.client(token) as client:
        assert client.get("/v1/notes").status_code == 503


def test_c13_deep_huge_and_packed_bodies_are_refused_and_the_same_workers_go_on(served: Served) -> None:
    before = sorted(served.web_processes())
    with served.newcomer() as person:
        deep = b"[" * 100_000 + b"]" * 100_000
        as_json = {"Content-Type": "application/json"}
        assert person.post("/v1/notes", content=deep, headers=as_json).status_code == 400
        assert person.post("/v1/notes", content=b'{"title":' * 100_000, headers=as_json).status_code == 400
        packed = {**as_json, "Content-Encoding": "gzip"}
        assert person.post("/v1/notes", content=b"\x1f\x8b" + bytes(1000), headers=packed).status_code == 415
        many = b'{"title": "x", "tags": [' + b'"a",' * 200_000 + b'"a"]}'
        assert person.post("/v1/notes", content=many, headers=as_json).status_code in (413, 422)
        assert person.post("/v1/notes", content=bytes(5_000_000), headers=as_json).status_code == 413
        assert person.get("/v1/notes").json() == {"items": [], "next": None}
    assert sorted(served.web_processes()) == before
