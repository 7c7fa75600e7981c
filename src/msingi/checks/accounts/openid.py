"""docs/contracts/accounts-openid.md: a small program signs people in, as the standards say, and tries to cheat."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from msingi.checks.accounts.people import ACCOUNTS, Browser, decoded, me, newcomer, parts, refresh, with_token
from msingi.checks.harness import NO_BODY, Answer, Caller, Part, World, check, fresh, need_of_all, together, until

CLIENTS = f"{ACCOUNTS}/clients"
DISCOVERY = "/.well-known/openid-configuration"
BACK = "http://127.0.0.1:9/back"  # nobody listens there: what counts is where the browser is sent
OPENID = Part("openid", lambda world: world.ann.get(DISCOVERY))
SAID = (
    *("issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "revocation_endpoint"),
    *("response_types_supported", "code_challenge_methods_supported", "id_token_signing_alg_values_supported"),
)


def discovered(world: World, name: str) -> str:
    """The path of an address that discovery names: it is asked for where the checks reach the server."""
    told = world.nobody.get(DISCOVERY).want(200)
    found = urlsplit(str(told.fields(name)[name]))
    return found.path


@dataclass
class Program:
    """A program on a server, and one person's browser on the way to it."""

    world: World
    browser: Browser
    id: str
    secret: str
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()

    def begin(self, **other: str | None) -> Answer:
        """The browser is sent to the server, with these parameters other than they should be (None: left out)."""
        right = {
            "response_type": "code",
            "client_id": self.id,
            "redirect_uri": BACK,
            "scope": "openid email offline_access",
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
        }
        params = {name: value for name, value in {**right, **other}.items() if value is not None}
        path = discovered(self.world, "authorization_endpoint")
        return self.world.nobody.get(f"{path}?{urlencode(params)}", headers={"Cookie": self.browser.cookie})

    def code(self) -> str:
        """A code, brought back by the browser."""
        answer = self.begin()
        told = sent_back(answer)
        answer.need(told.get("state") == self.state and bool(told.get("code")), "code and state in the address back")
        issuer = self.world.nobody.get(DISCOVERY).data["issuer"]
        answer.need(told.get("iss") == issuer, f"iss={issuer} in the address back (RFC 9207)")
        return told["code"]

    def redeem(self, code: str, **other: str) -> Answer:
        right = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": self.verifier}
        return self.ask("token_endpoint", {**right, **other})

    def ask(self, name: str, form: dict[str, str], secret: str | None = None) -> Answer:
        """Ask as the program, by client_secret_basic."""
        proof = base64.b64encode(f"{self.id}:{self.secret if secret is None else secret}".encode()).decode()
        headers = {"Authorization": f"Basic {proof}", "Content-Type": "application/x-www-form-urlencoded"}
        content = urlencode({each: value for each, value in form.items() if value != ""}).encode()
        return self.world.nobody.ask("POST", discovered(self.world, name), content=content, headers=headers)


def program(world: World) -> Program:
    """A program that an admin registered, first-party so that nobody has to be asked; and somebody signed in."""
    form: dict[str, Any] = {
        "name": fresh("Diary "),
        "kind": "confidential",
        "redirect_uris": [BACK],
        "first_party": True,
    }
    made = world.admin.post(CLIENTS, {**form, "scopes": ["openid", "email", "offline_access"]}).want(201)
    client = made.fields("id", "client_secret")
    world.at_the_end.append(lambda: world.admin.delete(f"{CLIENTS}/{client['id']}"))
    person, _ = newcomer(world)
    return Program(world, Browser(world, person), client["id"], client["client_secret"])


def sent_back(answer: Answer) -> dict[str, str]:
    """What the browser brings back to the program. Fails if it is sent elsewhere, or nowhere."""
    answer.want(302, 303)
    where = answer.headers.get("location", "")
    answer.need(where.partition("?")[0] == BACK, f"a Location at {BACK}, not {where[:120] or 'none'}")
    return {name: values[0] for name, values in parse_qs(urlsplit(where).query).items()}


def refused(answer: Answer, *errors: str, status: int = 400) -> None:
    """A refusal in the standards' words."""
    answer.want(status)
    answer.need(answer.data.get("error") in errors, f"error {' or '.join(errors)}")


