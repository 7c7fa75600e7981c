"""Signing in with other providers, over real sockets: an independent one, and strangers that do as a test says."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import msgspec
import pytest
import pytest_asyncio
from joserfc import jwk

from msingi.kit import audit, clock, config, csrf, state, unit
from msingi.kit.auth import STEP_UP
from msingi.kit.testing import PASSWORD, World
from msingi.products.accounts.models.identities import identities
from msingi.products.accounts.models.people import Account, accounts, email_key, with_email
from msingi.products.accounts.models.sessions import sessions
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.providers import dialogue
from msingi.products.accounts.tests.factor_people import code_of, with_app
from msingi.products.accounts.tests.people import sign_in
from msingi.products.accounts.tests.provider import Claims, Stranger, free_port, served

MAGIC, ACME, OTHER, SILENT = (free_port() for _ in range(4))
GOOD = "seven herons over the lake"
ANN = "ann@msingi.test"
acme, other = Stranger(ACME), Stranger(OTHER)
MILA: Claims = {"sub": "mila", "email": "mila@example.org", "email_verified": True, "name": "Mila"}


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    listed = [
        {"name": "magic", "issuer": f"http://localhost:{MAGIC}", "id": "us", "secret": "whatever it is"},
        {"name": "acme", "title": "Acme", "issuer": acme.issuer, "id": "us", "secret": "it's a +/% secret"},
        {"name": "other", "issuer": other.issuer, "id": "us"},
        {"name": "silent", "issuer": f"http://127.0.0.1:{SILENT}", "id": "us"},
        {"name": "gossip", "issuer": other.issuer, "id": "us", "vouches": False},
    ]
    return {
        "MSINGI_OIDC_PROVIDERS": json.dumps(listed),
        "MSINGI_OAUTH_GITHUB_ID": "us",
        "MSINGI_OAUTH_GITHUB_SECRET": "a secret for github",
        "MSINGI_OAUTH_GITHUB_URL": other.issuer,
        "MSINGI_OAUTH_GITHUB_API": other.issuer,
        "MSINGI_OAUTH_FACEBOOK_ID": "us",
        "MSINGI_OAUTH_FACEBOOK_SECRET": "a secret for facebook",
        "MSINGI_OAUTH_FACEBOOK_URL": other.issuer,
        "MSINGI_OAUTH_FACEBOOK_API": other.issuer,
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def strangers() -> AsyncIterator[None]:
    async with served(acme, other):
        yield


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def honest_again() -> None:
    for each in (acme, other):
        each.says_iss, each.fails_with, each.metadata = False, 0, {}
        each.asked.clear()
        each.codes.clear()


@pytest.fixture(scope="module")
def magic() -> Iterator[str]:
    """oidc-provider-mock, which others wrote, in a process of its own."""
    command = [sys.executable, "-m", "oidc_provider_mock", "-p", str(MAGIC), "-H", "localhost"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://localhost:{MAGIC}"
    try:
        began = monotonic()
        while not _answers(address):
            assert monotonic() - began < 20, "oidc-provider-mock does not answer"
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/jwks", timeout=1, trust_env=False).is_success
    except httpx.TransportError:
        return False


# ---- what a browser does


class Browser:
    """Somebody's browser: it keeps cookies, follows nothing by itself, and brings back what a provider answers."""

    def __init__(self, world: World) -> None:
        self.http = world.client(None).http

    async def begin(self, provider: str = "acme", **query: str) -> str:
        """Where it is sent."""
        reply = await self.http.get(f"/sign-in/with/{provider}", params=query)
        assert reply.status_code == 303, reply.text
        return reply.headers["location"]

    async def come_back(self, answer: str, provider: str = "acme") -> httpx.Response:
        return await self.http.get(f"/sign-in/with/{provider}/callback?{answer}")

    async def sign_in(self, said: Claims, provider: str = "acme", **faults: Any) -> httpx.Response:
        """There, yes, and back."""
        stranger = acme if provider == "acme" else other
        url = await self.begin(provider)
        return await self.come_back(stranger.agree(url, said, **faults), provider)

    async def sign_in_anew(self, said: Claims) -> httpx.Response:
        """The same, where the provider asks who it is, and says so."""
        url = await self.begin(fresh="1")
        assert (query_of(url)["prompt"], query_of(url)["max_age"]) == ("login", "0")
        return await self.come_back(acme.agree(url, said | {"auth_time": int(clock.seconds())}))

    async def me(self) -> Claims:
        reply = await self.http.get("/v1/accounts/me")
        assert reply.status_code == 200, reply.text
        found: Claims = reply.json()
        return found

    async def token(self) -> str:
        reply = await self.http.get("/v1/accounts/csrf")
        value: str = reply.json()["csrf_token"]
        return value

    async def write(self, method: str, path: str, **body: Any) -> httpx.Response:
        headers = {"origin": "http://msingi.test", "x-csrf-token": await self.token()}
        return await self.http.request(method, f"/v1/accounts{path}", json=body or None, headers=headers)


