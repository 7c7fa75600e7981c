"""Notes over HTTP: who may do what, and that each promise of docs/contracts/notes.md holds."""

import io
import json
import zipfile
from typing import Any

import pytest

from msingi.kit.testing import Client, access_table
from msingi.products.notes.product import product

test_access = access_table(
    product,
    """
                                  nobody  eve  bob  ann  admin
    GET    /                      401     200  200  200  200
    POST   /                      401     201  201  201  201
    GET    /tags                  401     200  200  200  200
    GET    /changes               401     200  200  200  200
    GET    /export                401     200  200  200  200
    GET    /hens                  401     404  404  200  404
    PATCH  /hens                  401     404  404  200  404
    DELETE /hens                  401     404  404  204  404
    PUT    /hens/pin              401     404  404  200  404
    DELETE /hens/pin              401     404  404  200  404
    PUT    /hens/archive          401     404  404  200  404
    DELETE /hens/archive          401     404  404  200  404
    PUT    /hens/trash            401     404  404  200  404
    DELETE /hens/trash            401     404  404  200  404
    GET    /hens/revisions        401     404  404  200  404
    GET    /hens/revisions/1      401     404  404  200  404
    GET    /hens/diff?from=1      401     404  404  200  404
    POST   /hens/restorations     401     404  404  201  404
    POST   /questions/house.data  401     403  403  403  403
    """,
    body={"POST": {"title": "Seed"}, "PATCH": {"title": "Hens"}, "POST /hens/restorations": {"version": 1}},
)


async def test_a_note_comes_back_as_it_was_sent(ann: Client) -> None:
    made = await ann.post("/", title=" Rain ", body="*8* mm", tags=["Weather"], expect=201)
    assert ann.last.headers["location"] == f"/v1/notes/{made['id']}"
    read = await ann.get(f"/{made['id']}")
    assert read == made
    assert (read["title"], read["body"], read["tags"], read["version"]) == ("Rain", "*8* mm", ["weather"], 1)
    assert read["html"] == "<p><em>8</em> mm</p>\n"
    assert ann.last.headers["etag"] == '"1"'
    await ann.get(f"/{made['id']}", headers={"if-none-match": 'W/"1", "9"'}, expect=304)


@pytest.mark.parametrize(
    ("form", "pointer"),
    [
        ({}, "/title"),
        ({"title": ""}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"title": "x", "tags": ["a,b"]}, "/tags/0"),
        ({"title": "x", "tags": ["a"] * 21}, "/tags"),
        ({"title": "x", "owner": "eve"}, "/owner"),
        ({"title": {"$gt": ""}}, "/title"),
    ],
)
async def test_z2_what_does_not_fit_is_refused_by_name(ann: Client, form: dict[str, Any], pointer: str) -> None:
    problem = await ann.post("/", json=form, expect=422)
    assert problem["code"] == "invalid_fields"
    assert pointer in [error["pointer"] for error in problem["errors"]]


async def test_all_faults_are_named_at_once(ann: Client) -> None:
    problem = await ann.post("/", json={"title": "", "body": 3, "colour": "red"}, expect=422)
    assert {error["pointer"] for error in problem["errors"]} == {"/title", "/body", "/colour"}


async def test_lists_are_filtered_sorted_and_paged(ann: Client) -> None:
    page = await ann.get("/?limit=2")
    assert [note["id"] for note in page["items"]] == ["chama", "prices"]
    assert "body" not in page["items"][0]
    assert ann.last.headers["link"].startswith("</v1/notes?limit=2&after=")
    rest = await ann.get(f"/?limit=2&after={page['next']}")
    assert [note["id"] for note in rest["items"]] == ["hens"]
    assert rest["next"] is None
    tagged = await ann.get("/?tag=farm&sort=title")
    assert [note["id"] for note in tagged["items"]] == ["hens", "prices"]
    assert (await ann.get("/?tag[nin]=farm"))["items"][0]["id"] == "chama"
    assert (await ann.get("/?created_at[lt]=2026-03-01T06:30:00Z"))["items"][0]["id"] == "hens"
    assert (await ann.get("/?pinned=true"))["items"] == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("state=open", "bad_filter"),
        ("pinned=maybe", "bad_filter"),
        ("owner=eve", "bad_filter"),
        ("tag[$ne]=x", "bad_filter"),
        ("created_at[lt]=yesterday", "bad_filter"),
        ("sort=body", "bad_sort"),
        ("after=nonsense", "bad_cursor"),
        ("limit=0", "invalid_fields"),
        ("limit=many", "invalid_fields"),
    ],
)
async def test_i1_what_the_list_does_not_know_is_refused(ann: Client, query: str, code: str) -> None:
    assert (await ann.get(f"/?{query}", expect=422))["code"] == code