def who(world: World, token: str) -> Answer:
    """What userinfo says to who shows this."""
    return world.nobody.get(discovered(world, "userinfo_endpoint"), headers=with_token(token))


@check("A program finds everything by discovery", part=OPENID)
def _(world: World) -> None:
    answer = world.nobody.get(DISCOVERY).want(200)
    said = answer.fields(*SAID)
    answer.need(said["response_types_supported"] == ["code"], "code, and no other response type")
    answer.need(said["code_challenge_methods_supported"] == ["S256"], "S256, and no plain")
    algorithms = said["id_token_signing_alg_values_supported"]
    answer.need("none" not in algorithms and not any(each.startswith("HS") for each in algorithms), "signatures only")
    for name in (each for each in SAID if each.endswith(("_endpoint", "_uri"))):
        answer.need(str(said[name]).startswith(said["issuer"]), f"{name} at the issuer's address")
    same = world.nobody.get("/.well-known/oauth-authorization-server").want(200)
    same.need(same.data == answer.data, "the same at both addresses")
    world.nobody.get(discovered(world, "jwks_uri")).want(200).fields("keys")


@check("A15: a program signs somebody in: code, PKCE, and an ID token that the published keys prove", part=OPENID)
def _(world: World) -> None:
    one = program(world)
    answer = one.redeem(one.code()).want(200)
    answer.need("no-store" in answer.headers.get("cache-control", ""), "Cache-Control: no-store")
    tokens = answer.fields("access_token", "token_type", "expires_in", "scope", "id_token", "refresh_token")
    header, claims = (decoded(part) for part in parts(tokens["id_token"])[:2])
    keys = world.nobody.get(discovered(world, "jwks_uri")).want(200)
    proven(keys, header, tokens["id_token"])
    issuer = world.nobody.get(DISCOVERY).data["issuer"]
    person = who(world, tokens["access_token"]).want(200)
    wanted = {"iss": issuer, "aud": one.id, "nonce": one.nonce, "sub": person.data["sub"], "at_hash": half(tokens)}
    wrong = [name for name, value in wanted.items() if claims.get(name) != value]
    answer.need(not wrong, f"an ID token with {', '.join(f'{name} {wanted[name]}' for name in wrong)}")
    answer.need({"iat", "exp", "auth_time"} <= set(claims), "an ID token with iat, exp and auth_time")
    person.need("email" in person.data, "the e-mail address, for the scope `email`")
    me(world, tokens["id_token"]).problem(401, hint="an ID token is for the program, and opens nothing here")
    again = one.ask("token_endpoint", {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}).want(
        200
    )
    again.need(again.data.get("refresh_token") != tokens["refresh_token"], "a new refresh token")
    refresh(world, again.data["refresh_token"]).problem(
        401, hint="a program's refresh token is good at /oauth/token only"
    )
    one.ask("revocation_endpoint", {"token": tokens["access_token"]}).want(200)
    soon_unknown(world, again.data["access_token"])


def proven(keys: Answer, header: dict[str, Any], token: str) -> None:
    """The token is signed by the key of the set that its header names."""
    found = [key for key in keys.fields("keys")["keys"] if key.get("kid") == header.get("kid")]
    keys.need(len(found) == 1 and header.get("alg") == "EdDSA", f"the key {header.get('kid')} for EdDSA")
    body, _, signature = token.rpartition(".")
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(found[0]["x"] + "=="))
        public.verify(base64.urlsafe_b64decode(signature + "=="), body.encode())
    except (InvalidSignature, ValueError):
        keys.need(False, "the key that the ID token was signed with")


def half(tokens: dict[str, Any]) -> str:
    """What binds the ID token to the access token beside it: the left half of its SHA-512."""
    left = hashlib.sha512(tokens["access_token"].encode()).digest()[:32]
    return base64.urlsafe_b64encode(left).rstrip(b"=").decode()


def soon_unknown(world: World, token: str) -> None:
    until(partial(who, world, token), lambda answer: answer.status == 401, "401 for a token that was ended", 2.0)


