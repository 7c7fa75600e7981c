"""Somebody who means harm at every way in: what they try, and what their victim is left with."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from msingi.kit import audit, clock, mail, pages, state
from msingi.kit.testing import PASSWORD, Client, World
from msingi.kit.unit import atomic
from msingi.products.accounts.actions import resets, tickets
from msingi.products.accounts.actions.identities import drop_ways_in
from msingi.products.accounts.models.clients import Consent, consents
from msingi.products.accounts.models.defence import known_devices
from msingi.products.accounts.models.factors import passkeys
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.models.sessions import sessions
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.rules.tickets import BadTicket
from msingi.products.accounts.tests.access.people import GOOD, NEW
from msingi.products.accounts.tests.authenticator import Authenticator
from msingi.products.accounts.tests.factor_people import add_passkey, code_of, enter_with_passkey, with_app
from msingi.products.accounts.tests.letters import letters, newest, ticket_for, ticket_in
from msingi.products.accounts.tests.people import sign_in, signed_in, with_token

pytestmark = pytest.mark.usefixtures("mid_step")

JANE = NEW["email"]
OTHER = "eight otters under the moon"
ANN = "ann@msingi.test"
PHONE = "+254712345678"


async def reset(world: World, email: str, password: str = OTHER) -> None:
    """Set a new password by the letter."""
    nobody = world.client(None)
    await nobody.post("/password-reset", email=email, expect=202)
    ticket = await ticket_for(world, "reset", email)
    await nobody.put("/password-reset", ticket=ticket, password=password, expect=204)


async def has_phone(world: World, client: Client, phone: str = PHONE) -> None:
    await client.put("/me/phone", phone=phone, expect=202)
    await client.post("/me/phone/verification", code=await code_to(world), expect=200)


async def code_to(world: World, phone: str = PHONE) -> str:
    code: str = (await newest(world, "code", phone))["code"]
    return code


@contextmanager
def told(**changes: Any) -> Iterator[None]:
    """Accounts, with other settings for a while."""
    parts = state.current().parts
    usual = parts[AccountsSettings]
    parts[AccountsSettings] = msgspec.structs.replace(usual, **changes)
    try:
        yield
    finally:
        parts[AccountsSettings] = usual


# ---- an account made, or moved, with somebody else's address


async def test_a16_the_owners_click_alone_confirms_no_strangers_account(nobody: Client, world: World) -> None:
    made = await nobody.post("/register", **NEW)
    squatter = with_token(world, await nobody.post("/sign-in", email=JANE, password=GOOD))
    await squatter.post("/api-keys", name="A way back", scopes=["accounts:read"], expect=201)
    ticket = await ticket_for(world, "verify", JANE)
    bob = await signed_in(world, "bob")
    for who, proof in ((nobody, {}), (bob, {}), (nobody, {"password": ""})):
        problem = await who.post("/verification", ticket=ticket, **proof, expect=422)
        assert problem["code"] == "proof_missing"
    assert (await bob.post("/verification", ticket=ticket, password=OTHER, expect=403))["code"] == "wrong_password"
    assert not (await accounts.get(made["id"])).email_verified
    await reset(world, JANE)
    account = await accounts.get(made["id"])
    assert account.email_verified
    await squatter.get("/me", expect=401)
    await nobody.post("/sign-in", email=JANE, password=GOOD, expect=401)


async def test_who_made_the_account_confirms_it_signed_in_or_with_the_password(nobody: Client, world: World) -> None:
    await nobody.post("/register", **NEW)
    jane = with_token(world, await nobody.post("/sign-in", email=JANE, password=GOOD))
    key = await jane.post("/api-keys", name="Not in person", scopes=["accounts:write"], expect=201)
    ticket = await ticket_for(world, "verify", JANE)
    program = world.client(None)
    program.headers["authorization"] = f"Bearer {key['key']}"
    await program.post("/verification", ticket=ticket, expect=422)
    await jane.post("/verification", ticket=ticket, expect=204)


async def test_a16_an_address_offered_to_its_owner_opens_no_way_to_them(world: World, nobody: Client) -> None:
    eve = await signed_in(world, "eve")
    await eve.post("/me/email", email=JANE, expect=202)
    ticket = await ticket_for(world, "email_change", JANE)
    assert (await nobody.put("/me/email", ticket=ticket, expect=422))["code"] == "proof_missing"
    assert (await accounts.get("eve")).email == "eve@msingi.test"
    for _ in range(10):
        await nobody.put("/me/email", ticket=ticket, password="guess after guess", expect=403)
    problem = await nobody.put("/me/email", ticket=ticket, password=PASSWORD, expect=429)
    assert problem["code"] == "too_many_tries"


async def test_a16_an_address_that_was_never_proved_has_no_way_back(world: World, nobody: Client) -> None:
    await nobody.post("/register", **NEW)
    squatter = with_token(world, await nobody.post("/sign-in", email=JANE, password=GOOD))
    await squatter.post("/me/email", email="squatter@example.org", expect=202)
    ticket = await ticket_for(world, "email_change", "squatter@example.org")
    await squatter.put("/me/email", ticket=ticket, expect=204)
    assert (await newest(world, "email_changed_notice", JANE))["undo"] == ""


async def test_a16_nothing_of_whoever_made_the_account_stays(world: World, nobody: Client) -> None:
    await sign_in(world, "ann")
    await consents.raw.insert_one(
        consents.dump(Consent(account="ann", client="theirs", client_name="Theirs", scopes=["notes:read"]))
    )
    assert await known_devices.count({"account": "ann"}) == 1
    await atomic(drop_ways_in)("ann")
    assert await consents.count({"account": "ann"}) == 0
    assert await known_devices.count({"account": "ann"}) == 0


# ---- an account that was taken


async def test_a8_what_a_thief_asked_for_is_void_after_a_reset(world: World, nobody: Client) -> None:
    thief = await signed_in(world, "ann")
    await thief.post("/me/email", email="thief@example.org", expect=202)
    ticket = await ticket_for(world, "email_change", "thief@example.org")
    await reset(world, ANN)
    for password in (PASSWORD, OTHER):
        problem = await nobody.put("/me/email", ticket=ticket, password=password, expect=422)
        assert problem["code"] == "bad_ticket"
    assert (await accounts.get("ann")).email == ANN


async def test_a19_who_takes_the_old_address_back_is_alone_in_the_account(world: World, nobody: Client) -> None:
    thief, device = await signed_in(world, "ann"), Authenticator()
    added = await add_passkey(thief, device)  # before the change
    thief = with_token(world, added["session"])
    await has_phone(world, thief)
    await thief.post("/me/email", email="thief@example.org", expect=202)
    await thief.put("/me/email", ticket=await ticket_for(world, "email_change", "thief@example.org"), expect=204)
    undo = await ticket_for(world, "email_changed_notice", ANN, "undo")
    seed = (await thief.post("/me/totp"))["secret"]  # and after it
    await thief.put("/me/totp", code=code_of(seed), expect=200)
    key = await thief.post("/api-keys", name="A way back", scopes=["accounts:read"], expect=201)
    await nobody.put("/me/email/restoration", ticket=undo, expect=204)
    await thief.get("/me", expect=401)
    await enter_with_passkey(world, device, expect=403)
    await nobody.post("/sign-in", email=ANN, password=PASSWORD, expect=401)
    program = world.client(None)
    program.headers["authorization"] = f"Bearer {key['key']}"
    await program.get("/me", expect=401)
    assert (await accounts.get("ann")).phone is None
    await reset(world, ANN)
    await nobody.post("/sign-in", email=ANN, password=OTHER, expect=200)  # no second factor of the thief's


async def test_a19_who_has_the_old_mailbox_alone_does_not_get_round_a_second_factor(
    world: World, nobody: Client
) -> None:
    someone = await with_app(world)
    with clock.shifted(timedelta(days=8)):
        form = {"ticket": (await someone.first_step())["ticket"], "code": code_of(someone.seed)}
        ann = with_token(world, await nobody.post("/sign-in/second-factor", json=form))
        await ann.post("/me/email", email=JANE, expect=202)
        await ann.put("/me/email", ticket=await ticket_for(world, "email_change", JANE), expect=204)
        undo = await ticket_for(world, "email_changed_notice", ANN, "undo")
        await nobody.put("/me/email/restoration", ticket=undo, expect=204)
        await reset(world, ANN)
        problem = await nobody.post("/sign-in", email=ANN, password=OTHER, expect=401)
        assert problem["code"] == "second_factor_needed"


async def test_a4_a_device_of_before_a_reset_is_a_stranger_after_it(world: World) -> None:
    await sign_in(world, "ann")
    assert await known_devices.count({"account": "ann"}) == 1
    await reset(world, ANN)
    assert await known_devices.count({"account": "ann"}) == 0


async def test_a3_a_stolen_session_does_not_get_to_guess_the_password(world: World) -> None:
    thief = await signed_in(world, "ann")
    for _ in range(10):
        await thief.post("/me/password", current_password="guess after guess", new_password=OTHER, expect=403)
    problem = await thief.post("/me/password", current_password=PASSWORD, new_password=OTHER, expect=429)
    assert problem["code"] == "too_many_tries"


# ---- tickets and codes


async def test_a8_of_letters_that_are_written_at_the_same_moment_one_is_good(world: World) -> None:
    ann = await accounts.get("ann")
    await asyncio.gather(*(resets.ask(ann) for _ in range(5)))
    await world.work()
    found = [ticket_in(said["link"]) for kind, _, said in await world.letters() if kind == "reset"]
    good = []
    for ticket in found:
        try:
            good.append(await tickets.look_at("reset", ticket))
        except BadTicket:
            continue
    assert (len(found), len(good)) == (5, 1)


@pytest.mark.parametrize("what", ["verify", "move", "undo", "unlock"])
async def test_twenty_at_once_with_one_ticket_are_one(world: World, nobody: Client, what: str) -> None:
    ann = await signed_in(world, "ann")
    proof = {"password": PASSWORD}
    if what == "verify":
        await nobody.post("/register", **NEW)
        method, path, proof = "POST", "/verification", {"password": GOOD}
        ticket = await ticket_for(world, "verify", JANE)
    elif what == "unlock":
        method, path, proof = "PUT", "/unlocking", {}
        ticket = (await atomic(tickets.issue)("unlock", timedelta(hours=1), account="ann", newest_only=True)).secret
    else:
        await ann.post("/me/email", email=JANE, expect=202)
        method, path, ticket = "PUT", "/me/email", await ticket_for(world, "email_change", JANE)
    if what == "undo":
        await ann.put("/me/email", ticket=ticket, expect=204)
        path, proof = "/me/email/restoration", {}
        ticket = await ticket_for(world, "email_changed_notice", ANN, "undo")
    clients = [world.client(None) for _ in range(20)]
    form = {"ticket": ticket, **proof}
    await asyncio.gather(*(each.ask(method, path, json=form, expect=(204, 422, 503)) for each in clients))
    assert sorted(each.last.status_code for each in clients)[:2] == [204, 422]


async def test_a3_new_codes_to_a_phone_bring_no_new_tries(world: World, nobody: Client) -> None:
    ann = await signed_in(world, "ann")
    await has_phone(world, ann)
    for turn in range(50):
        if turn % 5 == 0:
            await nobody.post("/sign-in/phone", phone=PHONE, expect=202)
        await nobody.post("/sign-in/phone/code", phone=PHONE, code="no idea"[:6], expect=(401, 422))
    await nobody.post("/sign-in/phone", phone=PHONE, expect=202)
    problem = await nobody.post("/sign-in/phone/code", phone=PHONE, code="000000", expect=429)
    assert problem["code"] == "too_many_tries"


# ---- what counts as a proof


async def test_a19_a_number_that_may_be_anothers_by_now_proves_nothing_fresh(world: World, nobody: Client) -> None:
    await has_phone(world, await signed_in(world, "ann"))
    await nobody.post("/sign-in/phone", phone=PHONE, expect=202)
    form = {"phone": PHONE, "code": await code_to(world)}
    client = with_token(world, await nobody.post("/sign-in/phone/code", json=form, expect=200))
    problem = await client.post("/me/email", email=JANE, expect=401)
    assert problem["code"] == "insufficient_user_authentication"
    renewed = await client.post("/step-up", password=PASSWORD, expect=200)
    await with_token(world, renewed).post("/me/email", email=JANE, expect=202)


async def test_a_number_that_was_silent_for_long_opens_no_account_and_may_be_anothers(
    world: World, nobody: Client
) -> None:
    await has_phone(world, await signed_in(world, "ann"))
    with clock.shifted(timedelta(days=89)):
        await nobody.post("/sign-in/phone", phone=PHONE, expect=202)
        await nobody.post("/sign-in/phone/code", phone=PHONE, code=await code_to(world), expect=200)
        bob = await signed_in(world, "bob")
        await bob.put("/me/phone", phone=PHONE, expect=202)
        code = await code_to(world)
        assert (await bob.post("/me/phone/verification", code=code, expect=409))["code"] == "phone_taken"
    with clock.shifted(timedelta(days=180)):
        before = len(await letters(world))
        await nobody.post("/sign-in/phone", phone=PHONE, expect=202)
        assert len(await letters(world)) == before
        await has_phone(world, await signed_in(world, "ann"))  # it is hers still
    with clock.shifted(timedelta(days=360)):
        await has_phone(world, await signed_in(world, "bob"))
        assert (await accounts.get("ann")).phone is None
        assert (await accounts.get("bob")).phone == PHONE


async def test_an_address_is_proved_first_whichever_way_somebody_comes(world: World, nobody: Client) -> None:
    client, device = await signed_in(world, "ann"), Authenticator()
    await has_phone(world, client)
    await accounts.raw.update_one({"_id": "ann"}, {"$set": {"email_verified": False}})
    with told(registration="verified"):
        await nobody.post("/sign-in/phone", phone=PHONE, expect=202)
        problem = await nobody.post("/sign-in/phone/code", phone=PHONE, code=await code_to(world), expect=403)
        assert problem["code"] == "email_unverified"
    await add_passkey(client, device)
    with told(registration="verified"):
        assert (await enter_with_passkey(world, device, expect=403))["code"] == "email_unverified"


async def test_the_last_passkey_of_who_has_nothing_else_stays(world: World) -> None:
    client = await signed_in(world, "ann")
    devices = [Authenticator(), Authenticator()]
    for device in devices:
        added = await add_passkey(client, device)
        client = with_token(world, added["session"])
    await accounts.raw.update_one({"_id": "ann"}, {"$set": {"password": ""}})
    mine = await passkeys.many({"account": "ann"})
    path = "/me/passkeys/{}"
    both = [with_token(world, added["session"]) for _ in mine]
    await asyncio.gather(
        *(who.delete(path.format(each.id), expect=(204, 409)) for who, each in zip(both, mine, strict=True))
    )
    assert sorted(who.last.status_code for who in both) == [204, 409]
    assert [who.last.json()["code"] for who in both if who.last.status_code == 409] == ["last_way_in"]


# ---- who is disabled while coming in


async def test_a11_who_is_disabled_while_signing_in_is_out_at_once(world: World, admin: Client) -> None:
    clients = [world.client(None) for _ in range(8)]
    form = {"email": "eve@msingi.test", "password": PASSWORD}
    *_, after = await asyncio.gather(
        *(each.post("/sign-in", json=form, expect=(200, 401, 403, 503)) for each in clients),
        admin.patch("/users/eve", disabled=True, expect=200),
    )
    assert after["disabled"]
    for each in clients:
        if each.last.status_code == 200:
            said = each.last.json()
            await with_token(world, said).get("/me", expect=401)
            await each.post("/refresh", refresh_token=said["refresh_token"], expect=401)
    await admin.patch("/users/eve", disabled=False, expect=200)
    for each in clients:
        if each.last.status_code == 200:
            await each.post("/refresh", refresh_token=each.last.json()["refresh_token"], expect=401)


# ---- letters


PHISHING = "Your account is locked, see https://evil.example/login or mail help@evil.example. www.evil.example"


@pytest.mark.parametrize("language", pages.LANGUAGES)
async def test_letters_carry_no_strangers_links(world: World, nobody: Client, language: str) -> None:
    form = NEW | {"name": PHISHING}
    await nobody.post("/register", json=form, headers={"accept-language": language})
    jane = with_token(world, await nobody.post("/sign-in", email=JANE, password=GOOD))
    made = await jane.post("/organisations", name="Prizes at evil.example/win", slug="prizes", expect=201)
    await jane.post(f"/organisations/{made['id']}/invitations", email="victim@example.org", role="member", expect=201)
    await jane.post("/me/email", email="other@example.org", expect=202)
    await world.work()
    written = await mail.written()
    assert {each.template for each in written} >= {"verify", "invitation", "email_change"}
    for each in written:
        for text in (each.subject, each.text, each.html):
            ours = re.sub(r"http://msingi\.test\S*", "", text)
            assert not re.search(r"evil\.example|https:/|@evil", ours), text


async def test_nobody_has_our_letters_sent_to_everybody(world: World, nobody: Client) -> None:
    eve = await signed_in(world, "eve")
    with told(letters_from_caller="2/hour"):
        for n, status in enumerate((202, 202, 429)):
            await eve.post("/me/email", email=f"moved{n}@example.org", expect=status)
        for n, status in enumerate((201, 201, 429)):
            await nobody.post("/register", json=NEW | {"email": f"new{n}@example.org"}, expect=status)
    await world.work()
    assert len(await world.letters()) == 4


# ---- what is kept, and where


@pytest.mark.parametrize("page", ["/verify", "/reset", "/email", "/email/undo", "/unlock", "/invitation"])
async def test_d4_nobody_keeps_or_passes_on_a_page_with_a_ticket(world: World, page: str) -> None:
    async with world.client(None).http as http:
        reply = await http.get(page, params={"ticket": "A" * 64}, headers={"accept": "text/html"})
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', reply.text)


async def test_d4_l1_no_secret_and_no_address_is_logged(
    world: World, nobody: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets: list[str] = [JANE, "Jane", GOOD, OTHER, PASSWORD, PHONE, "jane@", ANN]
    await nobody.post("/register", **NEW)
    await nobody.post("/register", **NEW, expect=409)
    await nobody.post("/sign-in", email=JANE, password="wrong wrong wrong", expect=401)
    said = await nobody.post("/sign-in", email=JANE, password=GOOD)
    ticket = await ticket_for(world, "verify", JANE)
    jane = with_token(world, said)
    await jane.post("/verification", ticket=ticket, expect=204)
    await has_phone(world, jane)
    seed = (await jane.post("/me/totp"))["secret"]
    added = await jane.put("/me/totp", code=code_of(seed))
    key = await with_token(world, added["session"]).post("/api-keys", name="K", scopes=["accounts:read"], expect=201)
    await nobody.post("/refresh", refresh_token=said["refresh_token"], expect=200)
    await reset(world, JANE)
    await nobody.post("/verification", ticket=ticket, expect=422)
    secrets += [said["access_token"], said["refresh_token"], ticket, seed, key["key"], *added["recovery_codes"]]
    out, err = capsys.readouterr()
    rows = [str(row) for row in await audit.entries.raw.find({}).to_list()]
    assert "session_opened" in out + err
    told = [(secret, text[:200]) for secret in secrets for text in (out, err, *rows) if secret in text]
    assert not told


async def test_who_was_brought_with_a_proved_address_gets_no_letter(admin: Client, world: World) -> None:
    brought: dict[str, Any] = {"name": "B", "password_hash": "$2b$04$" + "a" * 53}
    await admin.post("/users/import", email="one@example.org", email_verified=True, **brought, expect=201)
    await admin.post("/users/import", email="two@example.org", **brought, expect=201)
    await world.work()
    assert [(kind, to) for kind, to, _ in await world.letters()] == [("verify", "two@example.org")]
    assert await sessions.count({}) == 0
