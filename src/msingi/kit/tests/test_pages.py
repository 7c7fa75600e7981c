"""Pages: what they escape, what they forbid, what a form must bring, how files are named and kept."""

import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import brotli  # type: ignore[import-untyped]
import httpx
import jinja2
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar, Request, Response, get, post

from msingi.kit import config, csrf, pages, replies, state
from msingi.kit.db import Form
from msingi.kit.product import Product

OURS = {"origin": "http://msingi.test", "sec-fetch-site": "same-origin"}
FILES = {
    "templates/base.html": "<title>{{ title }}</title><main>{% block content %}{% endblock %}</main>",
    "templates/list.html": '{% extends "stall/base.html" %}{% block content %}<ul>{% block rows %}'
    "{% for each in things %}<li>{{ each }}</li>{% endfor %}{% endblock %}</ul>{% endblock %}",
    "templates/token.html": '<input name="_csrf" value="{{ csrf() }}"><p lang="{{ language }}">{{ _("Fruit") }}</p>'
    '<link href="{{ static("stall/style.css") }}">',
    "templates/note.txt": "{{ thing }}",
    "templates/words.sw.json": '{"Fruit": "Matunda"}',
    "static/style.css": "p { color: green }\n" * 100,
    "static/tiny.js": "x=1",
    "static/deep/a.b.svg": "<svg/>",
    "static/data.bin": "\x00\x01",
    "secret.txt": "not to be served",
}


class NewFruit(Form):
    name: str
    count: int = 1
    tags: list[str] = []


AnyRequest = Request[Any, Any, Any]


@get("/list", page=True)
async def show_list(request: AnyRequest) -> Response[str]:
    block = request.query_params.get("block", "content")
    return pages.page("stall/list.html", request, block=block, title="<b>", things=["<script>", "&"])


@get("/token", page=True)
async def show_token(request: AnyRequest) -> Response[str]:
    return pages.page("stall/token.html", request)


@post("/fruit", page=True)
async def add_fruit(request: AnyRequest) -> NewFruit:
    return await pages.form_of(request, NewFruit)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "static" / "link.txt").symlink_to(tmp_path / "secret.txt")
    return tmp_path