async def test_a_search_finds_whole_words_and_the_best_first(ann: Client) -> None:
    await ann.post("/", title="Wire", body="three rolls")
    found = await ann.get("/?q=WIRE")
    assert [note["title"] for note in found["items"]] == ["Wire", "Hen house"]
    assert (await ann.get("/?q=wir"))["items"] == []
    assert (await ann.get("/?q=ngombe"))["items"][0]["id"] == "prices"
    first = await ann.get("/?q=wire&limit=1")
    second = await ann.get(f"/?q=wire&limit=1&after={first['next']}")
    assert [note["title"] for note in second["items"]] == ["Hen house"]
    assert second["next"] is None


@pytest.mark.parametrize("q", ['{"$gt": ""}', ".*", '"', "-", "%24where", "(a%2B)%2B%24"])
async def test_i6_an_operator_in_a_search_is_plain_text(ann: Client, q: str) -> None:
    assert (await ann.get(f"/?q={q}"))["items"] == []


async def test_tags_are_counted_without_the_trash(ann: Client) -> None:
    await ann.put("/chama/trash")
    assert (await ann.get("/tags"))["items"] == [
        {"tag": "farm", "count": 2},
        {"tag": "market", "count": 1},
        {"tag": "to-buy", "count": 1},
    ]


async def test_a_change_on_an_old_version_gives_all_that_a_merge_needs(ann: Client) -> None:
    await ann.patch("/hens", body="two\n", headers={"if-match": '"1"'})
    problem = await ann.patch("/hens", body="three\n", headers={"if-match": '"1"'}, expect=409)
    assert problem["code"] == "note_changed"
    assert problem["base"]["body"].startswith("# Hen house")
    assert (problem["theirs"]["body"], problem["theirs"]["version"]) == ("two\n", 2)
    assert problem["yours"] == {"body": "three\n"}
    assert (await ann.get("/hens"))["body"] == "two\n"
    await ann.delete("/hens", headers={"if-match": '"1"'}, expect=409)
    await ann.patch("/hens", body="x", headers={"if-match": "two"}, expect=422)


async def test_doing_it_twice_is_the_same_as_once(ann: Client) -> None:
    for path in ("/hens/pin", "/hens/archive", "/hens/trash"):
        first = await ann.put(path)
        again = await ann.put(path)
        assert first == again
    back = await ann.delete("/hens/trash")
    assert (back["state"], back["pinned"]) == ("archived", True)
    assert (await ann.patch("/hens", title="Hen house"))["version"] == back["version"]


async def test_a_note_in_the_trash_is_read_only(ann: Client) -> None:
    await ann.put("/hens/trash")
    for method, path, body in [
        ("PATCH", "/hens", {"title": "x"}),
        ("PUT", "/hens/pin", None),
        ("PUT", "/hens/archive", None),
        ("POST", "/hens/restorations", {"version": 1}),
    ]:
        assert (await ann.ask(method, path, json=body, expect=409))["code"] == "note_in_trash"
    assert [note["id"] for note in (await ann.get("/?state=trashed"))["items"]] == ["hens"]
    assert len((await ann.get("/?state=all"))["items"]) == 3


