"""Accounts over HTTP: who may do what, and that each promise of docs/contracts/accounts.md holds."""

import asyncio
import json
import os
import random
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from argon2 import PasswordHasher

from msingi.kit.sealing import keys_for
from msingi.kit.testing import PASSWORD, Client, World
from msingi.products.accounts import contract, hashing
from msingi.products.accounts.contract import PasswordChanged, Person, UserDisabled, UserRegistered
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.product import product
from msingi.products.accounts.tests.access.people import GOOD, NEW
from msingi.products.accounts.tests.people import sign_in, signed_in, with_token

# ---- registering


async def test_who_registers_can_sign_in_at_once(nobody: Client, world: World) -> None:
    made = await nobody.post("/register", **(NEW | {"email": " Jane@Example.org ", "name": " Jane "}), expect=201)
    shown = {"id", "email", "email_verified", "phone", "language", "name", "roles", "disabled"}
    assert set(made) == shown | {"created_at", "updated_at", "version"}
    wanted = {"email": "jane@example.org", "name": "Jane", "roles": ["user"], "disabled": False, "version": 1}
    assert {name: made[name] for name in wanted} == wanted
    assert await world.events() == [UserRegistered(user_id=made["id"])]
    tokens = await nobody.post("/sign-in", email="JANE@example.org", password=GOOD)
    jane = with_token(world, tokens)
    assert (await jane.get("/me"))["id"] == made["id"]
    assert jane.last.headers["etag"] == '"1"'
    await jane.get("/me", headers={"if-none-match": '"1"'}, expect=304)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"password": "a" * 14}, "/password"),
        ({"password": "x" * 129}, "/password"),
        ({"password": None}, "/password"),
        ({"email": "nonsense"}, "/email"),
        ({"email": "a" * 250 + "@example.org"}, "/email"),
        ({"email": {"$gt": ""}}, "/email"),
        ({"name": "  "}, "/name"),
        ({"name": "n" * 101}, "/name"),
        ({"roles": ["admin"]}, "/roles"),
        ({"disabled": False}, "/disabled"),
        ({"token_version": 9}, "/token_version"),
        ({"_id": "admin"}, "/_id"),
    ],
)
async def test_a_form_that_does_not_fit_makes_no_account(nobody: Client, changes: dict[str, Any], pointer: str) -> None:
    problem = await nobody.post("/register", **(NEW | changes), expect=422)
    assert problem["code"] == "invalid_fields"
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert await accounts.count({}) == 4


async def test_a1_long_and_strange_passwords_are_kept_whole(nobody: Client) -> None:
    words = "Ærlig talt, 你好 🐘 und ein recht langer Satz mit Umlauten äöü. "
    long = (words * 3)[:127]
    for number, password in enumerate([GOOD[:15], (words * 2)[:64], long + "x"]):
        email = f"p{number}@example.org"
        await nobody.post("/register", email=email, password=password, name="Long", expect=201)
        await nobody.post("/sign-in", email=email, password=password)
        await nobody.post("/sign-in", email=email, password=password[:-1] + "~", expect=401)
        await nobody.post("/sign-in", email=email, password=password[:-1], expect=401)
    await nobody.post("/sign-in", email="p2@example.org", password=long + "y", expect=401)


async def test_a_password_is_the_same_however_a_keyboard_composes_it(nobody: Client) -> None:
    await nobody.post("/register", **(NEW | {"password": "cr\u00e8me br\u00fbl\u00e9e for six"}), expect=201)
    await nobody.post("/sign-in", email=NEW["email"], password="cre\u0300me bru\u0302le\u0301e for six")


async def test_a2_a_weak_password_is_refused_with_its_reason(nobody: Client) -> None:
    for password, reason in [("passwordpassword", "too_common"), ("jane@example.org", "like_you")]:
        problem = await nobody.post("/register", **(NEW | {"password": password}), expect=422)
        assert (problem["code"], problem["reason"]) == ("weak_password", reason)
        assert [error["pointer"] for error in problem["errors"]] == ["/password"]
    assert await accounts.count({}) == 4


async def test_an_address_belongs_to_one_account_in_any_spelling(nobody: Client) -> None:
    problem = await nobody.post("/register", **(NEW | {"email": "ANN@msingi.test"}), expect=409)
    assert problem["code"] == "email_taken"


# ---- signing in


