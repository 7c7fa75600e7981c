"""Pages lead back to our own pages and nowhere else."""

from urllib.parse import quote, urljoin, urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from msingi.console import routes
from msingi.console.shell import own_path
from msingi.kit import app as kit_app
from msingi.kit import csrf
from msingi.kit.testing import lifespan, test_settings

HOME = "https://msingi.test"
pieces = some.sampled_from(
    ["/", "//", "\\", "/\\", "@", ":", "evil.test", "https:", "javascript:", "\t", "\r\n", " ", "[", "]", "?", "#",
     "..", ".", "%2f", "%5c", "%09", "\u2100", "\uff0f", "\u3002", "\x00", "\xa0", ";", "a", "é"]
)  # fmt: skip
addresses = some.one_of(some.text(max_size=30), some.lists(pieces, max_size=8).map("".join))


def opened_by_browser(back: str) -> str:
    """Where a browser goes (WHATWG URL): blanks at the ends and tabs and line breaks are dropped, `\\` is `/`."""
    read = back.strip("".join(map(chr, range(33)))).translate(dict.fromkeys(map(ord, "\t\r\n")))
    path, mark, rest = read.partition("?")
    return urljoin(HOME + "/sign-in", path.replace("\\", "/") + mark + rest)


@settings(max_examples=2000, deadline=None)
@given(addresses)
def test_a_page_to_go_back_to_is_one_of_ours(back: str) -> None:
    found = own_path(back)
    assert found.startswith("/")
    assert found in (back, "/")
    assert not found.startswith(("//", "/\\"))
    assert found.isprintable()
    parts = urlsplit(opened_by_browser(found))
    assert f"{parts.scheme}://{parts.netloc}" == HOME


@pytest.mark.parametrize(
    "back", ["/", "/docs", "/docs?product=notes", "/docs#/notes", "/a/[b]", "/é", "/a?to=//b", "/%2f"]
)
def test_a_page_of_ours_is_kept(back: str) -> None:
    assert own_path(back) == back


@pytest.mark.parametrize(
    "back",
    [
        "//evil.test",
        "///evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "\\/evil.test",
        "https://evil.test",
        "javascript:alert(1)",
        "/\t/evil.test",
        "/\n/evil.test",
        "\t//evil.test",
        " //evil.test",
        "//[",
        "//[evil",
        "//\u2100",
        "/\r\nset-cookie: sid=evil",
        "evil.test",
        "",
        "@evil.test",
    ],
)
def test_a_page_of_others_is_not(back: str) -> None:
    assert own_path(back) == "/"


async def test_i1_no_way_back_breaks_the_redirect() -> None:
    app = kit_app.build(test_settings(), [], pages=routes.routes)
    ours = {"origin": "http://msingi.test"}
    async with (
        lifespan(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://msingi.test") as client,
    ):
        for back in ("//[", "//evil.test", "/a\r\nx: y", "/é", "/docs", "/\\[", "/" + "a" * 5000):
            form = {"to": "dark", "back": back, "_csrf": csrf.token_for("")}
            reply = await client.post("/theme", data=form, headers=ours)
            assert reply.status_code == 303
            assert reply.headers["location"] in ("/", quote(back))
            assert "x" not in reply.headers
        refused = await client.post("/theme", data=form, headers={"origin": "https://evil.test"})
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers
        for path in ("/?x=%ff", "/docs?product=%ff", "/?lang=%ff"):
            assert (await client.get(path)).status_code == 200
        led = await client.get("/jobs")
        assert (led.status_code, urlsplit(led.headers["location"]).path) == (303, "/sign-in")


async def test_who_looks_in_a_browser_reads_a_problem_and_a_program_gets_json() -> None:
    app = kit_app.build(test_settings(), [], pages=routes.routes)
    async with (
        lifespan(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://msingi.test") as client,
    ):
        seen = await client.get("/nowhere", headers={"accept": "text/html,*/*;q=0.8", "accept-language": "sw"})
        assert seen.status_code == 404
        assert seen.headers["content-type"].startswith("text/html")
        assert "Hakuna kitu kama hicho" in seen.text
        assert "default-src" in seen.headers["content-security-policy"]
        told = await client.get("/nowhere")
        assert (told.status_code, told.json()["code"]) == (404, "not_found")
        api = await client.get("/v1/nowhere", headers={"accept": "text/html"})
        assert api.json()["code"] == "not_found"
