"""What somebody with a little power must not make more of: programs, keys, helpers, and who has too much of a thing."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs

from msingi.kit import audit, mail, state, unit
from msingi.kit.actors import Actor
from msingi.kit.auth import InsufficientScope
from msingi.kit.errors import NotFound
from msingi.kit.live.topics import Topic, check_may_follow
from msingi.kit.testing import PEOPLE, Client, World
from msingi.products.accounts.actions import exports
from msingi.products.accounts.actions import sessions as acts
from msingi.products.accounts.models.api_keys import api_keys
from msingi.products.accounts.models.clients import clients, consents
from msingi.products.accounts.models.exports import parts
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.models.sessions import sessions
from msingi.products.accounts.queries.exports import person
from msingi.products.accounts.rules.api_keys import MOST_KEYS
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.tests.people import signed_in, with_token
from msingi.products.accounts.tests.programs import (
    BACK,
    PAGE,
    Browser,
    Row,
    ask,
    let_in,
    redeemed,
    registered,
    request_of,
)

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


async def helper(world: World, admin: Client, *permissions: str) -> Client:
    """Bob, in a role that carries just this, who has just signed in."""
    await admin.post("/roles", json={"name": "helper", "permissions": list(permissions)})
    await admin.patch("/users/bob", roles=["helper"])
    return await signed_in(world, "bob")


# ---- programs of others


@pytest.mark.parametrize("scope", ["audit:read", "metrics:read", "revocations:read"])
async def test_z1_no_program_is_registered_for_a_permission_that_reads_like_a_scope(admin: Client, scope: str) -> None:
    refused = await admin.post(
        "/clients",
        json={"name": "Diary", "kind": "public", "redirect_uris": [BACK], "scopes": ["openid", scope]},
        expect=422,
    )
    assert [error["message"] for error in refused["errors"]] == ["there is no such scope"]


async def test_z1_an_admins_token_in_a_program_carries_none_of_their_permissions(world: World, admin: Client) -> None:
    scopes = ["openid", "accounts:read", "accounts:write"]
    program = await registered(admin, scopes=scopes)
    client = with_token(world, await let_in(world, program, "admin", scope=" ".join(scopes)))
    await client.get("/me")
    for path in ("/users", "/roles", "/clients", "/limits", "/audit", "/users/ann"):
        await client.get(path, expect=403)
    await client.patch("/users/bob", roles=["admin"], expect=403)


async def test_a15_a_code_is_void_when_the_consent_is_taken_back(world: World, admin: Client) -> None:
    program = await registered(admin)
    code = await (await Browser(world).sign_in()).code(request_of(program))
    ann = await signed_in(world, "ann")
    given = (await ann.get("/consents"))["items"][0]
    await ann.delete(f"/consents/{given['id']}")
    assert (await redeemed(world, program, code, 400))["error"] == "invalid_grant"
    assert not await sessions.exists({"client": program["id"]})


async def test_a15_a_device_that_was_let_in_gets_nothing_once_the_consent_is_taken_back(
    world: World, admin: Client
) -> None:
    program = await registered(admin, kind="public", device=True, redirect_uris=[])
    device = await ask(world, "/oauth/device", program, scope="openid offline_access")
    browser = await Browser(world).sign_in()
    page = await browser.press(await browser.http.get("/device"), user_code=device["user_code"])
    await browser.press(page, answer="allow")
    ann = await signed_in(world, "ann")
    given = (await ann.get("/consents"))["items"][0]
    await ann.delete(f"/consents/{given['id']}")
    said = await ask(world, "/oauth/token", program, 400, grant_type=DEVICE, device_code=device["device_code"])
    assert said["error"] == "invalid_grant"


async def test_a_program_that_refreshes_for_less_keeps_its_refresh_token(world: World, admin: Client) -> None:
    program = await registered(admin)
    tokens = await let_in(world, program)
    fields = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    fewer = await ask(world, "/oauth/token", program, **fields, scope="openid")
    assert fewer["scope"] == "openid"
    again = await ask(world, "/oauth/token", program, grant_type="refresh_token", refresh_token=fewer["refresh_token"])
    assert again["scope"] == "email offline_access openid"


@pytest.fixture
def followed() -> Iterator[None]:
    """A topic of accounts that everybody may follow."""

    async def see(actor: Actor) -> None:
        if actor.id != "ann":
            raise NotFound

    product: Any = state.current().products[0]
    before = product.topics
    object.__setattr__(product, "topics", [*before, Topic("accounts/news", see=see)])
    yield
    object.__setattr__(product, "topics", before)


@pytest.mark.parametrize("scopes", [{"openid"}, {"tasks:read", "accounts:write"}, set()])
async def test_z1_a_topic_is_followed_only_with_the_scope_to_read_there(
    world: World, followed: None, scopes: set[str]
) -> None:
    # Socket.IO has no gate before it: the topic itself asks.
    ann = PEOPLE["ann"]
    await check_may_follow("accounts/news", ann)
    await check_may_follow("accounts/news", structs.replace(ann, scopes=frozenset({"accounts:read"})))
    with pytest.raises(InsufficientScope):
        await check_may_follow("accounts/news", structs.replace(ann, scopes=frozenset(scopes)))


# ---- who may register programs, and little else


SERVICE: Row = {"kind": "confidential", "service": True, "redirect_uris": []}


@pytest.mark.parametrize(
    "form",
    [
        SERVICE | {"scopes": ["questions:ask"]},
        SERVICE | {"scopes": ["tokens:introspect"]},
        {"kind": "public", "redirect_uris": [BACK], "scopes": ["openid"], "first_party": True},
    ],
    ids=["asks about everybody", "looks at every token", "asks nobody"],
)
async def test_z1_who_only_looks_after_programs_gives_none_more_power_than_their_own(
    world: World, admin: Client, form: Row
) -> None:
    bob = await helper(world, admin, "clients:manage")
    assert (await bob.post("/clients", json={"name": "Mine", **form}, expect=403))["code"] == "above_you"
    theirs = await admin.post("/clients", json={"name": "Theirs", **form})
    path = f"/clients/{theirs['id']}"
    await bob.patch(path, redirect_uris=["https://evil.example/"], expect=403)
    await bob.delete(path, expect=403)
    if form["kind"] == "confidential":
        await bob.post(f"{path}/secret", expect=403)
    mine = {"name": "Mine", "kind": "public", "redirect_uris": [BACK], "scopes": ["openid"]}
    plain = await bob.post("/clients", json=mine)
    raised = {name: value for name, value in form.items() if name in ("first_party", "scopes", "service")}
    await bob.patch(f"/clients/{plain['id']}", json=raised, expect=(403, 422))
    assert not (await clients.get(plain["id"])).first_party
    await bob.delete(f"/clients/{plain['id']}")


async def test_z1_nobody_but_an_admin_makes_an_admin_whatever_was_made_of_that_role(
    world: World, admin: Client
) -> None:
    await admin.patch("/roles/admin", permissions=["users:manage", "roles:manage"])
    bob = await helper(world, admin, "users:manage", "roles:manage")
    await bob.patch("/users/bob", roles=["admin"], expect=403)
    await bob.patch("/users/admin", disabled=True, expect=403)
    assert (await accounts.get("bob")).roles == ["user", "helper"]


# ---- API keys


async def test_a20_a_key_is_no_way_around_a_second_factor_that_is_required(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = await signed_in(world, "admin")
    required = structs.replace(state.settings(), admin_second_factor="required")
    monkeypatch.setattr(state.current(), "settings", required)
    assert (await admin.get("/users", expect=403))["code"] == "second_factor_required"
    key = {"name": "Way round", "scopes": ["users:manage"]}
    assert (await admin.post("/api-keys", json=key, expect=403))["code"] == "second_factor_required"
    await admin.post("/api-keys", json={"name": "Plain", "scopes": ["accounts:read"]})


async def test_a_person_keeps_so_many_keys_and_no_more(world: World) -> None:
    ann = await signed_in(world, "ann")
    made = await ann.post("/api-keys", json={"name": "First", "scopes": ["accounts:read"]})
    one = await api_keys.raw.find_one({"_id": made["id"]})
    assert one
    await api_keys.raw.insert_many([one | {"_id": f"k{number}"} for number in range(MOST_KEYS - 1)])
    refused = await ann.post("/api-keys", json={"name": "More", "scopes": ["accounts:read"]}, expect=409)
    assert refused["code"] == "too_many_keys"
    await ann.delete(f"/api-keys/{made['id']}")
    await ann.post("/api-keys", json={"name": "More", "scopes": ["accounts:read"]})


# ---- refused on a page


async def test_l1_what_is_refused_on_a_page_is_noted_as_anywhere(world: World) -> None:
    browser = await Browser(world).sign_in("bob")
    page = await browser.http.get("/account/organisations")
    csrf = re.findall(r'name="_csrf" value="([^"]+)"', page.text)[0]
    form = {"_csrf": csrf, "name": "Mine now", "slug": "mine-now"}
    reply = await browser.http.post("/account/organisations/farm", data=form, headers=PAGE)
    assert reply.status_code == 403, reply.text
    await state.part(audit.Refusals).flush()
    noted = await audit.entries.find({"kind": "access.refused", "actor": "bob"})
    assert noted
    assert (noted.facts["code"], noted.facts["method"]) == ("forbidden", "POST")


# ---- many sessions


async def test_a11_who_signs_out_everywhere_else_leaves_no_session_however_many_there_are(world: World) -> None:
    ann = await signed_in(world, "ann")
    await flood(1_100)
    await ann.delete("/sessions")
    assert await sessions.count({"account": "ann", "ended_at": None}) == 1
    await ann.get("/me")


async def test_a11_a_consent_taken_back_ends_all_that_a_program_opened(world: World, admin: Client) -> None:
    program = await registered(admin)
    await let_in(world, program)
    await flood(1_100, client=program["id"], scopes=["openid"])
    ann = await signed_in(world, "ann")
    given = await consents.find({"account": "ann"})
    assert given
    await ann.delete(f"/consents/{given.id}")
    assert not await sessions.exists({"client": program["id"], "ended_at": None})


async def flood(count: int, **special: Any) -> None:
    account = await accounts.get("ann")
    opened = await acts.open_session(account, "token", Visitor(), ["pwd"], **special)
    async with unit.alone():
        await sessions.add_many([structs.replace(opened.session, id=f"many{number:05d}") for number in range(count)])


# ---- taken away, and gone


async def test_an_export_names_what_a_person_is_in_and_was_asked_to_and_counts_no_more_than_a_few(
    world: World, ann: Client
) -> None:
    await ann.post("/organisations/farm/invitations", email="eve@msingi.test")
    made = await world.client(PEOPLE["eve"]).post("/organisations", name="Orchard of Eve")
    told = await person("eve")
    assert [(each["organisation"], each["name"], each["role"]) for each in told["memberships"]] == [
        (made["id"], "Orchard of Eve", "owner")
    ]
    assert [each["email"] for each in told["invitations"]] == ["eve@msingi.test"]
    assert {"known_devices", "letters"} <= told.keys()
    assert "bob" not in str(told)


async def test_a_person_keeps_a_few_exports_and_the_oldest_goes(world: World) -> None:
    eve = await signed_in(world, "eve")
    asked = []
    for _ in range(exports.MOST + 2):
        asked.append((await eve.post("/me/export", expect=202))["id"])
        await world.work()
    assert [each["id"] for each in (await eve.get("/me/exports"))["items"]] == asked[: -exports.MOST - 1 : -1]
    assert await parts.raw.distinct("export") == asked[-exports.MOST :]


async def test_who_is_erased_is_not_to_be_found_in_a_dump_that_was_opened(world: World, ann: Client) -> None:
    nobody = world.client(None)
    me = {"email": "quark@example.org", "password": "seven herons over the lake"}
    await nobody.post("/register", **me, name="Evelyn Quark", headers={"idempotency-key": "k-1"})
    await world.work()
    await nobody.post("/sign-in", **me, headers={"user-agent": "Quarkbrowser/1.0"}, expect=200)
    quark = with_token(world, (await nobody.post("/sign-in", **me)))
    mine = await quark.get("/me")
    await quark.post("/api-keys", name="Key of Quark", scopes=["accounts:read"])
    await quark.post("/organisations", name="Shop", headers={"idempotency-key": "k-2"})
    await ann.post("/organisations/farm/invitations", email=me["email"])
    await quark.post("/me/export", expect=202)
    await world.work()
    await quark.delete("/me", expect=204)
    await world.work()
    found = {name: [word for word in ("quark", mine["id"]) if word in said] for name, said in (await opened()).items()}
    # The last letter is on its way, the log tells what happened to an id; what an idempotency key holds ends by itself.
    assert {name for name, words in found.items() if "quark" in words} <= {"kit.letters", "accounts.idempotency"}
    assert {name for name, words in found.items() if mine["id"] in words} <= {
        *("kit.audit", "kit.revocations", "accounts.idempotency"),
        *("accounts.outbox", "accounts.inbox", "accounts.jobs", "kit.relay"),
    }


async def opened() -> dict[str, str]:
    """All that the databases hold, opened with the house's keys."""
    products = state.current().products
    stores = [*mail.stores(), *audit.stores(), *(store for each in products for store in each.all_stores)]
    return {
        f"{each.product}.{each.name}": " ".join([str(doc).lower() async for doc in each.each({})]) for each in stores
    }
