"""What the tests of accounts do over and over: signing in, and asking with what came back."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from msingi.kit.testing import PASSWORD, Client, World

Tokens = dict[str, Any]


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


async def until(ask: Callable[[], Awaitable[bool]], seconds: float = 1.0) -> None:
    """Wait until it is so; fails after that many seconds."""
    began = monotonic()
    while not await ask():
        assert monotonic() - began < seconds, f"it was not so within {seconds} s"
        await asyncio.sleep(0.01)
