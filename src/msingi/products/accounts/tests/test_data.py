"""A person's own data: unreadable at rest, theirs to take away, gone when they go; and the log of who did what."""

import asyncio
import io
import json
import zipfile
from datetime import timedelta
from typing import Any

import bson
import pytest

from msingi.kit import audit, audit_chain, clock, data_keys, mail, state
from msingi.kit.testing import PASSWORD, Client, World, house_of
from msingi.kit.unit import guarded
from msingi.products.accounts.contract import UserErased
from msingi.products.accounts.models.factors import factors
from msingi.products.accounts.models.people import accounts, with_phone
from msingi.products.accounts.models.sessions import sessions
from msingi.products.accounts.product import product
from msingi.products.accounts.tests.people import sign_in, signed_in, with_token

NEW = {"email": "jane.doe@example.org", "password": "seven herons over the lake", "name": "Jane"}
AGENT = "Mozilla/5.0 (Uncommon Machine)"


async def entries(kind: str = "") -> list[audit.Entry]:
    return await audit.entries.many({"kind": kind} if kind else {}, sort=[("_id", 1)])


# ---- D2


async def test_d2_nothing_in_the_databases_shows_an_address_a_number_a_seed_or_a_browser(world: World) -> None:
    nobody = world.client(None)
    await nobody.post("/register", headers={"idempotency-key": "one"}, **NEW)
    await nobody.post("/sign-in", headers={"user-agent": AGENT}, email="ann@msingi.test", password=PASSWORD, expect=200)
    ann = await signed_in(world, "ann")
    await nobody.post("/sign-in", email="ann@msingi.test", password="wrong", expect=401)
    seed = (await ann.post("/me/totp"))["secret"]
    await ann.post("/me/export")
    phone = "+255712345678"
    await _give_number("ann", phone)
    await world.work()
    dump = await _dump()
    for secret in (
        *(
            "ann@msingi.test",
            "bob@msingi.test",
            "jane.doe",
            "example.org",
            "msingi.test",
            AGENT,
            "Uncommon",
            seed,
            phone,
        ),
        *(PASSWORD, NEW["password"], "127.0.0.1"),
    ):
        found = [name for name, rows in dump.items() if secret.lower().encode() in rows.lower()]
        assert found == [], (secret, found)
    assert b"ann" in dump["accounts.accounts"]  # names and ids are in the clear


@guarded
async def _give_number(account_id: str, phone: str) -> None:
    await accounts.change(account_id, {"$set": with_phone(phone)})


async def _dump() -> dict[str, bytes]:
    found = {}
    for name in ("accounts", "kit"):
        base = state.database(name)
        for collection in await base.list_collection_names():
            rows = await base[collection].find().to_list()
            found[f"{name}.{collection}"] = b"".join(bson.encode(row) for row in rows)
    return found


# ---- L1


async def test_l1_each_act_of_a_person_is_one_entry(world: World) -> None:
    nobody = world.client(None)
    await nobody.post("/register", **NEW)
    await nobody.post("/sign-in", email="ann@msingi.test", password="wrong", expect=401)
    await nobody.post("/sign-in", email="nobody@msingi.test", password="wrong", expect=401)
    tokens = await sign_in(world, "ann")
    await with_token(world, tokens).post("/sign-out")
    noted = [(each.kind, each.outcome, each.actor, each.about) for each in await entries()]
    jane = noted[0][2]
    assert noted == [
        ("accounts.registered", "done", jane, jane),
        ("accounts.sign_in_refused", "refused", "", "ann"),
        ("accounts.sign_in_refused", "refused", "", ""),
        ("accounts.signed_in", "done", "ann", "ann"),
        ("accounts.signed_out", "done", "ann", "ann"),
    ]
    while await audit_chain.link_some():
        pass
    verdict = await audit_chain.verify()
    assert (verdict.checked, verdict.fault) == (len(noted), "")


async def test_l1_what_an_admin_does_says_what_was_and_what_is(world: World, admin: Client) -> None:
    await admin.patch("/users/bob", roles=["admin"])
    [entry] = await entries("accounts.user_changed")
    assert (entry.actor, entry.about) == ("admin", "bob")
    assert entry.facts == {"fields": ["roles"], "roles": {"before": ["user"], "after": ["user", "admin"]}}


