"""How answers go out: ETag and Link of what was made, and a problem for whatever failed, without a word too many."""

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from litestar import Litestar, MediaType, Request, Response
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import Cookie, State
from litestar.exceptions import SerializationException
from litestar.response.base import ASGIResponse

from msingi.kit import edge, state
from msingi.kit.errors import Invalid
from msingi.kit.product import Product
from msingi.kit.replies import KitResponse, Sent
from msingi.kit.testing import Client, House, World
from msingi.kit.tests import orchard
from msingi.kit.tests.orchard import Tree, trees

MEMBERS = {"type", "title", "status", "detail", "code", "request_id"}
TELLTALES = ("hunter2", "mongodb", "db-7", "Traceback", ".py", "pymongo", "litestar", "0x")


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [orchard.product]


def is_problem(client: Client, status: int, code: str) -> bool:
    """Whether the last reply is a whole problem of this code."""
    reply, told = client.last, client.last.json()
    return (
        (reply.status_code, told["status"], told["code"], told["type"]) == (status, status, code, f"/problems/{code}")
        and reply.headers["content-type"] == "application/problem+json"
        and told["request_id"] == reply.headers["x-request-id"]
        and told.keys() >= MEMBERS
    )


# ---- ETag and Location


async def test_the_etag_is_the_version(world: World, ann: Client) -> None:
    tree = await ann.post("/trees", height=3, headers={"idempotency-key": "one"}, expect=201)
    assert ann.last.headers["etag"] == '"1"'
    assert ann.last.headers["location"] == f"/v1/orchard/trees/{tree['id']}"
    await ann.patch(f"/trees/{tree['id']}", height=4)
    assert ann.last.headers["etag"] == '"2"'
    await ann.get(f"/trees/{tree['id']}")
    assert ann.last.headers["etag"] == '"2"'
    await ann.get(f"/trees/{tree['id']}", headers={"if-none-match": '"2"'}, expect=304)
    assert ann.last.content == b""
    await ann.get(f"/trees/{tree['id']}", headers={"if-none-match": '"1"'}, expect=200)


async def test_what_one_person_holds_is_not_shown_to_another_as_unchanged(world: World, ann: Client) -> None:
    """Two people's answers under one address may carry the same version: a cache must know that they differ."""
    await ann.get("/open")
    varies = {name.strip().lower() for each in ann.last.headers.get_list("vary") for name in each.split(",")}
    assert {"authorization", "cookie"} <= varies


# ---- Link


async def test_the_link_leads_to_the_next_page_of_the_same_list(world: World, ann: Client) -> None:
    for height in range(3):
        await orchard.plant(Tree(owner="ann", height=height))
    first = await ann.get("/trees?limit=2&height[gte]=0&q=%26x%3D%22%3E")
    address, _, relation = ann.last.headers["link"].partition("; ")
    assert relation == 'rel="next"'
    parts = urlsplit(address.strip("<>"))
    asked = {"limit": ["2"], "height[gte]": ["0"], "q": ['&x=">'], "after": [first["next"]]}
    assert (parts.scheme, parts.netloc, parts.path, parse_qs(parts.query)) == ("", "", "/v1/orchard/trees", asked)
    second = await ann.get(address.strip("<>"))
    assert [each["height"] for each in first["items"] + second["items"]] == [2, 1, 0]
    assert "link" not in ann.last.headers


@pytest.mark.parametrize(
    "word", ["%0d%0aset-cookie:%20sid=evil", "%0a", "a%3E;rel=x", "a%3Fb", "%E2%82%AC", "%00", "caf%C3%A9", '"', "%25"]
)
async def test_i1_no_address_breaks_out_of_the_link(nobody: Client, word: str) -> None:
    await nobody.get(f"/rows/{word}", expect=200)
    link = nobody.last.headers["link"]
    assert link.isascii()
    assert link.isprintable()
    assert link.endswith('?after=after+this>; rel="next"')
    assert link.count("<") == link.count(">") == link.count("?") == 1
    assert "set-cookie" not in nobody.last.headers


async def test_i1_a_query_that_is_no_text_makes_no_fault_of_ours(house: House, world: World) -> None:
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": "/v1/orchard/rows/x",
        "raw_path": b"/v1/orchard/rows/x",
        "query_string": b"x=\xff&limit=\xfe",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("msingi.test", 80),
        "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"msingi.test")],
    }
    await house.app(scope, receive, send)
    assert said[0]["status"] == 200


# ---- problems


async def test_an_address_that_is_none_is_404(nobody: Client, ann: Client) -> None:
    for client, path in ((nobody, "//nowhere"), (nobody, "/nowhere"), (ann, "/trees/none")):
        await client.get(path, expect=404)
        assert is_problem(client, 404, "not_found")


async def test_a_method_that_the_address_does_not_know_is_405_and_says_which_it_knows(nobody: Client) -> None:
    await nobody.put("/open", expect=405)
    assert is_problem(nobody, 405, "method_not_allowed")
    assert "GET" in nobody.last.headers["allow"]


@pytest.mark.parametrize("body", [b"{", b"", b"nonsense", b'{"height": NaN}', b"\xff", b"[" * 100_000])
async def test_i2_a_body_that_cannot_be_read_is_400(ann: Client, body: bytes) -> None:
    headers = {"content-type": "application/json", "idempotency-key": "x"}
    await ann.post("/trees", content=body, headers=headers, expect=[400, 422])
    assert ann.last.json()["code"] in ("malformed", "invalid_fields")
    assert body != b"{" or is_problem(ann, 400, "malformed")


