"""docs/contracts/accounts-audit-and-data.md: the log of access, and one's own data, taken away or erased."""

import io
import json
import zipfile
from typing import Any

from msingi.checks.accounts.people import (
    ACCOUNTS,
    me,
    newcomer,
    refresh,
    register,
    sign_in,
    soon_refused,
    with_token,
)
from msingi.checks.harness import Answer, Part, World, check, until

LOG, MY_LOG, EXPORTS = f"{ACCOUNTS}/audit", f"{ACCOUNTS}/me/audit", f"{ACCOUNTS}/me/exports"
PATIENCE = 30.0  # seconds that an export may take
AUDIT = Part("audit", lambda world: world.ann.get(MY_LOG))
EXPORT = Part("export", lambda world: world.ann.get(EXPORTS))
ERASING = Part("erasing", lambda world: _erased(world, newcomer(world)[1]["access_token"]))
ENTRY = ("id", "created_at", "kind", "outcome", "actor", "about", "facts")


def _erased(world: World, token: str) -> Answer:
    return world.nobody.delete(f"{ACCOUNTS}/me", headers=with_token(token))


def entries(answer: Answer, kind: str, **wanted: Any) -> list[dict[str, Any]]:
    """Those of a kind on a page of the log that have these members."""
    items = [each for each in answer.page() if each.get("kind") == kind]
    return [each for each in items if all(each.get(name) == value for name, value in wanted.items())]


@check("L1: what happens to an account is in its own log within a second, and a stranger's is not", part=AUDIT)
def _(world: World) -> None:
    form, tokens = newcomer(world)
    mine = with_token(tokens["access_token"])
    id = me(world, tokens["access_token"]).want(200).data["id"]
    sign_in(world, form["email"], "wrong " + form["password"]).want(401)

    def log() -> Answer:
        return world.nobody.get(MY_LOG, headers=mine)

    until(
        log, lambda seen: bool(entries(seen, "accounts.signed_in", outcome="done")), "an entry accounts.signed_in", 2.0
    )
    answer = until(
        log,
        lambda seen: bool(entries(seen, "accounts.sign_in_refused", outcome="refused")),
        "an entry accounts.sign_in_refused",
        2.0,
    )
    every = answer.page()
    answer.need(all(name in each for each in every for name in ENTRY), f"entries with {', '.join(ENTRY)}")
    answer.need(all(id in (each["actor"], each["about"]) for each in every), "entries of this account only")
    told = answer.content.decode()
    answer.need(
        form["email"] not in told and form["password"] not in told, "no e-mail address and no secret in the log"
    )
    for method in ("DELETE", "PATCH", "PUT"):
        world.nobody.ask(method, f"{MY_LOG}/{every[0]['id']}", headers=mine).problem(404, 405)


@check("L1: the whole log is for who may read it", part=AUDIT)
def _(world: World) -> None:
    world.eve.get(LOG).problem(403)
    world.nobody.get(LOG).problem(401)
    admin = world.admin
    _, tokens = newcomer(world)
    id = me(world, tokens["access_token"]).want(200).data["id"]
    admin.patch(f"{ACCOUNTS}/users/{id}", {"roles": ["user", "admin"]}).want(200)
    admin.patch(f"{ACCOUNTS}/users/{id}", {"roles": ["user"]}).want(200)
    answer = until(
        lambda: admin.get(LOG, params={"about": id}),
        lambda answer: len(entries(answer, "accounts.user_changed", outcome="done")) == 2,
        "two entries accounts.user_changed about this account",
        2.0,
    )
    last = entries(answer, "accounts.user_changed")[0]
    roles = last["facts"].get("roles", {})
    changed = (sorted(roles.get("before", [])), roles.get("after")) == (["admin", "user"], ["user"])
    answer.need(changed, "the roles before and after, newest first")
    admin.get(LOG, params={"colour": "red"}).problem(422)


@check("One's own data can be taken away, by oneself alone, and holds no secret", part=EXPORT)
def _(world: World) -> None:
    form, tokens = newcomer(world)
    mine = with_token(tokens["access_token"])
    asked = world.nobody.post(f"{ACCOUNTS}/me/export", headers=mine).want(202).fields("id", "state")
    listed = until(
        lambda: world.nobody.get(EXPORTS, headers=mine),
        lambda answer: [each["state"] for each in answer.page() if each["id"] == asked["id"]] == ["ready"],
        'the export with state "ready"',
        PATIENCE,
    )
    listed.need(len(listed.page()) == 1, "one export")
    path = f"{EXPORTS}/{asked['id']}"
    world.eve.get(path).problem(404)
    world.nobody.get(path).problem(401)
    file = world.nobody.get(path, headers=mine).want(200)
    file.need(file.headers.get("content-type", "").startswith("application/zip"), "Content-Type: application/zip")
    with zipfile.ZipFile(io.BytesIO(file.content)) as opened:
        file.need("accounts.json" in opened.namelist(), "a file accounts.json")
        texts = {name: opened.read(name).decode() for name in opened.namelist()}
    file.need(form["email"] in texts["accounts.json"], "one's address in accounts.json")
    json.loads(texts["accounts.json"])
    secrets = ("$argon2", "$2b$", form["password"], tokens["refresh_token"], "password_hash")
    file.need(not any(secret in text for secret in secrets for text in texts.values()), "no secret, hashed or not")


@check("Who erases their account is gone: tokens, sign-in, and the address is free again", part=ERASING)
def _(world: World) -> None:
    form, tokens = newcomer(world)
    id = me(world, tokens["access_token"]).want(200).data["id"]
    _erased(world, tokens["access_token"]).want(204)
    soon_refused(world, tokens["access_token"])
    refresh(world, tokens["refresh_token"]).problem(401)
    sign_in(world, form["email"], form["password"]).problem(401, code="wrong_credentials")
    if world.admin_email:
        world.admin.get(f"{ACCOUNTS}/users/{id}").problem(404)
    register(world, form).want(201, 202)
    again = sign_in(world, form["email"], form["password"]).want(200).data["access_token"]
    me(world, again).want(200).need(me(world, again).data["id"] != id, "another account, with another id")
