"""An admin's day in a real Chromium: finding somebody, shutting them out, roles, limits, and acting for somebody."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.serving import Served
from tests.test_console import PHONE, Visit, visit

__all__ = ["visit"]

PLACES = [
    *("/admin/users", "/admin/users/ann", "/admin/users/ann/edit", "/admin/roles", "/admin/roles/admin/permissions"),
    *("/admin/audit", "/admin/clients", "/admin/clients/new", "/admin/limits", "/admin/limits/member"),
]


@pytest.fixture
def page(visit: Visit, served: Served) -> Page:
    """The admin's window."""
    visit.sign_in("admin", served.password)
    expect(visit.page.get_by_role("banner").get_by_role("link", name="Admin", exact=True)).to_be_visible()
    return visit.page


def go_to(page: Page, place: str) -> None:
    page.get_by_role("banner").get_by_role("link", name="People").click()
    page.get_by_role("navigation", name="Account").get_by_role("link", name=place).click()
    expect(page.locator("h1")).to_have_text(place)


def find(page: Page, words: str) -> None:
    go_to(page, "People")
    page.get_by_label("Name or address").fill(words)
    page.get_by_role("button", name="Search").click()
    page.locator("tbody").get_by_role("link").last.click()  # the oldest: other tests may have made a namesake


def press(page: Page, name: str) -> None:
    page.locator("main").get_by_role("button", name=name).click()


def test_an_admin_shuts_somebody_out_and_sees_it_in_the_log(page: Page, served: Served) -> None:
    with served.sign_in("eve") as eve:
        find(page, "eve@msingi.test")
        expect(page.locator("h1")).to_contain_text("Eve")
        page.get_by_role("link", name="Disable").click()
        press(page, "Disable")
        expect(page.get_by_role("status")).to_have_text("The account is disabled.")
        assert eve.get("/v1/accounts/me").status_code == 401
    go_to(page, "Audit log")
    page.get_by_label("About whom or what").fill("eve@msingi.test")
    page.locator("select[name=kind]").select_option("accounts.user_changed")
    press(page, "Search")
    row = page.locator("tbody tr").first
    expect(row).to_contain_text("Admin")
    expect(row).to_contain_text("Eve")
    row.get_by_text("Details").click()
    expect(row).to_contain_text("no → yes")
    page.get_by_role("link", name="Check the chain").click()
    expect(page.get_by_role("status")).to_have_text("The log is as it was written.")
    find(page, "eve")
    page.get_by_role("link", name="Enable").click()
    press(page, "Enable")
    with served.sign_in("eve") as eve:
        assert eve.get("/v1/accounts/me").status_code == 200


def test_a_role_is_made_and_given_and_opens_its_place_at_once(page: Page, browser: Browser, served: Served) -> None:
    go_to(page, "Roles")
    page.get_by_role("link", name="Make a role").click()
    page.get_by_label("Name").fill("auditor")
    page.get_by_label("What it is for").fill("Reads what happened")
    page.get_by_label("audit:read").check()
    press(page, "Make the role")
    expect(page.locator("h1")).to_have_text("auditor")
    bobs = Visit(browser, served)
    bobs.sign_in("bob", served.password)
    expect(bobs.page.get_by_text("Bob", exact=True)).to_be_visible()
    find(page, "bob@msingi.test")
    page.get_by_role("link", name="Change name or roles").click()
    page.get_by_label("auditor").check()
    press(page, "Save")
    expect(page.get_by_role("status")).to_have_text("Saved.")
    bobs.page.goto("/account")
    bobs.page.get_by_role("link", name="Look after others").click()
    expect(bobs.page.locator("h1")).to_have_text("Audit log")
    expect(bobs.page.get_by_role("navigation", name="Account").get_by_role("link")).to_have_count(1)
    bobs.context.close()
    assert bobs.complaints == []
    find(page, "bob@msingi.test")
    page.get_by_role("link", name="Change name or roles").click()
    page.get_by_label("auditor").uncheck()
    press(page, "Save")
    go_to(page, "Roles")
    page.get_by_role("link", name="auditor").click()
    page.get_by_role("link", name="Delete it").click()
    press(page, "Delete it")
    expect(page.get_by_role("status")).to_have_text("The role is deleted.")


def test_a_limit_is_changed_and_set_back(page: Page) -> None:
    go_to(page, "Limits")
    row = page.locator("tr", has_text="accounts_make_api_key")
    expect(row).to_contain_text("20/minute")
    row.get_by_role("link", name="Change").click()
    page.get_by_label("Limit").fill("25/minute")
    press(page, "Save")
    expect(row).to_contain_text("25/minute")
    expect(row).to_contain_text("changed")
    row.get_by_role("link", name="Back to the default").click()
    press(page, "Set it back")
    expect(row).not_to_contain_text("changed")


def test_a20_an_admin_acts_for_somebody_under_a_banner_that_ends_it(page: Page) -> None:
    find(page, "ann@msingi.test")
    page.get_by_role("link", name="Act in their name").click()
    page.get_by_label("Reason").fill("Ticket 4711")
    press(page, "Act in their name")
    expect(page).to_have_url(re.compile("/account$"))
    for path in ("/account", "/", "/docs", "/mail"):
        page.goto(path)
        expect(page.locator(".acting")).to_contain_text("You act as Ann")
    page.locator(".acting").get_by_role("button", name="End it").click()
    expect(page.locator(".acting")).to_have_count(0)
    expect(page.get_by_role("banner").get_by_role("link", name="Sign in")).to_be_visible()


@pytest.mark.parametrize("language", ["en", "sw"])
def test_on_a_small_phone_no_page_for_admins_is_wider_than_the_screen(
    browser: Browser, served: Served, language: str
) -> None:
    small = {**PHONE, "width": 320}
    visiting = Visit(browser, served, viewport=small, is_mobile=True, has_touch=True)
    visiting.sign_in("admin", served.password)
    expect(visiting.page.get_by_text("Admin", exact=True)).to_be_visible()
    for path in PLACES:
        visiting.page.goto(f"{path}?lang={language}")
        assert visiting.page.evaluate("document.documentElement.scrollWidth") <= small["width"], path
    visiting.context.close()
    assert visiting.complaints == []
