"""The drills of the accounts checks: our own server passes them all, and each fails where its promise is broken.

Between the checks and the house stands a server that passes everything on, but for the one promise that it breaks.
"""

import http.client
import json
import re
import smtplib
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner
from tests.serving import Served, own_databases, serving

from msingi import preflight
from msingi.checks import running
from msingi.checks.command import check as command
from msingi.checks.harness import SUITES, World
from msingi.checks.letters import Letter, Letters, NoLetter


@dataclass
class House:
    """A house that brings its letters here."""

    served: Served
    letters: Letters

    def world(self, url: str, **more: Any) -> World:
        admin = ("admin@msingi.test", self.served.password)
        return World(url, url, False, *admin, **{"smtp": self.letters, **more})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """All products with a worker, two web processes, and the limits that a house has by itself."""
    with Letters(preflight.free_port("127.0.0.1")) as letters:
        told = {
            "SMTP_URL": f"smtp://localhost:{letters.port}",
            "MSINGI_ANONYMOUS_LIMIT": "300/minute",
            "MSINGI_MEMBER_LIMIT": "3000/minute",
        }
        with serving(tmp_path_factory.mktemp("drills"), **own_databases(24), **told) as served:
            yield House(served, letters)


# ---- what is proven


@pytest.mark.timeout(300)
def test_our_own_server_passes_every_check_and_leaves_nothing_out(house: House) -> None:
    with house.world(house.served.url, required=frozenset({"all"})) as world:
        running.prepare("accounts", world)
        found = list(running.results("accounts", world))
    assert [each for each in found if each.outcome != "passed"] == []
    assert len(found) >= 80
    assert sum("d′ = " in each.figure for each in found) == 2


def test_what_the_checks_left_at_the_server_is_put_away(house: House) -> None:
    with house.served.sign_in("admin") as admin:
        before = len(admin.get("/v1/accounts/clients?limit=100").json()["items"])
        with house.world(house.served.url) as world:
            (found,) = running.results("accounts", world, "PKCE cannot")
        assert found.outcome == "passed"
        assert len(admin.get("/v1/accounts/clients?limit=100").json()["items"]) == before


def test_a_part_that_a_server_leaves_out_is_not_offered_and_has_not_failed_unless_it_is_required(house: House) -> None:
    def without(asked: Asked, pass_on: PassOn) -> Reply:
        return NOT_FOUND if "organisations" in asked.path else pass_on(asked)

    with in_front_of(house.served, without) as url, house.world(url) as world:
        lenient = [each.outcome for each in running.results("accounts", world, "organisation")]
    with in_front_of(house.served, without) as url, house.world(url, required=frozenset({"organisations"})) as world:
        strict = [each.outcome for each in running.results("accounts", world, "organisation")]
    assert lenient == ["not offered"] * 2
    assert strict == ["failed"] * 2


def test_without_letters_what_needs_them_is_skipped_and_says_how_to_have_them(house: House) -> None:
    with house.world(house.served.url, smtp=None) as world:
        found = list(running.results("accounts", world, "reset link"))
    assert {each.outcome for each in found} == {"skipped"}
    assert all("SMTP_URL=smtp://localhost:" in each.hint for each in found)


def test_a_part_that_nobody_knows_is_exit_code_2_and_names_those_that_there_are(house: House) -> None:
    done = CliRunner().invoke(command, ["accounts", "--url", house.served.url, "--require", "organizations"])
    assert done.exit_code == 2
    assert "organisations" in done.output


def test_a_port_that_is_taken_is_exit_code_2(house: House) -> None:
    taken = str(house.letters.port)
    done = CliRunner().invoke(command, ["accounts", "--url", house.served.url, "--smtp", taken])
    assert done.exit_code == 2
    assert f"port {taken}" in done.output


def test_tokens_keys_and_tickets_stand_in_no_report(house: House) -> None:
    with in_front_of(house.served, MUTANTS["keys_count_in_addresses"][0]()) as url, house.world(url) as world:
        (found,) = running.results("accounts", world, "a key is shown once")
    assert found.asked == "GET /v1/accounts/me?api_key=…"
    with in_front_of(house.served, MUTANTS["one_factor_is_enough"][0]()) as url, house.world(url) as world:
        found, *_ = running.results("accounts", world, "whoever has a second factor")
    assert '"access_token": "…"' in found.came