async def test_tokens_are_as_the_contract_says(world: World, nobody: Client) -> None:
    tokens = await nobody.post("/sign-in", email="ann@msingi.test", password=PASSWORD)
    assert nobody.last.headers["cache-control"] == "no-store"
    assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 600)
    header, claims = (json.loads(urlsafe_b64decode(part + "==")) for part in tokens["access_token"].split(".")[:2])
    assert (header["alg"], header["typ"]) == ("EdDSA", "at+jwt")
    assert (claims["sub"], claims["roles"], claims["exp"] - claims["nbf"]) == ("ann", ["user"], 600)
    keys = await nobody.get("/.well-known/jwks.json")
    assert header["kid"] in [key["kid"] for key in keys["keys"]]
    assert all(set(key) == {"kty", "crv", "kid", "use", "alg", "x"} for key in keys["keys"])
    assert "max-age=300" in nobody.last.headers["cache-control"]


async def test_a6_wrong_password_and_unknown_address_are_told_apart_by_nothing(nobody: Client) -> None:
    answers = []
    for email, password in [
        ("ann@msingi.test", "not the password"),
        ("nobody@msingi.test", PASSWORD),
        ("no address", PASSWORD),
        ("ann@msingi.test", ""),
    ]:
        problem = await nobody.post("/sign-in", email=email, password=password, expect=401)
        problem.pop("request_id")
        varying = ("date", "x-request-id", "ratelimit", "server-timing", "traceparent")
        headers = {name: value for name, value in nobody.last.headers.items() if name not in varying}
        answers.append((problem, headers))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0]["code"] == "wrong_credentials"
    assert "www-authenticate" in answers[0][1]


