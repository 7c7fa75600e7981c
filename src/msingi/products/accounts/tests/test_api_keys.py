"""API keys over HTTP: shown once, kept as a hash, no farther than their scopes, gone at once."""

from datetime import timedelta
from typing import Any

import bson
import pytest

from msingi.kit import audit, clock, idempotency, mail, revocations, state, tokens
from msingi.kit.testing import Client, World
from msingi.products.accounts import jobs, key_secrets
from msingi.products.accounts.models.api_keys import api_keys
from msingi.products.accounts.tests.elsewhere import Ask, elsewhere
from msingi.products.accounts.tests.people import until

READ = ["accounts:read"]
BOTH = ["accounts:read", "accounts:write"]


async def made(person: Client, scopes: list[str] = READ, **more: Any) -> dict[str, Any]:
    key: dict[str, Any] = await person.post("/api-keys", name="Report", scopes=scopes, expect=201, **more)
    return key


def with_key(world: World, key: str) -> Client:
    """Somebody's program."""
    client = world.client(None)
    client.headers["authorization"] = f"Bearer {key}"
    return client


# ---- the secret


def test_a20_a_key_tells_what_it_is_and_a_wrong_letter_is_seen_without_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(key_secrets, "_kind", lambda: "test")
    id = "06e9c10000000000000000000v"
    secret = key_secrets.new_secret(id)
    assert secret.text.startswith(f"msk_test_{id}_")
    assert key_secrets.read_secret(secret.text) == secret
    for at in range(len(secret.text)):
        other = "0" if secret.text[at] != "0" else "1"
        assert key_secrets.read_secret(secret.text[:at] + other + secret.text[at + 1 :]) is None
    assert key_secrets.read_secret(secret.text + "0") is None
    monkeypatch.setattr(key_secrets, "_kind", lambda: "live")
    assert key_secrets.read_secret(secret.text) is None
    assert key_secrets.new_secret(id).text.startswith(f"msk_live_{id}_")


async def test_a20_a_key_is_shown_once_and_no_dump_of_the_databases_holds_it(world: World, ann: Client) -> None:
    key = await made(ann)
    assert ann.last.headers["cache-control"] == "no-store"
    assert ann.last.headers["location"] == f"/v1/accounts/api-keys/{key['id']}"
    await with_key(world, key["key"]).get("/me")
    shown = [await ann.get(f"/api-keys/{key['id']}"), *(await ann.get("/api-keys"))["items"]]
    assert [each["id"] for each in shown] == [key["id"]] * 2
    assert all("key" not in each and each["begins"] == key["key"].rpartition("_")[0] for each in shown)
    chance = key["key"].rpartition("_")[2]
    dump = b"".join([bson.encode(row) async for row in _everything()])
    assert key["id"].encode() in dump
    assert chance[:16].encode() not in dump
    assert chance[-16:].encode() not in dump
    assert await idempotency.stores("accounts")[0].count({}) == 0


async def _everything() -> Any:
    mongo = state.mongo()
    for name in await mongo.list_database_names():
        if name.startswith(f"{state.settings().database}_"):
            for collection in await mongo[name].list_collection_names():
                async for row in mongo[name][collection].find({}):
                    yield row


async def test_a20_a_key_comes_in_the_header_alone(world: World, nobody: Client, ann: Client) -> None:
    key = (await made(ann))["key"]
    for name in ("api_key", "access_token", "key", "authorization"):
        await nobody.get(f"/me?{name}={key}", expect=401)
    await nobody.get("/me", headers={"x-api-key": key}, expect=401)
    await nobody.get("/me", headers={"cookie": f"sid={key}"}, expect=401)
    await nobody.get("/me", headers={"authorization": f"Basic {key}"}, expect=401)
    assert (await with_key(world, key).get("/me"))["id"] == "ann"


async def test_a20_a_wrong_key_is_401_and_counts_against_the_address(
    world: World, ann: Client, nobody: Client, admin: Client
) -> None:
    key = await made(ann)
    other = key_secrets.new_secret(key["id"]).text  # as ours are, but not this one's
    for wrong in (other, key["key"][:-1], "msk_test_", "msk_live_" + key["key"].removeprefix("msk_test_")):
        await with_key(world, wrong).get("/me", expect=401)
    await admin.put("/limits/anonymous", limit="12/minute")
    stranger = with_key(world, other)
    answers = [(await stranger.get("/me", expect=[401, 429]), stranger.last.status_code)[1] for _ in range(14)]
    assert answers[0] == 401
    assert answers[-1] == 429


# ---- what it may do


