"""A person's own pages in a real Chromium: a second factor, a key, other sessions and a language, from end to end."""

import re
import secrets

import httpx
import pyotp
import pytest
from playwright.sync_api import Browser, expect
from tests.serving import Served
from tests.test_console import PHONE, Visit, visit

from msingi.kit import clock

__all__ = ["visit"]
PATHS = [
    *("/account", "/account/security", "/account/sessions", "/account/connections", "/account/api-keys/new"),
    *("/account/organisations", "/account/organisations/farm", "/account/activity", "/account/data"),
]


def test_somebody_looks_after_their_account(visit: Visit, served: Served) -> None:
    page, main = visit.page, visit.page.locator("main")
    email, password = newcomer(served)
    with signed_in(served, email, password) as program:
        enter(visit, email, password)

        # Set up an app, and keep the recovery codes.
        page.goto("/account/security")
        page.get_by_role("link", name="Set up an authenticator app").click()
        page.get_by_role("button", name="Show the code to scan").click()
        expect(page.get_by_role("img", name="The code to scan")).to_be_visible()
        app = pyotp.TOTP(main.locator(".secret").inner_text())
        page.get_by_label("Code").fill(app.at(clock.seconds() - 30))
        page.get_by_role("button", name="Turn it on").click()
        expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
        assert len(main.locator("#codes").inner_text().split()) == 10
        assert program.get("/v1/accounts/me").status_code == 401  # the first factor ended all other sessions

        # Sign out, and in again with a code.
        page.get_by_role("button", name="Sign out").click()
        enter(visit, email, password)
        page.get_by_label("Code from your app").fill(app.at(clock.seconds()))
        page.get_by_role("button", name="Continue").click()
        expect(page.locator(".who")).to_have_text("New")

    # Make a key, which lets a program in.
    page.goto("/account/api-keys")
    page.get_by_role("link", name="Make a key").click()
    page.get_by_label("What is it for?").fill("Nightly report")
    page.get_by_label("Read what is yours in accounts").check()
    page.get_by_role("button", name="Make the key").click()
    key = main.locator("#key").inner_text()
    with served.client(key) as program:
        assert program.get("/v1/accounts/me").raise_for_status().json()["email"] == email
    page.get_by_role("link", name="I have kept it").click()
    expect(main).to_contain_text("Nightly report")
    expect(main).not_to_contain_text(key)

    # End a session elsewhere.
    elsewhere = Visit(page.context.browser, served)  # type: ignore[arg-type]
    enter(elsewhere, email, password)
    elsewhere.page.get_by_label("Code from your app").fill(app.at(clock.seconds() + 30))
    elsewhere.page.get_by_role("button", name="Continue").click()
    expect(elsewhere.page.locator(".who")).to_have_text("New")
    page.goto("/account/sessions")
    expect(main.locator("article")).to_have_count(2)
    expect(main.locator("article", has_text="this session")).to_contain_text("Chrome on Linux")
    main.get_by_role("button", name="End it").click()
    expect(page.get_by_role("status")).to_have_text("That session is ended.")
    expect(main.locator("article")).to_have_count(1)
    elsewhere.page.goto("/account")
    expect(elsewhere.page).to_have_url(re.compile("/sign-in"))
    elsewhere.context.close()

    # Speak Swahili.
    page.goto("/account")
    page.get_by_label("Language").select_option("sw")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("html")).to_have_attribute("lang", "sw")
    expect(page.get_by_role("status")).to_have_text("Imehifadhiwa.")
    page.goto("/account/activity")
    expect(main).to_contain_text("Programu ya misimbo iliwekwa")


def newcomer(served: Served) -> tuple[str, str]:
    """The address and the password of somebody who has just registered."""
    email, password = f"p{secrets.token_hex(6)}@msingi.test", secrets.token_hex(12)
    with served.client() as nobody:
        form = {"email": email, "password": password, "name": "New"}
        nobody.post("/v1/accounts/register", json=form).raise_for_status()
    return email, password


def signed_in(served: Served, email: str, password: str) -> httpx.Client:
    with served.client() as nobody:
        reply = nobody.post("/v1/accounts/sign-in", json={"email": email, "password": password})
        return served.client(reply.raise_for_status().json()["access_token"])


def enter(visit: Visit, email: str, password: str) -> None:
    visit.page.goto("/sign-in")
    visit.page.get_by_label("E-mail").fill(email)
    visit.page.get_by_label("Password").fill(password)
    visit.page.locator("main").get_by_role("button", name="Sign in", exact=True).click()


@pytest.mark.parametrize("language", ["en", "sw"])
def test_no_page_of_ones_own_is_wider_than_a_small_phone(browser: Browser, served: Served, language: str) -> None:
    visiting = Visit(browser, served, viewport={**PHONE, "width": 320}, is_mobile=True, has_touch=True)
    visiting.sign_in("ann", served.password)
    expect(visiting.page.locator(".who")).to_have_text("Ann")
    for path in PATHS:
        visiting.page.goto(f"{path}?lang={language}")
        assert visiting.page.evaluate("document.documentElement.scrollWidth") <= 320, path
    visiting.context.close()
    assert visiting.complaints == []
