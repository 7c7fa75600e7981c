"""What a check is made of: people who ask over HTTP, answers that can be held to a promise, and what came of it."""

import json
import os
import random
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from msingi.checks.letters import Letters

PATIENCE = 30.0  # seconds that a slow server may take for one answer
POLITENESS = 120.0  # the longest Retry-After that is waited for
SHOWN = 300  # characters of a body that a report shows
NO_BODY: Any = object()
UNUSED = 2.0  # seconds that a connection is kept for another request: many servers close theirs after five
SECRET_HEADER = re.compile(r"^(authorization|cookie)$|-token$", re.IGNORECASE)  # never in a report


class Failed(Exception):
    """A promise was not kept: what was asked, what came, what should have come."""

    def __init__(self, asked: str, came: str, should: str, hint: str = "") -> None:
        super().__init__(f"{asked} → {came}; should be: {should}")
        self.asked, self.came, self.should, self.hint = asked, came, should, hint


class Skipped(Exception):
    """This cannot be tried here; the text says why."""


class CannotRun(Exception):
    """Nothing can be checked at all; the text says why."""


@dataclass(frozen=True)
class Answer:
    """One answer, with what was asked for it, and how many seconds it took."""

    asked: str
    status: int
    headers: httpx.Headers
    content: bytes
    seconds: float = 0.0

    @property
    def data(self) -> Any:
        """The JSON of the body. Fails the check if it is none."""
        try:
            return json.loads(self.content)
        except ValueError:
            raise Failed(self.asked, self.came, "a body of JSON") from None

    @property
    def came(self) -> str:
        return f"{self.status} {_short(_without_tokens(self.content.decode('utf-8', 'replace')))}".strip()

    def want(self, *statuses: int, should: str = "", hint: str = "") -> "Answer":
        """This answer, if it has one of these statuses; else the check has failed."""
        if self.status not in statuses:
            raise Failed(self.asked, self.came, should or " or ".join(map(str, statuses)), hint)
        return self

    def need(self, yes: bool, should: str, hint: str = "") -> "Answer":
        """This answer, if `yes`; else the check has failed, and `should` says what should have come."""
        if not yes:
            raise Failed(self.asked, self.came, should, hint)
        return self

    def problem(self, *statuses: int, code: str = "", hint: str = "") -> dict[str, Any]:
        """The members of a problem document with one of these statuses, and with this code if one is given."""
        self.want(*statuses, hint=hint)
        kind = self.headers.get("content-type", "").split(";")[0]
        self.need(kind == "application/problem+json", f"Content-Type: application/problem+json, not {kind or 'none'}")
        told: Any = self.data
        self.need(isinstance(told, dict), "a JSON object")
        missing = [name for name in ("type", "title", "status", "detail", "code") if name not in told]
        self.need(not missing, f"a problem with the members {', '.join(missing)} too")
        self.need(told["status"] == self.status, f"the member `status` to be {self.status}, as the answer's is")
        self.need(not code or told["code"] == code, f"the code `{code}`", hint)
        return dict(told)

    def fields(self, *wanted: str) -> dict[str, Any]:
        """The members of the body, if it is an object that has all of these."""
        data = self.data
        self.need(isinstance(data, dict), "a JSON object")
        missing = [name for name in wanted if name not in data]
        self.need(not missing, f"the members {', '.join(missing)} too")
        return dict(data)

    def page(self) -> list[Any]:
        """The items of a page."""
        data = self.want(200).data
        shaped = isinstance(data, dict) and isinstance(data.get("items"), list) and "next" in data
        self.need(shaped, 'a page: {"items": […], "next": …}')
        return list(data["items"])