@pytest.mark.usefixtures("true_costs")
async def test_a6_an_unknown_address_costs_a_hash_too(nobody: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    verify = hashing._is_it

    def counted(encoded: str, peppered: bytes) -> bool:
        verified.append(encoded)
        return verify(encoded, peppered)

    monkeypatch.setattr(hashing, "_is_it", counted)
    await nobody.post("/sign-in", email="nobody@msingi.test", password=PASSWORD, expect=401)
    await nobody.post("/sign-in", email="ann@msingi.test", password="wrong", expect=401)
    costs = [encoded.split("$")[1:4] for encoded in verified]
    assert costs == [["argon2id", "v=19", "m=19456,t=2,p=1"]] * 2


@pytest.mark.usefixtures("true_costs")
async def test_a7_too_many_sign_ins_at_once_hear_503_and_the_others_get_their_turn(nobody: Client) -> None:
    forms = [{"email": "ann@msingi.test", "password": PASSWORD} for _ in range(20)]
    replies = await asyncio.gather(*(nobody.http.post("/v1/accounts/sign-in", json=form) for form in forms))
    statuses = [reply.status_code for reply in replies]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 9
    busy = next(reply for reply in replies if reply.status_code == 503)
    assert (busy.json()["code"], busy.headers["retry-after"]) == ("busy", "1")
    await nobody.post("/sign-in", **forms[0])


async def test_a_disabled_account_is_told_so_only_with_its_password(admin: Client, nobody: Client) -> None:
    await admin.patch("/users/bob", disabled=True)
    problem = await nobody.post("/sign-in", email="bob@msingi.test", password=PASSWORD, expect=403)
    assert problem["code"] == "account_disabled"
    problem = await nobody.post("/sign-in", email="bob@msingi.test", password="wrong", expect=401)
    assert problem["code"] == "wrong_credentials"


@pytest.mark.usefixtures("true_costs")
async def test_a_password_is_hashed_anew_when_the_costs_change(
    nobody: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (await accounts.get("ann")).password
    monkeypatch.setattr(hashing, "costs", hashing.Costs(passes=3))
    await nobody.post("/sign-in", email="ann@msingi.test", password=PASSWORD)
    after = (await accounts.get("ann")).password
    assert before != after
    assert "t=3" in after
    await nobody.post("/sign-in", email="ann@msingi.test", password=PASSWORD)


@pytest.mark.usefixtures("true_costs")
async def test_what_argon2_cffi_hashed_for_us_still_fits_and_is_not_hashed_anew(world: World) -> None:
    pepper = keys_for(hashing.PEPPER)[0]
    theirs = PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1)
    kept = f"{pepper.id.hex()}{theirs.hash(hashing._peppered(pepper, PASSWORD))}"
    assert not hashing.is_outdated(kept)
    assert await hashing.fits(kept, PASSWORD)
    assert not await hashing.fits(kept, PASSWORD + " ")
    ours = (await hashing.hashed(PASSWORD)).partition("$")
    assert theirs.verify(f"${ours[2]}", hashing._peppered(pepper, PASSWORD))


@pytest.mark.parametrize(("processes", "cores", "threads"), [(2, 2, 1), (1, 2, 2), (4, 2, 1), (2, 8, 4), (1, 16, 4)])
def test_each_process_hashes_in_as_many_threads_as_are_its_share_of_the_cores(
    processes: int, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "elsewhere")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert hashing.threads_of(processes) == threads


async def test_what_is_kept_is_worth_nothing_without_the_houses_secret(nobody: Client, world: World) -> None:
    tokens = await sign_in(world, "ann")
    kept = str([row async for row in accounts.raw.find()]) + str(
        [row async for row in product.stores[1].raw.find()] + [row async for row in product.stores[2].raw.find()]
    )
    for secret in (PASSWORD, tokens["refresh_token"], tokens["access_token"]):
        assert secret not in kept
    ann = await accounts.get("ann")
    assert not hashing.is_outdated(ann.password)
    assert hashing._is_it(ann.password[8:], PASSWORD.encode()) is False  # without the pepper


async def test_a_field_that_is_wrong_is_the_callers_fault_whatever_else_bears_its_name(nobody: Client) -> None:
    problem = await nobody.post("/sign-in", email="ann@msingi.test", password=PASSWORD, session="sms", expect=422)
    assert [error["pointer"] for error in problem["errors"]] == ["/session"]


# ---- oneself


async def test_a_name_is_changed_and_a_change_of_nothing_is_none(ann: Client) -> None:
    changed = await ann.patch("/me", name=" Anna ", headers={"if-match": '"1"'})
    assert (changed["name"], changed["version"]) == ("Anna", 2)
    assert (await ann.patch("/me", name="Anna"))["version"] == 2
    assert (await ann.patch("/me", json={}))["version"] == 2
    problem = await ann.patch("/me", name="Annie", headers={"if-match": '"1"'}, expect=409)
    assert problem["code"] == "stale"
    await ann.patch("/me", email="other@example.org", expect=422)
    await ann.patch("/me", roles=["admin"], expect=422)
    assert (await ann.get("/me"))["roles"] == ["user"]


async def test_a_changed_password_ends_all_that_was_before(world: World, nobody: Client) -> None:
    phone, laptop = await sign_in(world, "ann"), await sign_in(world, "ann")
    client = with_token(world, laptop)
    problem = await client.post("/me/password", current_password="wrong", new_password=GOOD, expect=403)
    assert problem["code"] == "wrong_password"
    problem = await client.post(
        "/me/password", current_password=PASSWORD, new_password="annannannannannann", expect=422
    )
    assert problem["errors"][0]["pointer"] == "/new_password"
    await client.get("/me")
    fresh = await client.post("/me/password", current_password=PASSWORD, new_password=GOOD)
    assert client.last.headers["cache-control"] == "no-store"
    for old in (phone, laptop):
        await with_token(world, old).get("/me", expect=401)
        await nobody.post("/refresh", refresh_token=old["refresh_token"], expect=401)
    after = with_token(world, fresh)
    assert [each["current"] for each in (await after.get("/sessions"))["items"]] == [True]
    await nobody.post("/refresh", refresh_token=fresh["refresh_token"])
    await nobody.post("/sign-in", email="ann@msingi.test", password=PASSWORD, expect=401)
    await nobody.post("/sign-in", email="ann@msingi.test", password=GOOD)
    assert PasswordChanged(user_id="ann") in await world.events()


# ---- looking after others


async def test_users_are_listed_filtered_searched_and_sorted(admin: Client) -> None:
    async def emails(query: str) -> list[str]:
        return [item["email"].split("@")[0] for item in (await admin.get(f"/users?{query}"))["items"]]

    assert await emails("sort=name") == ["admin", "ann", "bob", "eve"]
    await admin.get("/users?sort=-email", expect=422)  # addresses are sealed
    assert sorted(await emails("")) == ["admin", "ann", "bob", "eve"]
    assert await emails("role=admin") == ["admin"]
    assert await emails("email=bob@msingi.test") == ["bob"]
    assert await emails("email=Bob@Msingi.test&role=user") == ["bob"]
    assert await emails("email=bob") == []
    assert await emails("q=bob@msingi.test") == ["bob"]
    assert await emails("disabled=true") == []
    assert await emails("q=BOB") == ["bob"]
    assert sorted(await emails("q=msingi+test")) == ["admin", "ann", "bob", "eve"]
    assert await emails("q=bo") == []
    assert await emails("q=.*") == []
    assert await emails("q=bob+nobody") == []
    await admin.get("/users?role[$ne]=user", expect=422)
    await admin.get("/users?password=x", expect=422)


async def test_pages_of_users_show_everybody_once(admin: Client) -> None:
    seen: list[str] = []
    path = "/users?limit=1&sort=name"
    while True:
        page = await admin.get(path)
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        path = f"/users?limit=1&sort=name&after={page['next']}"
    assert seen == ["admin", "ann", "bob", "eve"]


async def test_an_admin_makes_an_admin(admin: Client, world: World) -> None:
    made = await admin.post("/users", **NEW, roles=["admin"], expect=201)
    assert made["roles"] == ["user", "admin"]
    assert admin.last.headers["location"] == f"/v1/accounts/users/{made['id']}"
    assert await admin.get(f"/users/{made['id']}") == made
    await admin.post("/users", **NEW, expect=409)
    await admin.post("/users", **(NEW | {"email": "x@example.org"}), roles=["owner"], expect=422)
    async with world.client(None).http as http:
        reply = await http.post("/v1/accounts/sign-in", json={"email": NEW["email"], "password": GOOD})
    await with_token(world, reply.json()).get("/users")


async def test_the_last_admin_stays(admin: Client) -> None:
    changes: list[dict[str, Any]] = [{"roles": ["user"]}, {"disabled": True}, {"roles": []}]
    for change in changes:
        problem = await admin.patch("/users/admin", **change, expect=409)
        assert problem["code"] == "last_admin"
    await admin.get("/users")
    await admin.patch("/users/ann", roles=["admin"])
    after = await admin.patch("/users/admin", roles=[])
    assert after["roles"] == ["user"]
    await admin.get("/users", expect=401)  # the token says what is no longer so


async def test_a_disabled_admin_does_not_count(admin: Client) -> None:
    await admin.patch("/users/ann", roles=["admin"], disabled=True)
    await admin.patch("/users/admin", disabled=True, expect=409)
    await admin.patch("/users/ann", disabled=False)
    await admin.patch("/users/admin", name="Chief", roles=["user"])


async def test_a11_a_change_of_roles_stops_old_tokens_and_a_refresh_brings_the_new(world: World, admin: Client) -> None:
    tokens = await sign_in(world, "bob")
    bob = with_token(world, tokens)
    await bob.get("/users", expect=403)
    changed = await admin.patch("/users/bob", roles=["user", "admin"], headers={"if-match": '"1"'})
    assert (changed["roles"], changed["version"]) == (["user", "admin"], 2)
    await bob.get("/me", expect=401)
    fresh = await bob.http.post("/v1/accounts/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert fresh.status_code == 200
    await with_token(world, fresh.json()).get("/users")
    await admin.patch("/users/bob", name="Robert", headers={"if-match": '"1"'}, expect=409)
    renamed = await admin.patch("/users/bob", name="Robert")
    await with_token(world, fresh.json()).get("/users")  # a name stops nothing
    assert (await admin.patch("/users/bob", name="Robert"))["version"] == renamed["version"]


async def test_a11_a_disabled_persons_session_is_gone_for_good(world: World, admin: Client, nobody: Client) -> None:
    tokens = await sign_in(world, "bob")
    await admin.patch("/users/bob", disabled=True)
    await with_token(world, tokens).get("/me", expect=401)
    await nobody.post("/refresh", refresh_token=tokens["refresh_token"], expect=401)
    assert UserDisabled(user_id="bob") in await world.events()
    await admin.patch("/users/bob", disabled=False)
    await nobody.post("/refresh", refresh_token=tokens["refresh_token"], expect=401)
    await (await signed_in(world, "bob")).get("/me")


async def test_another_product_asks_who_somebody_is(world: World) -> None:
    found = await contract.people(["bob", "nobody", "bob"])
    assert found == [Person(id="bob", name="Bob", email="bob@msingi.test")]
    assert await contract.people([]) == []


# ---- input that means harm


async def test_i1_no_input_of_a_form_is_answered_with_a_500(nobody: Client) -> None:
    chance = random.Random(7)
    values: list[Any] = [
        None, True, 0, -1, 1e308, "", "\x00", "a" * 2000, "\ud800", "$where", "a.b", [], {}, {"$gt": ""}, [["x"]],
        "ann@msingi.test", "é" * 20, "rt1_" + "A" * 80, urlsafe_b64encode(b"x" * 60).decode(),
    ]  # fmt: skip
    forms = {
        "/register": ("email", "password", "name"),
        "/sign-in": ("email", "password", "session"),
        "/refresh": ("refresh_token",),
    }
    for path, names in forms.items():
        for _ in range(25):
            body = json.dumps({name: chance.choice(values) for name in names}).encode()
            reply = await nobody.http.post(
                f"/v1/accounts{path}", content=body, headers={"content-type": "application/json"}
            )
            assert reply.status_code in (400, 401, 422, 429, 503), (path, body, reply.text)
            assert reply.headers["content-type"] == "application/problem+json"