@pytest_asyncio.fixture
async def client(running: state.State, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    running.products = [Product(name="stall", title="Stall", summary="Fruit.", folder=folder)]
    app = Litestar(
        [show_list, show_token, add_fruit, pages.static("stall")],
        openapi_config=None,
        exception_handlers=replies.HANDLERS,
        response_class=replies.KitResponse,
    )
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://msingi.test") as client:
        yield client


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Folders are listed once a second; tests are quicker than that."""
    yield
    pages._listed.cache_clear()


async def test_h1_a_page_is_escaped_and_runs_no_script_of_others(client: httpx.AsyncClient) -> None:
    reply = await client.get("/list")
    assert reply.text == "<title>&lt;b&gt;</title><main><ul><li>&lt;script&gt;</li><li>&amp;</li></ul></main>"
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "HX-Request" in reply.headers["vary"]
    assert reply.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("cdn", "pictures"),
    [
        ("", "'self'"),
        ("https://cdn.example", "'self' https://cdn.example"),
        ("https://cdn.example:8443/shop/", "'self' https://cdn.example:8443"),
    ],
)
async def test_h1_pictures_come_from_here_and_from_where_the_files_are(
    running: state.State, client: httpx.AsyncClient, cdn: str, pictures: str
) -> None:
    running.settings = msgspec.structs.replace(running.settings, cdn_url=cdn)
    rules = (await client.get("/list")).headers["content-security-policy"].split("; ")
    assert f"img-src {pictures} data:" in rules
    assert [each for each in rules if "cdn.example" in each] == ([f"img-src {pictures} data:"] if cdn else [])
    assert "form-action 'self' https://one.example" in pages.policy_for("https://one.example").split("; ")


@pytest.mark.parametrize("cdn", ["https://a;script-src *", "https://a b", "ftp://a", "https://a,b"])
def test_h1_what_is_no_address_of_files_does_not_get_into_the_policy(cdn: str) -> None:
    with pytest.raises(config.BadSettings):
        config.load(config.Settings, {"CDN_URL": cdn})


@pytest.mark.parametrize(
    ("headers", "query", "begins"),
    [
        ({"hx-request": "true"}, "", "<ul>"),
        ({"hx-request": "true"}, "?block=rows", "<li>"),
        ({"hx-request": "true"}, "?block=none", "<title>"),
        ({"hx-request": "true", "hx-boosted": "true"}, "", "<title>"),
        ({"hx-request": "true", "hx-history-restore-request": "true"}, "", "<title>"),
        ({}, "", "<title>"),
    ],
)
async def test_htmx_gets_the_fragment_and_everybody_else_the_page(
    client: httpx.AsyncClient, headers: dict[str, str], query: str, begins: str
) -> None:
    assert (await client.get(f"/list{query}", headers=headers)).text.startswith(begins)


async def test_text_is_not_escaped_and_what_was_forgotten_is_an_error(client: httpx.AsyncClient) -> None:
    assert pages.render("stall/note.txt", {"thing": "a < b"}) == "a < b"
    with pytest.raises(jinja2.UndefinedError):
        pages.render("stall/note.txt", {})


@pytest.mark.parametrize("name", ["stall/../secret.txt", "stall/none.html", "nobody/x.html", "../x", "os/x", "x", ""])
async def test_i1_only_templates_are_found(client: httpx.AsyncClient, name: str) -> None:
    with pytest.raises(jinja2.TemplateNotFound):
        pages.render(name, {})


# ---- forms


async def token(client: httpx.AsyncClient) -> str:
    found = re.search(r'name="_csrf" value="([^"]+)"', (await client.get("/token")).text)
    assert found
    return found[1]


async def test_a14_a_form_of_our_own_page_is_read(client: httpx.AsyncClient) -> None:
    client.cookies.set(csrf.cookie_name(), "session-of-ann")
    proof = await token(client)
    given = {"_csrf": proof, "name": "Mango", "count": "3", "tags": ["ripe"]}
    reply = await client.post("/fruit", data=given, headers=OURS)
    assert (reply.status_code, reply.json()) == (201, {"name": "Mango", "count": 3, "tags": ["ripe"]})
    by_header = await client.post("/fruit", data={"name": "Fig"}, headers=OURS | {"x-csrf-token": proof})
    assert by_header.json() == {"name": "Fig", "count": 1, "tags": []}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.test"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://msingi.test.evil.test"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({}, 403),
        (OURS, 201),
        ({"sec-fetch-site": "same-origin"}, 201),
    ],
)
async def test_a14_a_form_of_anothers_page_is_refused(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    client.cookies.set(csrf.cookie_name(), "session-of-ann")
    reply = await client.post("/fruit", data={"_csrf": await token(client), "name": "Mango"}, headers=headers)
    assert reply.status_code == status


async def test_a14_a_token_is_bound_to_its_session(client: httpx.AsyncClient) -> None:
    client.cookies.set(csrf.cookie_name(), "session-of-eve")
    of_eve = await token(client)
    client.cookies.clear()
    of_nobody = await token(client)
    client.cookies.set(csrf.cookie_name(), "session-of-ann")
    assert of_eve != await token(client)
    for wrong in (of_eve, of_nobody, "", "x.y", of_eve[:-1]):
        reply = await client.post("/fruit", data={"_csrf": wrong, "name": "Mango"}, headers=OURS)
        assert (reply.status_code, reply.json()["code"]) == (403, "cross_site")


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/x-www-form-urlencode"])
async def test_a14_what_no_form_sends_is_no_form(client: httpx.AsyncClient, kind: str) -> None:
    client.cookies.set(csrf.cookie_name(), "session-of-ann")
    headers = OURS | {"content-type": kind, "x-csrf-token": await token(client)}
    assert (await client.post("/fruit", content=b"name=Mango", headers=headers)).status_code == 415


async def test_a_form_that_does_not_fit_says_where(client: httpx.AsyncClient) -> None:
    given = {"_csrf": await token(client), "name": "Mango", "count": "many"}
    reply = await client.post("/fruit", data=given, headers=OURS)
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["pointer"] == "/count"
    unknown = await client.post("/fruit", data=given | {"count": "1", "owner": "eve"}, headers=OURS)
    assert unknown.status_code == 422


# ---- languages


@pytest.mark.parametrize(
    ("query", "headers", "language"),
    [
        ("", {}, "en"),
        ("", {"accept-language": "sw-KE,sw;q=0.9,en;q=0.8"}, "sw"),
        ("", {"accept-language": "fr,en;q=0.5,sw;q=0.7"}, "sw"),
        ("", {"accept-language": "sw;q=0,fr"}, "en"),
        ("", {"accept-language": "sw;q=x, *"}, "sw"),
        ("", {"cookie": "lang=sw", "accept-language": "en"}, "sw"),
        ("?lang=en", {"cookie": "lang=sw"}, "en"),
        ("?lang=xx", {"cookie": "lang=../../x"}, "en"),
    ],
)
async def test_a_page_speaks_the_language_asked_for(
    client: httpx.AsyncClient, query: str, headers: dict[str, str], language: str
) -> None:
    reply = await client.get(f"/token{query}", headers=headers)
    assert reply.headers["content-language"] == language
    word = {"en": "Fruit", "sw": "Matunda"}[language]
    assert f'<p lang="{language}">{word}</p>' in reply.text


async def test_a_word_that_nobody_translated_stays_as_it_is(client: httpx.AsyncClient) -> None:
    assert pages.translate("Unsubscribe", "sw", "stall") == "Jiondoe"
    assert pages.translate("Nothing like it", "sw", "stall") == "Nothing like it"


# ---- files


async def test_a_file_is_kept_for_a_year_under_the_name_of_its_content(client: httpx.AsyncClient, folder: Path) -> None:
    first = pages.static_url("stall/style.css")
    assert re.fullmatch(r"/static/stall/style\.[0-9a-f]{12}\.css", first)
    assert f'href="{first}"' in (await client.get("/token")).text
    reply = await client.get(first, headers={"accept-encoding": "identity"})
    assert reply.text == FILES["static/style.css"]
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert reply.headers["content-type"] == "text/css; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    (folder / "static/style.css").write_text("p { color: red }")
    assert pages.static_url("stall/style.css") != first
    assert (await client.get(first)).status_code == 404


async def test_a_file_under_its_plain_name_is_asked_for_anew(client: httpx.AsyncClient) -> None:
    reply = await client.get("/static/stall/style.css", headers={"accept-encoding": "identity"})
    assert reply.headers["cache-control"] == "no-cache"
    again = {"if-none-match": reply.headers["etag"], "accept-encoding": "identity"}
    assert (await client.get("/static/stall/style.css", headers=again)).status_code == 304


async def test_text_is_packed_where_that_saves_something(client: httpx.AsyncClient, folder: Path) -> None:
    (folder / "static/made.js").write_text("made();" * 100)
    (folder / "static/made.js.br").write_bytes(brotli.compress(b"made beside"))
    for name, packed in (("style.css", True), ("made.js", True), ("tiny.js", False), ("data.bin", False)):
        reply = await client.get(f"/static/stall/{name}", headers={"accept-encoding": "gzip, br"})
        assert ("content-encoding" in reply.headers) is packed, name
        assert reply.headers["vary"] == "Accept-Encoding"
    assert (await client.get("/static/stall/made.js", headers={"accept-encoding": "br"})).text == "made beside"
    raw = await client.get("/static/stall/style.css", headers={"accept-encoding": "br"})
    assert raw.text == FILES["static/style.css"]  # httpx has unpacked it
    assert int(raw.headers["content-length"]) == len(brotli.compress(FILES["static/style.css"].encode(), quality=9))


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "deep/../../secret.txt", "a%00b", "style.css%00.png",
        "//etc/passwd", "/etc/passwd", "", ".", "deep", "link.txt", "tiny.js.br", "deep/none.svg", "STYLE.CSS",
        "style.000000000000.css", "..\\secret.txt", "%c0%ae%c0%ae/secret.txt", "style.css%20", "x" * 3000,
    ],
)  # fmt: skip
async def test_i1_nothing_but_the_files_of_the_folder_is_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/static/stall/{path}")).status_code == 404


async def test_a_file_that_does_not_exist_has_no_address(client: httpx.AsyncClient) -> None:
    with pytest.raises(LookupError):
        pages.static_url("stall/none.css")


async def test_production_lists_a_folder_once(client: httpx.AsyncClient, folder: Path, running: state.State) -> None:
    running.settings = msgspec.structs.replace(running.settings, env="production")
    assert pages.static_url("stall/style.css")
    (folder / "static/new.css").write_text("p {}")
    assert (await client.get("/static/stall/new.css")).status_code == 404
    assert os.path.exists(folder / "static/new.css")