async def test_z2_every_fault_of_a_form_is_named_and_nothing_is_stored(world: World, ann: Client) -> None:
    wrong = {"height": "3", "kind": "pear", "owner": "bob", "grafts": [{"kind": "apple", "price": 1}]}
    told = await ann.post("/trees", json=wrong, headers={"idempotency-key": "x"}, expect=422)
    assert is_problem(ann, 422, "invalid_fields")
    assert {each["pointer"] for each in told["errors"]} == {"/height", "/kind", "/owner", "/grafts/0/price"}
    assert {each["in"] for each in told["errors"]} == {"body"}
    assert await trees.count({}) == 0


async def test_a_key_that_is_needed_is_asked_for(ann: Client) -> None:
    await ann.post("/trees", height=3, expect=400)
    assert is_problem(ann, 400, "idempotency_key_missing")


async def test_a_products_own_problem_tells_its_details(nobody: Client) -> None:
    told = await nobody.get("/falls/hollow", expect=409)
    assert is_problem(nobody, 409, "tree_is_hollow")
    assert (told["title"], told["detail"], told["depth"]) == ("Tree is hollow", "A hollow tree bears nothing.", 3)


@pytest.mark.parametrize("how", ["unreachable", "reconnect", "late"])
async def test_h6_a_database_that_does_not_answer_is_503_and_says_when_to_come_again(nobody: Client, how: str) -> None:
    await nobody.get(f"/falls/{how}", expect=503)
    assert is_problem(nobody, 503, "busy")
    assert nobody.last.headers["retry-after"] == "2"
    assert not [word for word in TELLTALES if word in nobody.last.text]


@pytest.mark.parametrize("how", ["apart", "refused", "broken", "in-no-known-way"])
async def test_h6_a_fault_of_ours_tells_nothing(nobody: Client, how: str) -> None:
    await nobody.get(f"/falls/{how}", expect=500)
    assert is_problem(nobody, 500, "problem")
    assert not [word for word in TELLTALES if word in nobody.last.text]
    assert nobody.last.json().keys() == MEMBERS


async def test_a_status_that_has_no_class_of_its_own_goes_by_its_phrase(nobody: Client) -> None:
    told = await nobody.get("/falls/teapot", expect=418)
    assert (told["code"], told["detail"]) == ("i_m_a_teapot", "short and stout")
    assert nobody.last.headers["x-spout"] == "yes"
    await nobody.get("/falls/gone", expect=410)
    assert is_problem(nobody, 410, "gone")


async def test_a_status_that_nobody_named_is_a_problem_too(nobody: Client) -> None:
    await nobody.get("/falls/unnamed", expect=499)
    assert is_problem(nobody, 499, "refused")


async def test_refusals_make_no_new_classes_each_time(nobody: Client) -> None:
    kinds = []
    for _ in range(3):
        await nobody.get("/falls/gone", expect=410)
        kinds.append(len(Invalid.__subclasses__()))
    assert len(set(kinds)) == 1


def test_the_application_debugs_nothing(house: House) -> None:
    inner = house.app.app.app
    assert isinstance(inner, Litestar)
    assert inner.debug is False
    assert isinstance(inner.state, State)
    assert isinstance(house.app, edge.Edge)
    assert state.settings().env == "test"


# ---- what goes out the short way


SCOPE: Any = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": []}
ASKED: Any = Request(SCOPE)


async def messages(sent: Any) -> list[Any]:
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    await sent({}, None, send)
    return told


def plain(**options: Any) -> KitResponse[Any]:
    return KitResponse({"a": 1, "at": datetime(2026, 1, 1, tzinfo=UTC), "who": ip_address("10.0.0.1")}, **options)


@pytest.mark.parametrize(
    ("reply", "more"),
    [
        (plain(), {}),
        (plain(status_code=201, headers={"Location": "/v1/é", "X-Other": "b"}), {"media_type": MediaType.JSON}),
        (KitResponse([1, "ü"]), {"status_code": 202}),
        (KitResponse([]), {"status_code": 200, "media_type": "application/json", "headers": {}, "cookies": []}),
        (KitResponse(Tree(height=3, owner="ann")), {"headers": {}}),
    ],
)
async def test_the_short_way_sends_what_litestar_sends(reply: KitResponse[Any], more: Any) -> None:
    short = reply.to_asgi_response(None, ASKED, **more)
    whole = Response.to_asgi_response(reply, None, ASKED, **more)
    assert type(short) is Sent
    assert type(whole) is not Sent
    assert await messages(short) == await messages(whole)


@pytest.mark.parametrize(
    ("reply", "more"),
    [
        (KitResponse("text", media_type="text/plain"), {}),
        (KitResponse(b"{}"), {}),
        (KitResponse(None, status_code=204), {}),
        (plain(headers={"Content-Type": "application/geo+json"}), {}),
        (plain(headers={"content-length": "3"}), {}),
        (plain(cookies={"a": "b"}), {}),
        (plain(background=BackgroundTask(print)), {}),
        (plain(type_encoders={set: list}), {}),
        (plain(), {"cookies": [Cookie(key="a", value="b")]}),
        (plain(), {"headers": {"x-route": "1"}}),
        (plain(), {"media_type": MediaType.MESSAGEPACK}),
        (plain(), {"type_encoders": {set: list}}),
    ],
)
def test_what_is_more_than_json_goes_litestars_way(reply: KitResponse[Any], more: Any) -> None:
    sent = reply.to_asgi_response(None, ASKED, **more)
    assert type(sent) is not Sent
    assert isinstance(sent, ASGIResponse)


def test_what_cannot_be_said_is_litestars_to_refuse() -> None:
    with pytest.raises(SerializationException):
        KitResponse({"x": object()}).to_asgi_response(None, ASKED)