async def test_every_save_is_kept_and_can_be_brought_back(ann: Client) -> None:
    await ann.patch("/chama", body="Bring 700.\n")
    await ann.put("/chama/pin")
    await ann.patch("/chama", title="Chama", tags=["money"])
    kept = await ann.get("/chama/revisions")
    assert [(each["version"], each["title"]) for each in kept["items"]] == [
        (4, "Chama"),
        (2, "Chama on Sunday"),
        (1, "Chama on Sunday"),
    ]
    paged = await ann.get("/chama/revisions?limit=1")
    assert [each["version"] for each in (await ann.get(f"/chama/revisions?after={paged['next']}"))["items"]] == [2, 1]
    await ann.get("/chama/revisions/3", expect=404)
    diff = await ann.get("/chama/diff?from=1&to=4")
    assert diff["title"] == {"from": "Chama on Sunday", "to": "Chama"}
    assert diff["tags"] == {"from": ["chama"], "to": ["money"]}
    assert "-Bring 500 and the book." in diff["body"]
    assert (await ann.get("/chama/diff"))["from"] == 2
    await ann.get("/chama/diff?from=3", expect=404)
    await ann.get("/chama/diff?from=x", expect=422)
    back = await ann.post("/chama/restorations", version=1, expect=201)
    assert (back["title"], back["body"], back["tags"], back["version"]) == (
        "Chama on Sunday",
        "Bring 500 and the book.",
        ["chama"],
        5,
    )
    assert (await ann.post("/chama/restorations", version=1, expect=201))["version"] == 5
    await ann.post("/chama/restorations", version=9, expect=404)


async def test_a_phone_that_reads_on_has_the_last_state_of_everything(ann: Client, bob: Client) -> None:
    first = await ann.get("/changes?limit=2")
    assert [each["id"] for each in first["items"]] == ["hens", "prices"]
    assert first["more"] is True
    await ann.patch("/hens", title="Hens")
    await ann.delete("/prices")
    await bob.post("/", title="not Ann's")
    rest = await ann.get(f"/changes?cursor={first['cursor']}")
    assert [(each["change"], each["id"]) for each in rest["items"]] == [
        ("saved", "chama"),
        ("saved", "hens"),
        ("deleted", "prices"),
    ]
    assert rest["items"][1]["note"]["title"] == "Hens"
    assert rest["items"][2]["note"] is None
    assert rest["more"] is False
    quiet = await ann.get(f"/changes?cursor={rest['cursor']}")
    assert (quiet["items"], quiet["cursor"]) == ([], rest["cursor"])


async def test_a_cursor_of_another_shelf_asks_for_a_new_start(ann: Client, bob: Client) -> None:
    cursor = (await bob.get("/changes"))["cursor"]
    assert (await ann.get(f"/changes?cursor={cursor}", expect=410))["code"] == "resync_required"
    assert (await ann.get("/changes?cursor=nonsense", expect=422))["code"] == "bad_cursor"
    await ann.get("/changes?limit=501", expect=422)


async def test_everything_can_be_taken_away(ann: Client) -> None:
    await ann.put("/chama/trash")
    packed = await ann.get("/export")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        names = archive.namelist()
        text = archive.read("hen-house-hens.md").decode()
    assert names == ["chama-on-sunday-chama.md", "hen-house-hens.md", "market-prices-prices.md"]
    assert text.startswith('---\nid: "hens"\ntitle: "Hen house"\ntags: ["farm", "to-buy"]\nstate: "active"\n')
    assert text.endswith("The vet comes on Thursday.\n")
    whole = await ann.get("/export?format=json")
    assert [note["id"] for note in whole["notes"]] == ["chama", "hens", "prices"]
    assert json.loads(text.split("version: ")[1].split("\n")[0]) == 1
    await ann.get("/export?format=pdf", expect=422)


async def test_p1_the_same_key_makes_one_note(ann: Client) -> None:
    key = {"idempotency-key": "seed-1"}
    first = await ann.post("/", title="Once", headers=key, expect=201)
    assert await ann.post("/", title="Once", headers=key, expect=201) == first
    assert (await ann.post("/", title="Other", headers=key, expect=422))["code"] == "idempotency_key_reused"
    assert len((await ann.get("/?q=once"))["items"]) == 1