def test_letters_are_read_as_mail_servers_bring_them(monkeypatch: pytest.MonkeyPatch) -> None:
    link = "https://msingi.test/reset?ticket=" + "aZ4-_k" * 20
    letter = EmailMessage()
    letter["Subject"], letter["From"], letter["To"] = "Neno jipya", "Msingi <no-reply@msingi.test>", "ann@msingi.test"
    letter.set_content(f"Habari 🐔\n.\n..\n{link}\n")
    letter.add_alternative(f'<p>Habari</p><a href="{link}">hapa</a>', subtype="html")
    with Letters(preflight.free_port("127.0.0.1")) as letters:
        for host in ("127.0.0.1", "localhost"):
            with smtplib.SMTP(host, letters.port, timeout=5) as server:
                server.send_message(letter, to_addrs=["Ann@msingi.test", "bob@msingi.test"])
        came = letters.with_link("ann@msingi.test", "/reset", 2)
        assert came.tickets("/reset") == ["aZ4-_k" * 20]
        assert "\n.\n..\n" in came.text.replace("\r", "")
        assert sorted(each.to for each in letters.came) == ["ann@msingi.test"] * 2 + ["bob@msingi.test"] * 2
        monkeypatch.setattr("msingi.checks.letters.LATER", 0.05)
        with pytest.raises(NoLetter):
            letters.with_link("ann@msingi.test", "/verify")


# ---- a server that breaks one promise


