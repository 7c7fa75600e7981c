"""Signing in to somebody else's program in a real Chromium: what its policies let through, and what they hold back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from playwright.sync_api import Browser
from tests.serving import Served, own_databases, serving

CHALLENGE = "c" * 43


@contextmanager
def program() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A program on this machine: its address, and what browsers were sent there with."""
    told: list[dict[str, str]] = []

    class Back(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if urlsplit(self.path).path == "/back":
                told.append(dict(parse_qsl(urlsplit(self.path).query)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"Thank you")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Back) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/back", told
        finally:
            server.shutdown()
            thread.join()


def registered(accounts: Served, back: str, *, first_party: bool) -> str:
    form = {
        "name": "Diary",
        "kind": "public",
        "redirect_uris": [back],
        "scopes": ["openid"],
        "first_party": first_party,
    }
    with accounts.sign_in("admin") as admin:
        made: str = admin.post("/v1/accounts/clients", json=form).raise_for_status().json()["id"]
        return made


def beginning(client_id: str, back: str) -> str:
    said = {"response_type": "code", "client_id": client_id, "redirect_uri": back, "scope": "openid", "state": "s-1"}
    pkce = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    return f"/oauth/authorize?{urlencode(said | pkce)}"


def arrived(browser: Browser, accounts: Served, back: str, *, first_party: bool) -> None:
    """Begin at the program, sign in, say yes where one is asked."""
    context = browser.new_context(base_url=accounts.url, locale="sw")
    page = context.new_page()
    page.goto(beginning(registered(accounts, back, first_party=first_party), back))
    page.fill("input[name=email]", "ann@msingi.test")
    page.fill("input[name=password]", accounts.password)
    page.click("main button.act")
    if not first_party:
        page.get_by_role("button", name="Ruhusu", exact=True).click()
    page.wait_for_url(f"{back}?*")
    context.close()


def test_a15_a_person_signs_in_on_our_page_and_arrives_at_the_program(browser: Browser, tmp_path: Path) -> None:
    alone: dict[str, Any] = {"products": ["accounts"], "parts": ["web"], "MSINGI_PROCESSES": "1"}
    with serving(tmp_path, **own_databases(40), **alone) as accounts, program() as (back, told):
        arrived(browser, accounts, back, first_party=True)
        arrived(browser, accounts, back, first_party=False)
    assert [(each["state"], each["iss"]) for each in told] == [("s-1", accounts.url)] * 2
    assert all(len(each["code"]) > 40 for each in told)