@pytest_asyncio.fixture(loop_scope="session")
async def browser(world: World) -> AsyncIterator[Browser]:
    one = Browser(world)
    async with one.http:
        yield one


@pytest_asyncio.fixture(loop_scope="session")
async def another(world: World) -> AsyncIterator[Browser]:
    one = Browser(world)
    async with one.http:
        yield one


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


async def refused(reply: httpx.Response, status: int, code: str) -> None:
    """It ended on a problem, and nobody is signed in by it."""
    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
    assert "sid" not in reply.cookies
    assert await sessions.count({}) == 0


async def put(id: str, **changes: Any) -> Account:
    """Somebody of the seeds as a test needs them."""
    async with unit.alone():
        return await accounts.change(id, {"$set": changes})


# ---- A15: there and back


async def test_a15_one_signs_in_with_an_independent_provider(browser: Browser, magic: str) -> None:
    who = {"email": "jo@example.org", "email_verified": True, "name": "Jo"}
    async with httpx.AsyncClient(trust_env=False) as there:
        (await there.put(f"{magic}/users/jo-1", json=who)).raise_for_status()
        for back in ("/", "/account?lang=sw"):
            url = await browser.begin("magic", back=back)
            agreed = await there.post(url, data={"sub": "jo-1"})
            reply = await browser.http.get(agreed.headers["location"])
            assert (reply.status_code, reply.headers["location"]) == (303, back)
            shown = await browser.me()
            assert (shown["email"], shown["name"], shown["email_verified"]) == ("jo@example.org", "Jo", True)
    assert await accounts.count({"email_key": email_key("jo@example.org")}) == 1
    kept = await identities.many({})
    assert [(each.issuer, each.subject) for each in kept] == [(magic, "jo-1")]
    assert [each.methods for each in await sessions.many({})] == [["fed"], ["fed"]]


async def test_a15_a_code_of_the_independent_provider_is_bound_to_this_browser(
    browser: Browser, another: Browser, magic: str
) -> None:
    async with httpx.AsyncClient(trust_env=False) as there:
        stolen = query_of((await there.post(await browser.begin("magic"), data={"sub": "jo-1"})).headers["location"])
        own = query_of(await another.begin("magic"))["state"]
    reply = await another.come_back(urlencode({"code": stolen["code"], "state": own}), "magic")
    assert reply.json()["code"] in ("refused_there", "provider_answer_refused")
    assert await sessions.count({}) == 0


async def test_a15_the_way_there_has_pkce_state_nonce_and_the_exact_address(browser: Browser) -> None:
    reply = await browser.http.get(
        "/sign-in/with/acme", headers={"host": "msingi.test", "x-forwarded-host": "evil.test"}
    )
    asked = query_of(reply.headers["location"])
    assert reply.headers["location"].startswith(f"{acme.issuer}/authorize?")
    assert asked["redirect_uri"] == "http://msingi.test/sign-in/with/acme/callback"
    assert asked["scope"] == "openid email profile"
    assert (asked["code_challenge_method"], len(asked["code_challenge"])) == ("S256", 43)
    assert len(asked["state"]) >= 43
    assert len(asked["nonce"]) >= 43
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith("oauth=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=600"} <= {each.strip() for each in cookie.split(";")}
    assert "omain" not in cookie
    kept = await state.database("accounts")["tickets"].find_one({"purpose": "provider"})
    assert kept is not None
    seen = [str(value) for value in (kept["facts"] | {"secret": kept["secret"]}).values()]
    secret = browser.http.cookies["oauth"]
    assert not any(asked["nonce"] in each or asked["state"] in each or secret in each for each in seen)


async def test_a15_under_https_the_browsers_secret_is_a_host_cookie(world: World, browser: Browser) -> None:
    plain = state.current().settings
    state.current().settings = msgspec.structs.replace(plain, public_url="https://msingi.test")
    try:
        reply = await browser.http.get("/sign-in/with/acme", headers={"host": "msingi.test"})
    finally:
        state.current().settings = plain
    assert reply.headers["set-cookie"].startswith("__Host-oauth=")
    assert "Secure" in reply.headers["set-cookie"]
    assert query_of(reply.headers["location"])["redirect_uri"].startswith("https://msingi.test/")


async def test_a15_a_callback_is_good_once(browser: Browser) -> None:
    answer = acme.agree(await browser.begin(), MILA)
    kept = browser.http.cookies["oauth"]
    assert (await browser.come_back(answer)).status_code == 303
    browser.http.cookies.set("oauth", kept)
    reply = await browser.come_back(answer)
    assert (reply.status_code, reply.json()["code"]) == (400, "wrong_state")
    assert await sessions.count({}) == 1


async def test_a15_of_twenty_callbacks_at_once_one_is_let_in(browser: Browser) -> None:
    answer = acme.agree(await browser.begin(), MILA)
    replies = await asyncio.gather(*(browser.come_back(answer) for _ in range(20)))
    assert sorted(each.status_code for each in replies) == [303, *[400] * 19]
    assert await sessions.count({}) == 1