async def test_a20_a_key_reaches_as_far_as_its_scopes(world: World, ann: Client) -> None:
    reading, writing = with_key(world, (await made(ann))["key"]), with_key(world, (await made(ann, BOTH))["key"])
    assert (await reading.get("/me"))["id"] == "ann"
    problem = await reading.patch("/me", name="Anna", expect=403)
    assert (problem["code"], problem["scope"]) == ("insufficient_scope", "accounts:write")
    assert (await writing.patch("/me", name="Anna"))["name"] == "Anna"


async def test_a20_a_key_has_a_permission_only_if_it_was_granted_and_its_owner_holds_it(
    world: World, admin: Client
) -> None:
    poor = with_key(world, (await made(admin))["key"])
    rich = with_key(world, (await made(admin, [*READ, "users:manage"]))["key"])
    await poor.get("/users", expect=403)
    await rich.get("/users")
    await admin.patch("/users/bob", roles=["admin"])
    await admin.patch("/users/admin", roles=[])
    await rich.get("/users", expect=403)
    assert (await rich.get("/me"))["roles"] == ["user"]


@pytest.mark.parametrize("scope", ["nothing:read", "accounts:all", "users:manage", "accounts", "*"])
async def test_a20_a_scope_that_is_not_known_or_not_ones_own_is_refused(ann: Client, scope: str) -> None:
    problem = await ann.post("/api-keys", name="Report", scopes=[*READ, scope], expect=422)
    assert problem["code"] == "unknown_scope"
    assert problem["errors"][0]["pointer"] == "/scopes"
    assert await api_keys.count({}) == 0


async def test_the_scopes_to_choose_from_are_told(ann: Client, admin: Client) -> None:
    mine = (await ann.get("/api-keys/scopes"))["scopes"]
    own = [each for each in mine if each.startswith(("accounts:", "house:"))]  # other tests grant toys of theirs
    assert own == ["accounts:read", "accounts:write", "house:read", "house:write"]
    assert {"users:manage", "roles:manage"} < set((await admin.get("/api-keys/scopes"))["scopes"])


async def test_a20_a_key_neither_makes_renames_nor_ends_keys(world: World, ann: Client) -> None:
    key = await made(ann, BOTH)
    program = with_key(world, key["key"])
    for ask in (
        program.post("/api-keys", name="Two", scopes=READ, expect=403),
        program.patch(f"/api-keys/{key['id']}", name="Two", expect=403),
        program.delete(f"/api-keys/{key['id']}", expect=403),
    ):
        assert (await ask)["code"] == "in_person_only"
    assert await api_keys.count({}) == 1


async def test_a19_a_key_is_made_after_a_fresh_proof_only(world: World, ann: Client) -> None:
    with clock.shifted(timedelta(seconds=301)):
        problem = await ann.post("/api-keys", name="Report", scopes=READ, expect=401)
    assert problem["code"] == "insufficient_user_authentication"
    assert await api_keys.count({}) == 0


async def test_z1_anothers_key_is_as_absent(ann: Client, bob: Client) -> None:
    key = await made(ann)
    for ask in (bob.get, bob.delete):
        assert (await ask(f"/api-keys/{key['id']}", expect=404))["code"] == "not_found"
    await bob.patch(f"/api-keys/{key['id']}", name="Mine", expect=404)
    assert (await bob.get("/api-keys"))["items"] == []


async def test_a_key_is_renamed_by_its_version(ann: Client) -> None:
    key = await made(ann)
    path = f"/api-keys/{key['id']}"
    assert (await ann.patch(path, name=" Two ", headers={"if-match": '"1"'}))["name"] == "Two"
    assert (await ann.patch(path, name="Three", headers={"if-match": '"1"'}, expect=409))["code"] == "stale"
    assert (await ann.get(path))["name"] == "Two"


# ---- how it ends


async def test_a20_a_revoked_key_lets_nobody_in(world: World, ann: Client) -> None:
    key, other = await made(ann), await made(ann)
    program = with_key(world, key["key"])
    await program.get("/me")
    await ann.delete(f"/api-keys/{key['id']}", expect=204)
    await program.get("/me", expect=401)
    await ann.get(f"/api-keys/{key['id']}", expect=404)
    await with_key(world, other["key"]).get("/me")
    assert await revocations.revocations.exists({"session": key["id"], "actor": "ann"})  # other processes hear of it


async def test_a20_a_key_ends_within_a_year(world: World, ann: Client) -> None:
    await ann.post("/api-keys", name="Report", scopes=READ, expires_in_days=366, expect=422)
    key = await made(ann, expires_in_days=365)
    program = with_key(world, key["key"])
    with clock.shifted(timedelta(days=364, hours=23)):
        await program.get("/me")
        with clock.shifted(timedelta(hours=1, seconds=1)):  # also where it was believed a moment ago
            await program.get("/me", expect=401)


