"""docs/contracts/accounts-keys-and-roles.md: what programs come with, who may do what, acting in somebody's name."""

from typing import Any

from msingi.checks import rules
from msingi.checks.accounts.people import (
    ACCOUNTS,
    decoded,
    me,
    new_form,
    newcomer,
    parts,
    refresh,
    signed_in,
    soon_refused,
    with_token,
)
from msingi.checks.harness import NO_BODY, Answer, Part, World, check, fresh, until

KEYS, ROLES = f"{ACCOUNTS}/api-keys", f"{ACCOUNTS}/roles"
READ, WRITE = "accounts:read", "accounts:write"
API_KEYS = Part("api-keys", lambda world: world.ann.get(KEYS))
CUSTOM_ROLES = Part("roles", lambda world: world.admin.get(ROLES))
ACTING = Part("impersonation", lambda world: impersonate(world, world.ann.id, {}))
# What only a person may do, and a body that would do it.
IN_PERSON: tuple[tuple[str, str, Any], ...] = (
    ("POST", KEYS, {"name": "more", "scopes": [READ]}),
    ("POST", f"{ACCOUNTS}/me/password", {"current_password": "x" * 20, "new_password": "y" * 20}),
    ("POST", f"{ACCOUNTS}/me/email", {"email": "elsewhere@check.example.org"}),
    ("POST", f"{ACCOUNTS}/me/totp", NO_BODY),
    ("POST", f"{ACCOUNTS}/me/export", NO_BODY),
    ("DELETE", f"{ACCOUNTS}/sessions", NO_BODY),
    ("DELETE", f"{ACCOUNTS}/me", NO_BODY),
)


def made_key(world: World, token: str, *scopes: str) -> dict[str, Any]:
    """A new API key; its secret is in `key`."""
    answer = world.nobody.post(KEYS, {"name": fresh("key "), "scopes": list(scopes)}, headers=with_token(token)).want(
        201
    )
    answer.need("no-store" in answer.headers.get("cache-control", ""), "Cache-Control: no-store")
    return answer.fields("id", "key", "scopes")


def is_in_person_only(world: World, token: str) -> None:
    """What could take an account away from its owner is refused to whoever is not the person."""
    for method, path, body in IN_PERSON:
        answer = world.nobody.ask(method, path, headers=with_token(token), json=body)
        if answer.status != 404:  # not offered
            answer.problem(403, code="in_person_only")


@check("A20: a key is shown once, and is good in the header Authorization only", part=API_KEYS)
def _(world: World) -> None:
    _, tokens = newcomer(world)
    mine = with_token(tokens["access_token"])
    made = made_key(world, tokens["access_token"], READ)
    secret = made["key"]
    for path in (KEYS, f"{KEYS}/{made['id']}"):
        answer = world.nobody.get(path, headers=mine).want(200)
        answer.need(secret not in answer.content.decode(), "no secret: it is shown once")
    me(world, secret).want(200)
    for params in ({"api_key": secret}, {"access_token": secret}, {"key": secret}):
        world.nobody.get(f"{ACCOUNTS}/me", params=params).problem(401, hint="what stands in an address ends up in logs")
    for headers in ({"X-API-Key": secret}, {"Cookie": f"sid={secret}"}, {"Authorization": f"Basic {secret}"}):
        world.nobody.get(f"{ACCOUNTS}/me", headers=headers).problem(401)
    for other in (secret[:-1], secret[:-1] + ("A" if secret[-1] != "A" else "B"), secret.lower() + "x"):
        me(world, other).problem(401)


@check("A20: a key does what its scopes say, and no more", part=API_KEYS)
def _(world: World) -> None:
    _, tokens = newcomer(world)
    mine = with_token(tokens["access_token"])
    reads = with_token(made_key(world, tokens["access_token"], READ)["key"])
    writes = with_token(made_key(world, tokens["access_token"], WRITE)["key"])
    world.nobody.get(f"{ACCOUNTS}/me", headers=reads).want(200)
    world.nobody.patch(f"{ACCOUNTS}/me", {"name": "Robot"}, headers=reads).problem(403, code="insufficient_scope")
    world.nobody.get(f"{ACCOUNTS}/me", headers=writes).problem(403, code="insufficient_scope")
    world.nobody.patch(f"{ACCOUNTS}/me", {"name": "Robot"}, headers=writes).want(200)
    for scopes in (["no-such-product:read"], ["users:manage"], ["*"], [READ, "admin"]):
        answer = world.nobody.post(KEYS, {"name": "x", "scopes": scopes}, headers=mine)
        rules.refuses(answer, "/scopes", "a key can be given only what its owner may do")
    rules.refuses(world.nobody.post(KEYS, {"name": "x", "scopes": []}, headers=mine), "/scopes")