@check(
    "A15: a code is good once; the second time ends what the first gave",
    part=OPENID,
    hint="remember with a used code which session it opened, and end it when the code comes again",
)
def _(world: World) -> None:
    one = program(world)
    code = one.code()
    tokens = one.redeem(code).want(200).data
    who(world, tokens["access_token"]).want(200)
    refused(one.redeem(code), "invalid_grant")
    soon_unknown(world, tokens["access_token"])
    refused(
        one.ask("token_endpoint", {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}),
        "invalid_grant",
    )


@check("A15: of twenty who redeem one code at once, one gets tokens", part=OPENID)
def _(world: World) -> None:
    one = program(world)
    code = one.code()
    answers = together(*[lambda: one.redeem(code)] * 20)
    statuses = [answer.status for answer in answers]
    need_of_all(answers, statuses.count(200) == 1 and statuses.count(400) == 19, "1 × 200, 19 × 400 invalid_grant")


@check("A15: nobody is sent to an address that is not the program's own", part=OPENID)
def _(world: World) -> None:
    one = program(world)
    for address in (
        "https://evil.example/back",
        "http://127.0.0.1.evil.example:9/back",
        f"{BACK}/../evil",
        f"{BACK}/more",
        f"{BACK}?next=https://evil.example",
        f"{BACK}#x",
        "http://127.0.0.1:9@evil.example/back",
        "javascript:alert(1)",
        None,
    ):
        answer = one.begin(redirect_uri=address).want(400, hint="compare letter for letter with what was registered")
        answer.need("location" not in answer.headers, "no Location")
    answer = one.begin(client_id="no-such-program").want(400)
    answer.need("location" not in answer.headers, "no Location")
    refused(one.redeem(one.code(), redirect_uri="http://127.0.0.1:9/other"), "invalid_grant", "invalid_request")


@check("A15: PKCE cannot be left out, made weaker, or guessed", part=OPENID)
def _(world: World) -> None:
    one = program(world)
    for other in (
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": "plain", "code_challenge": one.verifier},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"code_challenge": "short"},
    ):
        answer = one.begin(**other)
        told = sent_back(answer)
        answer.need(told.get("error") == "invalid_request" and "code" not in told, "error=invalid_request, and no code")
    for wrong in ("x" * 64, one.challenge, ""):
        refused(one.redeem(one.code(), code_verifier=wrong), "invalid_grant", "invalid_request")
    answer = one.begin(response_type="token")
    answer.need(sent_back(answer).get("error") == "unsupported_response_type", "error=unsupported_response_type")


@check("A15: a code is good for its own program, which has to prove itself", part=OPENID)
def _(world: World) -> None:
    one, other = program(world), program(world)
    refused(other.redeem(one.code(), code_verifier=one.verifier), "invalid_grant")
    code = one.code()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": one.verifier}
    refused(one.ask("token_endpoint", form, secret=fresh("wrong")), "invalid_client", status=401)
    one.redeem(code).want(200, hint="a stranger's guess uses up no code")


@check("A program's token does what was granted, and touches no credentials", part=OPENID)
def _(world: World) -> None:
    one = program(world)
    tokens = one.redeem(one.code()).want(200).data
    mine = with_token(tokens["access_token"])
    program_caller = Caller(world.http, world.url)
    who(world, tokens["access_token"]).want(200)
    for method, path, body in (
        ("GET", f"{ACCOUNTS}/me", NO_BODY),
        ("PATCH", f"{ACCOUNTS}/me", {"name": "Mine"}),
        ("POST", f"{ACCOUNTS}/me/password", {"current_password": "x" * 20, "new_password": "y" * 20}),
        ("DELETE", f"{ACCOUNTS}/me", NO_BODY),
    ):
        program_caller.ask(method, path, headers=mine, json=body).problem(403)
    one.browser.ask("POST", "/sign-out").want(204)
    who(world, tokens["access_token"]).want(200, 401)
    soon_refused_at_introspection(one, tokens["access_token"])


def soon_refused_at_introspection(one: Program, token: str) -> None:
    """The program can ask whether a token is good, and hears when it no longer is."""
    path = "introspection_endpoint"
    if path not in one.world.nobody.get(DISCOVERY).data:
        return
    one.ask("revocation_endpoint", {"token": token}).want(200)
    until(
        lambda: one.ask(path, {"token": token}),
        lambda answer: answer.data.get("active") is False,
        '{"active": false}',
        2.0,
    )