class Caller:
    """Somebody who asks: a signed-in person, or nobody."""

    def __init__(self, http: httpx.Client, base: str, sign_in: "Callable[[], tuple[str, float]] | None" = None) -> None:
        self.http, self.base, self._sign_in = http, base.rstrip("/"), sign_in
        self._token, self._good_until = "", 0.0
        self._lock = threading.Lock()
        self.id = ""
        self.email = ""
        self.password = ""

    def get(self, path: str, **more: Any) -> Answer:
        return self.ask("GET", path, **more)

    def post(self, path: str, json: Any = NO_BODY, **more: Any) -> Answer:
        return self.ask("POST", path, json=json, **more)

    def patch(self, path: str, json: Any = NO_BODY, **more: Any) -> Answer:
        return self.ask("PATCH", path, json=json, **more)

    def put(self, path: str, json: Any = NO_BODY, **more: Any) -> Answer:
        return self.ask("PUT", path, json=json, **more)

    def delete(self, path: str, **more: Any) -> Answer:
        return self.ask("DELETE", path, **more)

    def ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = NO_BODY,
        content: bytes | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        tries: int = 6,
    ) -> Answer:
        """Send one request and wait for its answer; a 429 or 503 that says how long is waited out, and tried again."""
        url = path if path.startswith("http") else self.base + path
        sent = {**self.authorization(), **(headers or {})}
        if json is not NO_BODY:
            content = _as_json(json)
            sent.setdefault("Content-Type", "application/json")
        asked = _asked(method, path, params, content, headers)
        for attempt in range(tries):
            began = time.perf_counter()
            try:
                reply = self.http.request(method, url, params=params, content=content, headers=sent)
            except httpx.HTTPError as error:
                raise Failed(asked, f"no answer: {type(error).__name__} {error}".strip(), "an answer") from None
            took = time.perf_counter() - began
            wait = _to_be_waited(reply) if attempt < tries - 1 else None
            if wait is None:
                break
            time.sleep(wait)
        return Answer(asked, reply.status_code, reply.headers, reply.content, took)

    def authorization(self) -> dict[str, str]:
        """The header that says who this is, signed in anew shortly before the token ends."""
        if self._sign_in is None:
            return {}
        with self._lock:
            if time.monotonic() > self._good_until:
                self._token, lasts = self._sign_in()
                self._good_until = time.monotonic() + max(lasts - 60, 30)
        return {"Authorization": f"Bearer {self._token}"}


