"""What asks for a fresh proof gets one: by time, by a second factor, and in whichever process it was given."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from msingi.kit import audit, clock, openapi, state
from msingi.kit.auth import STEP_UP
from msingi.kit.testing import PASSWORD, Client, House, World, house_of, start_over
from msingi.products.accounts.actions import sessions
from msingi.products.accounts.product import product
from msingi.products.accounts.tests.factor_people import (
    claims,
    code_of,
    enter_with_passkey,
    with_app,
    with_passkey,
)
from msingi.products.accounts.tests.people import sign_in, signed_in, with_token

pytestmark = pytest.mark.usefixtures("mid_step")
Json = dict[str, Any]
PAGE = {"origin": "http://msingi.test"}
LATER = timedelta(seconds=STEP_UP + 1)
NEEDED = "insufficient_user_authentication"

# What A19 names, as far as it is in accounts.
ASKING = [
    ("POST", "/me/totp"),
    ("PUT", "/me/totp"),
    ("DELETE", "/me/totp"),
    ("POST", "/me/recovery-codes"),
    ("POST", "/me/passkeys/options"),
    ("POST", "/me/passkeys"),
    ("DELETE", "/me/passkeys/of-nobody"),
    ("DELETE", "/users/bob/factors"),
    ("POST", "/users"),
    ("PATCH", "/users/bob"),
]


@pytest.mark.parametrize(("method", "path"), ASKING)
async def test_a19_a_session_of_more_than_300_seconds_ago_is_asked_for_a_fresh_proof(
    world: World, method: str, path: str
) -> None:
    client = await signed_in(world, "admin")
    with clock.shifted(LATER):
        problem = await client.ask(method, path, json={}, expect=401)
        assert (problem["code"], problem["max_age"]) == (NEEDED, STEP_UP)
        challenge = client.last.headers["www-authenticate"]
        assert challenge == 'Bearer error="insufficient_user_authentication", max_age="300"'
        await client.get("/me")
    await client.ask(method, path, json={}, expect=(201, 200, 204, 404, 409, 422))


async def test_a19_without_a_second_factor_the_password_is_a_fresh_proof(world: World, nobody: Client) -> None:
    tokens = await sign_in(world, "ann")
    ann = with_token(world, tokens)
    with clock.shifted(LATER):
        await ann.post("/me/totp", expect=401)
        assert (await ann.post("/step-up", password="not this one", expect=403))["code"] == "wrong_password"
        assert (await ann.post("/step-up", code="123456", expect=422))["code"] == "proof_missing"
        fresh = await ann.post("/step-up", password=PASSWORD)
        assert set(fresh) == {"access_token", "token_type", "expires_in"}
        assert ann.last.headers["cache-control"] == "no-store"
        assert claims(fresh)["sid"] == claims(tokens)["sid"]
        await ann.post("/me/totp", expect=401)  # the old token says what it said
        await with_token(world, fresh).post("/me/totp")
        child = await nobody.post("/refresh", refresh_token=tokens["refresh_token"])  # it stayed as it was
        await with_token(world, child).post("/me/totp")
    kinds = [each.kind for each in await audit.entries.many({"actor": "ann"}, sort=[("_id", 1)])]
    assert kinds.count("accounts.step_up_refused") == 1
    assert kinds.count("accounts.stepped_up") == 1


async def test_a19_with_a_second_factor_it_takes_password_and_code(world: World) -> None:
    ann = await with_app(world)
    with clock.shifted(LATER):
        client = ann.client
        assert (await client.post("/step-up/options"))["methods"] == ["password", "totp", "recovery_code"]
        assert (await client.post("/step-up", password=PASSWORD, expect=422))["code"] == "proof_missing"
        assert (await client.post("/step-up", code=code_of(ann.seed), expect=422))["code"] == "proof_missing"
        wrong = await client.post("/step-up", password=PASSWORD, code="000000", expect=403)
        assert wrong["code"] == "wrong_code"
        await client.post("/me/recovery-codes", expect=401)
        fresh = with_token(world, await client.post("/step-up", password=PASSWORD, code=code_of(ann.seed)))
        await fresh.post("/me/recovery-codes")
        again = await client.post("/step-up", password=PASSWORD, code=code_of(ann.seed), expect=403)
        assert again["code"] == "wrong_code"
        await client.post("/step-up", password=PASSWORD, recovery_code=ann.codes[0], expect=403)  # they were renewed


async def test_a19_a_passkey_alone_is_a_fresh_proof(world: World) -> None:
    client, device, _ = await with_passkey(world)
    _, bobs, _ = await with_passkey(world, "bob")
    with clock.shifted(LATER):
        await client.post("/me/recovery-codes", expect=401)
        asked = await client.post("/step-up/options")
        assert asked["methods"] == ["password", "recovery_code", "passkey"]
        ticket, options = asked["passkey"]["ticket"], asked["passkey"]["options"]
        await client.post("/step-up", ticket=ticket, credential=bobs.show(options), expect=403)
        await client.post("/step-up", credential=device.show(options), expect=422)
        fresh = await client.post("/step-up", ticket=ticket, credential=device.show(options))
        await client.post("/step-up", ticket=ticket, credential=device.show(options), expect=422)
        await with_token(world, fresh).post("/me/recovery-codes")


async def test_a19_refreshing_carries_the_proof_on_and_makes_it_no_fresher(world: World, nobody: Client) -> None:
    _, device, _ = await with_passkey(world)
    tokens = await enter_with_passkey(world, device)
    before = claims(tokens)
    with clock.shifted(timedelta(seconds=200)):
        child = await nobody.post("/refresh", refresh_token=tokens["refresh_token"])
        assert (claims(child)["auth_time"], claims(child)["amr"]) == (before["auth_time"], ["hwk", "mfa"])
        assert claims(child)["iat"] >= before["iat"] + 200
        await with_token(world, child).post("/me/recovery-codes")
    with clock.shifted(LATER):
        child = await nobody.post("/refresh", refresh_token=child["refresh_token"])
        assert (claims(child)["auth_time"], claims(child)["amr"]) == (before["auth_time"], ["hwk", "mfa"])
        await with_token(world, child).post("/me/recovery-codes", expect=401)


async def test_a19_changing_the_password_is_no_way_around_the_second_factor(world: World) -> None:
    ann = await with_app(world)
    with clock.shifted(LATER):
        change = {"current_password": PASSWORD, "new_password": "seven herons over the lake"}
        fresh = with_token(world, await ann.client.post("/me/password", json=change))
        await fresh.get("/me")
        assert (await fresh.delete("/me/totp", expect=401))["code"] == NEEDED
    bob = await signed_in(world, "bob")
    with clock.shifted(LATER):  # whose one factor it is proves it anew
        await with_token(world, await bob.post("/me/password", json=change)).post("/me/totp")


async def test_a19_a_stolen_session_guesses_ten_times_and_its_owner_elsewhere_is_not_kept_out(world: World) -> None:
    stolen, own = await signed_in(world, "ann"), await signed_in(world, "ann")
    codes = []
    for _ in range(4):  # four at a time: passwords are hashed one by one
        form = {"password": "not this one"}
        tries = [stolen.http.post("/v1/accounts/step-up", json=form, headers=stolen.headers) for _ in range(4)]
        codes += [reply.status_code for reply in await asyncio.gather(*tries)]
    assert Counter(codes)[403] == 10
    assert set(codes) <= {403, 429, 503}
    assert (await stolen.post("/step-up", password=PASSWORD, expect=429))["code"] == "too_many_tries"
    assert int(stolen.last.headers["retry-after"]) > 0
    await own.post("/step-up", password=PASSWORD)


# ---- cookies, and several processes


class Browser:
    """Somebody with a cookie session, who may reach either of several processes."""

    def __init__(self, cookie: str, csrf_token: str) -> None:
        self.headers = {"cookie": f"sid={cookie}", "x-csrf-token": csrf_token, **PAGE}

    async def ask(self, client: Client, method: str, path: str, expect: int, **form: Any) -> Json:
        answer: Json = await client.ask(method, path, expect=expect, headers=self.headers, json=form or None)
        client.http.cookies.clear()
        return answer


async def _browser(client: Client) -> Browser:
    form = {"email": "ann@msingi.test", "password": PASSWORD, "session": "cookie"}
    answer = await client.post("/sign-in", json=form, headers=PAGE)
    cookie = client.http.cookies["sid"]
    client.http.cookies.clear()
    return Browser(cookie, answer["csrf_token"])


async def test_a19_a_cookie_session_is_proved_again_and_keeps_its_cookie(world: World) -> None:
    client = world.client(None)
    browser = await _browser(client)
    with clock.shifted(LATER):
        assert (await browser.ask(client, "POST", "/me/totp", 401))["code"] == NEEDED
        answer = await browser.ask(client, "POST", "/step-up", 200, password=PASSWORD)
        assert set(answer) == {"csrf_token", "expires_in"}
        assert "set-cookie" not in client.last.headers
        browser.headers["x-csrf-token"] = answer["csrf_token"]
        await browser.ask(client, "POST", "/me/totp", 201)


async def test_a19_a_cookie_session_sets_up_an_app_and_goes_on(world: World) -> None:
    client = world.client(None)
    browser = await _browser(client)
    seed = (await browser.ask(client, "POST", "/me/totp", 201))["secret"]
    added = await browser.ask(client, "PUT", "/me/totp", 200, code=code_of(seed))
    assert set(added["session"]) == {"csrf_token", "expires_in"}
    browser.headers["x-csrf-token"] = added["session"]["csrf_token"]
    await browser.ask(client, "POST", "/me/recovery-codes", 201)
    assert len((await browser.ask(client, "GET", "/sessions", 200))["items"]) == 1


async def test_a19_a_process_that_believes_an_older_proof_looks_the_cookie_up_anew(world: World) -> None:
    client = world.client(None)
    browser = await _browser(client)
    with clock.shifted(LATER):
        await browser.ask(client, "GET", "/me", 200)
        elsewhere = dict(state.part(sessions._Believed).actors)  # what another process has just believed
        await browser.ask(client, "POST", "/step-up", 200, password=PASSWORD)
        state.part(sessions._Believed).actors.update(elsewhere)
        ((known, _),) = elsewhere.values()
        assert clock.seconds() - known.signed_in_at > STEP_UP
        await browser.ask(client, "POST", "/me/totp", 201)
        ((known, _),) = state.part(sessions._Believed).actors.values()
        assert clock.seconds() - known.signed_in_at < 60


# ---- admins


async def test_a19_where_admins_need_a_second_factor_those_without_are_told_so() -> None:
    async with house_of([product], MSINGI_ADMIN_SECOND_FACTOR="required") as house:
        await start_over(house)
        world = World(house)
        plain = await signed_in(world, "admin")
        problem = await plain.get("/users", expect=403)
        assert problem["code"] == "second_factor_required"
        await plain.get("/me")
        await (await signed_in(world, "ann")).get("/users", expect=403)
        admin = await with_app(world, "admin")
        await admin.client.get("/users")
        await admin.client.patch("/users/bob", name="Bobby")


# ---- what the description says


async def test_a19_the_description_says_which_operations_ask_for_a_fresh_proof(house: House) -> None:
    described = openapi.describe(house.app.app.app)
    for method, path in ASKING:
        named = path.replace("/bob", "/{user_id}").replace("/of-nobody", "/{passkey_id}")
        reply = described["paths"][f"/v1/accounts{named}"][method.lower()]["responses"]["401"]
        assert NEEDED in reply["description"]
    reply = described["paths"]["/v1/accounts/me"]["get"]["responses"]["401"]
    assert reply == {"$ref": "#/components/responses/401"}
