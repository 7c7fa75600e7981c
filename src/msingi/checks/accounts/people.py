"""Who the accounts checks are about, and what they do most: register, sign in, refresh, come with a cookie."""

import base64
import hmac
import json
import time
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from msingi.checks.harness import Answer, Caller, Failed, World, new_email, new_password, until
from msingi.checks.letters import NoLetter

ACCOUNTS = "/v1/accounts"


def new_form(**more: Any) -> dict[str, Any]:
    """A registration that nobody sent before."""
    return {"email": new_email("new"), "password": new_password(), "name": "New", **more}


def register(world: World, form: dict[str, Any]) -> Answer:
    return world.nobody.post(f"{ACCOUNTS}/register", form)


def sign_in(world: World, email: str, password: str) -> Answer:
    return world.nobody.post(f"{ACCOUNTS}/sign-in", {"email": email, "password": password})


def refresh(world: World, token: str) -> Answer:
    return world.nobody.post(f"{ACCOUNTS}/refresh", {"refresh_token": token})


def signed_in(world: World, form: dict[str, Any]) -> dict[str, Any]:
    """The tokens of a new session of somebody registered."""
    answer = sign_in(world, form["email"], form["password"]).want(200)
    return answer.fields("access_token", "refresh_token", "token_type", "expires_in")


def newcomer(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """Somebody new: what they registered with, and their tokens."""
    form = new_form()
    register(world, form).want(201, 202)
    return form, signed_in(world, form)


def somebody(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """Somebody who was there before, in a session of their own: registering is what servers limit most."""
    form = {"email": world.ann.email, "password": world.ann.password, "name": "Ann"}
    return form, signed_in(world, form)


def with_token(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def me(world: World, token: str) -> Answer:
    return world.nobody.get(f"{ACCOUNTS}/me", headers=with_token(token))


def soon_refused(world: World, token: str) -> None:
    """Within the second that is promised (and one for the way there) an access token is refused."""
    until(
        lambda: me(world, token),
        lambda answer: answer.status == 401,
        "401 for the access token of an ended session",
        2.0,
    )


# ---- tokens


def parts(token: str) -> list[str]:
    return token.split(".")


def decoded(part: str) -> dict[str, Any]:
    """A part of a JWT as an object."""
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "==="))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failed(
            f"POST {ACCOUNTS}/sign-in",
            f"an access token with the part {part[:40]}",
            "a JWT: three parts of base64url, the first two of them JSON objects",
        )
    return found


def encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


# ---- cookie sessions


NOTHING: Mapping[str, str] = {}


class Browser:
    """Somebody with a cookie session, who sends what a browser would."""

    def __init__(self, world: World, form: dict[str, Any], brought: Mapping[str, str] = NOTHING) -> None:
        self.world = world
        split = urlsplit(world.url)
        self.origin = f"{split.scheme}://{split.netloc}"
        headers = {"Origin": self.origin, **brought}
        body = {"email": form["email"], "password": form["password"], "session": "cookie"}
        self.answer = Caller(world.http, world.url).post(f"{ACCOUNTS}/sign-in", body, headers=headers).want(200)
        self.csrf = str(self.answer.fields("csrf_token")["csrf_token"])
        set_cookies = self.answer.headers.get_list("set-cookie")  # a device may be remembered in another
        self.set_cookie = next((each for each in set_cookies if each.partition("=")[0].endswith("sid")), "")
        self.cookies = SimpleCookie(self.set_cookie)
        self.cookie = "; ".join(f"{name}={each.value}" for name, each in self.cookies.items())
        # The client keeps cookies by itself; here each request says which it brings.
        world.http.cookies.clear()

    def ask(self, method: str, path: str, *, leave_out: tuple[str, ...] = (), **more: Any) -> Answer:
        """A request with cookie, origin and token, but for what is left out or given otherwise."""
        headers = {"Cookie": self.cookie, "Origin": self.origin, "X-CSRF-Token": self.csrf, **more.pop("headers", {})}
        kept = {name: value for name, value in headers.items() if name not in leave_out}
        answer = Caller(self.world.http, self.world.url).ask(method, ACCOUNTS + path, headers=kept, **more)
        self.world.http.cookies.clear()
        return answer


# ---- proofs that come another way


def ticket(world: World, to: str, path: str, count: int = 1) -> str:
    """The ticket in the newest of at least so many letters to somebody that lead to this page."""
    try:
        return world.letters.with_link(to, path, count).tickets(path)[0]
    except NoLetter as missing:
        should = f"letter {count} to {to} with a link to {path}?ticket=…"
        hint = f"start the server with SMTP_URL=smtp://localhost:{world.letters.port}, and its worker"
        raise Failed("what the server was asked to write", str(missing), should, hint) from None


def totp(secret: str, steps: int = 0) -> str:
    """The code that an authenticator app shows now (RFC 6238), or so many steps of 30 seconds from now."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8), casefold=True)
    count = int(time.time()) // 30 + steps
    digest = hmac.digest(key, count.to_bytes(8, "big"), "sha1")
    place = digest[-1] & 15
    number = int.from_bytes(digest[place : place + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


def steady() -> None:
    """Wait, four seconds at most, until no code grows old while it is on its way."""
    left = 30 - time.time() % 30
    if left < 4:
        time.sleep(left)