async def test_a15_a_state_that_is_absent_made_up_or_another_providers_is_refused(browser: Browser) -> None:
    code = query_of("?" + acme.agree(await browser.begin(), MILA))["code"]
    elsewhere = query_of(await browser.begin("other"))["state"]
    for wrong in ("", "made-up", "x" * 3000, elsewhere, elsewhere[:-1]):
        await refused(await browser.come_back(urlencode({"code": code, "state": wrong})), 400, "wrong_state")
    await refused(await browser.come_back(""), 400, "wrong_state")
    assert "/token" not in acme.asked


async def test_a15_another_browser_cannot_end_what_this_one_began(browser: Browser, another: Browser) -> None:
    answer = acme.agree(await browser.begin(), MILA)
    await refused(await another.come_back(answer), 400, "wrong_state")  # no cookie
    await another.begin()
    await refused(await another.come_back(answer), 400, "wrong_state")  # a cookie of its own
    assert "/token" not in acme.asked
    assert (await browser.come_back(answer)).status_code == 303  # and nobody has used it up


async def test_a15_two_tabs_do_not_disturb_each_other_and_cannot_be_swapped(browser: Browser) -> None:
    first, second = await browser.begin(), await browser.begin()
    answer = query_of("?" + acme.agree(first, MILA))
    swapped = urlencode({"code": answer["code"], "state": query_of(second)["state"]})
    await refused(await browser.come_back(swapped), 403, "refused_there")
    third = await browser.begin()
    assert (await browser.come_back(acme.agree(third, MILA))).status_code == 303


async def test_a15_a_state_is_good_for_ten_minutes(browser: Browser) -> None:
    answer = acme.agree(await browser.begin(), MILA)
    with clock.shifted(timedelta(seconds=601)):
        await refused(await browser.come_back(answer), 400, "wrong_state")


async def test_a15_parameters_that_come_twice_are_refused(browser: Browser) -> None:
    answer = acme.agree(await browser.begin(), MILA)
    await refused(await browser.come_back(f"{answer}&state=other"), 400, "wrong_state")


async def test_a15_a_code_that_was_used_is_refused(browser: Browser, another: Browser) -> None:
    url = await browser.begin()
    answer = query_of("?" + acme.agree(url, MILA))
    assert (await browser.come_back(urlencode(answer))).status_code == 303
    again = answer | {"state": query_of(await another.begin())["state"]}
    reply = await another.come_back(urlencode(again))
    assert (reply.status_code, reply.json()["code"]) == (403, "refused_there")
    assert await sessions.count({}) == 1


