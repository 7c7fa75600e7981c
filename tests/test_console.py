"""The pages in a real Chromium: what people see, what the keyboard reaches, and that nothing comes from elsewhere."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from tests.serving import Served, wait_until

from msingi import catalog

FOCUS = """() => {
  const element = document.activeElement, style = getComputedStyle(element);
  const text = element.innerText.trim() || element.getAttribute("aria-label") || "";
  return [element.tagName, text, style.outlineStyle, style.outlineWidth];
}"""
PHONE = {"width": 360, "height": 740}
READERS = {"/docs": ".opblock", "/docs/redoc": "[id^='tag/']", "/docs/scalar": ".section"}
POLICY_WORKS = re.compile("Content Security Policy|'script-src' was not explicitly set")


class Visit:
    """One person's browser window, and what went on in it."""

    def __init__(self, browser: Browser, served: Served, **more: object) -> None:
        self.host = urlsplit(served.url).netloc
        self.context: BrowserContext = browser.new_context(base_url=served.url, **more)  # type: ignore[arg-type]
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        self.context.route("**/*", self._watch)
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _watch(self, route: Route) -> None:
        if urlsplit(route.request.url).netloc == self.host:
            route.continue_()
        else:
            self.elsewhere.append(route.request.url)
            route.abort()

    def sign_in(self, name: str, password: str) -> None:
        self.page.goto("/sign-in")
        self.page.get_by_label("E-mail").fill(f"{name}@msingi.test")
        self.page.get_by_label("Password").fill(password)
        self.page.locator("main").get_by_role("button", name="Sign in", exact=True).click()


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Visit]:
    """Somebody at a desk whose system is light; at the end nothing was complained of and nothing fetched elsewhere."""
    visiting = Visit(browser, served, color_scheme="light", locale="en-GB", viewport={"width": 1280, "height": 800})
    yield visiting
    visiting.context.close()
    assert visiting.elsewhere == []
    assert visiting.complaints == []


def test_home_shows_the_products_and_leads_to_their_description(visit: Visit) -> None:
    page = visit.page
    page.goto("/")
    for product in catalog.products():
        card = page.locator("article", has_text=product.title).filter(has_text=f"/v1/{product.name}")
        expect(card).to_be_visible()
        expect(card).to_contain_text(product.summary)
    expect(page.locator(".lamps .up")).to_have_count(2)
    page.locator("article", has_text="/v1/notes").get_by_text("Try the API").click()
    expect(page).to_have_url(re.compile(r"/docs\?product=notes$"))


@pytest.mark.parametrize(("path", "operation"), READERS.items())
def test_each_reader_of_the_description_shows_its_operations(visit: Visit, path: str, operation: str) -> None:
    visit.page.goto(f"{path}?product=notes")
    visit.page.wait_for_selector(f"#reader {operation}", timeout=30_000)
    reader = visit.page.locator("#reader")
    for summary in ("List notes", "Write note", "Show note"):
        expect(reader).to_contain_text(summary, timeout=30_000, ignore_case=True)
    expect(reader).not_to_contain_text("Change password", ignore_case=True)
    # Two of the readers try what the content policy forbids them: an image from elsewhere, making code out of text.
    visit.complaints = [each for each in visit.complaints if not POLICY_WORKS.search(each)]


def test_the_reader_shows_all_products_together(visit: Visit) -> None:
    visit.page.goto("/docs")
    visit.page.wait_for_selector("#reader .opblock")
    for name in catalog.NAMES:
        scroll_to(visit.page, f"/v1/{name}/")


def scroll_to(page: Page, text: str) -> None:
    """Down until the reader shows it: of a long description only what is in sight is rendered."""
    reader = page.locator("#reader")
    page.mouse.move(600, 400)
    for _ in range(150):
        if text in (reader.text_content() or ""):
            return
        page.mouse.wheel(0, 500)
        page.wait_for_timeout(100)
    raise AssertionError(f"the reader does not show {text}")


def test_the_theme_that_was_chosen_stays(visit: Visit) -> None:
    page = visit.page
    page.goto("/")
    light = background(page)
    page.get_by_role("button", name="Theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert brightness(background(page)) < 60 < 200 < brightness(light)
    page.goto("/sign-in")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert background(page) == light


def test_a_system_that_is_dark_gets_dark_pages(browser: Browser, served: Served) -> None:
    visiting = Visit(browser, served, color_scheme="dark")
    for path in ("/", "/sign-in", "/mail"):
        visiting.page.goto(path)
        assert brightness(background(visiting.page)) < 60, path
    visiting.context.close()


def test_the_language_that_was_chosen_stays(visit: Visit) -> None:
    page = visit.page
    page.goto("/")
    page.get_by_role("button", name="Kiswahili").click()
    expect(page.locator("html")).to_have_attribute("lang", "sw")
    expect(page.locator("h1")).to_have_text("Msingi wa kujengea mifumo")
    page.goto("/sign-in")
    expect(page.locator("h1")).to_have_text("Ingia")
    page.get_by_role("button", name="English").click()
    expect(page.locator("h1")).to_have_text("Sign in")


def test_an_admin_signs_in_sees_the_jobs_and_signs_out(visit: Visit, served: Served) -> None:
    page = visit.page
    visit.sign_in("admin", served.password)
    expect(page.get_by_text("Admin", exact=True)).to_be_visible()
    cookie = next(each for each in visit.context.cookies() if each.get("name") == "sid")
    assert cookie.get("httpOnly")
    assert cookie.get("sameSite") == "Lax"
    page.get_by_role("link", name="Jobs").click()
    expect(page.locator("h1")).to_have_text("Jobs")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("banner").get_by_role("link", name="Sign in")).to_be_visible()
    page.goto("/jobs")
    expect(page).to_have_url(re.compile("/sign-in"))