@dataclass
class World:
    """The server under check, and the people who are new to it in this run."""

    url: str
    accounts_url: str
    anonymous: bool = False
    admin_email: str = ""
    admin_password: str = ""
    smtp: Letters | None = None
    required: frozenset[str] = frozenset()
    sandbox: str = ""
    places: "Places" = field(init=False)
    http: httpx.Client = field(init=False)
    offered: "dict[str, Answer]" = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)  # what several checks of a suite use
    at_the_end: list[Callable[[], object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places = Places(self.url)
        self.http = _http(self.places)

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *error: object) -> None:
        """Put away what the checks left at the server, as far as it still answers."""
        for act in reversed(self.at_the_end):
            with suppress(Failed, Skipped):
                act()
        self.http.close()

    @property
    def letters(self) -> Letters:
        """The letters that the server writes, if it was told to bring them here."""
        if self.smtp is None:
            raise Skipped("needs letters: --smtp PORT, and at the server SMTP_URL=smtp://localhost:PORT")
        return self.smtp

    def need_letters(self) -> "Letters":
        """The same, for a check that is to be skipped before it has made anything."""
        return self.letters

    def offers(self, part: "Part") -> Answer | None:
        """None if the server has this part, or is required to; else the answer that says that it has not."""
        if self.required & {part.name, "all"}:
            return None
        if part.name not in self.offered:
            self.offered[part.name] = part.probe(self)
        answer = self.offered[part.name]
        return answer if answer.status in (404, 405) else None

    @cached_property
    def nobody(self) -> Caller:
        """Somebody who has not signed in."""
        return Caller(self.http, self.url)

    def crowd(self, count: int) -> list[Caller]:
        """Nobody in particular, from so many other places: for more at once than one caller's limit lets in."""
        clients = [_http(Places(self.url)) for _ in range(count)]
        self.at_the_end += [client.close for client in clients]
        return [Caller(client, self.url) for client in clients]

    @cached_property
    def ann(self) -> Caller:
        """The person whose things are checked."""
        return self.nobody if self.anonymous else self.person("Ann")

    @cached_property
    def bob(self) -> Caller:
        """Somebody else."""
        return self.person("Bob")

    @cached_property
    def eve(self) -> Caller:
        """A third person, who has no business here."""
        return self.person("Eve")

    @cached_property
    def admin(self) -> Caller:
        """An admin, if the run was given one."""
        if not (self.admin_email and self.admin_password):
            raise Skipped("needs an admin: --admin-email and --admin-password, or MSINGI_CHECK_ADMIN=email:password")
        return self.known(self.admin_email, self.admin_password)

    def person(self, name: str) -> Caller:
        """A new person with a fresh address, signed in."""
        if self.anonymous:
            raise Skipped("needs two people, and this server is checked without sign-in")
        email, password = new_email(name), new_password()
        form = {"email": email, "password": password, "name": name}
        made = Caller(self.http, self.accounts_url).post("/v1/accounts/register", form)
        made.want(201, 202, hint="the checks make their own people; without sign-in use --anonymous")
        person = self.known(email, password)
        me = Caller(self.http, self.accounts_url).get("/v1/accounts/me", headers=person.authorization())
        person.id = str(me.want(200).fields("id")["id"])
        return person

    def known(self, email: str, password: str) -> Caller:
        """Somebody who has registered already."""
        nobody = Caller(self.http, self.accounts_url)

        def sign_in() -> tuple[str, float]:
            answer = nobody.post("/v1/accounts/sign-in", {"email": email, "password": password}).want(200)
            tokens = answer.fields("access_token", "expires_in")
            return str(tokens["access_token"]), float(tokens["expires_in"])

        person = Caller(self.http, self.url, sign_in)
        person.email, person.password = email, password
        return person

    def tell_apart(self) -> None:
        """Raise Skipped where there are no people to tell apart."""
        if self.anonymous:
            raise Skipped("needs sign-in, and this server is checked without")


Outcome = Literal["passed", "failed", "skipped", "not offered"]
Act = Callable[[World], str | None]


@dataclass(frozen=True)
class Part:
    """What a server may leave out as a whole: it does so if it answers `probe` with 404."""

    name: str
    probe: Callable[[World], Answer]


@dataclass(frozen=True)
class Check:
    """One promise, and how it is tried; `act` may return a figure to tell."""

    title: str
    act: Act
    hint: str = ""
    part: Part | None = None


@dataclass(frozen=True)
class Result:
    """What came of one check."""

    check: str
    outcome: Outcome
    seconds: float
    asked: str = ""
    came: str = ""
    should: str = ""
    hint: str = ""
    figure: str = ""

    @property
    def members(self) -> dict[str, Any]:
        """As it stands in the JSON report: what says nothing is left out."""
        return {name: value for name, value in vars(self).items() if value != ""}


SUITES: dict[str, list[Check]] = {}


def check(title: str, *, hint: str = "", part: Part | None = None) -> Callable[[Act], Act]:
    """Register a function as a check of the suite that it stands in (`checks/<suite>.py`, or a file of that folder).

    `hint` is shown when it fails. `part` is what a server may leave out.
    """

    def keep(act: Act) -> Act:
        suite = act.__module__.removeprefix(f"{__package__}.").partition(".")[0]
        SUITES.setdefault(suite, []).append(Check(title, act, hint, part))
        return act

    return keep


def try_one(one: Check, world: World) -> Result:
    """Run one check. Whatever it stumbles over is a result, so that the others still run."""
    began = time.monotonic()
    world.places.move()

    def result(outcome: Outcome, **more: str) -> Result:
        return Result(one.title, outcome, round(time.monotonic() - began, 3), **more)

    try:
        missing = world.offers(one.part) if one.part else None
        if missing is not None and one.part is not None:
            return result("not offered", hint=f"{missing.asked} → {missing.status}; --require {one.part.name} insists")
        figure = one.act(world) or ""
    except Failed as failed:
        found = {"asked": failed.asked, "came": failed.came, "should": failed.should, "hint": failed.hint or one.hint}
        return result("failed", **found)
    except Skipped as skipped:
        return result("skipped", hint=str(skipped))
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        # An answer of another shape than any check looked for: the server's fault, told as well as can be.
        came = f"{type(error).__name__}: {error}"
        return result("failed", came=came, should="answers of the shape in the contract", hint=one.hint)
    return result("passed", figure=figure)


def together(*acts: Callable[[], Answer]) -> list[Answer]:
    """Send many requests at the same moment; the answers come in the order of the acts."""
    barrier = threading.Barrier(len(acts))

    def start(act: Callable[[], Answer]) -> Answer:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(start, acts))


