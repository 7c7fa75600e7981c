"""Signing in on the page is defended as the API is, and says so in words."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from msingi.console import routes
from msingi.kit import app as kit_app
from msingi.kit.testing import PASSWORD, House, World, lifespan, start_over, test_settings
from msingi.kit.tokens import SigningKey
from msingi.products.accounts.product import product

ANN = "ann@msingi.test"
OURS = {"origin": "http://msingi.test"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house() -> AsyncIterator[House]:
    """Accounts with the console's pages."""
    settings = test_settings()
    app = kit_app.build(settings, [product], pages=routes.routes_for([product]))
    async with lifespan(app):
        await kit_app.prepare_running([product])
        yield House([product], app, settings, SigningKey.generate())


@pytest_asyncio.fixture(loop_scope="session")
async def browser(house: House) -> AsyncIterator[httpx.AsyncClient]:
    await start_over(house)
    async with World(house).client(None).http as client:
        client.headers["accept"] = "text/html"
        yield client


async def sign_in(browser: httpx.AsyncClient, password: str, language: str = "en") -> httpx.Response:
    page = await browser.get("/sign-in", params={"lang": language})
    token = re.findall(r'name="_csrf" value="([^"]+)"', page.text)[0]
    form = {"_csrf": token, "email": ANN, "password": password, "back": "/"}
    return await browser.post("/sign-in", params={"lang": language}, data=form, headers=OURS)


@pytest.mark.parametrize(("language", "words"), [("en", "Too many wrong passwords"), ("sw", "Nywila nyingi")])
async def test_a3_the_page_too_hears_of_too_many_tries(browser: httpx.AsyncClient, language: str, words: str) -> None:
    replies = [await sign_in(browser, "not the password", language) for _ in range(11)]
    assert [reply.status_code for reply in replies] == [401] * 10 + [429]
    assert words in replies[-1].text
    assert 50 <= int(replies[-1].headers["retry-after"]) <= 60
    assert (await sign_in(browser, PASSWORD, language)).status_code == 429


async def test_a4_signing_in_on_the_page_makes_the_device_known(browser: httpx.AsyncClient, house: House) -> None:
    reply = await sign_in(browser, PASSWORD)
    assert reply.status_code == 303
    assert {"sid", "device"} <= set(reply.cookies)
    device = reply.cookies["device"]
    async with World(house).client(None).http as stranger:
        form = {"email": ANN, "password": "not the password"}
        statuses = [(await stranger.post("/v1/accounts/sign-in", json=form)).status_code for _ in range(11)]
        assert statuses == [401] * 10 + [429]
    browser.cookies.clear()
    assert (await sign_in(browser, PASSWORD)).status_code == 429
    browser.cookies.set("device", device)
    assert (await sign_in(browser, PASSWORD)).status_code == 303
