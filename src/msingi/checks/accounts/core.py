"""What every server that keeps docs/contracts/accounts.md promises; nothing of this may be left out."""

import base64
import hashlib
import hmac
import json
import re
import time
from typing import Any

from msingi.checks import rules
from msingi.checks.accounts.people import (
    ACCOUNTS,
    Browser,
    decoded,
    encoded,
    me,
    new_form,
    newcomer,
    parts,
    refresh,
    register,
    sign_in,
    signed_in,
    somebody,
    soon_refused,
    with_token,
)
from msingi.checks.harness import Skipped, World, check, fresh, need_of_all, new_email, new_password, together, until

ACCOUNT = ("id", "email", "name", "roles", "disabled", "created_at", "updated_at", "version")
COMMON = ("123456789012345", "passwordpassword", "aaaaaaaaaaaaaaaaaa", "qwertyuiopasdfghjkl")
SECRETS = re.compile(r'"(password|password_hash|hash|salt|secret|pepper)"|\$argon2|\$2[aby]\$')


# ---- registering


@check("Somebody new can register and sign in at once")
def _(world: World) -> None:
    form = new_form(name="  Asha  ")
    made = register(world, form).want(201, 202)
    if made.status == 201:
        account = made.fields(*ACCOUNT)
        wanted = (form["email"], "Asha", ["user"], False, 1)
        made.need(
            (account["email"], account["name"], account["roles"], account["disabled"], account["version"]) == wanted,
            'the account: name trimmed, roles ["user"], not disabled, version 1',
        )
    answer = sign_in(world, form["email"], form["password"]).want(200)
    tokens = answer.fields("access_token", "refresh_token", "token_type", "expires_in")
    answer.need(tokens["token_type"] == "Bearer", 'token_type "Bearer"')  # noqa: S105  (no password)
    answer.need(
        type(tokens["expires_in"]) is int and 0 < tokens["expires_in"] <= 600, "expires_in of at most 600 seconds"
    )
    answer.need("no-store" in answer.headers.get("cache-control", ""), "Cache-Control: no-store")
    mine = me(world, tokens["access_token"]).want(200)
    rules.is_stored(mine)
    mine.need(mine.data["email"] == form["email"], "the account that signed in")


@check("No answer holds a password, or what was made of one")
def _(world: World) -> None:
    form = new_form()
    made = register(world, form).want(201, 202)
    tokens = sign_in(world, form["email"], form["password"]).want(200)
    for answer in (
        made,
        me(world, tokens.data["access_token"]),
        sign_in(world, form["email"], "wrong " + form["password"]),
    ):
        text = answer.content.decode()
        answer.need(form["password"] not in text and not SECRETS.search(text), "no password and no hash")


@check("An address is taken once, in whatever letter case")
def _(world: World) -> None:
    form = new_form()
    first = register(world, form).want(201, 202)
    for email in (form["email"], form["email"].upper(), f" {form['email']} "):
        again = register(world, {**form, "email": email})
        if first.status == 202:
            again.want(202, should="202, as for a new address").need(
                again.content == first.content, "the same body as for a new address"
            )
        else:
            again.problem(409, code="email_taken")
    sign_in(world, form["email"].upper(), form["password"]).want(200)


@check(
    "Of ten registrations at once with one address, one makes the account",
    hint="let a unique index on the address decide, not a look before",
)
def _(world: World) -> None:
    email = new_email("race")
    forms = [new_form(email=email) for _ in range(10)]
    answers = together(*[lambda form=form: register(world, form) for form in forms])
    statuses = [answer.status for answer in answers]
    fine = (statuses.count(201) == 1 and statuses.count(409) == 9) or set(statuses) == {202}
    need_of_all(answers, fine, "1 × 201 and 9 × 409 (or 10 × 202)")
    welcome = [form for form in forms if sign_in(world, email, form["password"]).status == 200]
    need_of_all(answers, len(welcome) == 1, f"one of the passwords to work; {len(welcome)} do")


