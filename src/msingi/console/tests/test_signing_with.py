"""The sign-in page offers the providers that are configured, and asks for a second factor after one of them too."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pyotp
import pytest
import pytest_asyncio

from msingi.console import routes
from msingi.kit import app as kit_app
from msingi.kit import clock, config
from msingi.kit.testing import PASSWORD, House, World, lifespan, start_over, test_settings
from msingi.kit.tokens import SigningKey
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.product import product
from msingi.products.accounts.tests.provider import Stranger, free_port, served

acme = Stranger(free_port())
HTML = {"accept": "text/html"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house() -> AsyncIterator[House]:
    """Accounts with the console's pages, and a provider."""
    settings = test_settings()
    listed = [{"name": "acme", "title": "Acme & <b>Sons</b>", "issuer": acme.issuer, "id": "us"}]
    given = {"MSINGI_OIDC_PROVIDERS": json.dumps(listed), "MSINGI_OAUTH_GITHUB_ID": "us"}
    parts: dict[type, Any] = {AccountsSettings: config.load(AccountsSettings, given)}
    app = kit_app.build(settings, [product], parts=parts, pages=routes.routes_for([product]))
    async with served(acme), lifespan(app):
        await kit_app.prepare_running([product])
        yield House([product], app, settings, SigningKey.generate())


@pytest_asyncio.fixture(loop_scope="session")
async def browser(house: House) -> AsyncIterator[httpx.AsyncClient]:
    await start_over(house)
    async with World(house).client(None).http as client:
        client.headers.update(HTML)
        yield client


@pytest.mark.parametrize(("language", "words"), [("en", "Sign in with GitHub"), ("sw", "Ingia kwa GitHub")])
async def test_the_page_offers_what_is_configured(browser: httpx.AsyncClient, language: str, words: str) -> None:
    page = (await browser.get("/sign-in", params={"lang": language, "back": "/docs?a=1&b=2"})).text
    assert words in page
    assert 'href="/sign-in/with/github?back=%2Fdocs%3Fa%3D1%26b%3D2"' in page
    assert "Acme &amp; &lt;b&gt;Sons" in page
    assert "Google" not in page


async def test_what_went_wrong_is_told_in_ones_language_with_a_way_back(browser: httpx.AsyncClient) -> None:
    reply = await browser.get("/sign-in/with/acme/callback?state=made-up&lang=sw")
    assert reply.status_code == 400
    assert "anza tena" in reply.text
    assert 'href="/sign-in?back=%2F"' in reply.text


async def test_a_second_factor_is_asked_on_a_page_and_leads_back(browser: httpx.AsyncClient) -> None:
    tokens = (
        await browser.post("/v1/accounts/sign-in", json={"email": "ann@msingi.test", "password": PASSWORD})
    ).json()
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    seed = (await browser.post("/v1/accounts/me/totp", headers=bearer)).json()["secret"]
    before = {"code": pyotp.TOTP(seed).at(clock.now() - timedelta(seconds=30))}
    assert (await browser.put("/v1/accounts/me/totp", headers=bearer, json=before)).status_code == 200
    url = (await browser.get("/sign-in/with/acme", params={"back": "/docs"})).headers["location"]
    answer = acme.agree(url, {"sub": "ann", "email": "ann@msingi.test", "email_verified": True})
    page = await browser.get(f"/sign-in/with/acme/callback?{answer}")
    assert page.status_code == 200
    assert "sid" not in browser.cookies
    form = {"code": pyotp.TOTP(seed).at(clock.now()), "back": "/docs"}
    for hidden in ("_csrf", "ticket"):
        form[hidden] = page.text.split(f'name="{hidden}" value="')[-1].split('"')[0]
    ours = {"origin": "http://msingi.test"}
    reply = await browser.post("/sign-in/second-factor", data=form, headers=ours)
    assert (reply.status_code, reply.headers.get("location")) == (303, "/docs"), reply.text
    assert "sid" in browser.cookies