async def test_l1_a_replayed_refresh_token_and_a_new_password_are_noted(world: World) -> None:
    tokens = await sign_in(world, "ann")
    nobody = world.client(None)
    child = await nobody.post("/refresh", refresh_token=tokens["refresh_token"])
    await nobody.post("/refresh", refresh_token=child["refresh_token"])
    await nobody.post("/refresh", refresh_token=tokens["refresh_token"], expect=401)
    [entry] = await entries("accounts.refresh_replayed")
    assert (entry.about, entry.outcome) == ("ann", "refused")
    bob = await signed_in(world, "bob")
    await bob.post("/me/password", current_password=PASSWORD, new_password="seven herons over the lake")
    assert len(await entries("accounts.password_changed")) == 1


async def test_l1_the_log_is_read_by_who_may_and_ones_own_by_everybody(world: World, admin: Client) -> None:
    await world.client(None).post("/sign-in", email="bob@msingi.test", password="wrong", expect=401)
    ann = await signed_in(world, "ann")
    await admin.patch("/users/ann", name="Anna")
    page = await admin.get("/audit?limit=2")
    assert [each["kind"] for each in page["items"]] == ["accounts.user_changed", "accounts.signed_in"]
    rest = await admin.get(f"/audit?limit=2&after={page['next']}")
    assert [each["kind"] for each in rest["items"]] == ["accounts.sign_in_refused"]
    for query, count in (("kind=accounts.signed_in", 1), ("actor=admin", 1), ("about=bob", 1), ("outcome=refused", 1)):
        assert len((await admin.get(f"/audit?{query}"))["items"]) == count, query
    mine = (await ann.get("/me/audit"))["items"]
    assert [(each["kind"], each["actor"]) for each in mine] == [
        ("accounts.user_changed", "admin"),
        ("accounts.signed_in", "ann"),
    ]
    assert (await ann.get("/me/audit?about=bob", expect=422))["code"] == "bad_filter"
    assert "mark" not in mine[0]


# ---- erasing


async def test_who_erases_themselves_leaves_nothing_but_what_happened(world: World) -> None:
    eve = await signed_in(world, "eve")
    tokens = await sign_in(world, "eve")
    await eve.post("/me/totp")
    await eve.delete("/me", expect=204)
    await eve.get("/me", expect=401)
    nobody = world.client(None)
    await nobody.post("/refresh", refresh_token=tokens["refresh_token"], expect=401)
    await nobody.post("/sign-in", email="eve@msingi.test", password=PASSWORD, expect=401)
    assert not await accounts.exists({"_id": "eve"})
    assert await sessions.count({"account": "eve"}) == 0
    assert not await factors.exists({"_id": "eve"})
    assert UserErased(user_id="eve") in await world.events()
    [entry] = await entries("accounts.user_erased")
    assert (entry.actor, entry.about, entry.facts) == ("eve", "eve", {"by_oneself": True})
    assert [each.template for each in await mail.written() if each.to == "eve@msingi.test"] == ["erased"]
    await world.work()
    await nobody.post("/register", email="eve@msingi.test", password=NEW["password"], name="Another")


async def test_a19_erasing_and_taking_away_want_a_fresh_proof(world: World) -> None:
    tokens = await sign_in(world, "eve")
    with clock.shifted(timedelta(seconds=301)):
        eve = with_token(world, tokens)
        for method, path in (("DELETE", "/me"), ("POST", "/me/export"), ("DELETE", "/users/bob")):
            answer = await eve.ask(method, path, expect=(401, 403))
            assert answer["code"] in ("insufficient_user_authentication", "forbidden")
    assert await accounts.exists({"_id": "eve"})


async def test_the_last_admin_and_the_only_owner_stay(world: World, admin: Client) -> None:
    assert (await admin.delete("/me", expect=409))["code"] == "last_admin"
    assert (await admin.delete("/users/ann", expect=409))["code"] == "last_owner"
    assert await accounts.exists({"_id": "ann"})
    await admin.delete("/users/ann?pass_on=true")
    await admin.delete("/users/bob")
    assert not await accounts.exists({"_id": {"$in": ["ann", "bob"]}})
    await admin.delete("/users/ann", expect=404)