@check("Addresses and names are held to their rules")
def _(world: World) -> None:
    for email in (
        "",
        "ann",
        "ann@",
        "@example.org",
        "ann @example.org",
        "a" * 250 + "@example.org",
        7,
        None,
        {"$gt": ""},
        "ann@example.org\r\nBcc: x@example.org",
    ):
        rules.refuses(register(world, new_form(email=email)), "/email")
    for name in ("", "   ", "x" * 101, 7, None):
        rules.refuses(register(world, new_form(name=name)), "/name")
    for missing in ("email", "password", "name"):
        form = new_form()
        del form[missing]
        rules.refuses(register(world, form), f"/{missing}")


@check("Nobody registers as an admin: unknown fields are refused, and no account is made")
def _(world: World) -> None:
    for extra in (
        {"roles": ["admin"]},
        {"role": "admin"},
        {"disabled": False},
        {"id": "x"},
        {"is_admin": True},
        {"__proto__": {"roles": ["admin"]}},
    ):
        form = new_form()
        register(world, {**form, **extra}).problem(422)
        sign_in(world, form["email"], form["password"]).want(401, hint="a form that was refused makes nothing")


@check("A1: passwords have 15 to 128 characters of any kind")
def _(world: World) -> None:
    long = fresh("Ng'ombe 🐔 ünïcode ")
    for length in (0, 14, 129, 5000):
        rules.refuses(
            register(world, new_form(password=(long * 200)[:length])), "/password", "count characters, not bytes"
        )
    for length in (15, 64, 128):
        form = new_form(password=(long * 9)[:length])
        register(world, form).want(201, 202)
        sign_in(world, form["email"], form["password"]).want(200)


@check("A1: nothing of a password is cut off or trimmed", hint="bcrypt looks at 72 bytes only: take Argon2id")
def _(world: World) -> None:
    start = (fresh("x") * 9)[:98]
    form = new_form(password=f" {start}a")
    register(world, form).want(201, 202)
    for other in (f" {start}b", f"{start}a", f" {start}", f" {start.upper()}a"):
        sign_in(world, form["email"], other).want(401)
    sign_in(world, form["email"], form["password"]).want(200)


@check("A2: common passwords, and one's own address, are refused with a reason")
def _(world: World) -> None:
    for password in COMMON:
        rules.refuses(
            register(world, new_form(password=password)), "/password", "look it up in a list of common passwords"
        )
    form = new_form()
    answer = register(world, {**form, "password": form["email"]})
    rules.refuses(answer, "/password")
    answer.need(bool(answer.data.get("reason")), "the member `reason`")


@check("What is no JSON is 400, not 500")
def _(world: World) -> None:
    for path in ("sign-in", "refresh"):
        rules.refuses_what_is_no_json(world.nobody, "POST", f"{ACCOUNTS}/{path}")


@check("A body that is too deep or too large is refused")
def _(world: World) -> None:
    rules.refuses_what_is_too_deep_or_large(world.nobody, f"{ACCOUNTS}/sign-in", "email")


@check("What says that it is not JSON is 415")
def _(world: World) -> None:
    rules.refuses_other_media(world.nobody, f"{ACCOUNTS}/sign-in", b'{"email": "x"}')


# ---- signing in


@check("A wrong password and an unknown address hear the same 401")
def _(world: World) -> None:
    form, _ = somebody(world)
    wrong = sign_in(world, form["email"], new_password())
    unknown = sign_in(world, new_email("nobody"), new_password())
    told = [
        {name: value for name, value in answer.problem(401, code="wrong_credentials").items() if name != "request_id"}
        for answer in (wrong, unknown)
    ]
    unknown.need(told[0] == told[1], f"the same words as for a wrong password: {wrong.came}")


@check("Signing in with a query instead of a text is refused")
def _(world: World) -> None:
    form, _ = somebody(world)
    for body in (
        {"email": form["email"], "password": {"$ne": ""}},
        {"email": {"$gt": ""}, "password": form["password"]},
        {"email": form["email"], "password": ["x"]},
        {"email": form["email"]},
    ):
        world.nobody.post(f"{ACCOUNTS}/sign-in", body).problem(422)


@check("Without a good token nothing opens")
def _(world: World) -> None:
    for method, path in (
        ("GET", "/me"),
        ("PATCH", "/me"),
        ("POST", "/me/password"),
        ("POST", "/sign-out"),
        ("GET", "/sessions"),
        ("DELETE", "/sessions"),
        ("GET", "/users"),
        ("POST", "/users"),
    ):
        rules.needs_sign_in(world, method, ACCOUNTS + path)


