"""Second factors where they are used: a passkey in a real Chromium, and a fresh proof that every process believes.

WebAuthn wants a name and no number, so this house is at http://localhost.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pyotp
import pytest
from playwright.sync_api import Page, expect
from tests.chromium import launched
from tests.serving import Served, own_databases, serving

from msingi import preflight
from msingi.kit import clock

HAS = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
MAKE = """async (options) => {
  const bytes = (text) =>
    Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  const user = { ...options.user, id: bytes(options.user.id) };
  const publicKey = { ...options, challenge: bytes(options.challenge), user, excludeCredentials: [] };
  return (await navigator.credentials.create({ publicKey })).toJSON();
}"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Accounts in two web processes."""
    port = preflight.free_port("127.0.0.1")
    named = {"MSINGI_PORT": str(port), "MSINGI_PUBLIC_URL": f"http://localhost:{port}"}
    folder = tmp_path_factory.mktemp("localhost")
    with serving(folder, **own_databases(32), products=["accounts"], parts=["web"], **named) as running:
        yield running


@pytest.fixture
def page(house: Served) -> Iterator[Page]:
    """A browser whose computer has an authenticator; at the end nothing was complained of."""
    with launched() as browser:
        context = browser.new_context(base_url=house.settings.base_url, locale="en-GB")
        page, complaints = context.new_page(), list[str]()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Policy" in said.text else None)
        devices = context.new_cdp_session(page)
        devices.send("WebAuthn.enable")
        devices.send("WebAuthn.addVirtualAuthenticator", {"options": HAS})
        yield page
    assert complaints == []


def asked(client: httpx.Client, path: str, **form: Any) -> Any:
    return client.post(f"/v1/accounts{path}", json=form).raise_for_status().json()


def test_a18_a_passkey_in_a_browser_signs_in_alone_steps_up_and_is_the_second_step(house: Served, page: Page) -> None:
    page.goto("/sign-in")
    with house.sign_in("ann") as ann:
        begun = asked(ann, "/me/passkeys/options")
        made = page.evaluate(MAKE, begun["options"])
        asked(ann, "/me/passkeys", ticket=begun["ticket"], credential=made, name="Laptop")

    page.goto("/sign-in?back=/sign-in")
    page.get_by_role("button", name="Use a passkey").click()
    who = page.locator(".who")
    expect(who).to_have_text("Ann")
    expect(page).to_have_url(re.compile("/sign-in$"))

    page.goto("/step-up?back=/docs")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page).to_have_url(re.compile("/docs$"))

    page.get_by_role("button", name="Sign out").click()
    page.goto("/sign-in")
    page.get_by_label("E-mail").fill("ann@msingi.test")
    page.get_by_label("Password").fill(house.password)
    page.locator("main").get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="One step is left")).to_be_visible()
    expect(who).to_have_count(0)
    page.get_by_role("button", name="Use a passkey").click()
    expect(who).to_have_text("Ann")


def test_a18_a_passkey_is_made_on_its_page_and_removed(house: Served, page: Page) -> None:
    sign_in(page, house, "admin")
    page.goto("/account/security")
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("What to call it").fill("Desk")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    page.get_by_role("link", name="I have kept them").click()
    expect(page.locator("article")).to_contain_text("Desk")

    page.get_by_role("button", name="Sign out").click()
    expect(page.locator(".who")).to_have_count(0)
    page.goto("/sign-in?back=/account/security")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.locator("article")).not_to_contain_text("never")
    page.get_by_role("link", name="Remove Desk").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("status")).to_have_text("The passkey is removed.")
    expect(page.locator("article")).to_have_count(0)


def test_a17_the_page_asks_for_the_code_of_the_app_until_it_is_right(house: Served, page: Page) -> None:
    with house.sign_in("bob") as bob:
        seed = asked(bob, "/me/totp")["secret"]
        form = {"code": pyotp.TOTP(seed).at(clock.now() - timedelta(seconds=30))}
        added = bob.put("/v1/accounts/me/totp", json=form).raise_for_status().json()
    sign_in(page, house, "bob")
    expect(page.get_by_role("button", name="Use a passkey")).to_have_count(0)
    page.get_by_label("Code from your app").fill("000 000")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert").first).to_contain_text("This code is not right")
    page.get_by_label("Code from your app").fill(pyotp.TOTP(seed).at(clock.now()))
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".who")).to_have_text("Bob")

    page.goto("/step-up?back=https://evil.test")
    page.get_by_label("Password").fill(house.password)
    page.get_by_text("Use a recovery code").click()
    page.get_by_label("Recovery code").fill(added["recovery_codes"][0].upper())
    page.get_by_role("button", name="Continue").click()
    expect(page).to_have_url(f"{house.settings.base_url}/")

    page.context.clear_cookies()
    page.context.add_cookies([{"name": "lang", "value": "sw", "url": house.settings.base_url}])
    sign_in(page, house, "bob", email="Barua pepe", password="Nywila", button="Ingia")
    expect(page.get_by_role("heading", name="Imebaki hatua moja")).to_be_visible()


def sign_in(
    page: Page, house: Served, name: str, email: str = "E-mail", password: str = "Password", button: str = "Sign in"
) -> None:
    page.goto("/sign-in")
    page.get_by_label(email).fill(f"{name}@msingi.test")
    page.get_by_label(password).fill(house.password)
    page.locator("main").get_by_role("button", name=button, exact=True).click()


def test_a19_a_fresh_proof_given_to_one_process_is_believed_by_the_other(house: Served) -> None:
    ours = {"Origin": house.settings.base_url}
    form = {"email": "eve@msingi.test", "password": house.password, "session": "cookie"}
    with house.client() as client:
        reply = client.post("/v1/accounts/sign-in", json=form, headers=ours).raise_for_status()
    eve = {**ours, "Cookie": f"sid={reply.cookies['sid']}", "X-CSRF-Token": reply.json()["csrf_token"]}
    with house.mongo as mongo:  # it was long ago that she proved who she is
        kept = mongo[f"{house.settings.database}_accounts"].sessions
        long_ago = clock.now() - timedelta(hours=1)
        assert kept.update_one({"account": "eve"}, {"$set": {"proven_at": long_ago}}).modified_count == 1

    def each_asked(method: str, path: str, **more: Any) -> set[int]:
        """Over a new connection each time: they go to either process."""
        found = set()
        for _ in range(24):
            with house.client() as client:
                found.add(client.request(method, f"/v1/accounts{path}", headers=eve, **more).status_code)
        return found

    assert each_asked("GET", "/me") == {200}  # from here on both believe that it was
    assert each_asked("DELETE", "/me/totp") == {401}
    with house.client() as client:
        client.post("/v1/accounts/step-up", json={"password": house.password}, headers=eve).raise_for_status()
    assert each_asked("DELETE", "/me/totp") == {404}
    assert len(house.web_processes()) == 2
