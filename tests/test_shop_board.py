"""The staff's desks in a real Chromium: a board that follows what happens elsewhere, and a refund that takes two."""

import re
import secrets
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, expect
from tests.serving import Served, wait_until
from tests.test_console import Visit

from msingi.kit import clock

NOW = timedelta(0)
SLOW = 30_000  # milliseconds that something may take on a machine with much to do
LOST = re.compile("Failed to load resource|ERR_")  # what the browser itself says of a connection that broke


@pytest.fixture(scope="module")
def staff(served: Served) -> dict[str, str]:
    """The ids of those who work here, by their role; all have the password of the demo."""
    found = {}
    with served.sign_in("admin") as admin:
        for role in ("warehouse", "support", "owner"):
            form = {"email": address_of(served, role), "password": served.password, "name": role}
            added = admin.post("/v1/accounts/users", json=form | {"roles": ["user", f"shop_{role}"]})
            found[role] = added.raise_for_status().json()["id"]
    return found


def address_of(served: Served, role: str) -> str:
    return f"{role}.{served.settings.port}@msingi.test"


def ordered(served: Served) -> dict[str, str]:
    """An order of somebody without an account, for a packet of tea: its id and its number."""
    with served.client() as guest:
        put = guest.put("/v1/shop/cart/lines/tea-250", json={"quantity": 1}).raise_for_status()
        headers = {"X-Cart-Token": put.headers["x-cart-token"], "Idempotency-Key": secrets.token_hex(8)}
        cart = guest.get("/v1/shop/cart?country=KE&town=Nairobi&shipping=pick-up", headers=headers).raise_for_status()
        form = {
            "address": {"name": "Ann Wanjiru", "phone": "+254712345678", "country": "KE", "town": "Nairobi"},
            "shipping_id": "pick-up",
            "expected_total": cart.json()["totals"]["total"],
            "email": "buyer@msingi.test",
            "pay": {"provider": "mpesa", "phone": "+254711234567"},
        }
        order = guest.post("/v1/shop/checkout", json=form, headers=headers).raise_for_status().json()
    return {"id": order["id"], "number": order["number"]}


def at_desk(browser: Browser, served: Served, staff: dict[str, str], role: str, *, since: timedelta) -> Visit:
    """One of the staff with a browser, who proved so long ago who they are."""
    ours = {"Origin": served.settings.base_url}
    form = {"email": address_of(served, role), "password": served.password, "session": "cookie"}
    with served.client() as client:
        session = client.post("/v1/accounts/sign-in", json=form, headers=ours).raise_for_status().cookies["sid"]
    with served.mongo as mongo:
        sessions = mongo[f"{served.settings.database}_accounts"].sessions
        sessions.update_many({"account": staff[role]}, {"$set": {"proven_at": clock.now() - since}})
    visit = Visit(browser, served, color_scheme="light", locale="en-GB", viewport={"width": 1280, "height": 900})
    visit.context.add_cookies([{"name": "sid", "value": session, "url": served.url}])
    return visit


def left(visit: Visit) -> None:
    """They go; nothing was complained of, and nothing fetched elsewhere."""
    visit.context.close()
    assert visit.elsewhere == []
    assert visit.complaints == []


def test_the_board_follows_what_happens_elsewhere_and_says_when_it_cannot(
    browser: Browser, served: Served, staff: dict[str, str]
) -> None:
    visit = at_desk(browser, served, staff, "warehouse", since=NOW)
    page = visit.page
    page.goto("/shop/admin/orders")
    live, told = page.locator("#live"), page.locator("#told")
    expect(live).to_have_text("Up to date", timeout=SLOW)
    page.evaluate("window.here = 'the same page'")

    # It is placed with a web process and confirmed by the worker.
    order = ordered(served)
    row = page.locator(f"#order-{order['id']}")
    expect(row.locator(".tag")).to_have_text("To be sent", timeout=SLOW)
    expect(told).to_contain_text(f"Order {order['number']}: ", timeout=SLOW)

    # The line breaks; what happens meanwhile is there when it is back.
    page.context.set_offline(True)
    expect(live).to_contain_text("Not connected", timeout=SLOW)
    with served.sign_in("admin") as admin:
        reason = {"reason": "She asked for it."}
        admin.put(f"/v1/shop/orders/{order['id']}/cancellation", json=reason).raise_for_status()
    page.context.set_offline(False)
    expect(live).to_have_text("Up to date", timeout=SLOW)
    expect(row.locator(".tag")).to_have_text("Cancelled", timeout=SLOW)
    expect(told).to_have_text(f"Order {order['number']}: Cancelled", timeout=SLOW)
    assert page.evaluate("window.here") == "the same page"

    # Without its script it is a plain list.
    state = page.context.storage_state()
    plain = browser.new_context(base_url=served.url, java_script_enabled=False, storage_state=state)
    try:
        reader = plain.new_page()
        reader.goto("/shop/admin/orders")
        expect(reader.locator(f"#order-{order['id']}")).to_contain_text("Cancelled")
        expect(reader.locator("#live")).to_be_hidden()
    finally:
        plain.close()
    visit.complaints = [each for each in visit.complaints if not LOST.search(each)]
    left(visit)


def test_a19_a_refund_is_asked_by_one_and_approved_by_another_who_proves_who_they_are(
    browser: Browser, served: Served, staff: dict[str, str]
) -> None:
    order = ordered(served)
    with served.sign_in("admin") as admin:
        wait_until(lambda: admin.get(f"/v1/shop/orders/{order['id']}").json()["state"] == "confirmed", 60)
    support = at_desk(browser, served, staff, "support", since=NOW)
    page = support.page
    page.goto(f"/shop/admin/orders/{order['id']}")
    page.get_by_text("Ask for a refund").click()
    page.get_by_label("Amount").fill("20.00")
    page.locator("form[action$='/refunds']").get_by_label("Reason").fill("The packet is torn.")
    page.get_by_role("button", name="Ask for it").click()
    expect(page.get_by_role("status").filter(has_text="Another person has to approve it.")).to_be_visible()

    owner = at_desk(browser, served, staff, "owner", since=timedelta(minutes=10))
    desk = owner.page
    desk.goto("/shop/admin/refunds")
    desk.locator("tr", has_text=order["number"]).get_by_role("link", name="Decide on it").click()
    expect(desk.get_by_role("heading", name="Is it still you?")).to_be_visible()
    desk.get_by_label("Password").fill(served.password)
    desk.locator("main form").get_by_role("button").first.click()
    desk.get_by_role("button", name="Approve it: Ksh20.00 goes back").click()
    expect(desk.get_by_role("status").filter(has_text="It is approved")).to_be_visible()

    # Support sees that something happened, and what.
    expect(page.locator("#changed")).to_be_visible(timeout=SLOW)
    page.get_by_role("link", name="Show it as it is now").click()
    expect(page.locator(".part", has_text="The packet is torn.")).to_contain_text("approved by owner")
    left(support)
    left(owner)
