"""The shop's overview, stock and tables in a real Chromium: nothing is too wide, and what takes a while says so."""

import secrets

from playwright.sync_api import Browser, expect
from tests.serving import Served
from tests.test_console import PHONE, Visit, visit

__all__ = ["visit"]

SLOW = 60_000  # milliseconds that a job may take on a machine with much to do
PLACES = [
    *(
        "/shop/admin",
        "/shop/admin?span=12-months",
        "/shop/admin?since=2026-01-01&until=2026-03-01",
        "/shop/admin/stock",
    ),
    *("/shop/admin/stock/tea-250", "/shop/admin/import", "/shop/admin/exports"),
    *("/shop/admin/webhooks", "/shop/admin/webhooks/new"),
]


def test_on_a_small_phone_no_page_of_the_shop_is_wider_than_the_screen(browser: Browser, served: Served) -> None:
    small = {**PHONE, "width": 320}
    visiting = Visit(browser, served, viewport=small, is_mobile=True, has_touch=True)
    visiting.sign_in("admin", served.password)
    expect(visiting.page.get_by_text("Admin", exact=True)).to_be_visible()
    with served.sign_in("admin") as admin:
        hook = {
            "url": f"https://erp.example/hooks/{'x' * 100}",
            "events": ["order.*", "stock.low"],
            "note": "the ledger",
        }
        made = admin.post("/v1/shop/webhooks", json=hook).raise_for_status().json()["id"]
        sent = admin.post(f"/v1/shop/webhooks/{made}/pings").raise_for_status().json()["id"]
    one = f"/shop/admin/webhooks/{made}"
    for path in (*PLACES, one, f"{one}/secret", f"{one}/removal", f"{one}/deliveries/{sent}"):
        for language in ("en", "sw"):
            visiting.page.goto(f"{path}{'&' if '?' in path else '?'}lang={language}")
            closed = visiting.page.locator("details:not([open]) > summary")
            while closed.count():
                closed.first.click()
            assert visiting.page.evaluate("document.documentElement.scrollWidth") <= small["width"], path
    visiting.context.close()
    assert visiting.complaints == []


def test_a_table_is_looked_at_brought_in_and_taken_away_again(visit: Visit, served: Served) -> None:
    page = visit.page
    visit.sign_in("admin", served.password)
    page.get_by_role("banner").get_by_role("link", name="Shop").click()
    page.get_by_role("navigation", name="Shop").get_by_role("link", name="Import").click()
    slug = f"mug-{secrets.token_hex(4)}"
    table = f"slug,title_en,sku,price KES\n{slug},Mug,{slug.upper()},450.00\n"
    page.get_by_label("A table as CSV or XLSX").set_input_files(
        {"name": "goods.csv", "mimeType": "text/csv", "buffer": table.encode()}
    )
    page.get_by_role("button", name="Look at it").click()
    page.get_by_role("button", name="Do it: 1 new, 0 changed").click(timeout=SLOW)
    expect(page.get_by_text("It is done.")).to_be_visible(timeout=SLOW)
    page.get_by_role("navigation", name="Shop").get_by_role("link", name="Exports").click()
    page.get_by_role("button", name="Write it").click()
    row = page.locator("#sheets tbody tr").first
    with page.expect_download(timeout=SLOW) as downloading:
        row.get_by_role("link", name="Fetch").click(timeout=SLOW)
    assert slug in downloading.value.path().read_text("utf-8")


def test_without_scripts_goods_arrive_and_an_address_is_told(browser: Browser, served: Served) -> None:
    visiting = Visit(browser, served, java_script_enabled=False)
    page = visiting.page
    visiting.sign_in("admin", served.password)
    page.goto("/shop/admin/stock/coffee-500")
    there = page.locator("section.panel", has=page.get_by_role("heading", name="Nairobi, Biashara Street"))
    before = int(there.locator("dd").first.inner_text().replace(",", ""))
    there.get_by_label("How many arrived").fill("12")
    there.get_by_role("button", name="They are here").click()
    expect(page.get_by_role("status")).to_have_text("It is there.")
    assert int(there.locator("dd").first.inner_text().replace(",", "")) == before + 12
    there.get_by_label("How many go there").fill("2")
    there.get_by_role("button", name="Move them").click()
    expect(page.get_by_role("status")).to_have_text("It is moved.")
    page.get_by_role("navigation", name="Shop").get_by_role("link", name="Webhooks").click()
    page.get_by_role("link", name="Have another address told").click()
    page.get_by_label("Address").fill("https://erp.example/hooks")
    page.get_by_label("stock.low").check()
    page.get_by_role("button", name="Have it told, and show its secret").click()
    expect(page.locator(".secret")).to_contain_text("whsec_")
    page.get_by_role("link", name="I have kept it").click()
    page.get_by_role("button", name="Turn it off").click()
    expect(page.get_by_text("turned off by hand")).to_be_visible()
    visiting.context.close()
    assert visiting.complaints == []