@check("The access token is a JWT of at most ten minutes, signed with a key of the JWKS")
def _(world: World) -> None:
    form, tokens = somebody(world)
    keys = world.nobody.get("/.well-known/jwks.json").want(200)
    head, body, *_ = [*parts(tokens["access_token"]), "", ""]
    header, claims = decoded(head), decoded(body)
    listed = keys.fields("keys")["keys"]
    keys.need(all("d" not in key and "k" not in key for key in listed), "public keys only")
    keys.need(
        header.get("kid") in [key.get("kid") for key in listed],
        f"the key {header.get('kid')}, which signed an access token",
    )
    keys.need(
        header.get("alg") not in ("none", "HS256", "HS384", "HS512", None),
        f"a signature with a private key, not {header.get('alg')}",
    )
    keys.need(header.get("typ") == "at+jwt", f"typ at+jwt in the token's header, not {header.get('typ')}")
    missing = [name for name in ("iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "roles") if name not in claims]
    keys.need(not missing, f"the claims {', '.join(missing)} in the token too")
    keys.need(0 < claims["exp"] - claims["iat"] <= 600, "at most 600 seconds from iat to exp")
    mine = me(world, tokens["access_token"]).want(200)
    mine.need(mine.data["id"] == claims["sub"], "the id that stands in the token's sub")
    keys.need(form["password"] not in json.dumps(claims), "no password in the token")


@check(
    "A9: a token that somebody tampered with is refused",
    hint="check the algorithm against a list of your own before the signature; never let the token choose",
)
def _(world: World) -> None:
    _, tokens = somebody(world)
    head, body, signature = parts(tokens["access_token"])
    header, claims = decoded(head), decoded(body)
    key = world.nobody.get("/.well-known/jwks.json").want(200).data["keys"][0]
    forged = [
        f"{encoded({**header, 'alg': 'none'})}.{body}.",
        f"{encoded({**header, 'alg': 'None'})}.{body}.{signature}",
        f"{head}.{encoded({**claims, 'roles': ['admin']})}.{signature}",
        f"{head}.{encoded({**claims, 'exp': claims['exp'] + 86_400})}.{signature}",
        f"{head}.{body}.{'A' * len(signature)}",
        f"{head}.{body}",
        f"{head}.{body}.{signature}.{signature}",
        _with_hmac(header, body, json.dumps(key).encode()),
        _with_hmac(header, body, base64.urlsafe_b64decode(str(key.get("x", "")) + "===")),
        f"{encoded({**header, 'jwk': key})}.{body}.{signature}",
        f"{encoded({**header, 'kid': '../../dev/null'})}.{body}.{signature}",
    ]
    me(world, tokens["access_token"]).want(200)
    for token in forged:
        me(world, token).problem(401)
    for headers in ({"Authorization": f"Basic {tokens['access_token']}"}, {"Authorization": tokens["access_token"]}):
        world.nobody.get(f"{ACCOUNTS}/me", headers=headers).problem(401)
    world.nobody.get(f"{ACCOUNTS}/me?access_token={tokens['access_token']}").problem(
        401, hint="a token in an address ends up in logs"
    )
    me(world, tokens["refresh_token"]).problem(401, hint="a refresh token opens nothing but the refresh")


def _with_hmac(header: dict[str, Any], body: str, secret: bytes) -> str:
    """The token signed anew with what is public, as if the key's kind did not matter."""
    text = f"{encoded({**header, 'alg': 'HS256'})}.{body}"
    signature = base64.urlsafe_b64encode(hmac.new(secret, text.encode(), hashlib.sha256).digest())
    return f"{text}.{signature.rstrip(b'=').decode()}"


# ---- refreshing


@check("A10: refreshing gives new tokens, and they work")
def _(world: World) -> None:
    _, tokens = somebody(world)
    answer = refresh(world, tokens["refresh_token"]).want(200)
    new = answer.fields("access_token", "refresh_token", "token_type", "expires_in")
    answer.need(new["refresh_token"] != tokens["refresh_token"], "a new refresh token")
    answer.need("no-store" in answer.headers.get("cache-control", ""), "Cache-Control: no-store")
    me(world, new["access_token"]).want(200)
    refresh(world, new["refresh_token"]).want(200)


@check(
    "A10: the same refresh at once, twenty times, makes one successor",
    hint="compare and swap the token in one write; send the same successor for ten seconds",
)
def _(world: World) -> None:
    _, tokens = somebody(world)
    answers = together(*[lambda: refresh(world, tokens["refresh_token"])] * 20)
    need_of_all(
        answers,
        {answer.status for answer in answers} == {200},
        "20 × 200: a lost answer may be asked for again within ten seconds",
    )
    successors = {answer.data["refresh_token"] for answer in answers}
    need_of_all(answers, len(successors) == 1, f"the same new refresh token in each; there are {len(successors)}")
    refresh(world, successors.pop()).want(200)


@check(
    "A10: a hundred refreshes at once leave one line of tokens, and the one before it ends all",
    hint="whoever shows a token that has been replaced twice has a copy",
)
def _(world: World) -> None:
    _, tokens = somebody(world)
    answers = together(*[lambda: refresh(world, tokens["refresh_token"])] * 100)
    fine = {answer.status for answer in answers} == {200}
    need_of_all(answers, fine, "100 × 200: a lost answer may be asked for again within ten seconds")
    successors = {answer.data["refresh_token"] for answer in answers}
    need_of_all(answers, len(successors) == 1, f"the same new refresh token in each; there are {len(successors)}")
    newest = refresh(world, successors.pop()).want(200).data
    refresh(world, tokens["refresh_token"]).problem(401, code="bad_refresh_token")
    refresh(world, newest["refresh_token"]).problem(401, code="bad_refresh_token")
    soon_refused(world, newest["access_token"])


@check(
    "A10: a refresh token from further back ends the whole session",
    hint="whoever shows an old one has a copy: trust nobody in that session any more",
)
def _(world: World) -> None:
    _, tokens = somebody(world)
    second = refresh(world, tokens["refresh_token"]).want(200).data
    third = refresh(world, second["refresh_token"]).want(200).data
    me(world, third["access_token"]).want(200)
    refresh(world, tokens["refresh_token"]).problem(401, code="bad_refresh_token")
    refresh(world, third["refresh_token"]).problem(401, code="bad_refresh_token")
    refresh(world, second["refresh_token"]).problem(401, code="bad_refresh_token")
    soon_refused(world, third["access_token"])


@check("What is no refresh token is refused")
def _(world: World) -> None:
    _, tokens = somebody(world)
    good = tokens["refresh_token"]
    for token in (
        "nonsense",
        "",
        good[:-1],
        good + "A",
        good[:-6] + "AAAAAA",
        tokens["access_token"],
        "rt1_" + "A" * 90,
    ):
        refresh(world, token).want(401, 422, hint="401 bad_refresh_token").problem(401, 422)
    for body in ({}, {"refresh_token": None}, {"refresh_token": {"$ne": ""}}, {"refresh_token": good, "x": 1}):
        world.nobody.post(f"{ACCOUNTS}/refresh", body).problem(422)
    refresh(world, good).want(200, hint="somebody else's guesses do not end a session")


# ---- sessions


@check("A11: signing out ends the session, its tokens with it")
def _(world: World) -> None:
    form, tokens = somebody(world)
    other = signed_in(world, form)
    world.nobody.post(f"{ACCOUNTS}/sign-out", headers=with_token(tokens["access_token"])).want(204)
    soon_refused(world, tokens["access_token"])
    refresh(world, tokens["refresh_token"]).problem(401)
    me(world, other["access_token"]).want(200, hint="signing out ends this session, not the others")


@check("A12: sessions can be listed and ended one by one")
def _(world: World) -> None:
    form, here = newcomer(world)
    there = signed_in(world, form)
    answer = world.nobody.get(f"{ACCOUNTS}/sessions", headers=with_token(here["access_token"]))
    sessions = answer.page()
    answer.need(len(sessions) == 2, "two sessions")
    answer.need([each.get("current") for each in sessions].count(True) == 1, "one of them current")
    missing = [
        name
        for name in ("id", "kind", "created_at", "last_used_at", "expires_at", "current")
        if name not in sessions[0]
    ]
    answer.need(not missing, f"sessions with {', '.join(missing)}")
    answer.need(here["refresh_token"] not in answer.content.decode(), "no token in the list")
    ended = next(each for each in sessions if not each["current"])
    path = f"{ACCOUNTS}/sessions/{ended['id']}"
    _, stranger = newcomer(world)
    world.nobody.delete(path, headers=with_token(stranger["access_token"])).problem(404)
    me(world, there["access_token"]).want(200)
    world.nobody.delete(path, headers=with_token(here["access_token"])).want(204)
    soon_refused(world, there["access_token"])
    refresh(world, there["refresh_token"]).problem(401)
    me(world, here["access_token"]).want(200)
    world.nobody.delete(path, headers=with_token(here["access_token"])).problem(404)


@check("A12: all other sessions can be ended together")
def _(world: World) -> None:
    form, here = newcomer(world)
    others = [signed_in(world, form) for _ in range(3)]
    world.nobody.delete(f"{ACCOUNTS}/sessions", headers=with_token(here["access_token"])).want(204)
    for other in others:
        soon_refused(world, other["access_token"])
        refresh(world, other["refresh_token"]).problem(401)
    me(world, here["access_token"]).want(200)


@check("A11: changing the password ends the other sessions and the old password")
def _(world: World) -> None:
    form, here = newcomer(world)
    other = signed_in(world, form)
    path, mine = f"{ACCOUNTS}/me/password", with_token(here["access_token"])
    change = {"current_password": form["password"], "new_password": new_password()}
    world.nobody.post(path, {**change, "current_password": new_password()}, headers=mine).problem(
        403, code="wrong_password"
    )
    rules.refuses(world.nobody.post(path, {**change, "new_password": "too short"}, headers=mine), "/new_password")
    rules.refuses(world.nobody.post(path, {**change, "new_password": COMMON[0]}, headers=mine), "/new_password")
    me(world, other["access_token"]).want(200, hint="a refused change changes nothing")
    answer = world.nobody.post(path, change, headers=mine).want(200)
    fresh_tokens = answer.fields("access_token", "refresh_token", "token_type", "expires_in")
    for old in (other, here):
        soon_refused(world, old["access_token"])
        refresh(world, old["refresh_token"]).problem(401)
    me(world, fresh_tokens["access_token"]).want(200)
    sign_in(world, form["email"], form["password"]).want(401)
    sign_in(world, form["email"], change["new_password"]).want(200)


# ---- one's own account


@check("One's own name can be changed, and nothing else")
def _(world: World) -> None:
    _, tokens = newcomer(world)
    mine = with_token(tokens["access_token"])
    path = f"{ACCOUNTS}/me"
    before = me(world, tokens["access_token"]).want(200).data
    changed = world.nobody.patch(path, {"name": " Asha "}, headers=mine).want(200)
    changed.need(
        (changed.data["name"], changed.data["version"]) == ("Asha", before["version"] + 1),
        "the new name, the version one higher",
    )
    extra = {
        "roles": ["admin"],
        "disabled": True,
        "email": "x@example.org",
        "id": "x",
        "version": 1,
        "password": "x" * 20,
    }
    rules.refuses_unknown_fields(
        lambda form: world.nobody.patch(path, form, headers=mine),
        {"name": "x"},
        extra,
        lambda: me(world, tokens["access_token"]).data,
    )
    old = {**mine, "If-Match": f'"{before["version"]}"'}
    world.nobody.patch(path, {"name": "late"}, headers=old).problem(409, code="stale")


@check("Who has the newest version of the account already hears 304")
def _(world: World) -> None:
    rules.answers_304(world.person("Reader"), f"{ACCOUNTS}/me")


# ---- cookie sessions


@check("A13: the session cookie is out of reach of scripts and other sites")
def _(world: World) -> None:
    form, _ = somebody(world)
    browser = Browser(world, form)
    answer = browser.answer
    answer.need(len(browser.cookies) == 1, "one cookie")
    name, cookie = next(iter(browser.cookies.items()))
    secure = world.url.startswith("https://")
    answer.need(
        name == "__Host-sid" or (not secure and name == "sid"),
        "the name __Host-sid (sid over plain HTTP in development)",
    )
    answer.need(
        bool(cookie["httponly"]) and str(cookie["samesite"]).lower() in ("lax", "strict"), "HttpOnly and SameSite=Lax"
    )
    answer.need(cookie["path"] == "/" and not cookie["domain"], "Path=/ and no Domain")
    answer.need(bool(cookie["secure"]) or name == "sid", "Secure")
    answer.need(len(cookie.value) >= 32, "a random value of at least 32 characters")
    answer.need(
        "access_token" not in answer.data and "refresh_token" not in answer.data,
        "no tokens in the body of a cookie session",
    )
    mine = browser.ask("GET", "/me", leave_out=("Origin", "X-CSRF-Token")).want(200)
    mine.need(mine.data["email"] == form["email"], "the account that signed in")


@check("A12: a session id that the browser brings along is not taken over")
def _(world: World) -> None:
    form, _ = somebody(world)
    first = Browser(world, form)
    chosen = "chosen-by-somebody-else-0123456789abcdef"
    for brought in (
        {"Cookie": first.cookie, "X-CSRF-Token": first.csrf},
        {"Cookie": f"sid={chosen}"},
        {"Cookie": f"__Host-sid={chosen}"},
    ):
        second = Browser(world, form, brought)
        new = second.cookie not in ("", brought["Cookie"])
        second.answer.need(new, "a new random session id at each sign-in")


@check(
    "A14: with a cookie, a change needs an own Origin, the session's token and JSON",
    hint="a cookie comes along with every request, also with those that another site makes",
)
def _(world: World) -> None:
    form, _ = newcomer(world)
    browser, another = Browser(world, form), Browser(world, form)
    body = {"name": "Changed by a foreign page"}
    for refused in (
        browser.ask("PATCH", "/me", leave_out=("X-CSRF-Token",), json=body),
        browser.ask("PATCH", "/me", headers={"X-CSRF-Token": another.csrf}, json=body),
        browser.ask("PATCH", "/me", headers={"X-CSRF-Token": "nonsense"}, json=body),
        browser.ask("PATCH", "/me", headers={"Origin": "https://evil.example"}, json=body),
        browser.ask("PATCH", "/me", headers={"Origin": "null"}, json=body),
        browser.ask("PATCH", "/me", headers={"Origin": browser.origin + ".evil.example"}, json=body),
        browser.ask("PATCH", "/me", leave_out=("Origin",), headers={"Sec-Fetch-Site": "cross-site"}, json=body),
        browser.ask("PATCH", "/me", leave_out=("Origin",), json=body),
        browser.ask("POST", "/sign-out", leave_out=("X-CSRF-Token",)),
    ):
        refused.problem(403)
    plain = browser.ask("PATCH", "/me", content=json.dumps(body).encode(), headers={"Content-Type": "text/plain"})
    plain.problem(415, 403)
    mine = browser.ask("GET", "/me").want(200)
    mine.need(mine.data["name"] == "New", "the name unchanged after all that")
    browser.ask("PATCH", "/me", json={"name": "Mine"}).want(200)
    browser.ask(
        "PATCH", "/me", leave_out=("Origin",), headers={"Sec-Fetch-Site": "same-origin"}, json={"name": "Mine too"}
    ).want(200)
    fresh_token = browser.ask("GET", "/csrf").want(200)
    browser.ask(
        "PATCH",
        "/me",
        headers={"X-CSRF-Token": str(fresh_token.fields("csrf_token")["csrf_token"])},
        json={"name": "And again"},
    ).want(200)


@check("A11: signing out ends a cookie session")
def _(world: World) -> None:
    form, _ = somebody(world)
    browser = Browser(world, form)
    browser.ask("GET", "/me").want(200)
    out = browser.ask("POST", "/sign-out").want(204)
    out.need("set-cookie" in out.headers, "a Set-Cookie that clears the cookie")
    until(
        lambda: browser.ask("GET", "/me"),
        lambda answer: answer.status == 401,
        "401 for the cookie of an ended session",
        2.0,
    )


# ---- looking after others


@check("Whoever is no admin hears 403 on the users")
def _(world: World) -> None:
    caller = world.person("Plain")
    caller.get(f"{ACCOUNTS}/users").problem(403)
    caller.post(f"{ACCOUNTS}/users", new_form()).problem(403)
    caller.get(f"{ACCOUNTS}/users/{caller.id}").problem(403)
    caller.patch(f"{ACCOUNTS}/users/{caller.id}", {"roles": ["user", "admin"]}).problem(403)


@check("An admin lists, makes and finds users")
def _(world: World) -> None:
    admin = world.admin
    made = admin.post(f"{ACCOUNTS}/users", form := new_form()).want(201)
    made.fields(*ACCOUNT)
    found = admin.get(f"{ACCOUNTS}/users", params={"email": form["email"]})
    found.need([each["id"] for each in found.page()] == [made.data["id"]], "the one user with this address")
    one = admin.get(f"{ACCOUNTS}/users/{made.data['id']}").want(200)
    one.need(one.data == made.data, "the user as it was made")
    rules.refuses_bad_paging(admin, f"{ACCOUNTS}/users")
    rules.refuses_operators(
        admin, f"{ACCOUNTS}/users", ("colour=red", "email[$ne]=x", "disabled=perhaps", "password_hash=x")
    )
    admin.get(f"{ACCOUNTS}/users/no-such-user").problem(404)
    sign_in(world, form["email"], form["password"]).want(200)


@check("A11: disabling a user ends their sessions and bars the door")
def _(world: World) -> None:
    admin = world.admin
    form, tokens = newcomer(world)
    path = f"{ACCOUNTS}/users/{me(world, tokens['access_token']).want(200).data['id']}"
    admin.patch(path, {"disabled": True}).want(200)
    soon_refused(world, tokens["access_token"])
    refresh(world, tokens["refresh_token"]).problem(401)
    sign_in(world, form["email"], form["password"]).problem(403, code="account_disabled")
    sign_in(world, form["email"], new_password()).problem(401, code="wrong_credentials")
    admin.patch(path, {"disabled": False}).want(200)
    sign_in(world, form["email"], form["password"]).want(200)


@check("A11: a new role takes effect, and old tokens stop")
def _(world: World) -> None:
    admin = world.admin
    form, tokens = newcomer(world)
    path = f"{ACCOUNTS}/users/{me(world, tokens['access_token']).want(200).data['id']}"
    for roles in (["king"], "admin", [7], None):
        rules.refuses(admin.patch(path, {"roles": roles}), "/roles")
    admin.patch(path, {"roles": ["user", "admin"]}).want(200)
    soon_refused(world, tokens["access_token"])
    newer = signed_in(world, form)
    world.nobody.get(f"{ACCOUNTS}/users", headers=with_token(newer["access_token"])).want(200)
    admin.patch(path, {"roles": ["user"]}).want(200)
    soon_refused(world, newer["access_token"])
    world.nobody.get(f"{ACCOUNTS}/users", headers=with_token(signed_in(world, form)["access_token"])).problem(403)


# ---- around it


@check("The keys can be cached")
def _(world: World) -> None:
    answer = world.nobody.get("/.well-known/jwks.json").want(200)
    answer.need("max-age" in answer.headers.get("cache-control", ""), "Cache-Control with a max-age")


@check("A refused sign-in costs about as much as a right one", hint="hash something also when there is no such address")
def _(world: World) -> None:
    form, _ = newcomer(world)
    addresses = {"known": form["email"], "unknown": new_email("nobody")}
    taken: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(4):
        for kind, email in addresses.items():
            body = {"email": email, "password": new_password()}
            began = time.monotonic()
            answer = world.nobody.post(f"{ACCOUNTS}/sign-in", body, tries=1)
            if answer.want(401, 429).status == 401:
                taken[kind].append(time.monotonic() - began)
    if min(map(len, taken.values())) < 2:
        raise Skipped("the server's limits let too few tries through to tell")
    known, unknown = min(taken["known"]), min(taken["unknown"])
    # Coarse on purpose: it finds a missing hash (tens of times faster), not a finer difference.
    answer.need(
        unknown > known * 0.4,
        f"about as long for an unknown address ({unknown:.3f} s) as for a known one ({known:.3f} s)",
    )


@check("An address that is none is 404 as a problem, with the id of the request")
def _(world: World) -> None:
    rules.has_request_id(world.ann, f"{ACCOUNTS}/me")


@check("Answers carry the headers that keep browsers and proxies out of it")
def _(world: World) -> None:
    rules.has_safe_headers(world, world.ann, f"{ACCOUNTS}/me")


@check("Limits are told in a way that can be read")
def _(world: World) -> None:
    rules.tells_its_limits(world.ann, f"{ACCOUNTS}/me")