@dataclass(frozen=True)
class Asked:
    """A request on its way to the house."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    place: str

    @property
    def form(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @property
    def who(self) -> str:
        return self.headers.get("authorization", "")

    def is_to(self, method: str, path: str) -> bool:
        return self.method == method and re.search(path, self.path.partition("?")[0]) is not None


@dataclass(frozen=True)
class Reply:
    """An answer on its way back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def data(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    def saying(self, data: Any) -> "Reply":
        return replace(self, body=json.dumps(data).encode())


PassOn = Callable[[Asked], Reply]
Breaks = Callable[[Asked, PassOn], Reply]
PROBLEM = [("content-type", "application/problem+json")]
TOLD: dict[str, Any] = {"type": "/problems/x", "title": "x", "detail": "x"}
TOKENS = {"access_token": "a.b.c", "refresh_token": "rt1_x", "token_type": "Bearer", "expires_in": 600}


def problem(status: int, code: str) -> Reply:
    return Reply(status, PROBLEM, json.dumps({**TOLD, "status": status, "code": code}).encode())


NOT_FOUND = problem(404, "not_found")
NOT_PASSED_ON = ("connection", "content-length", "accept-encoding")


def turned(method: str, path: str, into: int, *when: int, code: str = "", data: Any = None) -> Breaks:
    """An answer with one of these statuses (and this code) becomes another."""

    def act(asked: Asked, pass_on: PassOn) -> Reply:
        reply = pass_on(asked)
        if not asked.is_to(method, path) or reply.status not in when or (code and reply.data.get("code") != code):
            return reply
        headers = PROBLEM if into >= 400 else [("content-type", "application/json")]
        told = {**TOLD, "status": into, "code": "wrong_credentials"} if into >= 400 else data
        return Reply(into, headers, b"" if told is None else json.dumps(told).encode())

    return act


def remembering(path: str, *when: int) -> Breaks:
    """Whoever was let in once is let in for ever: old answers instead of these refusals."""
    known: dict[tuple[str, str, str], Reply] = {}

    def act(asked: Asked, pass_on: PassOn) -> Reply:
        reply, place = pass_on(asked), (asked.method, asked.path, asked.who)
        if re.search(path, asked.path) and reply.status == 200:
            known[place] = reply
        return known.get(place, reply) if reply.status in when else reply

    return act


def for_everybody(path: str, name: str) -> Breaks:
    """Who comes with the same `name` as somebody who succeeded succeeds too."""
    known: dict[str, Reply] = {}
    lock = threading.Lock()

    def value(asked: Asked) -> str:
        found = asked.form.get(name) if asked.body.startswith(b"{") else None
        return str(found or parse_qs(asked.body.decode()).get(name, [""])[0])

    def act(asked: Asked, pass_on: PassOn) -> Reply:
        reply = pass_on(asked)
        if not asked.is_to("POST", path):
            return reply
        with lock:
            if reply.status == 200:
                known[value(asked)] = reply
        deadline = time.monotonic() + 1.0
        while value(asked) and value(asked) not in known and reply.status != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        return known.get(value(asked), reply) if value(asked) else reply

    return act


def changed(method: str, path: str, change: Callable[[Any], Any]) -> Breaks:
    """The body of good answers says something else."""

    def act(asked: Asked, pass_on: PassOn) -> Reply:
        reply = pass_on(asked)
        right = asked.is_to(method, path) and reply.status in (200, 201)
        return reply.saying(change(reply.data)) if right else reply

    return act


def asked_otherwise(method: str, path: str, change: Callable[[Asked], Asked]) -> Breaks:
    """The house hears something else than was asked."""
    return lambda asked, pass_on: pass_on(change(asked) if asked.is_to(method, path) else asked)


def known_addresses(path: str, strange: Callable[[PassOn, Asked], Reply]) -> Breaks:
    """An address that nobody has registered is answered otherwise."""
    known: set[str] = set()

    def act(asked: Asked, pass_on: PassOn) -> Reply:
        if asked.is_to("POST", "/register$"):
            known.add(str(asked.form.get("email")))
        if asked.is_to("POST", path) and asked.form.get("email") not in known:
            return strange(pass_on, asked)
        return pass_on(asked)

    return act


def new_address_at_once() -> Breaks:
    """The address is another as soon as somebody asks."""
    wanted: dict[str, str] = {}

    def act(asked: Asked, pass_on: PassOn) -> Reply:
        reply = pass_on(asked)
        if asked.is_to("POST", "/me/email$") and reply.status == 202:
            wanted[asked.who] = asked.form["email"]
        if asked.is_to("GET", "/accounts/me$") and asked.who in wanted and reply.status == 200:
            return reply.saying({**reply.data, "email": wanted[asked.who]})
        return reply

    return act


def strangers_hear_403() -> Breaks:
    """An organisation that there is, is forbidden; one that there is not, is not found."""
    there: set[str] = set()

    def act(asked: Asked, pass_on: PassOn) -> Reply:
        reply = pass_on(asked)
        if asked.is_to("POST", "/organisations$") and reply.status == 201:
            there.add(reply.data["id"])
        hides = reply.status == 404 and asked.path.rpartition("/")[2] in there
        return problem(403, "forbidden") if hides else reply

    return act


def many_successors() -> Breaks:
    """Each refresh makes a branch of its own."""
    return changed("POST", "/refresh$", lambda told: {**told, "refresh_token": f"rt1_{time.perf_counter_ns()}"})


def key_in_address(asked: Asked) -> Asked:
    """A key in the query is as good as in the header."""
    key = parse_qs(urlsplit(asked.path).query).get("api_key", [""])[0]
    return replace(asked, headers={**asked.headers, "authorization": f"Bearer {key}"}) if key else asked


def weaker(asked: Asked) -> Asked:
    """A method of PKCE that is not there is taken for the right one."""
    fits = "code_challenge=" in asked.path and "code_challenge_method" not in asked.path
    return replace(asked, path=f"{asked.path}&code_challenge_method=S256") if fits else asked


def sent_anywhere(asked: Asked, pass_on: PassOn) -> Reply:
    """The browser is sent wherever the request says."""
    reply = pass_on(asked)
    back = parse_qs(urlsplit(asked.path).query).get("redirect_uri", [""])[0]
    refused = asked.is_to("GET", "/oauth/authorize$") and reply.status == 400
    return Reply(303, [("location", f"{back}?error=invalid_request")], b"") if refused else reply


def without_cookie(asked: Asked) -> Asked:
    return replace(asked, headers={name: value for name, value in asked.headers.items() if name != "cookie"})


def other_keys(told: Any) -> Any:
    return {"keys": [{**key, "x": "A" * len(key["x"])} for key in told["keys"]]}


def without_act(told: Any) -> Any:
    head, body, signature = told["access_token"].split(".")
    claims = json.loads(urlsafe_b64decode(body + "=="))
    del claims["act"]
    body = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return {**told, "access_token": f"{head}.{body}.{signature}"}


def late(seconds: float) -> Callable[[PassOn, Asked], Reply]:
    def act(pass_on: PassOn, asked: Asked) -> Reply:
        time.sleep(seconds)
        return pass_on(asked)

    return act


BAD = {"code": "bad_ticket"}
ANY_ORG = "/organisations/[^/]+$"
REFUSED = problem(401, "wrong_credentials")
PAGE = {"items": [], "next": None}

# What breaks, and the checks that are to tell it.
MUTANTS: dict[str, tuple[Callable[[], Breaks], tuple[str, ...]]] = {
    "used_tickets_verify": (lambda: turned("POST", "/verification$", 204, 422, **BAD), ("A letter's ticket",)),
    "tickets_verify_for_anybody": (
        lambda: turned("POST", "/verification$", 204, 422, code="proof_missing"),
        ("its ticket alone verifies nothing",),
    ),
    "used_tickets_reset": (
        lambda: turned("PUT", "/password-reset$", 204, 422, **BAD),
        ("a reset link sets a new", "only the newest reset", "twenty who show one reset"),
    ),
    "unknown_addresses_are_told": (
        lambda: known_addresses("/password-reset$", lambda pass_on, asked: NOT_FOUND),
        ("asking for a letter tells",),
    ),
    "unknown_addresses_take_longer_to_ask_for": (
        lambda: known_addresses("/password-reset$", late(0.03)),
        ("asking for a new password takes",),
    ),
    "unknown_addresses_are_not_hashed": (
        lambda: known_addresses("/sign-in$", lambda pass_on, asked: REFUSED),
        ("a wrong password takes the same time",),
    ),
    "addresses_change_at_once": (new_address_at_once, ("An address changes",)),
    "two_get_one_address": (lambda: turned("PUT", "/me/email$", 204, 409), ("Of two who want",)),
    "guessing_never_ends": (lambda: turned("POST", "/sign-in$", 401, 429), ("the eleventh wrong",)),
    "no_device_is_known": (
        lambda: asked_otherwise("POST", "/sign-in$", without_cookie),
        ("a stranger's guesses do not lock",),
    ),
    "refreshing_makes_branches": (many_successors, ("A10: the same refresh", "A10: a hundred refreshes")),
    "old_refresh_tokens_refresh": (
        lambda: turned("POST", "/refresh$", 200, 401, data=TOKENS),
        ("A10: a refresh token from further back", "A10: a hundred refreshes"),
    ),
    "ended_sessions_live_on": (
        lambda: remembering("/accounts/me$", 401),
        (
            "a reset link sets a new",
            "A10: a refresh token from further back",
            "A11: a new role takes effect",
            "A17: with the first factor",
            "A20: a revoked key",
            "Who acts for somebody",
            "Who erases",
        ),
    ),
    "one_factor_is_enough": (
        lambda: turned("POST", "/sign-in$", 200, 401, code="second_factor_needed", data=TOKENS),
        ("whoever has a second factor", "does not get around a second factor"),
    ),
    "codes_are_good_again": (
        lambda: for_everybody("/second-factor$", "code"),
        ("twenty sign-ins at once with one code", "whoever has a second factor"),
    ),
    "recovery_codes_are_good_again": (
        lambda: for_everybody("/second-factor$", "recovery_code"),
        ("twenty sign-ins at once with one recovery",),
    ),
    "codes_can_be_guessed_for_ever": (
        lambda: turned("POST", "/second-factor$", 403, 429),
        ("after five wrong codes",),
    ),
    "any_password_is_a_proof": (
        lambda: turned("POST", "/step-up$", 200, 403, 422, data=TOKENS),
        ("proving oneself once more", "a password alone is no fresh proof"),
    ),
    "keys_count_in_addresses": (lambda: asked_otherwise("GET", "/me$", key_in_address), ("a key is shown once",)),
    "keys_do_everything": (
        lambda: turned("PATCH", "/me$", 200, 403, code="insufficient_scope", data={}),
        ("a key does what its scopes say",),
    ),
    "keys_are_persons": (
        lambda: turned("POST", "/api-keys$", 201, 403, code="in_person_only", data={}),
        ("no key may",),
    ),
    "roles_are_kept_in_tokens": (lambda: remembering("/users", 403), ("a role is what it carries now",)),
    "impersonators_touch_credentials": (
        lambda: turned("POST", "/me/password$", 200, 403, code="in_person_only", data=TOKENS),
        ("Who acts for somebody",),
    ),
    "impersonators_are_not_named": (
        lambda: changed("POST", "/impersonation$", without_act),
        ("Who acts for somebody",),
    ),
    "admins_act_for_admins": (
        lambda: turned("POST", "/impersonation$", 201, 409, data=TOKENS),
        ("Nobody acts for an admin",),
    ),
    "slugs_are_taken_twice": (
        lambda: turned("POST", "/organisations$", 201, 409, data={}),
        ("Whoever makes an organisation",),
    ),
    "strangers_hear_403": (strangers_hear_403, ("an organisation that one is not in",)),
    "links_let_anybody_in": (
        lambda: turned("POST", "/invitations/accept$", 200, 403, data={}),
        ("An invitation says nothing",),
    ),
    "invitations_are_good_again": (
        lambda: turned("POST", "/invitations/accept$", 200, 422, 409, data={}),
        ("An invitation says nothing",),
    ),
    "members_do_everything": (lambda: turned("PATCH", ANY_ORG, 200, 403, data={}), ("What a plain member",)),
    "the_last_owner_leaves": (lambda: turned("DELETE", "/members/", 204, 409), ("Two owners who leave",)),
    "plain_is_offered": (
        lambda: changed("GET", "/openid-conf", lambda told: {**told, "code_challenge_methods_supported": ["plain"]}),
        ("A program finds everything",),
    ),
    "other_keys_are_published": (
        lambda: changed("GET", "/jwks.json$", other_keys),
        ("A15: a program signs somebody in",),
    ),
    "codes_are_redeemed_again": (
        lambda: for_everybody("/oauth/token$", "code"),
        ("a code is good once", "twenty who redeem one code"),
    ),
    "replayed_codes_end_nothing": (lambda: remembering("/oauth/userinfo", 401), ("a code is good once",)),
    "browsers_are_sent_anywhere": (lambda: sent_anywhere, ("nobody is sent",)),
    "pkce_may_be_plain": (lambda: asked_otherwise("GET", "/oauth/authorize$", weaker), ("PKCE cannot",)),
    "programs_need_no_proof": (
        lambda: turned("POST", "/oauth/token$", 400, 401, data={}),
        ("a code is good for its own program",),
    ),
    "programs_do_everything": (lambda: turned("PATCH", "/me$", 200, 403, data={}), ("A program's token does",)),
    "refusals_are_not_noted": (
        lambda: changed(
            "GET",
            "/me/audit$",
            lambda told: {**told, "items": [each for each in told["items"] if each["outcome"] == "done"]},
        ),
        ("what happens to an account is in its own log",),
    ),
    "everybody_reads_the_log": (lambda: turned("GET", "/accounts/audit$", 200, 403, data=PAGE), ("the whole log",)),
    "exports_are_for_everybody": (
        lambda: turned("GET", "/me/exports/", 200, 404, data={}),
        ("One's own data can be taken",),
    ),
}
DRILLS = [(name, title) for name, (_, titles) in MUTANTS.items() for title in titles]


@pytest.mark.parametrize(("name", "title"), DRILLS)
def test_a_drill_fails_where_its_promise_is_broken(name: str, title: str, house: House) -> None:
    with in_front_of(house.served, MUTANTS[name][0]()) as url, house.world(url) as world:
        found = list(running.results("accounts", world, title))
    assert [each.outcome for each in found] == ["failed"], found


def test_a_link_that_leads_where_the_request_said_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts: list[str] = []
    take = house.letters.take

    def listens(asked: Asked, pass_on: PassOn) -> Reply:
        hosts.extend(filter(None, [asked.headers.get("x-forwarded-host")]))
        return pass_on(asked)

    def write_with(letter: Letter) -> None:
        take(replace(letter, text=letter.text.replace("127.0.0.1", hosts[-1])) if hosts else letter)

    monkeypatch.setattr(house.letters, "take", write_with)
    with in_front_of(house.served, listens) as url, house.world(url) as world:
        (found,) = running.results("accounts", world, "links in letters begin")
    assert (found.outcome, "evil" in found.came) == ("failed", True)


def test_every_drill_has_a_server_that_it_fails_at() -> None:
    titles = [one.title for one in SUITES["accounts"] if one.part is not None]
    untried = [title for title in titles if not any(part.lower() in title.lower() for _, part in DRILLS)]
    assert untried == ["A8: links in letters begin with the server's own address, whatever Host a request brings"]


# ---- between the checks and the house


@contextmanager
def in_front_of(served: Served, breaks: Breaks) -> Iterator[str]:
    """A server that passes on what it hears, from the same address, but for what is broken."""
    behind = urlsplit(served.url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        timeout = 60

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value.replace(before, behind) for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body, self.client_address[0])
            reply = breaks(asked, pass_on)
            self.send_response(reply.status)
            for name, value in reply.headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            content = b"" if reply.status in (204, 304) or self.command == "HEAD" else reply.body
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *what: Any) -> None: ...

    def pass_on(asked: Asked) -> Reply:
        there = http.client.HTTPConnection(behind, timeout=60, source_address=(asked.place, 0))
        kept = {name: value for name, value in asked.headers.items() if name not in NOT_PASSED_ON}
        try:
            there.request(asked.method, asked.path, asked.body or None, kept)
            came = there.getresponse()
            return Reply(came.status, came.getheaders(), came.read())
        finally:
            there.close()

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    before = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://{before}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