async def test_of_two_admins_who_erase_each_other_one_remains(world: World, admin: Client) -> None:
    await admin.patch("/users/bob", roles=["admin"])
    await admin.delete("/users/eve")
    bob, other = await signed_in(world, "bob"), await signed_in(world, "admin")
    await asyncio.gather(
        bob.delete("/users/admin?pass_on=true", expect=(204, 401, 404, 409, 503)),
        other.delete("/users/bob?pass_on=true", expect=(204, 401, 404, 409, 503)),
    )
    assert await accounts.count({"roles": "admin"}) == 1


# ---- taking away


async def test_a_person_takes_away_all_that_there_is_of_them_and_no_secret(world: World) -> None:
    ann = await signed_in(world, "ann")
    asked = await ann.post("/me/export", expect=202)
    assert ann.last.headers["location"] == f"/v1/accounts/me/exports/{asked['id']}"
    assert asked["state"] == "waiting"
    assert (await ann.get(f"/me/exports/{asked['id']}", expect=409))["code"] == "export_not_ready"
    again = await ann.post("/me/export", expect=202)
    assert again["id"] == asked["id"]
    await world.work()
    [letter] = [each for each in await mail.written() if each.template == "export_ready"]
    assert letter.to == "ann@msingi.test"
    assert letter.context["link"].endswith(f"/v1/accounts/me/exports/{asked['id']}")
    file = await ann.get(f"/me/exports/{asked['id']}")
    assert ann.last.headers["content-type"] == "application/zip"
    assert ann.last.headers["cache-control"] == "no-store"
    assert ann.last.headers["content-disposition"].startswith('attachment; filename="export-')
    told = _unzipped(file)["accounts.json"]
    assert told["account"]["email"] == "ann@msingi.test"
    assert "password" not in told["account"]
    assert [each["_id"] if "_id" in each else each["id"] for each in told["sessions"]]
    assert "accounts.signed_in" in [each["kind"] for each in told["audit"]]
    assert "argon2" not in json.dumps(told)
    assert [each["state"] for each in (await ann.get("/me/exports"))["items"]] == ["ready"]
    await (await signed_in(world, "bob")).get(f"/me/exports/{asked['id']}", expect=404)
    with clock.shifted(timedelta(days=7, seconds=1)):
        await (await signed_in(world, "ann")).get(f"/me/exports/{asked['id']}", expect=404)


def _unzipped(file: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


@pytest.mark.parametrize("language", ["en", "sw"])
async def test_the_letters_are_written_in_both_languages(world: World, language: str) -> None:
    for template in ("export_ready", "erased"):
        letter = await mail.send(
            template, to="a@b.example", language=language, product=product.name, name="Ann", link="x"
        )
        assert letter.language == language


# ---- another secret


async def test_d2_a_new_secret_leaves_every_session_token_and_address_as_it_was(world: World) -> None:
    tokens = await sign_in(world, "ann")
    cookie = await _cookie(world, "bob")
    changed = {"MSINGI_SECRET": "another-secret-of-this-house-0123456789"}
    changed["MSINGI_SECRET_OLD"] = world.house.settings.secret
    async with house_of([product], **changed) as other:
        elsewhere = World(other)
        assert (await with_token(elsewhere, tokens).get("/me"))["email"] == "ann@msingi.test"
        fresh = await elsewhere.client(None).post("/refresh", refresh_token=tokens["refresh_token"])
        await sign_in(elsewhere, "eve")
        browser = elsewhere.client(None)
        browser.headers |= cookie
        await browser.patch("/me", name="Bobby")
        newer = await sign_in(elsewhere, "ann")
    for each in (fresh, newer):
        assert (await with_token(world, each).get("/me"))["email"] == "ann@msingi.test"
        await world.client(None).post("/refresh", refresh_token=each["refresh_token"])
    browser = world.client(None)
    browser.headers |= cookie
    assert (await browser.patch("/me", name="Bob"))["name"] == "Bob"
    await asyncio.to_thread(data_keys.rewrap)  # the secret of the other tests alone


async def _cookie(world: World, who: str) -> dict[str, str]:
    """What a browser sends with its writes."""
    client = world.client(None)
    said = await client.post("/sign-in", email=f"{who}@msingi.test", password=PASSWORD, session="cookie")
    sid = next(each for each in client.last.headers.get_list("set-cookie") if each.startswith("sid="))
    origin = {"origin": "http://msingi.test", "sec-fetch-site": "same-origin"}
    return {"cookie": sid.split(";")[0], "x-csrf-token": said["csrf_token"], **origin}