def need_of_all(answers: Sequence[Answer], yes: bool, should: str, hint: str = "") -> None:
    """Fail unless `yes`, and tell what came back from all of some requests that were sent at once."""
    if not yes:
        statuses = Counter(answer.status for answer in answers)
        came = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
        raise Failed(f"{len(answers)} at once: {answers[0].asked}", came, should, hint)


def until(found: Callable[[], Answer], yes: Callable[[Answer], bool], should: str, seconds: float = 3.0) -> Answer:
    """Ask again and again until the answer is as it should be, at most for some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = found()
        if yes(answer) or time.monotonic() > deadline:
            return answer.need(yes(answer), f"{should}, within {seconds:g} seconds")
        time.sleep(0.1)


def fresh(word: str) -> str:
    """A word that nobody else uses: for names, tags and search."""
    return word + "".join(random.choices("bcdfghjkmnpqrtvwxz", k=12))


def new_email(name: str) -> str:
    return f"{fresh(name.lower() + '-')}@check.example.org"


def new_password() -> str:
    """One that no list knows and no rule refuses."""
    return f"{fresh('check-')} {fresh('Swahili ')}"


def admin_in(environ: "os._Environ[str] | dict[str, str]") -> tuple[str, str]:
    """The admin's address and password, if the environment names them."""
    email, _, password = environ.get("MSINGI_CHECK_ADMIN", "").partition(":")
    return email, password


class Places(httpx.BaseTransport):
    """Where the checks come from: limits for one caller are not to be used up by checks of something else.

    A server on this machine sees each check come from another loopback address, where the system lets it (Linux does).
    Any other server sees one caller, and its limits are waited out.
    """

    def __init__(self, url: str) -> None:
        host = urlsplit(url).hostname or ""
        self.many = (host == "localhost" or host.startswith("127.")) and _has_many_loopbacks()
        self._transports: list[httpx.HTTPTransport] = []
        self.move()

    def move(self) -> None:
        """Come from another place from now on."""
        if self._transports and not self.many:
            return
        place = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
        # Room for a hundred requests at once, so that nothing waits here when the server is to see a race.
        limits = httpx.Limits(max_connections=120, max_keepalive_connections=120, keepalive_expiry=UNUSED)
        for one in self._transports:
            one.close()
        come_from = place if self.many else None
        self._transports = [httpx.HTTPTransport(verify=_trusted(), limits=limits, local_address=come_from)]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._transports[-1].handle_request(request)

    def close(self) -> None:
        for one in self._transports:
            one.close()


@cache
def _trusted() -> ssl.SSLContext:
    """Whom this system trusts: read once, since it takes as long as twenty requests."""
    return httpx.create_ssl_context()


def _has_many_loopbacks() -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.16.16.16", 0))
        except OSError:
            return False
    return True


def _http(places: Places) -> httpx.Client:
    # Each request says which cookies it brings.
    none = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.Client(
        timeout=httpx.Timeout(PATIENCE, pool=120.0),
        transport=places,
        cookies=none,
        headers={"User-Agent": "msingi-check"},
    )


def _to_be_waited(reply: httpx.Response) -> float | None:
    told = reply.headers.get("retry-after", "")
    if reply.status_code not in (429, 503) or not told.isdigit() or int(told) > POLITENESS:
        return None
    return int(told) + random.random() * 0.2


def _as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _asked(
    method: str, path: str, params: dict[str, Any] | None, content: bytes | None, headers: dict[str, str] | None
) -> str:
    query = "?" + "&".join(f"{name}={value}" for name, value in params.items()) if params else ""
    shown = "".join(f" [{name}: {value}]" for name, value in (headers or {}).items() if not SECRET_HEADER.search(name))
    body = f" {_short(content.decode('utf-8', 'replace'), 120)}" if content else ""
    return _without_secrets(_short(method + " " + path + query, 200) + shown[:200] + body)


def _without_secrets(text: str) -> str:
    text = re.sub(r"\b((?:code|code_verifier|token|\w+_token|ticket|(?:api_)?key)=)[^&\s]+", r"\1…", text)
    return re.sub(r'("(?:\w*password|\w*_token|ticket|code|recovery_code)": )"[^"]*"?', r'\1"…"', text)


def _without_tokens(text: str) -> str:
    return re.sub(r'("(?:\w+_token|ticket|key|\w*secret)": ?)"[^"]*"?', r'\1"…"', text)


def _short(text: str, length: int = SHOWN) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[:length] + "…"
