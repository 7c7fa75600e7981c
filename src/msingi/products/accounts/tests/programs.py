"""What the tests of OAuth do over and over: registering a program, a person's browser, and the way through both."""

import re
from base64 import urlsafe_b64encode
from hashlib import sha256
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from msingi.kit.testing import PASSWORD, Client, World

BACK = "https://diary.example/back"
PAGE = {"origin": "http://msingi.test", "sec-fetch-site": "same-origin"}
VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
SCOPES = ["openid", "profile", "email", "offline_access", "accounts:read"]
Row = dict[str, Any]


async def registered(admin: Client, **changes: Any) -> Row:
    """A program: confidential, and somebody else's, unless `changes` say so."""
    form = {"name": "Diary", "kind": "confidential", "redirect_uris": [BACK], "scopes": SCOPES}
    made: Row = await admin.post("/clients", json=form | changes)
    return made


def request_of(program: Row, **changes: str | None) -> dict[str, str]:
    """The query of a right authorization request, but for `changes`; None leaves one out."""
    right = {
        "response_type": "code",
        "client_id": program["id"],
        "redirect_uri": BACK,
        "scope": "openid email offline_access",
        "state": "s-1",
        "nonce": "n-1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return {name: value for name, value in (right | changes).items() if value is not None}


class Browser:
    """A person's browser, which follows no redirect by itself."""

    def __init__(self, world: World) -> None:
        self.http = world.client(None).http

    async def sign_in(self, who: str = "ann") -> "Browser":
        self.http.cookies.clear()
        form = {"email": f"{who}@msingi.test", "password": PASSWORD, "session": "cookie"}
        reply = await self.http.post("/v1/accounts/sign-in", json=form, headers=PAGE)
        assert reply.status_code == 200, reply.text
        return self

    async def authorize(self, query: dict[str, str]) -> httpx.Response:
        return await self.http.get("/oauth/authorize", params=query, headers={"accept": "text/html"})

    async def press(self, page: httpx.Response, **fields: str) -> httpx.Response:
        """Send the form of a page, with its hidden fields."""
        hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text.split("<h1>")[1])
        sent = {name: unescape(value) for name, value in hidden} | fields
        action = re.search(r'method="post" action="([^"]+)"', page.text.split("<h1>")[1])
        assert action, page.text
        return await self.http.post(action[1], data=sent, headers=PAGE)

    async def code(self, query: dict[str, str]) -> str:
        """Ask, say yes where one is asked, and take the code that the program would get."""
        reply = await self.authorize(query)
        if reply.status_code == 200:
            reply = await self.press(reply, answer="allow")
        said = told(reply)
        assert "code" in said, said
        return said["code"]


def told(reply: httpx.Response) -> dict[str, str]:
    """What a redirect to the program tells it."""
    assert reply.status_code == 303, reply.text
    place = urlsplit(reply.headers["location"])
    assert place.netloc != "msingi.test"
    return dict(parse_qsl(place.query))


async def ask(world: World, path: str, program: Row | None, expect: int = 200, **fields: str) -> Row:
    """What an OAuth endpoint says to a program that proves itself with client_secret_basic."""
    fields |= {"client_id": program["id"]} if program and not program["client_secret"] else {}
    async with world.client(None).http as http:
        if program and program["client_secret"]:
            http.auth = httpx.BasicAuth(program["id"], program["client_secret"])
        reply = await http.post(path, data=fields)
    assert reply.status_code == expect, reply.text
    assert reply.headers["cache-control"] == "no-store"
    said: Row = reply.json()
    return said


async def redeemed(world: World, program: Row, code: str, expect: int = 200, **changes: str) -> Row:
    fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    return await ask(world, "/oauth/token", program, expect, **(fields | changes))


async def let_in(world: World, program: Row, who: str = "ann", **changes: str | None) -> Row:
    """The tokens of a program that a person let in."""
    browser = await Browser(world).sign_in(who)
    return await redeemed(world, program, await browser.code(request_of(program, **changes)))
