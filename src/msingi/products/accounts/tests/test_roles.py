"""Roles that an admin changes while the house runs: what they carry acts at once, everywhere, and locks nobody out."""

import asyncio

import pytest

from msingi.kit import actors, audit, followed, roles, state
from msingi.kit.actors import permissions_of
from msingi.kit.live import hub
from msingi.kit.live.topics import Topic
from msingi.kit.testing import Client, World
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.tests.elsewhere import Ask, elsewhere
from msingi.products.accounts.tests.people import sign_in, signed_in, until, with_token

HELPER = {"name": "helper", "permissions": ["users:manage"], "about": "Looks after people"}


async def test_permissions_are_told_with_whose_they_are_and_who_has_them(admin: Client) -> None:
    found = {each["name"]: each for each in (await admin.get("/permissions"))["items"]}
    assert found["users:manage"] == {"name": "users:manage", "product": "accounts", "roles": ["admin"]}
    assert found["metrics:read"]["product"] == "house"
    await admin.post("/roles", json=HELPER)
    found = {each["name"]: each for each in (await admin.get("/permissions"))["items"]}
    assert found["users:manage"]["roles"] == ["admin", "helper"]


async def test_the_codes_roles_are_shown_as_they_are(admin: Client) -> None:
    shown = {each["name"]: each for each in (await admin.get("/roles"))["items"]}
    assert {"admin", "user"} <= shown.keys()
    assert shown["user"]["permissions"] == []
    assert (shown["user"]["built_in"], shown["user"]["changed"], shown["user"]["version"]) == (True, False, 0)
    assert shown["admin"]["keeps"] == ["roles:manage", "users:manage"]


async def test_a11_a_new_role_opens_what_it_carries_and_a_changed_one_acts_on_old_tokens(
    world: World, admin: Client
) -> None:
    role = await admin.post("/roles", json=HELPER, expect=201)
    assert (role["name"], role["permissions"], role["version"]) == ("helper", ["users:manage"], 1)
    assert admin.last.headers["location"] == "/v1/accounts/roles/helper"
    await admin.patch("/users/bob", roles=["helper"])
    assert (await admin.get("/users/bob"))["roles"] == ["user", "helper"]
    bob = await signed_in(world, "bob")
    await bob.get("/users")
    await admin.patch("/roles/helper", permissions=[])
    await bob.get("/users", expect=403)
    await admin.patch("/roles/helper", permissions=["users:manage"])
    await bob.get("/users")


async def test_a11_a_changed_role_is_known_to_another_process_within_a_second(world: World, admin: Client) -> None:
    await admin.post("/roles", json=HELPER)
    await admin.patch("/users/bob", roles=["helper"])
    token = (await sign_in(world, "bob"))["access_token"]

    async with elsewhere() as ask:
        for permissions, status in (([], 403), (["users:manage"], 200), ([], 403)):
            await admin.patch("/roles/helper", permissions=permissions)
            await until(lambda: answers(ask, token, status))  # noqa: B023  (awaited here and now)


async def answers(ask: Ask, token: str, status: int) -> bool:
    return await ask("/users", token) == status