@check("A20: a revoked key is refused within a second; another person's is not there", part=API_KEYS)
def _(world: World) -> None:
    _, tokens = newcomer(world)
    made = made_key(world, tokens["access_token"], READ)
    path = f"{KEYS}/{made['id']}"
    for method in ("GET", "DELETE"):
        world.eve.ask(method, path).problem(404)
    me(world, made["key"]).want(200)
    world.nobody.delete(path, headers=with_token(tokens["access_token"])).want(204)
    soon_refused(world, made["key"])


@check("A19: what only a person may do, fresh from signing in, no key may", part=API_KEYS)
def _(world: World) -> None:
    _, tokens = newcomer(world)
    made = made_key(world, tokens["access_token"], READ, WRITE)
    is_in_person_only(world, made["key"])
    me(world, made["key"]).want(200)
    world.nobody.delete(f"{KEYS}/{made['id']}", headers=with_token(tokens["access_token"])).want(204)


# ---- roles


@check("A11: a role is what it carries now: a change acts within a second, on old tokens too", part=CUSTOM_ROLES)
def _(world: World) -> None:
    admin, name = world.admin, fresh("helper-")
    form, tokens = newcomer(world)
    person = f"{ACCOUNTS}/users/{me(world, tokens['access_token']).want(200).data['id']}"
    made = admin.post(ROLES, {"name": name, "permissions": ["users:manage"]}).want(201)
    world.at_the_end.append(lambda: admin.delete(f"{ROLES}/{name}"))
    world.at_the_end.append(lambda: admin.patch(person, {"roles": ["user"]}))
    made.fields("name", "permissions", "version")
    admin.post(ROLES, {"name": name, "permissions": []}).problem(409, code="role_exists")
    admin.post(ROLES, {"name": fresh("x-"), "permissions": ["no:such"]}).problem(422, code="unknown_permission")
    admin.patch(person, {"roles": ["user", fresh("none-")]}).problem(422)
    admin.patch(person, {"roles": ["user", name]}).want(200)
    token = signed_in(world, form)["access_token"]

    def looks() -> Answer:
        return world.nobody.get(f"{ACCOUNTS}/users", params={"limit": 1}, headers=with_token(token))

    until(looks, lambda answer: answer.status == 200, "200 for who has a role with users:manage")
    world.nobody.patch(person, {"roles": ["user", "admin"]}, headers=with_token(token)).problem(403, code="above_you")
    admin.patch(f"{ROLES}/{name}", {"permissions": []}).want(200)
    until(looks, lambda answer: answer.status == 403, "403 when the role carries it no more", 2.0)
    me(world, token).want(200, hint="the person stays signed in")


# ---- acting in somebody's name


def impersonate(world: World, person: str, form: dict[str, Any]) -> Answer:
    return world.admin.post(f"{ACCOUNTS}/users/{person}/impersonation", form)


@check("Who acts for somebody is named in the token, and touches no credentials", part=ACTING)
def _(world: World) -> None:
    _, tokens = newcomer(world)
    person = me(world, tokens["access_token"]).want(200).data["id"]
    admin = world.admin.get(f"{ACCOUNTS}/me").want(200).data["id"]
    given = impersonate(world, person, {"reason": "Somebody asked for help"}).want(201)
    acting = given.fields("access_token")["access_token"]
    claims = decoded(parts(acting)[1])
    given.need(claims.get("sub") == person, "a token of that person")
    given.need(claims.get("act") == {"sub": admin}, f'the claim act: {{"sub": "{admin}"}}')
    seen = me(world, acting).want(200)
    seen.need(seen.data["id"] == person, "that person's account")
    is_in_person_only(world, acting)
    sessions = world.nobody.get(f"{ACCOUNTS}/sessions", headers=with_token(tokens["access_token"]))
    told = [each for each in sessions.page() if each.get("acting") == admin]
    sessions.need(len(told) == 1, "one session with the admin's id as `acting`, for the person to see")
    world.nobody.post(f"{ACCOUNTS}/sign-out", headers=with_token(acting)).want(204)
    soon_refused(world, acting)
    if "refresh_token" in given.data:
        refresh(world, given.data["refresh_token"]).problem(401)
    me(world, tokens["access_token"]).want(200)


@check("Nobody acts for an admin, for themselves, without a reason, or without the right to", part=ACTING)
def _(world: World) -> None:
    admin, reason = world.admin, {"reason": "Somebody asked for help"}
    own = admin.get(f"{ACCOUNTS}/me").want(200).data["id"]
    impersonate(world, own, reason).problem(409, code="not_in_their_name")
    other = admin.post(f"{ACCOUNTS}/users", new_form(roles=["user", "admin"])).want(201).data["id"]
    world.at_the_end.append(lambda: admin.patch(f"{ACCOUNTS}/users/{other}", {"roles": ["user"], "disabled": True}))
    impersonate(world, other, reason).problem(409, code="not_in_their_name")
    impersonate(world, world.ann.id, {}).problem(422)
    impersonate(world, world.ann.id, {"reason": "  "}).problem(422)
    world.eve.post(f"{ACCOUNTS}/users/{world.ann.id}/impersonation", reason).problem(403)
