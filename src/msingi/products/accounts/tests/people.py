"""What the tests of accounts do over and over: signing in, and asking with what came back."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from html import unescape
from time import monotonic
from typing import Any

import httpx

from msingi.kit.testing import PASSWORD, Client, World

Tokens = dict[str, Any]
OWN_PAGE = {"origin": "http://msingi.test", "sec-fetch-site": "same-origin"}


async def sign_in(world: World, who: str, password: str = PASSWORD) -> Tokens:
    """The tokens of one of the seeds' people."""
    async with world.client(None).http as http:
        form = {"email": f"{who}@msingi.test", "password": password}
        reply = await http.post("/v1/accounts/sign-in", json=form)
        assert reply.status_code == 200, reply.text
        tokens: Tokens = reply.json()
        return tokens


def with_token(world: World, tokens: Tokens) -> Client:
    """Somebody who shows an access token."""
    client = world.client(None)
    client.headers["authorization"] = f"Bearer {tokens['access_token']}"
    return client


async def signed_in(world: World, who: str, password: str = PASSWORD) -> Client:
    """One of the seeds' people in a real session."""
    return with_token(world, await sign_in(world, who, password))


class Reader:
    """A person who reads pages and sends the forms that stand on them; no redirect is followed by itself."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.page: httpx.Response
        self.token = ""  # of the last form that was seen

    async def open(self, path: str, expect: int = 200) -> str:
        """The text of a page."""
        return self._read(await self.http.get(path), expect)

    async def send(self, action: str, expect: int = 303, **fields: str | list[str]) -> str:
        """Send the form with this action, which must stand on the page; the page that comes, or where it leads."""
        form = re.search(rf'<form[^>]* action="{re.escape(action)}".*?</form>', self.page.text, re.DOTALL)
        assert form, f"no form for {action} on this page: {self.page.text}"
        hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form[0])
        return await self.post(action, {name: unescape(value) for name, value in hidden} | fields, expect)

    async def post(self, path: str, fields: dict[str, Any], expect: int = 303) -> str:
        """Send fields as a browser sends a form of our own pages."""
        return self._read(await self.http.post(path, data=fields, headers=OWN_PAGE), expect)

    def _read(self, reply: httpx.Response, expect: int) -> str:
        assert reply.status_code == expect, (reply.status_code, reply.headers.get("location"), reply.text)
        if reply.is_redirect:
            return reply.headers["location"]
        self.page = reply
        self.token = (re.findall(r'name="_csrf" value="([^"]+)"', reply.text) or [self.token])[0]
        return unescape(reply.text)


@asynccontextmanager
async def reading(world: World, who: str = "", **headers: str) -> AsyncIterator[Reader]:
    """Somebody with a browser, signed in if `who` says so."""
    async with world.client(None).http as http:
        http.headers.update({"accept": "text/html", **headers})
        if who:
            form = {"email": f"{who}@msingi.test", "password": PASSWORD, "session": "cookie"}
            reply = await http.post("/v1/accounts/sign-in", json=form, headers=OWN_PAGE)
            assert reply.status_code == 200, reply.text
        yield Reader(http)


async def until(ask: Callable[[], Awaitable[bool]], seconds: float = 1.0) -> None:
    """Wait until it is so; fails after that many seconds."""
    began = monotonic()
    while not await ask():
        assert monotonic() - began < seconds, f"it was not so within {seconds} s"
        await asyncio.sleep(0.01)
