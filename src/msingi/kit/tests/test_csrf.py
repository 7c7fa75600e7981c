"""A cookie proves nothing about who wrote a request (A13, A14)."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from msingi.kit import auth, csrf, state
from msingi.kit.actors import Actor
from msingi.kit.csrf import CrossSite, cookie_name, is_token, session_cookie, token_for
from msingi.kit.errors import Problem
from msingi.kit.product import Product
from msingi.kit.testing import PEOPLE, House, World, house_of, test_settings
from msingi.kit.tests import orchard

OURS, EVIL = "http://msingi.test", "https://evil.test"
SAME = {"origin": OURS, "sec-fetch-site": "same-origin"}
GOOD = {"good": PEOPLE["ann"], "bobs": PEOPLE["bob"]}


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [orchard.product]


@pytest.fixture(autouse=True)
def sessions() -> Iterator[None]:
    before, anew = list(auth._cookie), [*auth._anew]

    async def identify(value: str) -> Actor | None:
        return GOOD.get(value)

    auth.identify_cookie_with(identify)
    yield
    auth._cookie[:], auth._anew[:] = before, anew


@pytest_asyncio.fixture(loop_scope="session")
async def browser(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with ann's cookie: headers are all that is left to say."""
    client = world.client(None).http
    client.headers["cookie"] = "sid=good"
    async with client:
        yield client


async def _moved(browser: httpx.AsyncClient, path: str = "/v1/orchard/moves", **headers: str) -> tuple[int, str]:
    reply = await browser.post(path, headers=headers)
    return reply.status_code, reply.json().get("code", "")


# ---- A14: where it comes from


@pytest.mark.parametrize(
    ("origin", "site", "passes"),
    [
        (OURS, "same-origin", True),
        (OURS, None, True),
        (None, "same-origin", True),
        (None, None, False),
        (None, "none", False),
        (None, "same-site", False),
        (None, "cross-site", False),
        ("null", None, False),
        ("null", "same-origin", True),  # a form of a page that sends no referrer
        ("null", "cross-site", False),
        (EVIL, None, False),
        (EVIL, "same-origin", False),
        (EVIL, "cross-site", False),
        ("http://msingi.test.evil.test", None, False),
        ("http://evilmsingi.test", None, False),
        ("http://msingi.test:81", None, False),
        ("ftp://msingi.test", None, False),
        ("http://msingi.test@evil.test", None, False),
        ("http://[", None, False),
        ("http://\u2100", None, False),
        ("", "cross-site", False),
    ],
)
async def test_a14_a_write_with_a_cookie_comes_from_our_own_pages(
    browser: httpx.AsyncClient, origin: str | None, site: str | None, passes: bool
) -> None:
    said = {"origin": origin, "sec-fetch-site": site, "x-csrf-token": token_for("good")}
    headers: Any = {name: value.encode() for name, value in said.items() if value is not None}
    reply = await browser.post("/v1/orchard/moves", headers=headers)
    assert (reply.status_code, reply.json().get("code")) == ((200, None) if passes else (403, "cross_site"))


async def test_a14_an_origin_that_is_allowed_by_name_may_write_across_sites() -> None:
    async with house_of([orchard.product], MSINGI_CORS_ORIGINS="https://app.test, https://two.test") as house:
        client = World(house).client(None).http
        async with client:
            for origin, status in (("https://app.test", 200), ("https://two.test", 200), (EVIL, 403)):
                said = {"origin": origin, "sec-fetch-site": "cross-site", "x-csrf-token": token_for("good")}
                reply = await client.post("/v1/orchard/moves", headers={"cookie": "sid=good", **said})
                assert reply.status_code == status


async def test_a14_in_production_only_the_address_that_was_set_is_ours() -> None:
    secret = {"MSINGI_SECRET": "a long secret of some 40 letters & 2 more"}
    async with state.running(test_settings(MSINGI_ENV="production", MSINGI_PUBLIC_URL="https://a.test", **secret)):
        csrf.check_origin({b"origin": b"https://a.test", b"host": b"b.test"})
        for origin in (b"https://b.test", b"http://a.test", b"http://localhost:8000"):
            with pytest.raises(CrossSite):
                csrf.check_origin({b"origin": origin, b"host": b"b.test"})


# ---- A14: the token


@pytest.mark.parametrize("wrong", ["none", "another's", "nobody's", "altered", "long", "odd"])
async def test_a14_a_write_with_a_cookie_brings_its_own_sessions_token(browser: httpx.AsyncClient, wrong: str) -> None:
    token = token_for("good")
    tokens = {
        "none": "",
        "another's": token_for("bobs"),
        "nobody's": token_for(""),
        "altered": token[:-1] + ("0" if token[-1] != "0" else "1"),
        "long": token + "0",
        "odd": "\xe9.\xff",
    }
    headers: Any = {"x-csrf-token": tokens[wrong].encode("latin-1"), **SAME}
    reply = await browser.post("/v1/orchard/moves", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (403, "cross_site")


def test_a14_a_token_is_bound_to_its_session_and_new_each_time(house: House) -> None:
    one, two = token_for("good"), token_for("good")
    assert one != two
    assert is_token("good", one)
    assert is_token("good", two)
    assert not is_token("bobs", one)
    assert not is_token("", one)
    assert not is_token("good", "")
    assert not is_token("good", ".")
    nonce, _, signature = one.partition(".")
    assert not is_token("good", f"x{nonce}.{signature}")
    assert not is_token("goo", f"d{nonce}.{signature}")


# ---- A14: the body, and what needs none of it


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/plain; application/json", 415),
        ("application/jsonx", 415),
    ],
)
async def test_a14_the_body_is_of_a_kind_that_no_foreign_form_sends(
    browser: httpx.AsyncClient, kind: str, status: int
) -> None:
    said = {"content-type": kind, "x-csrf-token": token_for("good"), **SAME}
    reply = await browser.post("/v1/orchard/moves", headers=said, content=b"{}")
    assert reply.status_code == status