async def test_a11_topics_are_looked_at_again_when_roles_change(
    world: World, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def see(actor: actors.Actor) -> None:
        if not actor.may("users:manage"):
            raise PermissionError

    monkeypatch.setattr(hub, "check_may_follow", lambda path, actor, key: see(actor))
    assert Topic("people", see=see).values("people") == ()
    await admin.post("/roles", json=HELPER)

    lost = asyncio.Event()

    class Ear(hub.Listener):
        def lose(self, topic: str) -> None:
            lost.set()

    here, ear = state.part(hub.Hub), Ear(actors.Actor(id="bob", roles=frozenset({"user", "helper"})))
    here.enter(ear)
    await here.follow(ear, ["people"], None, here.looks)
    assert ear.topics == {"people"}
    await admin.patch("/roles/helper", permissions=[])
    await asyncio.wait_for(lost.wait(), 2)
    assert ear.topics == set()
    here.leave(ear)


# ---- what is refused


@pytest.mark.parametrize(
    ("permissions", "status", "code"),
    [
        (["users:manage"], 409, "kept_permission"),
        ([], 409, "kept_permission"),
        (["users:manage", "roles:manage", "moon:land"], 422, "unknown_permission"),
        (["users:manage", "roles:manage"], 200, None),
    ],
)
async def test_z1_an_admin_always_keeps_what_undoes_it(
    admin: Client, permissions: list[str], status: int, code: str | None
) -> None:
    answer = await admin.patch("/roles/admin", permissions=permissions, expect=status)
    assert answer.get("code") == code
    await admin.get("/roles")
    await admin.get("/limits", expect=403 if status == 200 else 200)


async def test_what_was_made_of_a_built_in_role_is_taken_back(admin: Client) -> None:
    await admin.patch("/roles/admin", permissions=["users:manage", "roles:manage"])
    await admin.get("/limits", expect=403)
    await admin.delete("/roles/admin", expect=204)
    await admin.get("/limits")
    await admin.delete("/roles/admin", expect=204)


async def test_a_role_that_people_hold_is_not_removed(world: World, admin: Client) -> None:
    await admin.post("/roles", json=HELPER)
    await admin.patch("/users/bob", roles=["helper"])
    assert (await admin.delete("/roles/helper", expect=409))["code"] == "role_in_use"
    await admin.patch("/users/bob", roles=[])
    await admin.delete("/roles/helper", expect=204)
    await admin.get("/roles/helper", expect=404)
    await accounts.raw.update_one({"_id": "bob"}, {"$set": {"roles": ["user", "helper"]}})
    assert (await admin.post("/roles", json=HELPER, expect=409))["code"] == "role_in_use"  # nobody gets it unawares


@pytest.mark.parametrize("name", ["user", "admin", "helper"])
async def test_a_role_has_a_name_of_its_own(admin: Client, name: str) -> None:
    await admin.post("/roles", json=HELPER)
    assert (await admin.post("/roles", name=name, expect=409))["code"] == "role_exists"


@pytest.mark.parametrize("name", ["", "Helper", "1st", "a b", "a.b", "$gt", "a" * 42])
async def test_i1_a_roles_name_is_plain(admin: Client, name: str) -> None:
    await admin.post("/roles", name=name, expect=422)
    await admin.patch("/users/bob", roles=[name], expect=422)


async def test_people_hold_only_roles_that_there_are(admin: Client) -> None:
    problem = await admin.patch("/users/bob", roles=["ghost"], expect=422)
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("unknown_role", "/roles")
    assert (await accounts.get("bob")).roles == ["user"]
    new = {"email": "jane@example.org", "password": "seven herons over the lake", "name": "Jane", "roles": ["ghost"]}
    assert (await admin.post("/users", json=new, expect=422))["code"] == "unknown_role"


async def test_a_role_is_changed_by_its_version(admin: Client) -> None:
    await admin.patch("/roles/user", permissions=["metrics:read"], headers={"if-match": '"0"'})
    assert admin.last.headers["etag"] == '"1"'
    await admin.patch("/roles/user", permissions=[], headers={"if-match": '"0"'}, expect=409)
    await admin.patch("/roles/user", permissions=[], headers={"if-match": '"1"'})
    await admin.delete("/roles/user", headers={"if-match": '"1"'}, expect=409)


async def test_a19_roles_are_changed_by_the_person_alone(world: World, admin: Client) -> None:
    key = await admin.post("/api-keys", name="k", scopes=["accounts:write", "accounts:read", "roles:manage"])
    program = with_token(world, {"access_token": key["key"]})
    await program.get("/roles")
    for ask in (program.patch("/roles/user", permissions=[]), program.post("/roles", json=HELPER)):
        with pytest.raises(AssertionError, match="in_person_only"):
            await ask


async def test_z1_who_is_no_admin_hands_out_only_what_they_have(world: World, admin: Client) -> None:
    await admin.post("/roles", name="warden", permissions=["roles:manage", "users:manage"])
    await admin.patch("/users/bob", roles=["warden"])
    bob = await signed_in(world, "bob")
    for ask in (
        bob.patch("/roles/warden", permissions=["roles:manage", "users:manage", "metrics:read"], expect=403),
        bob.post("/roles", name="more", permissions=["metrics:read"], expect=403),
        bob.patch("/roles/admin", permissions=["users:manage", "roles:manage"], expect=403),
        bob.delete("/roles/admin", expect=403),
        bob.patch("/users/bob", roles=["admin"], expect=403),
        bob.patch("/users/admin", disabled=True, expect=403),
        bob.patch("/users/admin", name="Ex", expect=403),
    ):
        assert (await ask)["code"] == "above_you"
    await bob.post("/roles", name="fewer", permissions=["users:manage"], expect=201)
    await bob.patch("/users/ann", roles=["fewer"])


async def test_l1_what_is_done_with_roles_is_noted(admin: Client) -> None:
    await admin.post("/roles", json=HELPER)
    await admin.patch("/roles/helper", permissions=[])
    await admin.delete("/roles/helper")
    noted = await audit.entries.many({"about": "helper"}, sort=[("_id", 1)])
    assert [each.kind.removeprefix("accounts.") for each in noted] == ["role_made", "role_changed", "role_removed"]
    assert {each.actor for each in noted} == {"admin"}


# ---- a policy that cannot be read


async def test_z4_a_role_that_cannot_be_understood_carries_nothing_but_what_it_keeps(admin: Client) -> None:
    await roles.roles.raw.insert_many(
        [{"_id": "helper", "permissions": "all"}, {"_id": "admin", "permissions": 7}],
        bypass_document_validation=True,  # somebody broke it who has the database
    )
    await roles.followed.read()
    assert permissions_of(frozenset({"helper"})) == frozenset()
    assert permissions_of(frozenset({"admin"})) == {"users:manage", "roles:manage"}
    await admin.get("/limits", expect=403)


async def test_z4_before_anything_could_be_read_nobody_may_anything(admin: Client) -> None:
    for each in followed._all:
        each.learn(None)
    await admin.get("/users", expect=403)
    await admin.get("/me")
    state.part(followed._Held).rows.clear()
    await roles.followed.read()
    await admin.get("/users")
