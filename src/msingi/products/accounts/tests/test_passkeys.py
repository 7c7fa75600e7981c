"""Passkeys, made and shown by an authenticator of software: rightly, and as an attacker would."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from msingi.kit import audit, clock
from msingi.kit.testing import PASSWORD, Client, World, house_of, start_over
from msingi.products.accounts.models.factors import passkeys
from msingi.products.accounts.product import product
from msingi.products.accounts.tests.authenticator import ORIGIN, PRESENT, VERIFIED, Authenticator, text
from msingi.products.accounts.tests.factor_people import (
    add_passkey,
    claims,
    enter_with_passkey,
    first_step,
    with_app,
    with_passkey,
)
from msingi.products.accounts.tests.people import sign_in, signed_in

pytestmark = pytest.mark.usefixtures("mid_step")
Json = dict[str, Any]


# ---- making


@pytest.mark.parametrize("attestation", ["none", "packed"])
async def test_a18_a_passkey_is_made_and_signs_in_without_a_password(world: World, attestation: str) -> None:
    device = Authenticator(attestation=attestation)
    client, _, added = await with_passkey(world, device=device)
    assert len(added["recovery_codes"]) == 10
    made = added["passkey"]
    assert (made["name"], made["synced"], made["last_used_at"], made["cloned_at"]) == ("Passkey 1", False, None, None)
    tokens = await enter_with_passkey(world, device)
    assert claims(tokens)["sub"] == "ann"
    assert claims(tokens)["amr"] == ["hwk", "mfa"]
    shown = (await client.get("/me/passkeys"))["items"]
    assert [each["id"] for each in shown] == [made["id"]]
    assert shown[0]["last_used_at"] is not None
    assert set(await enter_with_passkey(world, device, session="cookie")) == {"csrf_token", "expires_in"}


async def test_a18_what_the_browser_is_asked_for(world: World) -> None:
    ann = await signed_in(world, "ann")
    options = (await ann.post("/me/passkeys/options"))["options"]
    assert options["rp"] == {"id": "msingi.test", "name": "Msingi"}
    assert options["user"]["name"] == "ann@msingi.test"
    assert options["authenticatorSelection"]["residentKey"] == "required"
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert options["attestation"] == "none"
    _, device, _ = await with_passkey(world)
    asked = await world.client(None).post("/sign-in/passkey/options")
    assert (asked["options"]["rpId"], asked["options"]["userVerification"]) == ("msingi.test", "required")
    assert asked["options"]["allowCredentials"] == []
    needed = await first_step(world)
    assert needed["methods"] == ["recovery_code", "passkey"]
    assert [each["id"] for each in needed["passkey"]["allowCredentials"]] == [text(device.credential)]


HOSTILE: list[Json] = [
    {"origin": "https://msingi.test"},
    {"origin": "http://evil.test"},
    {"origin": "http://msingi.test:8000"},
    {"origin": "http://sub.msingi.test"},
    {"origin": "http://msingi.test.evil.test"},
    {"site": "evil.test"},
    {"site": "test"},
    {"flags": PRESENT},
    {"flags": VERIFIED},
    {"flags": 0},
]


@pytest.mark.parametrize("lie", HOSTILE, ids=str)
async def test_a18_a_passkey_of_elsewhere_or_of_nobody_present_is_not_kept(world: World, lie: Json) -> None:
    ann = await signed_in(world, "ann")
    assert (await add_passkey(ann, Authenticator(**lie), expect=403))["code"] == "bad_passkey"
    assert await passkeys.count({}) == 0


@pytest.mark.parametrize("lie", HOSTILE, ids=str)
async def test_a18_a_passkey_shown_elsewhere_or_by_nobody_present_opens_nothing(world: World, lie: Json) -> None:
    _, device, _ = await with_passkey(world)
    for name, value in lie.items():
        setattr(device, name, value)
    assert (await enter_with_passkey(world, device, expect=403))["code"] == "bad_passkey"
    device.origin, device.site, device.flags = ORIGIN, "msingi.test", PRESENT | VERIFIED
    await enter_with_passkey(world, device)


async def test_a18_a_challenge_is_good_once_for_five_minutes_and_for_one_purpose(world: World, nobody: Client) -> None:
    client, device, _ = await with_passkey(world)
    begun = await nobody.post("/sign-in/passkey/options")
    form = {"ticket": begun["ticket"], "credential": device.show(begun["options"])}
    await nobody.post("/sign-in/passkey", json=form)
    assert (await nobody.post("/sign-in/passkey", json=form, expect=422))["code"] == "bad_ticket"
    late = await nobody.post("/sign-in/passkey/options")
    form = {"ticket": late["ticket"], "credential": device.show(late["options"])}
    with clock.shifted(timedelta(minutes=5, seconds=1)):
        assert (await nobody.post("/sign-in/passkey", json=form, expect=422))["code"] == "bad_ticket"
    other = await nobody.post("/sign-in/passkey/options")
    swapped = {"ticket": other["ticket"], "credential": device.show(late["options"])}
    assert (await nobody.post("/sign-in/passkey", json=swapped, expect=403))["code"] == "bad_passkey"
    proof = (await client.post("/step-up/options"))["passkey"]
    lent = {"ticket": proof["ticket"], "credential": device.show(proof["options"])}
    assert (await nobody.post("/sign-in/passkey", json=lent, expect=422))["code"] == "bad_ticket"


async def test_a18_of_twenty_who_show_the_same_answer_one_enters(world: World, nobody: Client) -> None:
    _, device, _ = await with_passkey(world)
    begun = await nobody.post("/sign-in/passkey/options")
    form = {"ticket": begun["ticket"], "credential": device.show(begun["options"])}
    replies = await asyncio.gather(*(nobody.http.post("/v1/accounts/sign-in/passkey", json=form) for _ in range(20)))
    assert Counter(reply.status_code for reply in replies)[200] == 1
    assert {reply.status_code for reply in replies} <= {200, 422, 403}


async def test_a18_a_counter_that_went_back_is_a_clone_flagged_and_refused(world: World) -> None:
    client, device, added = await with_passkey(world)
    await enter_with_passkey(world, device)
    clone = Authenticator(key=device.key, credential=device.credential, handle=device.handle, counter=0)
    assert (await enter_with_passkey(world, clone, expect=403))["code"] == "passkey_cloned"
    noted = (await audit.entries.many({"kind": "accounts.passkey_cloned"}))[0]
    assert (noted.about, noted.outcome) == ("ann", "refused")
    assert noted.facts == {"passkey": added["passkey"]["id"], "kept": 1, "shown": 1}
    assert (await client.get("/me/passkeys"))["items"][0]["cloned_at"] is not None


async def test_a18_nobody_flags_a_passkey_without_its_key(world: World) -> None:
    client, device, _ = await with_passkey(world)
    await enter_with_passkey(world, device)
    forged = Authenticator(credential=device.credential, handle=device.handle, counter=0)
    assert (await enter_with_passkey(world, forged, expect=403))["code"] == "bad_passkey"
    assert (await client.get("/me/passkeys"))["items"][0]["cloned_at"] is None


async def test_a18_an_authenticator_that_does_not_count_is_let_in(world: World) -> None:
    device = Authenticator(counts=False)
    await with_passkey(world, device=device)
    for _ in range(3):
        await enter_with_passkey(world, device)
    assert (await passkeys.many({}))[0].counter == 0


async def test_a18_a_passkey_says_whose_it_is_and_is_believed_only_if_so(world: World) -> None:
    _, device, _ = await with_passkey(world)
    for handle in (None, text(b"bob"), text(b"")):
        device.handle = handle
        assert await _refused(world, device) in ("bad_passkey", "invalid_fields")


async def _refused(world: World, device: Authenticator) -> str:
    nobody = world.client(None)
    begun = await nobody.post("/sign-in/passkey/options")
    form = {"ticket": begun["ticket"], "credential": device.show(begun["options"])}
    problem = await nobody.post("/sign-in/passkey", json=form, expect=(403, 422))
    return str(problem["code"])


async def test_a18_one_credential_belongs_to_one_account(world: World) -> None:
    _, device, _ = await with_passkey(world)
    bob = await signed_in(world, "bob")
    assert (await add_passkey(bob, device, expect=409))["code"] == "already_exists"
    ann = await signed_in(world, "eve")
    begun = await ann.post("/me/passkeys/options")
    form = {"ticket": begun["ticket"], "credential": Authenticator().make(begun["options"])}
    assert (await bob.post("/me/passkeys", json=form, expect=422))["code"] == "bad_ticket"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "AAAA"},
        {"rawId": "AAAA"},
        {"type": "password"},
        {"id": ""},
        {"rawId": "A"},
        {"response": {}},
        {"response": {"clientDataJSON": "bm90anNvbg", "authenticatorData": "AAAA", "signature": "AAAA"}},
        {"response": {"clientDataJSON": "e30", "authenticatorData": "A" * 500, "signature": "AAAA"}},
        {"response": {"clientDataJSON": "W10", "authenticatorData": "A", "signature": "A"}},
    ],
    ids=str,
)
async def test_i1_a_credential_that_makes_no_sense_is_refused(world: World, nobody: Client, change: Json) -> None:
    _, device, _ = await with_passkey(world)
    begun = await nobody.post("/sign-in/passkey/options")
    form = {"ticket": begun["ticket"], "credential": device.show(begun["options"]) | change}
    await nobody.post("/sign-in/passkey", json=form, expect=(403, 422))


@pytest.mark.parametrize("attested", ["AAAA", text(b"\xa3cfmtdnonegattStmt\xa0hauthDataX"), text(b"\x9f" * 3000), "gA"])
async def test_i1_an_attestation_that_makes_no_sense_is_refused(world: World, attested: str) -> None:
    ann = await signed_in(world, "ann")
    begun = await ann.post("/me/passkeys/options")
    made = Authenticator().make(begun["options"])
    made["response"]["attestationObject"] = attested
    problem = await ann.post("/me/passkeys", ticket=begun["ticket"], credential=made, expect=403)
    assert problem["code"] == "bad_passkey"


# ---- as a second factor


async def test_a18_a_passkey_is_the_second_step_after_the_password(world: World, nobody: Client) -> None:
    _, device, _ = await with_passkey(world)
    needed = await first_step(world)
    form = {"ticket": needed["ticket"], "credential": device.show(needed["passkey"])}
    tokens = await nobody.post("/sign-in/second-factor", json=form)
    assert claims(tokens)["amr"] == ["hwk", "mfa", "pwd"]


async def test_a18_somebody_elses_passkey_is_no_second_step(world: World, nobody: Client) -> None:
    await with_passkey(world)
    _, bobs, _ = await with_passkey(world, "bob")
    needed = await first_step(world)
    bobs.handle = None
    form = {"ticket": needed["ticket"], "credential": bobs.show(needed["passkey"])}
    assert (await nobody.post("/sign-in/second-factor", json=form, expect=403))["code"] == "bad_passkey"


# ---- naming, removing


async def test_passkeys_are_named_listed_newest_first_and_removed(world: World) -> None:
    client, device, added = await with_passkey(world)
    second = Authenticator()
    made = await add_passkey(client, second, name="  Key ring ")
    assert (made["passkey"]["name"], made["recovery_codes"]) == ("Key ring", [])
    client.headers["authorization"] = f"Bearer {made['session']['access_token']}"
    first_id, second_id = added["passkey"]["id"], made["passkey"]["id"]
    assert [each["id"] for each in (await client.get("/me/passkeys"))["items"]] == [second_id, first_id]
    assert (await client.patch(f"/me/passkeys/{first_id}", name=" Phone "))["name"] == "Phone"
    await client.patch(f"/me/passkeys/{first_id}", name="", expect=422)
    bob = await signed_in(world, "bob")
    await bob.patch(f"/me/passkeys/{first_id}", name="Mine", expect=404)
    await bob.delete(f"/me/passkeys/{first_id}", expect=404)
    await client.delete(f"/me/passkeys/{first_id}", expect=204)
    await enter_with_passkey(world, device, expect=403)
    await enter_with_passkey(world, second)
    await client.delete(f"/me/passkeys/{second_id}", expect=204)
    await sign_in(world, "ann")
    assert (await client.get("/me/factors"))["recovery_codes_left"] == 0


async def test_recovery_codes_stay_while_a_factor_does(world: World) -> None:
    ann = await with_app(world)
    made = await add_passkey(ann.client, Authenticator())
    await ann.client.delete("/me/totp", expect=204)
    shown = await ann.client.get("/me/factors")
    assert (shown["methods"], shown["recovery_codes_left"]) == (["recovery_code", "passkey"], 10)
    await ann.client.delete(f"/me/passkeys/{made['passkey']['id']}", expect=204)
    assert (await ann.client.get("/me/factors"))["methods"] == []


async def test_nobody_keeps_more_than_twenty_passkeys(world: World) -> None:
    client, _, _ = await with_passkey(world)
    for number in range(19):
        await add_passkey(client, Authenticator(), name=f"Key {number}")
    assert (await add_passkey(client, Authenticator(), expect=409))["code"] == "too_many_passkeys"


async def test_a18_under_another_address_a_passkey_is_worth_nothing() -> None:
    home = "https://accounts.example"
    async with house_of([product], MSINGI_PUBLIC_URL=home) as house:
        await start_over(house)
        client = World(house).client(None)
        client.http.base_url = home
        form = {"email": "ann@msingi.test", "password": PASSWORD}
        client.headers["authorization"] = f"Bearer {(await client.post('/sign-in', json=form))['access_token']}"
        await add_passkey(client, Authenticator(), expect=403)
        await add_passkey(client, Authenticator(origin=home, site="accounts.example"))