async def test_a14_an_upload_brings_its_own_kind_but_the_same_proofs(browser: httpx.AsyncClient) -> None:
    kind = {"content-type": "image/png", **SAME}
    token = {"x-csrf-token": token_for("good")}
    address = "/v1/orchard/pictures"
    assert (await browser.post(address, headers=kind | token, content=b"x")).status_code == 200
    assert (await browser.post(address, headers=kind, content=b"x")).status_code == 403


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a14_a_read_needs_no_proof(browser: httpx.AsyncClient, method: str) -> None:
    reply = await browser.request(method, "/v1/orchard/trees", headers={"origin": EVIL, "sec-fetch-site": "cross-site"})
    assert reply.status_code == 200


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a14_every_other_method_needs_it(browser: httpx.AsyncClient, method: str) -> None:
    reply = await browser.request(method, "/v1/orchard/trees/x", headers=SAME)
    assert reply.json()["code"] == "cross_site"


async def test_a_token_in_the_header_needs_no_proof_since_no_browser_adds_it(world: World) -> None:
    client = world.client(PEOPLE["ann"])
    assert await client.post("/moves", headers={"origin": EVIL}) == {"who": "ann"}


async def test_a14_a_cookie_of_nobody_is_as_good_as_none(browser: httpx.AsyncClient) -> None:
    browser.headers["cookie"] = "sid=bad"
    reply = await browser.post("/v1/orchard/moves", headers={"origin": EVIL})
    assert reply.json() == {"who": "nobody"}


# ---- pages


async def test_a14_a_page_brings_its_token_in_the_form(browser: httpx.AsyncClient) -> None:
    form = {"name": "rain", "_csrf": token_for("good")}
    assert (await browser.post("/v1/orchard/wishes", data=form, headers=SAME)).json() == {"name": "rain"}
    for wrong in ({"_csrf": token_for("bobs")}, {"_csrf": token_for("")}, {"_csrf": ""}):
        reply = await browser.post("/v1/orchard/wishes", data=form | wrong, headers=SAME)
        assert reply.json()["code"] == "cross_site"


async def test_a14_nobody_is_signed_in_by_anothers_form(world: World) -> None:
    """Login CSRF: before signing in all share a token, so it is the Origin that tells friend from foe."""
    form = {"name": "rain", "_csrf": token_for("")}
    async with world.client(None).http as client:
        ours = await client.post("/v1/orchard/wishes", data=form, headers=SAME)
        assert ours.status_code == 200
        for headers in ({"origin": EVIL}, {}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            theirs = await client.post("/v1/orchard/wishes", data=form, headers=headers)
            assert theirs.json()["code"] == "cross_site"


# ---- A13: the cookie


@pytest.mark.parametrize(
    ("env", "address", "name"),
    [
        ("development", "https://a.test", "__Host-sid"),
        ("development", "http://a.test", "sid"),
        ("development", "", "sid"),
        ("production", "https://a.test", "__Host-sid"),
        ("production", "http://a.test", "__Host-sid"),
        ("production", "", "__Host-sid"),
    ],
)
async def test_a13_the_cookie_is_bound_to_the_host_and_to_https(env: str, address: str, name: str) -> None:
    more = {"MSINGI_SECRET": "a long secret of some 40 letters & 2 more", "MSINGI_ALLOWED_HOSTS": "a.test"}
    async with state.running(test_settings(MSINGI_ENV=env, MSINGI_PUBLIC_URL=address, **more)):
        assert cookie_name() == name


@pytest.mark.parametrize(
    "header",
    [
        "sid=good",
        "theme=dark; sid=good",
        "theme=dark;sid=good;lang=en",
        'prefs={"a":1}; sid=good',
        "a b=c; sid=good",
        "flag; sid=good",
        "=x; sid=good",
        "\xe9=1; sid=good",
        'x="; sid=good; y="',
        "[x]=(1,2); sid=good",
        "xsid=bad; sid=good; sidx=bad",
        "\xa0sid=bad; sid=good",
        "\x85sid=bad; sid=good",
        "SID=bad; sid=good",
        "$Version=1; sid=good",
        "sid=good; sid=tossed",
    ],
)
def test_a13_the_session_cookie_is_found_among_others_of_any_kind(house: House, header: str) -> None:
    assert session_cookie(header) == "good"


@pytest.mark.parametrize(
    "header", ["", "sid", "sid=", "sid =x", "xsid=good", "x=sid=good", "__Host-sid=good", ";;;", "="]
)
def test_a13_nothing_else_passes_for_the_session_cookie(house: House, header: str) -> None:
    assert not session_cookie(header)


def test_what_is_refused_says_why(house: House) -> None:
    with pytest.raises(Problem) as caught:
        csrf.check_origin({b"origin": b"{evil}"})
    assert caught.value.status == 403
    assert str(caught.value).endswith("its Origin is not ours.")