async def test_a20_whose_account_is_disabled_their_keys_rest_and_a_new_password_leaves_them(
    world: World, ann: Client, admin: Client
) -> None:
    program = with_key(world, (await made(ann))["key"])
    await program.get("/me")
    change = {"current_password": "correct horse battery msingi", "new_password": "seven herons over the lake"}
    await ann.post("/me/password", json=change)
    await program.get("/me")
    await admin.patch("/users/ann", disabled=True)
    await program.get("/me", expect=401)
    await admin.patch("/users/ann", disabled=False)
    await program.get("/me")


async def test_the_last_use_is_noted_once_a_minute(world: World, ann: Client) -> None:
    key = await made(ann)
    assert (await ann.get(f"/api-keys/{key['id']}"))["last_used_at"] is None
    program = with_key(world, key["key"])
    await program.get("/me")
    first = await api_keys.get(key["id"])
    with clock.shifted(timedelta(seconds=40)):
        await program.get("/me")
        assert (await api_keys.get(key["id"])).version == first.version == 2
    with clock.shifted(timedelta(seconds=80)):
        await program.get("/me")
        assert (await api_keys.get(key["id"])).version == 3


async def test_the_owner_is_told_of_a_new_key_and_once_that_it_ends_soon(world: World, ann: Client) -> None:
    await made(ann, expires_in_days=30)
    await ann.patch("/me", language="sw")
    with clock.shifted(timedelta(days=22)):
        await jobs.warn_of_keys_that_end()
    with clock.shifted(timedelta(days=23, minutes=1)):
        await jobs.warn_of_keys_that_end()
        await jobs.warn_of_keys_that_end()
    letters = await world.letters()
    assert [(template, to) for template, to, _ in letters] == [
        ("key_made", "ann@msingi.test"),
        ("key_expires", "ann@msingi.test"),
    ]
    assert letters[1][2]["key"] == "Report"
    warning = (await mail.written())[1]
    assert mail.rendered(warning).subject.startswith('Ufunguo wako wa API "Report" utaisha 20')


async def test_l1_making_and_ending_a_key_are_noted(ann: Client) -> None:
    key = await made(ann)
    await ann.delete(f"/api-keys/{key['id']}")
    noted = await audit.entries.many({"about": key["id"]}, sort=[("_id", 1)])
    assert [(each.kind, each.actor) for each in noted] == [
        ("accounts.key_made", "ann"),
        ("accounts.key_revoked", "ann"),
    ]


# ---- swapped for a token


async def test_a20_a_key_is_swapped_for_a_short_token_with_its_scopes(world: World, ann: Client) -> None:
    key = await made(ann)
    program = with_key(world, key["key"])
    answer = await program.post("/api-keys/token")
    assert (answer["token_type"], answer["scope"], answer["expires_in"]) == ("Bearer", "accounts:read", 600)
    assert program.last.headers["cache-control"] == "no-store"
    holder = with_key(world, answer["access_token"])
    assert (await holder.get("/me"))["id"] == "ann"
    await holder.patch("/me", name="Anna", expect=403)
    actor = await tokens.identify_token(answer["access_token"])
    assert actor is not None
    assert (actor.client, actor.session, actor.in_person) == (f"key:{key['id']}", key["id"], False)
    await ann.delete(f"/api-keys/{key['id']}")
    await holder.get("/me", expect=401)


async def test_a20_a_swapped_token_never_outlives_its_key_nor_renews_itself(world: World, ann: Client) -> None:
    key = await made(ann, expires_in_days=1)
    with clock.shifted(timedelta(hours=23, minutes=58)):
        answer = await with_key(world, key["key"]).post("/api-keys/token")
        assert 110 <= answer["expires_in"] <= 120
        again = await with_key(world, answer["access_token"]).post("/api-keys/token")
        assert again["expires_in"] <= answer["expires_in"]
    assert (await ann.post("/api-keys/token", expect=403))["code"] == "key_only"


async def test_a11_a_revoked_key_is_refused_by_another_process_within_a_second(world: World, ann: Client) -> None:
    key = await made(ann)
    async with elsewhere() as ask:
        assert await ask("/me", key["key"]) == 200
        await ann.delete(f"/api-keys/{key['id']}")
        await until(lambda: refused(ask, key["key"]))


async def refused(ask: Ask, key: str) -> bool:
    return await ask("/me", key) == 401
