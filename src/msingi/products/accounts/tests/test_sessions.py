"""Sessions over HTTP: refresh tokens that are used once, ends known to everybody, cookies that prove nothing."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from msingi.kit import clock, idempotency
from msingi.kit.testing import PASSWORD, PEOPLE, Client, House, World, house_of
from msingi.products.accounts import session_secrets
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.models.sessions import sessions
from msingi.products.accounts.product import product
from msingi.products.accounts.tests.people import Tokens, sign_in, signed_in, until, with_token

PAGE = {"origin": "http://msingi.test"}
COOKIE = {"email": "ann@msingi.test", "password": PASSWORD, "session": "cookie"}


async def refreshed(nobody: Client, tokens: Tokens, expect: int = 200) -> Tokens:
    answer: Tokens = await nobody.post("/refresh", refresh_token=tokens["refresh_token"], expect=expect)
    return answer


# ---- refresh tokens


async def test_a10_a_refresh_token_is_used_once(world: World, nobody: Client) -> None:
    first = await sign_in(world, "ann")
    second = await refreshed(nobody, first)
    assert nobody.last.headers["cache-control"] == "no-store"
    third = await refreshed(nobody, second)
    assert len({each["refresh_token"] for each in (first, second, third)}) == 3
    assert (await with_token(world, third).get("/me"))["id"] == "ann"


async def test_a10_a_lost_answer_is_given_again_within_ten_seconds(world: World, nobody: Client) -> None:
    first = await sign_in(world, "ann")
    second = await refreshed(nobody, first)
    with clock.shifted(timedelta(seconds=9)):
        assert (await refreshed(nobody, first))["refresh_token"] == second["refresh_token"]
    await refreshed(nobody, second)


async def test_a10_a_later_replay_ends_the_whole_session(world: World, nobody: Client) -> None:
    first = await sign_in(world, "ann")
    second = await refreshed(nobody, first)
    other = await sign_in(world, "ann")
    with clock.shifted(timedelta(seconds=11)):
        problem = await refreshed(nobody, first, expect=401)
    assert problem["code"] == "bad_refresh_token"
    await refreshed(nobody, second, expect=401)
    for tokens in (first, second):
        await with_token(world, tokens).get("/me", expect=401)
    await with_token(world, other).get("/me")  # another session is another session
    await refreshed(nobody, other)


async def test_a10_a_grandparent_ends_the_session_at_any_time(world: World, nobody: Client) -> None:
    first = await sign_in(world, "ann")
    third = await refreshed(nobody, await refreshed(nobody, first))
    await refreshed(nobody, first, expect=401)
    await refreshed(nobody, third, expect=401)
    await with_token(world, third).get("/me", expect=401)


@pytest.mark.parametrize("token", ["", "rt1_", "rt1_AAAA", "rt1_" + "A" * 80, "eyJhbGciOiJub25lIn0.e30.", "é", "\x00"])
async def test_what_is_no_refresh_token_is_refused_and_ends_nothing(world: World, nobody: Client, token: str) -> None:
    tokens = await sign_in(world, "ann")
    problem = await nobody.post("/refresh", refresh_token=token, expect=401)
    assert problem["code"] == "bad_refresh_token"
    await refreshed(nobody, tokens)


async def test_a12_refreshing_moves_the_idle_end_and_never_the_last(world: World, nobody: Client) -> None:
    tokens = await sign_in(world, "ann")
    idle = await sign_in(world, "ann")
    for days in (13, 26, 29.9):
        with clock.shifted(timedelta(days=days)):
            tokens = await refreshed(nobody, tokens)
    with clock.shifted(timedelta(days=14, seconds=1)):
        await refreshed(nobody, idle, expect=401)
    with clock.shifted(timedelta(days=30, seconds=1)):
        await refreshed(nobody, tokens, expect=401)


async def test_a12_an_admins_session_ends_within_an_hour_unused_and_twelve_in_all(world: World, nobody: Client) -> None:
    tokens, idle = await sign_in(world, "admin"), await sign_in(world, "admin")
    for minutes in range(50, 12 * 60, 50):
        with clock.shifted(timedelta(minutes=minutes)):
            tokens = await refreshed(nobody, tokens)
    with clock.shifted(timedelta(minutes=61)):
        await refreshed(nobody, idle, expect=401)
    with clock.shifted(timedelta(hours=12, seconds=1)):
        await refreshed(nobody, tokens, expect=401)


async def test_a12_who_becomes_an_admin_leaves_long_unused_sessions_behind(world: World, nobody: Client) -> None:
    old = await sign_in(world, "bob")
    with clock.shifted(timedelta(hours=2)):
        await world.client(PEOPLE["admin"]).patch("/users/bob", roles=["admin"])
        bob = await signed_in(world, "bob")
        assert [each["current"] for each in (await bob.get("/sessions"))["items"]] == [True]
        await refreshed(nobody, old, expect=401)


# ---- listing and ending


async def test_a12_sessions_are_listed_newest_first_and_ended_one_by_one(world: World, nobody: Client) -> None:
    phone, laptop = await sign_in(world, "ann"), await sign_in(world, "ann")
    client = with_token(world, laptop)
    page = await client.get("/sessions")
    assert [each["current"] for each in page["items"]] == [True, False]
    names = {"id", "kind", "created_at", "last_used_at", "expires_at", "user_agent", "current"}
    names |= {"client", "client_name", "acting"}
    assert all(set(each) == names for each in page["items"])
    assert page["items"][0]["user_agent"].startswith("python-httpx")
    other = page["items"][1]["id"]
    await (await signed_in(world, "bob")).delete(f"/sessions/{other}", expect=404)
    await with_token(world, phone).get("/me")
    await client.delete(f"/sessions/{other}", expect=204)
    await with_token(world, phone).get("/me", expect=401)
    await refreshed(nobody, phone, expect=401)
    await client.delete(f"/sessions/{other}", expect=404)
    assert len((await client.get("/sessions"))["items"]) == 1


async def test_a11_signing_out_ends_this_session_and_no_other(world: World, nobody: Client) -> None:
    phone, laptop = await sign_in(world, "ann"), await sign_in(world, "ann")
    await with_token(world, phone).post("/sign-out", expect=204)
    await with_token(world, phone).get("/me", expect=401)
    await refreshed(nobody, phone, expect=401)
    await with_token(world, laptop).get("/me")
    await refreshed(nobody, laptop)


async def test_all_sessions_but_this_are_ended_at_once(world: World, nobody: Client) -> None:
    phone, tablet, laptop = [await sign_in(world, "ann") for _ in range(3)]
    bob = await sign_in(world, "bob")
    await with_token(world, laptop).delete("/sessions", expect=204)
    for tokens in (phone, tablet):
        await with_token(world, tokens).get("/me", expect=401)
        await refreshed(nobody, tokens, expect=401)
    await with_token(world, laptop).get("/me")
    await with_token(world, bob).get("/me")


# ---- cookies


class Browser:
    """Somebody with a cookie, who sends what a page of ours sends."""

    def __init__(self, client: Client, csrf_token: str) -> None:
        self.client, self.csrf_token = client, csrf_token

    async def ask(self, method: str, path: str, expect: int, **changes: Any) -> Any:
        """A request from our own page; a header of None is left out."""
        headers = {**PAGE, "x-csrf-token": self.csrf_token, **changes.pop("headers", {})}
        sent = {name: value for name, value in headers.items() if value is not None}
        return await self.client.ask(method, path, expect=expect, headers=sent, **changes)


@pytest_asyncio.fixture(loop_scope="session")
async def browser(world: World) -> AsyncIterator[Browser]:
    client = world.client(None)
    async with client.http:
        answer = await client.post("/sign-in", json=COOKIE, headers=PAGE)
        yield Browser(client, answer["csrf_token"])


async def test_a13_over_plain_http_the_cookie_is_http_only_and_lax(browser: Browser) -> None:
    cookie = browser.client.last.headers.get_list("set-cookie")[0]
    name, _, rest = cookie.partition("=")
    assert name == "sid"
    assert _attributes(rest) == {"path=/", "httponly", "samesite=lax"}
    assert browser.client.last.headers["cache-control"] == "no-store"
    assert set(browser.client.last.json()) == {"csrf_token", "expires_in"}
    assert 1_209_590 <= browser.client.last.json()["expires_in"] <= 1_209_600
    assert (await browser.client.get("/me"))["id"] == "ann"


async def test_a13_over_https_the_cookie_has_its_host_prefix() -> None:
    async with house_of([product], MSINGI_PUBLIC_URL="https://msingi.test") as house:
        await _planted(house)
        transport = httpx.ASGITransport(app=house.app)
        async with httpx.AsyncClient(transport=transport, base_url="https://msingi.test") as http:
            reply = await http.post("/v1/accounts/sign-in", json=COOKIE)
            assert reply.status_code == 200, reply.text
            name, _, rest = reply.headers.get_list("set-cookie")[0].partition("=")
            assert name == "__Host-sid"
            assert _attributes(rest) == {"path=/", "httponly", "samesite=lax", "secure"}
            assert (await http.get("/v1/accounts/me")).status_code == 200


async def _planted(house: House) -> None:
    for store in product.stores:
        await store.raw.delete_many({})
    assert product.plant
    await product.plant()


def _attributes(rest: str) -> set[str]:
    return {part.strip().lower() for part in rest.split(";")[1:]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": None, "sec-fetch-site": "same-origin"}, 200),
        ({"origin": None}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://msingi.test.evil.example"}, 403),
        ({"origin": "http://msingi.test:81"}, 403),
        ({"origin": "https://evil.example", "sec-fetch-site": "same-origin"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": None}, 403),
        ({"sec-fetch-site": "same-site", "origin": None}, 403),
        ({"x-csrf-token": None}, 403),
        ({"x-csrf-token": ""}, 403),
        ({"x-csrf-token": "abc.def"}, 403),
        ({"x-csrf-token": "é"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_a14_a_write_with_a_cookie_needs_its_origin_its_token_and_json(
    browser: Browser, headers: dict[str, Any], status: int
) -> None:
    sent = {name: value.encode("latin-1") if value else value for name, value in headers.items()}
    body = b'{"name": "Anna"}'
    await browser.ask("PATCH", "/me", status, headers={"content-type": "application/json", **sent}, content=body)
    assert (await accounts.get("ann")).name == ("Anna" if status == 200 else "Ann")


async def test_a14_a_token_belongs_to_one_session(world: World, browser: Browser) -> None:
    async with world.client(None).http as http:
        others = (await http.post("/v1/accounts/sign-in", json=COOKIE)).json()["csrf_token"]
    await browser.ask("PATCH", "/me", 403, headers={"x-csrf-token": others}, json={"name": "Anna"})
    fresh = (await browser.client.get("/csrf"))["csrf_token"]
    assert fresh != browser.csrf_token
    await browser.ask("PATCH", "/me", 200, headers={"x-csrf-token": fresh}, json={"name": "Anna"})
    assert browser.client.last.json()["name"] == "Anna"


async def test_a14_nobody_is_signed_in_from_a_foreign_page(nobody: Client) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        await nobody.post("/sign-in", json=COOKIE, headers=headers, expect=403)
        assert "set-cookie" not in nobody.last.headers
    text = b'{"email":"ann@msingi.test","password":"correct horse battery msingi","session":"cookie"}'
    await nobody.post("/sign-in", content=text, headers={"content-type": "text/plain"}, expect=415)
    assert await sessions.count({}) == 0


async def test_a12_a_cookie_that_the_browser_brings_along_is_never_taken_over(nobody: Client) -> None:
    brought = "A" * 64
    await nobody.post("/sign-in", json=COOKIE, headers={"cookie": f"sid={brought}"})
    assert brought not in nobody.last.headers["set-cookie"]
    nobody.http.cookies.clear()
    await nobody.get("/me", headers={"cookie": f"sid={brought}"}, expect=401)


async def test_a11_signing_out_of_a_browser_ends_its_cookie(browser: Browser) -> None:
    cookie = browser.client.http.cookies["sid"]
    await browser.ask("POST", "/sign-out", 204)
    cleared = browser.client.last.headers["set-cookie"].lower()
    assert "max-age=0" in cleared
    await browser.client.get("/me", headers={"cookie": f"sid={cookie}"}, expect=401)


async def test_a11_a_changed_password_gives_a_browser_a_new_cookie(browser: Browser) -> None:
    old = browser.client.http.cookies["sid"]
    form = {"current_password": PASSWORD, "new_password": "seven herons over the lake"}
    answer = await browser.ask("POST", "/me/password", 200, json=form)
    assert set(answer) == {"csrf_token", "expires_in"}
    assert browser.client.http.cookies["sid"] != old
    await browser.client.get("/me")
    await browser.ask("PATCH", "/me", 200, headers={"x-csrf-token": answer["csrf_token"]}, json={"name": "Anna"})
    browser.client.http.cookies.clear()
    await browser.client.get("/me", headers={"cookie": f"sid={old}"}, expect=401)


async def test_a11_a_cookie_that_was_just_believed_is_looked_up_again_after_a_revocation(
    browser: Browser, admin: Client
) -> None:
    await browser.client.get("/me")
    await browser.client.get("/users", expect=403)
    await admin.patch("/users/ann", roles=["admin"])
    await browser.client.get("/users")
    await admin.patch("/users/ann", disabled=True)
    await browser.client.get("/me", expect=401)


async def test_a12_a_cookie_in_use_lives_on_until_its_last_day(browser: Browser) -> None:
    for days in (13, 26, 29.9):
        with clock.shifted(timedelta(days=days)):
            await browser.client.get("/me")
    with clock.shifted(timedelta(days=30, seconds=1)):
        await browser.client.get("/me", expect=401)


async def test_a_cookie_is_no_refresh_token_and_no_access_token(browser: Browser, world: World) -> None:
    cookie = browser.client.http.cookies["sid"]
    await browser.client.get("/me", headers={"authorization": f"Bearer {cookie}"}, expect=401)
    tokens = await sign_in(world, "ann")
    client = world.client(None)
    for value in (tokens["refresh_token"], tokens["access_token"], tokens["refresh_token"].removeprefix("rt1_")):
        await client.get("/me", headers={"cookie": f"sid={value}"}, expect=401)
    await (await signed_in(world, "ann")).get("/csrf", expect=403)


async def test_a_cookie_that_names_a_session_but_not_its_secret_is_nobodys(browser: Browser) -> None:
    guessed = session_secrets.new_cookie((await sessions.many({}))[0].id)
    browser.client.http.cookies.clear()
    await browser.client.get("/me", headers={"cookie": f"sid={guessed}"}, expect=401)


async def test_replies_with_secrets_are_not_kept_for_a_key(world: World, nobody: Client) -> None:
    key = {"idempotency-key": "k"}
    form = {"email": "ann@msingi.test", "password": PASSWORD}
    answers = [await nobody.post("/sign-in", json=form, headers=key) for _ in range(2)]
    assert answers[0]["refresh_token"] != answers[1]["refresh_token"]
    await nobody.post("/refresh", refresh_token=answers[0]["refresh_token"], headers=key)
    change = {"current_password": PASSWORD, "new_password": "seven herons over the lake"}
    await with_token(world, answers[1]).post("/me/password", json=change, headers=key)
    assert await idempotency.stores("accounts")[0].count({}) == 0


async def test_a11_signing_out_everywhere_ends_every_session_and_this_one_too(world: World) -> None:
    here, there = await sign_in(world, "ann"), await sign_in(world, "ann")
    await with_token(world, here).post("/sign-out/everywhere", expect=204)
    for tokens in (here, there):
        await until(lambda tokens=tokens: refused(world, tokens))  # type: ignore[misc]
        await world.client(None).post("/refresh", refresh_token=tokens["refresh_token"], expect=401)
    await with_token(world, await sign_in(world, "ann")).get("/me")
    bob = await signed_in(world, "bob")
    await bob.get("/me")


async def refused(world: World, tokens: Tokens) -> bool:
    client = with_token(world, tokens)
    await client.get("/me", expect=[200, 401])
    return client.last.status_code == 401


async def test_a11_an_admin_sees_and_ends_somebodys_sessions(world: World, admin: Client) -> None:
    tokens, others = await sign_in(world, "ann"), await sign_in(world, "ann")
    listed = (await admin.get("/users/ann/sessions"))["items"]
    assert len(listed) == 2
    assert not any(each["current"] for each in listed)
    oldest = listed[-1]["id"]
    await admin.delete(f"/users/bob/sessions/{oldest}", expect=404)
    await admin.delete(f"/users/ann/sessions/{oldest}", expect=204)
    await until(lambda: refused(world, tokens))
    await with_token(world, others).get("/me")
    await admin.delete("/users/ann/sessions", expect=204)
    await until(lambda: refused(world, others))
    assert (await admin.get("/users/ann/sessions"))["items"] == []
