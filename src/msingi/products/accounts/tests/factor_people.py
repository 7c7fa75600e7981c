"""People with second factors, for tests."""

import json
from base64 import urlsafe_b64decode
from datetime import timedelta
from typing import Any

import pyotp

from msingi.kit import clock
from msingi.kit.testing import PASSWORD, Client, World
from msingi.products.accounts.tests.authenticator import Authenticator
from msingi.products.accounts.tests.people import sign_in, with_token

Json = dict[str, Any]


def claims(tokens: Json) -> Json:
    """What an access token says."""
    said: Json = json.loads(urlsafe_b64decode(tokens["access_token"].split(".")[1] + "=="))
    return said


def code_of(seed: str, steps: int = 0) -> str:
    """What an authenticator app shows now, or that many steps later."""
    return pyotp.TOTP(seed).at(clock.now() + timedelta(seconds=30 * steps))


class Someone:
    """One of the seeds' people in a real session, with an authenticator app: its seed and their recovery codes."""

    def __init__(self, world: World, who: str, client: Client, seed: str, codes: list[str]) -> None:
        self.world, self.who, self.client, self.seed, self.codes = world, who, client, seed, codes

    async def first_step(self, expect: int = 401, **more: Any) -> Json:
        """What the password alone gives."""
        return await first_step(self.world, self.who, expect, **more)


async def first_step(world: World, who: str = "ann", expect: int = 401, **more: Any) -> Json:
    """Show the password; returns the problem that asks for a second factor."""
    nobody = world.client(None)
    form = {"email": f"{who}@msingi.test", "password": PASSWORD, **more}
    answer: Json = await nobody.post("/sign-in", json=form, expect=expect)
    return answer


async def with_app(world: World, who: str = "ann") -> Someone:
    """Somebody who just set up an authenticator app, with the step under way still unused."""
    client = with_token(world, await sign_in(world, who))
    seed = (await client.post("/me/totp"))["secret"]
    # Confirmed with the code of the step before, so that those of now and after are good for the test.
    added = await client.put("/me/totp", code=code_of(seed, -1))
    client.headers["authorization"] = f"Bearer {added['session']['access_token']}"
    return Someone(world, who, client, seed, added["recovery_codes"])


async def with_passkey(
    world: World, who: str = "ann", device: Authenticator | None = None
) -> tuple[Client, Authenticator, Json]:
    """Somebody who just made a passkey: their client, the device, and what was answered."""
    client = with_token(world, await sign_in(world, who))
    device = device or Authenticator()
    added = await add_passkey(client, device)
    client.headers["authorization"] = f"Bearer {added['session']['access_token']}"
    return client, device, added


async def add_passkey(client: Client, device: Authenticator, expect: int = 201, **more: Any) -> Json:
    begun = await client.post("/me/passkeys/options")
    form = {"ticket": begun["ticket"], "credential": device.make(begun["options"]), **more}
    answer: Json = await client.post("/me/passkeys", json=form, expect=expect)
    return answer


async def enter_with_passkey(world: World, device: Authenticator, expect: int = 200, **more: Any) -> Json:
    """Sign in with nothing but a passkey."""
    nobody = world.client(None)
    begun = await nobody.post("/sign-in/passkey/options")
    form = {"ticket": begun["ticket"], "credential": device.show(begun["options"]), **more}
    answer: Json = await nobody.post("/sign-in/passkey", json=form, expect=expect)
    return answer