def test_a_member_does_not_see_the_jobs(visit: Visit, served: Served) -> None:
    page = visit.page
    visit.sign_in("ann", served.password)
    expect(page.get_by_text("Ann", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Jobs")).to_have_count(0)
    reply = visit.context.request.get("/jobs")
    assert reply.status == 403


def test_a_wrong_password_is_told_and_the_address_need_not_be_typed_again(browser: Browser, served: Served) -> None:
    visiting = Visit(browser, served)
    visiting.sign_in("ann", "not the password of ann")
    expect(visiting.page.get_by_role("alert")).to_be_visible()
    expect(visiting.page.get_by_label("E-mail")).to_have_value("ann@msingi.test")
    expect(visiting.page.get_by_label("Password")).to_have_value("")
    visiting.context.close()


def test_a_form_from_elsewhere_or_without_its_token_changes_nothing(visit: Visit, served: Served) -> None:
    visit.sign_in("ann", served.password)
    expect(visit.page.get_by_text("Ann", exact=True)).to_be_visible()
    cookies = {each["name"]: each["value"] for each in visit.context.cookies()}
    token = visit.page.locator("input[name=_csrf]").first.get_attribute("value") or ""
    foreign = {"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}
    own = {"Origin": served.url, "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=served.url, cookies=cookies, trust_env=False) as stranger:
        for headers, form in [
            (foreign, {"_csrf": token}),
            (own, {"back": "/"}),
            (own, {"_csrf": "made.up"}),
            ({}, {"_csrf": token}),
        ]:
            reply = stranger.post("/sign-out", headers=headers, data=form)
            assert (reply.status_code, reply.json()["code"]) == (403, "cross_site"), (headers, form)
    visit.page.reload()
    expect(visit.page.get_by_text("Ann", exact=True)).to_be_visible()


def test_letters_are_shown_within_the_frame_of_the_console(visit: Visit, served: Served) -> None:
    with served.sign_in("ann") as ann:
        reminder = {"at": "2026-01-01T00:00:00Z"}
        ann.post("/v1/tasks/fence/reminders", json=reminder).raise_for_status()
        wait_until(lambda: "Mend the fence" in ann.get("/mail").text, 30)
    visit.page.goto("/mail")
    expect(visit.page.get_by_role("banner")).to_be_visible()
    visit.page.get_by_role("link", name=re.compile("Mend the fence")).first.click()
    expect(visit.page.locator("pre")).to_contain_text("Mend the fence")


@pytest.mark.parametrize("path", ["/", "/docs", "/sign-in", "/jobs", "/mail", "/bench", "/problems/not_found"])
def test_on_a_phone_no_page_is_wider_than_the_screen(browser: Browser, served: Served, path: str) -> None:
    visiting = Visit(browser, served, viewport=PHONE, is_mobile=True, has_touch=True)
    if path == "/jobs":
        visiting.sign_in("admin", served.password)
        expect(visiting.page.get_by_text("Admin", exact=True)).to_be_visible()
    visiting.page.goto(path)
    visiting.page.wait_for_load_state("networkidle")
    assert visiting.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    visiting.context.close()


def test_the_keyboard_reaches_everything_and_shows_where_it_is(visit: Visit) -> None:
    page = visit.page
    page.goto("/")
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        here = page.evaluate(FOCUS)
        if here[0] == "BODY":
            break
        reached.append(here)
    assert len(reached) > 8
    assert [each for each in reached if each[2] == "none" or each[3] == "0px"] == []
    assert {"A", "BUTTON"} <= {each[0] for each in reached}
    assert all(each[1] for each in reached)  # and each can be named by a screen reader


def background(page: Page) -> str:
    """What the page is painted on, once its style sheets are there."""
    page.wait_for_load_state()
    found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return found


def brightness(color: str) -> float:
    """0 is black, 255 is white; what is see-through counts as white."""
    parts = [float(part) for part in re.findall(r"[\d.]+", color)]
    return 255.0 if len(parts) == 4 and parts[3] == 0 else sum(parts[:3]) / 3