WRONG_TOKENS: dict[str, dict[str, Any]] = {
    "nonce of somebody else": {"claims": {"nonce": "of-somebody-else"}},
    "no nonce": {"claims": {"nonce": None}},
    "another issuer": {"claims": {"iss": "https://evil.test"}},
    "the issuer with a slash": {"claims": {"iss": f"{acme.issuer}/"}},
    "another audience": {"claims": {"aud": "them"}},
    "two audiences, no azp": {"claims": {"aud": ["us", "them"]}},
    "azp of another": {"claims": {"aud": ["us", "them"], "azp": "them"}},
    "azp of another, one audience": {"claims": {"azp": "them"}},
    "no audience": {"claims": {"aud": None}},
    "expired": {"claims": {"exp": 1_700_000_000}},
    "exp in letters": {"claims": {"exp": "9999999999"}},
    "exp for ever": {"claims": {"exp": 1e30}},
    "no exp": {"claims": {"exp": None}},
    "issued tomorrow": {"claims": {"iat": 4_000_000_000}},
    "at_hash of another": {"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}},
    "no subject": {"claims": {"sub": ""}},
    "alg none": {"header": {"alg": "none"}},
    "HMAC with the client's secret": {"header": {"alg": "HS256"}, "key": b"it's a +/% secret"},
    "HMAC with the public key": {
        "header": {"alg": "HS256"},
        "key": acme.key.as_pem(private=False),
    },
    "another key of the same name": {"key": jwk.RSAKey.generate_key(2048, {"kid": "one"})},
    "an unknown key": {"header": {"kid": "two"}, "key": jwk.RSAKey.generate_key(2048, {"kid": "two"})},
    "a key of its own": {"header": {"jwk": {"kty": "RSA"}, "kid": "one"}, "key": jwk.RSAKey.generate_key(2048)},
}


@pytest.mark.parametrize("wrong", WRONG_TOKENS)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
async def test_a15_a_wrong_id_token_opens_nothing(browser: Browser, wrong: str) -> None:
    await refused(await browser.sign_in(MILA, **WRONG_TOKENS[wrong]), 502, "provider_answer_refused")
    assert await accounts.count({"email_key": email_key(MILA["email"])}) == 0


async def test_a15_userinfo_about_somebody_else_is_refused(browser: Browser) -> None:
    claims = {"sub": "mila"}
    wrong = {"sub": "ann", "email": ANN, "email_verified": True}
    await refused(await browser.sign_in(claims, userinfo=wrong), 502, "provider_answer_refused")
    right = {"sub": "mila", "email": "mila@example.org", "email_verified": True}
    assert (await browser.sign_in(claims, userinfo=right)).status_code == 303
    assert (await browser.me())["email"] == "mila@example.org"


async def test_a15_a_new_key_of_the_provider_is_found(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await browser.sign_in(MILA)).status_code == 303
    monkeypatch.setattr("msingi.products.accounts.providers.openid.AGAIN", 0.0)
    monkeypatch.setattr(acme, "key", jwk.RSAKey.generate_key(2048, {"kid": "next", "use": "sig"}))
    assert (await browser.sign_in(MILA, header={"kid": "next"})).status_code == 303
    monkeypatch.undo()
    state.current().parts = {kind: part for kind, part in state.current().parts.items() if kind.__name__ != "_Known"}


async def test_a15_who_answers_is_whom_one_asked(browser: Browser) -> None:
    state.current().parts = {kind: part for kind, part in state.current().parts.items() if kind.__name__ != "_Known"}
    other.says_iss = True
    url = await browser.begin("other")
    honest = query_of("?" + other.agree(url, MILA))
    assert honest["iss"] == other.issuer
    assert (await browser.come_back(urlencode(honest), "other")).status_code == 303
    await sessions.raw.delete_many({})
    for wrong in (acme.issuer, f"{other.issuer}/", ""):
        given = query_of("?" + other.agree(await browser.begin("other"), MILA)) | {"iss": wrong}
        await refused(await browser.come_back(urlencode(given), "other"), 502, "provider_answer_refused")
    given = {"error": "access_denied", "iss": acme.issuer, "state": query_of(await browser.begin("other"))["state"]}
    await refused(await browser.come_back(urlencode(given), "other"), 502, "provider_answer_refused")
    state.current().parts = {kind: part for kind, part in state.current().parts.items() if kind.__name__ != "_Known"}


async def test_a15_a_code_of_one_provider_is_never_shown_to_another(browser: Browser) -> None:
    answer = acme.agree(await browser.begin("acme"), MILA)
    await refused(await browser.come_back(answer, "other"), 400, "wrong_state")
    assert "/token" not in other.asked


async def test_a15_a_document_of_another_issuer_is_refused(browser: Browser) -> None:
    for document in ({"issuer": acme.issuer}, {"token_endpoint": "http://evil.test/token"}, {"jwks_uri": "ftp://x"}):
        state.current().parts = {
            kind: part for kind, part in state.current().parts.items() if kind.__name__ != "_Known"
        }
        other.metadata = document
        reply = await browser.http.get("/sign-in/with/other")
        assert (reply.status_code, reply.json()["code"]) == (502, "provider_answer_refused")


async def test_a15_who_says_no_over_there_reads_why_and_finds_a_way_back(browser: Browser) -> None:
    for reason, shown in (("access_denied", "access_denied"), ("<script>alert(1)</script>", "no reason given")):
        asked = query_of(await browser.begin())
        answer = urlencode({"error": reason, "error_description": "<b>bad</b>", "state": asked["state"]})
        page = {"accept": "text/html"}
        reply = await browser.http.get(f"/sign-in/with/acme/callback?{answer}", headers=page)
        assert reply.status_code == 403
        assert "text/html" in reply.headers["content-type"]
        assert shown in reply.text
        assert "<b>bad" not in reply.text
        assert "alert(1)" not in reply.text
        assert 'href="/' in reply.text
        await refused(await browser.come_back(answer), 400, "wrong_state")


async def test_a15_one_comes_back_only_to_our_own_pages(browser: Browser) -> None:
    for asked, expected in {
        "//evil.test": "/",
        "https://evil.test/": "/",
        "/\\evil.test": "/",
        "/account": "/account",
    }.items():
        reply = await browser.come_back(acme.agree(await browser.begin(back=asked), MILA))
        assert reply.headers["location"] == expected


async def test_a15_a_provider_that_fails_is_a_clear_answer(browser: Browser) -> None:
    url = await browser.begin()
    acme.fails_with = 500
    reply = await browser.come_back(acme.agree(url, MILA))
    await refused(reply, 502, "provider_unreachable")
    assert "Acme does not answer" in reply.json()["detail"]
    acme.fails_with = 0


async def test_a15_a_provider_that_hangs_keeps_nobody_waiting(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dialogue.PATIENCE <= 5
    monkeypatch.setattr(dialogue, "PATIENCE", 0.5)
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: held.append(writer), "127.0.0.1", SILENT)
    try:
        began = monotonic()
        reply = await browser.http.get("/sign-in/with/silent")
        assert (reply.status_code, reply.json()["code"]) == (502, "provider_unreachable")
        assert monotonic() - began < 4
        assert held
    finally:
        for writer in held:
            writer.close()
        server.close()


async def test_a15_nothing_that_a_provider_says_is_a_fault_of_ours(browser: Browser) -> None:
    for odd in ({"email": 5}, {"name": {"a": 1}}, {"aud": [1]}, {"email_verified": [True]}, {"sub": "x" * 300}):
        await refused(await browser.sign_in(MILA, claims=odd), 502, "provider_answer_refused")


# ---- A16: whose an identity is


async def test_a16_a_verified_address_on_both_sides_links(world: World, browser: Browser) -> None:
    await put("ann", email_verified=True)
    reply = await browser.sign_in({"sub": "ann-there", "email": "ANN@msingi.test", "email_verified": True})
    assert reply.status_code == 303
    assert (await browser.me())["id"] == "ann"
    kept = await accounts.get("ann")
    assert kept.password != ""
    assert (kept.epoch, kept.token_version) == (0, 0)
    noted = {each.kind for each in await audit.entries.many({"about": "ann"})}
    assert "accounts.connected" in noted
    assert ("connected", ANN, "Acme") in [(*each[:2], each[2].get("provider")) for each in await world.letters()]


async def test_a16_an_address_that_the_provider_did_not_verify_links_nothing(browser: Browser) -> None:
    await put("ann", email_verified=True)
    for verified in (False, None, "false", "yes", ""):
        told = {"sub": "mallory", "email": ANN, "email_verified": verified}
        reply = await browser.sign_in(told)
        await refused(reply, 409, "email_in_use")
        assert "sign in as you usually do" in reply.json()["detail"]
    await refused(
        await browser.sign_in({"sub": "mallory", "email": ANN, "email_verified": True}, "gossip"), 409, "email_in_use"
    )
    assert await identities.count({}) == 0


async def test_a16_a_verified_claim_takes_the_account_from_a_squatter(world: World, browser: Browser) -> None:
    squatter = await sign_in(world, "ann")
    await put("ann", email_verified=False)
    claims: Claims = {"sub": "squatters-own", "email": "squat@evil.test", "email_verified": True}
    await identities.raw.insert_one(identities.dump(_identity("ann", acme.issuer, claims["sub"])))
    reply = await browser.sign_in({"sub": "the-real-ann", "email": ANN, "email_verified": True})
    assert reply.status_code == 303
    assert (await browser.me())["id"] == "ann"
    kept = await accounts.get("ann")
    assert (kept.password, kept.email_verified, kept.epoch) == ("", True, 1)
    assert [each.subject for each in await identities.many({"account": "ann"})] == ["the-real-ann"]
    async with world.client(None).http as http:
        form = {"email": ANN, "password": PASSWORD}
        assert (await http.post("/v1/accounts/sign-in", json=form)).json()["code"] == "wrong_credentials"
        old = {"refresh_token": squatter["refresh_token"]}
        assert (await http.post("/v1/accounts/refresh", json=old)).status_code == 401
        bearer = {"authorization": f"Bearer {squatter['access_token']}"}
        assert (await http.get("/v1/accounts/me", headers=bearer)).status_code == 401
    await browser.http.get("/")  # and the squatter's own identity makes a new account, or none, but opens not this one
    reply = await browser.sign_in(claims)
    assert (await browser.me())["id"] != "ann"
    assert "accounts.claimed" in {each.kind for each in await audit.entries.many({"about": "ann"})}


def _identity(account: str, issuer: str, subject: str) -> Any:
    return identities.kind(account=account, provider="acme", issuer=issuer, subject=subject)


async def test_a16_an_identity_is_issuer_and_subject_and_nothing_else(browser: Browser, another: Browser) -> None:
    assert (await browser.sign_in(MILA)).status_code == 303
    mine = (await browser.me())["id"]
    await put("bob", email_verified=True)
    # The address changed over there, even into somebody else's here: it is the same person.
    reply = await browser.sign_in(MILA | {"email": "bob@msingi.test"})
    assert reply.status_code == 303
    shown = await browser.me()
    assert (shown["id"], shown["email"]) == (mine, "mila@example.org")
    # The same subject at another provider is somebody else.
    await refused_but_one(await another.sign_in(MILA | {"email_verified": False}, "other"))
    reply = await another.sign_in(MILA | {"email": "other@example.org"}, "other")
    assert (await another.me())["id"] != mine


async def refused_but_one(reply: httpx.Response) -> None:
    assert (reply.status_code, reply.json()["code"]) == (409, "email_in_use")


async def test_a16_without_an_address_there_is_no_account(browser: Browser) -> None:
    for told in ({"sub": "a"}, {"sub": "b", "email": ""}, {"sub": "c", "email": "not one", "email_verified": True}):
        await refused(await browser.sign_in(told, userinfo=told), 422, "email_needed")


async def test_a16_an_address_that_only_looks_like_ours_links_nothing(browser: Browser) -> None:
    await put("bob", **with_email("Bob", "mike@example.org"), email_verified=True)
    told = {"sub": "kelvin", "email": "mi\u212ae@example.org", "email_verified": True}
    await refused(await browser.sign_in(told), 409, "email_in_use")


async def test_a16_an_unverified_address_makes_an_account_whose_address_is_unverified(browser: Browser) -> None:
    assert (await browser.sign_in(MILA | {"email_verified": False})).status_code == 303
    assert (await browser.me())["email_verified"] is False


async def test_a16_where_addresses_must_be_verified_such_an_account_waits_for_it(browser: Browser) -> None:
    open_to_all = state.current().parts[AccountsSettings]
    state.current().parts[AccountsSettings] = msgspec.structs.replace(open_to_all, registration="verified")
    try:
        for _ in range(2):
            reply = await browser.sign_in(MILA | {"email_verified": False})
            await refused(reply, 403, "email_unverified")
    finally:
        state.current().parts[AccountsSettings] = open_to_all


async def test_a16_github_vouches_for_the_primary_address_if_it_is_verified(browser: Browser) -> None:
    await put("ann", email_verified=True)

    def told(id: int, primary: bool, verified: bool) -> Claims:
        mail = [{"email": ANN, "primary": primary, "verified": verified}]
        return {
            "id": id,
            "login": "ann",
            "emails": [{"email": "a@b.test", "primary": not primary, "verified": False}, *mail],
        }

    await refused(await browser.sign_in(told(1, True, False), "github"), 409, "email_in_use")
    reply = await browser.sign_in(told(1, False, True), "github")  # another address of theirs is the primary one
    assert reply.status_code == 303
    assert (await browser.me())["id"] != "ann"
    assert (await browser.me())["email_verified"] is False
    await identities.raw.delete_many({})
    assert (await browser.sign_in(told(7, True, True), "github")).status_code == 303
    assert (await browser.me())["id"] == "ann"
    assert [each.subject for each in await identities.many({})] == ["7"]


async def test_a16_a_github_name_that_somebody_else_took_over_opens_nothing(browser: Browser) -> None:
    mine = {"id": 7, "login": "ann", "emails": [{"email": "ann@her.test", "primary": True, "verified": True}]}
    assert (await browser.sign_in(mine, "github")).status_code == 303
    first = (await browser.me())["id"]
    theirs = {"id": 8, "login": "ann", "emails": [{"email": "new@them.test", "primary": True, "verified": True}]}
    assert (await browser.sign_in(theirs, "github")).status_code == 303
    assert (await browser.me())["id"] != first


async def test_a16_facebook_never_proves_an_address(browser: Browser) -> None:
    await put("ann", email_verified=True)
    told = {"id": "77", "name": "Ann", "email": ANN, "email_verified": True, "verified": True}
    await refused(await browser.sign_in(told, "facebook"), 409, "email_in_use")
    await put("ann", email_verified=False)
    await refused(await browser.sign_in(told, "facebook"), 409, "email_in_use")
    assert (await accounts.get("ann")).password != ""
    assert (await browser.sign_in(told | {"email": "new@example.org"}, "facebook")).status_code == 303
    assert (await browser.me())["email_verified"] is False


async def test_a16_a_disabled_account_stays_disabled(browser: Browser) -> None:
    told = {"sub": "ann-there", "email": ANN, "email_verified": True}
    for verified in (False, True):
        await put("ann", email_verified=verified, disabled=True)
        await refused(await browser.sign_in(told), 403, "account_disabled")
        assert await identities.count({}) == 0
    await put("ann", disabled=False)
    assert (await browser.sign_in(told)).status_code == 303
    await put("ann", disabled=True)
    await sessions.raw.delete_many({})
    await refused(await browser.sign_in(told), 403, "account_disabled")


async def test_a16_a_claim_takes_the_squatters_second_factor_and_keys_away(world: World, browser: Browser) -> None:
    squatter = await with_app(world, "ann")
    key = await squatter.client.post("/api-keys", name="hidden", scopes=["accounts:read"], expires_in_days=30)
    await put("ann", email_verified=False)
    assert (await browser.sign_in({"sub": "the-real-ann", "email": ANN, "email_verified": True})).status_code == 303
    assert (await browser.me())["id"] == "ann"
    async with world.client(None).http as http:
        bearer = {"authorization": f"Bearer {key['key']}"}
        assert (await http.get("/v1/accounts/me", headers=bearer)).status_code == 401


async def test_a_second_factor_is_asked_after_a_provider_too(world: World, browser: Browser) -> None:
    """One is proved over there, and `fed` is no second."""
    someone = await with_app(world, "ann")
    told = {"sub": "ann-there", "email": ANN, "email_verified": True}
    before = await sessions.count({"methods": "fed"})
    reply = await browser.sign_in(told)
    assert (reply.status_code, reply.json()["code"]) == (401, "second_factor_needed")
    assert "sid" not in reply.cookies
    assert await sessions.count({"methods": "fed"}) == before == 0
    form = {"ticket": reply.json()["ticket"], "code": code_of(someone.seed)}
    reply = await browser.http.post("/v1/accounts/sign-in/second-factor", json=form)
    assert reply.status_code == 200, reply.text
    assert (await browser.me())["id"] == "ann"
    [session] = await sessions.many({"methods": "fed"})
    assert sorted(session.methods) == ["fed", "mfa", "otp"]


async def test_a16_many_first_callbacks_at_once_make_one_account(world: World) -> None:
    browsers = [Browser(world) for _ in range(8)]
    try:
        urls = await asyncio.gather(*(each.begin() for each in browsers))
        answers = [acme.agree(url, MILA) for url in urls]
        replies = await asyncio.gather(*(each.come_back(ans) for each, ans in zip(browsers, answers, strict=True)))
        assert [each.status_code for each in replies] == [303] * 8
        assert await accounts.count({"email_key": email_key(MILA["email"])}) == 1
        assert await identities.count({}) == 1
    finally:
        for each in browsers:
            await each.http.aclose()


async def test_what_a_provider_calls_somebody_becomes_a_name(browser: Browser) -> None:
    long = "\u202e  Mi\nla\x00 " + "x" * 200
    assert (await browser.sign_in(MILA | {"name": long})).status_code == 303
    name = (await browser.me())["name"]
    assert name.startswith("Mi la x")
    assert len(name) <= 100
    assert name.isprintable()


# ---- connections of one's own


async def test_the_providers_are_told(world: World) -> None:
    async with world.client(None).http as http:
        found = (await http.get("/v1/accounts/providers")).json()["items"]
    assert [each["name"] for each in found] == ["github", "facebook", "magic", "acme", "other", "silent", "gossip"]
    assert found[3] == {"name": "acme", "title": "Acme", "sign_in": "/sign-in/with/acme"}


async def test_an_unknown_provider_is_not_found(browser: Browser) -> None:
    for path in ("/sign-in/with/google", "/sign-in/with/google/callback?state=x", "/sign-in/with/..%2f"):
        assert (await browser.http.get(path)).status_code == 404


async def test_an_account_without_a_password_is_like_a_wrong_one_to_who_tries_passwords(
    browser: Browser, another: Browser
) -> None:
    assert (await browser.sign_in(MILA)).status_code == 303
    for password in ("", PASSWORD):
        form = {"email": MILA["email"], "password": password}
        reply = await another.http.post("/v1/accounts/sign-in", json=form)
        assert (reply.status_code, reply.json()["code"]) == (401, "wrong_credentials")


async def test_the_last_way_in_stays_until_there_is_another(browser: Browser, another: Browser) -> None:
    assert (await browser.sign_in_anew(MILA)).status_code == 303
    [one] = (await browser.http.get("/v1/accounts/connections")).json()["items"]
    assert (one["provider"], one["title"], one["email"]) == ("acme", "Acme", "mila@example.org")
    reply = await browser.write("DELETE", f"/connections/{one['id']}")
    assert (reply.status_code, reply.json()["code"]) == (409, "last_way_in")
    with clock.shifted(timedelta(seconds=STEP_UP + 1)):
        reply = await browser.write("PUT", "/me/password", new_password=GOOD)
        assert (reply.status_code, reply.json()["code"]) == (401, "insufficient_user_authentication")
    reply = await browser.write("PUT", "/me/password", new_password="password123456789")
    assert reply.json()["code"] == "weak_password"
    assert (await browser.write("PUT", "/me/password", new_password=GOOD)).status_code == 204
    reply = await browser.write("PUT", "/me/password", new_password=GOOD)
    assert (reply.status_code, reply.json()["code"]) == (409, "has_password")
    with clock.shifted(timedelta(seconds=STEP_UP + 1)):
        assert (await browser.write("DELETE", f"/connections/{one['id']}")).status_code == 401
    assert (await browser.write("DELETE", f"/connections/{one['id']}")).status_code == 204
    form = {"email": MILA["email"], "password": GOOD}
    assert (await another.http.post("/v1/accounts/sign-in", json=form)).status_code == 200
    assert (await browser.write("DELETE", f"/connections/{one['id']}")).status_code == 404


async def test_of_the_last_two_ways_in_one_stays_even_if_both_go_at_once(browser: Browser) -> None:
    assert (await browser.sign_in_anew(MILA)).status_code == 303
    me = (await browser.me())["id"]
    await identities.raw.insert_one(identities.dump(_identity(me, other.issuer, "mila-too")))
    listed = (await browser.http.get("/v1/accounts/connections")).json()["items"]
    replies = await asyncio.gather(*(browser.write("DELETE", f"/connections/{each['id']}") for each in listed))
    assert sorted(each.status_code for each in replies) == [204, 409]
    assert await identities.count({"account": me}) == 1


@pytest.mark.parametrize(("fresh", "ago"), [("0", 0), ("1", None), ("1", 300)])
async def test_a19_a_provider_that_may_have_asked_nothing_proves_nothing_fresh(
    browser: Browser, fresh: str, ago: int | None
) -> None:
    """Only one that was told to ask, and says that it just did, stands for a proof of this moment."""
    url = await browser.begin(fresh=fresh)
    assert ("prompt" in query_of(url)) == (fresh == "1")
    said = MILA if ago is None else MILA | {"auth_time": int(clock.seconds()) - ago}
    assert (await browser.come_back(acme.agree(url, said))).status_code == 303
    reply = await browser.write("PUT", "/me/password", new_password=GOOD)
    assert (reply.status_code, reply.json()["code"]) == (401, "insufficient_user_authentication")
    assert (await browser.sign_in_anew(MILA)).status_code == 303
    assert (await browser.write("PUT", "/me/password", new_password=GOOD)).status_code == 204


async def test_somebody_elses_connection_is_not_found(browser: Browser, another: Browser) -> None:
    assert (await browser.sign_in_anew(MILA)).status_code == 303
    assert (await another.sign_in(MILA | {"sub": "max", "email": "max@example.org"})).status_code == 303
    [theirs] = (await another.http.get("/v1/accounts/connections")).json()["items"]
    assert (await browser.write("DELETE", f"/connections/{theirs['id']}")).status_code == 404


async def cookie_session(browser: Browser, who: str = "ann") -> str:
    """A new session with a password; returns its CSRF token."""
    if "sid" in browser.http.cookies:
        browser.http.cookies.delete("sid")
    form = {"email": f"{who}@msingi.test", "password": PASSWORD, "session": "cookie"}
    reply = await browser.http.post("/v1/accounts/sign-in", json=form)
    assert reply.status_code == 200, reply.text
    token: str = reply.json()["csrf_token"]
    return token


async def test_a16_who_is_signed_in_may_connect_what_they_prove(browser: Browser, another: Browser) -> None:
    token = await cookie_session(browser)
    before = browser.http.cookies["sid"]
    told = {"sub": "anns-other", "email": "elsewhere@example.org", "email_verified": False}
    reply = await browser.come_back(acme.agree(await browser.begin(connect=token, back="/account"), told))
    assert (reply.status_code, reply.headers["location"]) == (303, "/account")
    assert browser.http.cookies["sid"] == before
    assert [each.subject for each in await identities.many({"account": "ann"})] == ["anns-other"]
    assert (await another.sign_in(told)).status_code == 303
    assert (await another.me())["id"] == "ann"
    assert (await accounts.get("ann")).email_verified == (await accounts.get("bob")).email_verified  # unchanged


async def test_a16_an_identity_of_somebody_else_is_not_taken_over(browser: Browser, another: Browser) -> None:
    assert (await another.sign_in(MILA)).status_code == 303
    token = await cookie_session(browser)
    reply = await browser.come_back(acme.agree(await browser.begin(connect=token), MILA))
    assert (reply.status_code, reply.json()["code"]) == (409, "identity_taken")
    assert await identities.count({"account": "ann"}) == 0


async def test_a16_connecting_wants_our_own_page_and_a_fresh_session(browser: Browser, another: Browser) -> None:
    token = await cookie_session(browser)
    theirs = await cookie_session(another, "eve")
    for wrong in ("1", "", theirs, csrf.token_for("")):
        reply = await browser.http.get("/sign-in/with/acme", params={"connect": wrong})
        assert (reply.status_code, reply.json()["code"]) == (403, "cross_site")
    with clock.shifted(timedelta(seconds=STEP_UP + 1)):
        reply = await browser.http.get("/sign-in/with/acme", params={"connect": token})
        assert reply.headers["location"].startswith("/step-up?")
    browser.http.cookies.clear()
    reply = await browser.http.get("/sign-in/with/acme", params={"connect": token})
    assert reply.headers["location"].startswith("/sign-in?")


async def test_a16_what_one_session_began_to_connect_no_other_ends(browser: Browser) -> None:
    url = await browser.begin(connect=await cookie_session(browser))
    await cookie_session(browser, "eve")
    reply = await browser.come_back(acme.agree(url, MILA))
    assert (reply.status_code, reply.json()["code"]) == (400, "wrong_state")
    browser.http.cookies.delete("sid")
    reply = await browser.come_back(acme.agree(url, MILA))
    assert (reply.status_code, reply.json()["code"]) == (400, "wrong_state")
    assert await identities.count({}) == 0


# ---- settings


def test_settings_that_will_not_do_are_named_without_their_secrets() -> None:
    canary = "hush-hush-hush-0123456789"
    for listed, said in {
        f'[{{"name": "acme", "issuer": "http://acme.test", "id": "us", "secret": "{canary}"}}]': "issuer",
        f'[{{"name": "Acme Inc", "issuer": "https://acme.test", "id": "us", "secret": "{canary}"}}]': "name",
        f'[{{"name": "google", "issuer": "https://acme.test", "id": "us", "secret": "{canary}"}}]': "google",
        f'{{"name": "acme", "secret": "{canary}"}}': "array",
        f'[{{"secret": "{canary}"': "MSINGI_OIDC_PROVIDERS",
    }.items():
        with pytest.raises(config.BadSettings) as refused:
            config.load(AccountsSettings, {"MSINGI_OIDC_PROVIDERS": listed})
        assert said in str(refused.value)
        assert canary not in str(refused.value)
    with pytest.raises(config.BadSettings):
        config.load(AccountsSettings, {"MSINGI_OAUTH_GITHUB_URL": "http://github.test"})


def test_d4_a_provider_does_not_show_its_secret() -> None:
    given = {"MSINGI_OAUTH_GITHUB_ID": "us", "MSINGI_OAUTH_GITHUB_SECRET": "hush-hush-hush-0123456789"}
    [github] = config.load(AccountsSettings, given).providers
    assert github.secret == "hush-hush-hush-0123456789"
    assert "hush" not in f"{github!r} {github}"
