"""Proving an address: letters with links that are good once, for a while, and tell nobody who has an account."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from datetime import timedelta
from time import perf_counter
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from msingi.kit import audit, clock, mail, pages, state, worker
from msingi.kit.config import load_all
from msingi.kit.testing import PASSWORD, Client, House, World, start_over
from msingi.kit.tests.test_mail import PostOffice
from msingi.products.accounts.contract import PasswordChanged
from msingi.products.accounts.models.people import accounts, email_key
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.models.tickets import tickets
from msingi.products.accounts.tests.access.people import GOOD, NEW
from msingi.products.accounts.tests.letters import letters, newest, ticket_for, ticket_in
from msingi.products.accounts.tests.people import sign_in, signed_in, until, with_token

JANE = NEW["email"]
OTHER = "eight otters under the moon"
NOBODY = "nobody@example.org"
LETTERS = ("verify", "already_registered", "reset", "password_changed", "email_change", "email_changed_notice")


async def kinds(world: World) -> list[tuple[str, str]]:
    return [(template, to) for template, to, _ in await letters(world)]


async def noted(kind: str) -> list[str]:
    return [each.about for each in await audit.entries.many({"kind": kind})]


# ---- verification


async def test_a_letter_verifies_the_address_of_who_registers(nobody: Client, world: World) -> None:
    made = await nobody.post("/register", **NEW, headers={"accept-language": "sw"}, expect=201)
    assert (made["email_verified"], made["language"]) == (False, "sw")
    ticket = await ticket_for(world, "verify", JANE)
    letter = (await mail.written())[0]
    assert (letter.language, letter.subject) == ("sw", "Thibitisha anwani yako ya barua pepe")
    assert "http://msingi.test/verify?ticket=" in letter.text
    assert "http://msingi.test/verify?ticket=" in letter.html
    await nobody.post("/verification", ticket=ticket, password=GOOD, expect=204)
    assert (await accounts.get(made["id"])).email_verified
    assert await noted("accounts.email_verified") == [made["id"]]
    assert (await nobody.post("/verification", ticket=ticket, expect=422))["code"] == "bad_ticket"


async def test_who_is_verified_gets_no_letter_to_verify(admin: Client, nobody: Client, world: World) -> None:
    await nobody.post("/verification/resend", email="ann@msingi.test", expect=202)
    await nobody.post("/verification/resend", email=NOBODY, expect=202)
    assert await kinds(world) == []


async def test_a_link_to_verify_is_good_for_a_day(nobody: Client, world: World) -> None:
    await nobody.post("/register", **NEW)
    ticket = await ticket_for(world, "verify", JANE)
    with clock.shifted(timedelta(hours=24, seconds=1)):
        await nobody.post("/verification", ticket=ticket, expect=422)
    with clock.shifted(timedelta(hours=23, minutes=59)):
        await nobody.post("/verification", ticket=ticket, password=GOOD, expect=204)


async def test_only_the_newest_link_verifies(nobody: Client, world: World) -> None:
    await nobody.post("/register", **NEW)
    first = await ticket_for(world, "verify", JANE)
    await nobody.post("/verification/resend", email=JANE.upper(), expect=202)
    second = await ticket_for(world, "verify", JANE)
    await nobody.post("/verification", ticket=first, expect=422)
    await nobody.post("/verification", ticket=second, password=GOOD, expect=204)


async def test_a_ticket_is_good_for_its_purpose_only(nobody: Client, world: World) -> None:
    await nobody.post("/register", **NEW)
    verify = await ticket_for(world, "verify", JANE)
    await nobody.put("/password-reset", ticket=verify, password=OTHER, expect=422)
    await nobody.put("/me/email", ticket=verify, expect=422)
    await nobody.put("/me/email/restoration", ticket=verify, expect=422)
    await nobody.post("/password-reset", email=JANE)
    reset = await ticket_for(world, "reset", JANE)
    await nobody.post("/verification", ticket=reset, expect=422)
    await nobody.post("/verification", ticket=verify, password=GOOD, expect=204)


async def test_a_ticket_that_nobody_issued_is_good_for_nothing(nobody: Client) -> None:
    for ticket in ("x", "A" * 64, "\u0000", "💥"):
        assert (await nobody.post("/verification", ticket=ticket, expect=422))["code"] == "bad_ticket"
    await nobody.post("/verification", ticket={"$gt": ""}, expect=422)


async def test_who_was_made_by_an_admin_verifies_too(admin: Client, nobody: Client, world: World) -> None:
    await admin.post("/users", **NEW)
    await nobody.post("/verification", ticket=await ticket_for(world, "verify", JANE), password=GOOD, expect=204)


# ---- registering where addresses are verified first


@pytest_asyncio.fixture(loop_scope="session")
async def strict(house: House) -> AsyncIterator[World]:
    """The same house, where nobody comes in with an address that is not verified."""
    here = state.current().parts
    usual = here[AccountsSettings]
    here[AccountsSettings] = load_all([AccountsSettings], {"MSINGI_REGISTRATION": "verified"})[AccountsSettings]
    await start_over(house)
    yield World(house)
    here[AccountsSettings] = usual


def answer_of(client: Client, body: Any) -> Any:
    varying = ("date", "x-request-id", "ratelimit", "server-timing", "traceparent")
    headers = {name: value for name, value in client.last.headers.items() if name not in varying}
    return client.last.status_code, body, headers


async def test_a6_registering_answers_the_same_whoever_has_the_address(strict: World) -> None:
    nobody = strict.client(None)
    await nobody.post("/register", **NEW)
    await strict.work()
    answers = []
    for email in ("ann@msingi.test", JANE, "new@example.org", "ANN@msingi.test"):
        body = await nobody.post("/register", email=email, password=OTHER, name="Somebody", expect=202)
        answers.append(answer_of(nobody, body))
    assert all(answer == answers[0] for answer in answers)
    assert "location" not in answers[0][2]
    assert await kinds(strict) == [
        ("verify", JANE),
        ("already_registered", "ann@msingi.test"),
        ("already_registered", JANE),
        ("already_registered", "ann@msingi.test"),
        ("verify", "new@example.org"),
    ]
    assert await accounts.count({}) == 6


async def test_who_is_not_verified_does_not_come_in(strict: World) -> None:
    nobody = strict.client(None)
    await nobody.post("/register", **NEW, expect=202)
    await strict.work()
    problem = await nobody.post("/sign-in", email=JANE, password=GOOD, expect=403)
    assert problem["code"] == "email_unverified"
    assert (await nobody.post("/sign-in", email=JANE, password=OTHER, expect=401))["code"] == "wrong_credentials"
    await nobody.post("/verification", ticket=await ticket_for(strict, "verify", JANE), password=GOOD, expect=204)
    await nobody.post("/sign-in", email=JANE, password=GOOD, expect=200)
    await sign_in(strict, "ann")


async def test_a16_whoever_squats_an_address_loses_it_to_its_owner(strict: World) -> None:
    nobody = strict.client(None)
    await nobody.post("/register", **NEW)
    await strict.work()
    await nobody.post("/register", email=JANE, password=OTHER, name="The real Jane", expect=202)
    ticket = await ticket_for(strict, "already_registered", JANE)
    await nobody.put("/password-reset", ticket=ticket, password=OTHER, expect=204)
    await nobody.post("/sign-in", email=JANE, password=GOOD, expect=401)
    await nobody.post("/sign-in", email=JANE, password=OTHER, expect=200)


async def test_a_registration_that_is_done_twice_makes_one_account(strict: World) -> None:
    nobody = strict.client(None)
    await asyncio.gather(*(strict.client(None).post("/register", **NEW, expect=202) for _ in range(5)))
    await strict.work()
    assert await accounts.count({"email_key": email_key(JANE)}) == 1
    written = await kinds(strict)
    assert written.count(("verify", JANE)) == 1
    assert len(written) == 5  # as many as go to one address in an hour
    await nobody.post("/register", **(NEW | {"password": "passwordpassword"}), expect=422)


async def test_d4_what_was_asked_lies_sealed_in_the_queue(strict: World) -> None:
    await strict.client(None).post("/register", **NEW, expect=202)
    rows = [str(row) for row in await state.database("accounts")["jobs"].find({}).to_list()]
    assert len(rows) == 1
    assert not [row for row in rows if JANE in row or "argon2" in row or "Jane" in row]


def test_production_verifies_unless_it_is_told_otherwise() -> None:
    def verifies(told: str, env: str) -> bool:
        settings = load_all([AccountsSettings], {"MSINGI_REGISTRATION": told})[AccountsSettings]
        return bool(settings.verifies_in(env))

    assert [verifies(told, "production") for told in ("", "open", "verified")] == [True, False, True]
    assert [verifies(told, "development") for told in ("", "open", "verified")] == [False, False, True]


# ---- a new password


async def test_a8_a_new_password_ends_all_sessions_and_signs_nobody_in(nobody: Client, world: World) -> None:
    old = await sign_in(world, "ann")
    assert await nobody.post("/password-reset", email="Ann@msingi.test", expect=202)
    said = await newest(world, "reset", "ann@msingi.test")
    assert said["link"].startswith("http://msingi.test/reset?ticket=")
    await world.events()
    assert await nobody.put("/password-reset", ticket=ticket_in(said["link"]), password=OTHER, expect=204) is None
    assert "set-cookie" not in nobody.last.headers
    await with_token(world, old).get("/me", expect=401)
    await nobody.post("/refresh", refresh_token=old["refresh_token"], expect=401)
    await nobody.post("/sign-in", email="ann@msingi.test", password=PASSWORD, expect=401)
    await sign_in(world, "ann", OTHER)
    assert PasswordChanged(user_id="ann") in await world.events()
    assert await kinds(world) == [("reset", "ann@msingi.test"), ("password_changed", "ann@msingi.test")]
    assert await noted("accounts.password_reset") == ["ann"]


async def test_a8_of_twenty_at_once_one_sets_the_password(nobody: Client, world: World) -> None:
    await nobody.post("/password-reset", email="ann@msingi.test")
    ticket = await ticket_for(world, "reset", "ann@msingi.test")
    clients = [world.client(None) for _ in range(20)]
    passwords = [f"{OTHER} {number}" for number in range(20)]
    await asyncio.gather(
        *(
            client.put("/password-reset", ticket=ticket, password=password, expect=(204, 422, 503))
            for client, password in zip(clients, passwords, strict=True)
        )
    )
    won = [password for client, password in zip(clients, passwords, strict=True) if client.last.status_code == 204]
    assert len(won) == 1
    await sign_in(world, "ann", won[0])
    await nobody.put("/password-reset", ticket=ticket, password=OTHER, expect=422)


async def test_a8_a_link_is_good_for_half_an_hour_and_only_the_newest(nobody: Client, world: World) -> None:
    await nobody.post("/password-reset", email="ann@msingi.test")
    first = await ticket_for(world, "reset", "ann@msingi.test")
    await nobody.post("/password-reset", email="ann@msingi.test")
    second = await ticket_for(world, "reset", "ann@msingi.test")
    await nobody.put("/password-reset", ticket=first, password=OTHER, expect=422)
    with clock.shifted(timedelta(minutes=30, seconds=1)):
        problem = await nobody.put("/password-reset", ticket=second, password=OTHER, expect=422)
        assert problem["code"] == "bad_ticket"
    await nobody.put("/password-reset", ticket=second, password=OTHER, expect=204)


async def test_a8_a_password_that_changed_meanwhile_makes_the_link_void(nobody: Client, world: World) -> None:
    await nobody.post("/password-reset", email="ann@msingi.test")
    ticket = await ticket_for(world, "reset", "ann@msingi.test")
    ann = await signed_in(world, "ann")
    await ann.post("/me/password", current_password=PASSWORD, new_password=GOOD)
    await nobody.put("/password-reset", ticket=ticket, password=OTHER, expect=422)
    await sign_in(world, "ann", GOOD)


async def test_a8_a_weak_password_leaves_the_link_good(nobody: Client, world: World) -> None:
    await nobody.post("/password-reset", email="ann@msingi.test")
    ticket = await ticket_for(world, "reset", "ann@msingi.test")
    problem = await nobody.put("/password-reset", ticket=ticket, password="passwordpassword", expect=422)
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("weak_password", "/password")
    await nobody.put("/password-reset", ticket=ticket, password="short", expect=422)
    await nobody.put("/password-reset", ticket=ticket, password=OTHER, expect=204)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https"},
        {"forwarded": "host=evil.example"},
        {"host": ""},
        {},
    ],
)
async def test_a8_no_request_says_where_the_link_leads(nobody: Client, world: World, headers: dict[str, str]) -> None:
    await nobody.post("/password-reset", email="ann@msingi.test", headers=headers, expect=(202, 400, 421))
    written = await letters(world)
    assert len(written) == (1 if nobody.last.status_code == 202 else 0)
    assert all(said["link"].startswith("http://msingi.test/reset?ticket=") for _, _, said in written)
    assert all("evil" not in each.text + each.html for each in await mail.written())


async def test_a8_a_reset_verifies_the_address_that_it_came_by(nobody: Client, world: World) -> None:
    made = await nobody.post("/register", **NEW)
    await nobody.post("/password-reset", email=JANE)
    await nobody.put("/password-reset", ticket=await ticket_for(world, "reset", JANE), password=OTHER, expect=204)
    assert (await accounts.get(made["id"])).email_verified


async def test_who_is_disabled_gets_no_link(admin: Client, nobody: Client, world: World) -> None:
    await admin.patch("/users/ann", disabled=True)
    await nobody.post("/password-reset", email="ann@msingi.test", expect=202)
    assert await kinds(world) == []


async def test_a6_asking_for_letters_answers_the_same_for_anybody(nobody: Client) -> None:
    await nobody.post("/register", **NEW)
    for path in ("/password-reset", "/verification/resend"):
        answers = []
        for email in ("ann@msingi.test", JANE, NOBODY):
            body = await nobody.post(path, email=email, expect=202)
            answers.append(answer_of(nobody, body))
        assert all(answer == answers[0] for answer in answers)
        await nobody.post(path, email="no address", expect=422)


async def test_a6_asking_takes_as_long_for_anybody(nobody: Client) -> None:
    times: dict[str, list[float]] = {"ann@msingi.test": [], NOBODY: []}
    for _ in range(100):
        for email, taken in times.items():
            began = perf_counter()
            await nobody.post("/password-reset", email=email, expect=202)
            taken.append(perf_counter() - began)
    known, unknown = (statistics.median(each) for each in times.values())
    assert abs(known - unknown) < 0.005


async def test_no_more_than_five_letters_an_hour_go_to_an_address(nobody: Client, world: World) -> None:
    for _ in range(7):
        await nobody.post("/password-reset", email="ann@msingi.test", expect=202)
    assert await kinds(world) == [("reset", "ann@msingi.test")] * 5
    await nobody.post("/password-reset", email="bob@msingi.test", expect=202)
    assert len(await kinds(world)) == 6


async def test_who_has_letters_written_to_many_hears_429(world: World) -> None:
    few = {"MSINGI_LETTERS_FROM_CALLER": "3/hour"}
    here = state.current().parts
    usual = here[AccountsSettings]
    here[AccountsSettings] = load_all([AccountsSettings], few)[AccountsSettings]
    try:
        nobody = world.client(None)
        for email in ("ann@msingi.test", NOBODY, "bob@msingi.test"):
            await nobody.post("/password-reset", email=email, expect=202)
        for email in ("eve@msingi.test", NOBODY):
            problem = await nobody.post("/password-reset", email=email, expect=429)
            assert problem["code"] == "quota_exceeded"
            assert int(nobody.last.headers["retry-after"]) > 0
    finally:
        here[AccountsSettings] = usual


# ---- another address


async def test_a19_another_address_is_asked_for_by_who_proved_lately_who_they_are(world: World) -> None:
    stale = with_token(world, await sign_in(world, "ann"))
    with clock.shifted(timedelta(minutes=6)):
        problem = await stale.post("/me/email", email=JANE, expect=401)
        assert problem["code"] == "insufficient_user_authentication"
    assert await kinds(world) == []


async def test_an_address_changes_when_the_new_one_is_proved(ann: Client, nobody: Client, world: World) -> None:
    await ann.post("/me/email", email=" Jane@Example.org ", expect=202)
    ticket = await ticket_for(world, "email_change", JANE)
    assert (await ann.get("/me"))["email"] == "ann@msingi.test"
    await nobody.put("/me/email", ticket=ticket, password=PASSWORD, expect=204)
    shown = await ann.get("/me")
    assert (shown["email"], shown["email_verified"]) == (JANE, True)
    await nobody.put("/me/email", ticket=ticket, expect=422)
    await nobody.post("/sign-in", email="ann@msingi.test", password=PASSWORD, expect=401)
    await nobody.post("/sign-in", email=JANE, password=PASSWORD, expect=200)
    assert await kinds(world) == [
        ("email_change", JANE),
        ("email_changed_notice", "ann@msingi.test"),
        ("email_changed_notice", JANE),
    ]
    old, new = (said for kind, _, said in await world.letters() if kind == "email_changed_notice")
    assert (old["email"], new["email"]) == ("j…@example.org", JANE)
    assert new["undo"] == ""


async def test_the_old_address_can_undo_it_for_a_week(ann: Client, nobody: Client, world: World) -> None:
    tokens = await sign_in(world, "ann")
    await ann.post("/me/email", email=JANE)
    await nobody.put("/me/email", ticket=await ticket_for(world, "email_change", JANE), password=PASSWORD, expect=204)
    undo = await ticket_for(world, "email_changed_notice", "ann@msingi.test", "undo")
    await ann.post("/me/email", email="third@example.org")
    third = await ticket_for(world, "email_change", "third@example.org")
    await nobody.put("/me/email", ticket=third, password=PASSWORD, expect=204)
    second_undo = await ticket_for(world, "email_changed_notice", JANE, "undo")
    await ann.post("/me/email", email="fourth@example.org")
    pending = await ticket_for(world, "email_change", "fourth@example.org")
    with clock.shifted(timedelta(days=7, seconds=5)):
        await nobody.put("/me/email/restoration", ticket=undo, expect=422)
    await nobody.put("/me/email/restoration", ticket=undo, expect=204)
    assert (await accounts.get("ann")).email == "ann@msingi.test"
    await with_token(world, tokens).get("/me", expect=401)
    await nobody.post("/refresh", refresh_token=tokens["refresh_token"], expect=401)
    await nobody.put("/me/email/restoration", ticket=second_undo, expect=422)
    await nobody.put("/me/email", ticket=pending, expect=422)
    assert await noted("accounts.email_restored") == ["ann"]


async def test_a6_whether_the_new_address_is_anybodys_is_told_to_its_owner_only(
    ann: Client, nobody: Client, world: World
) -> None:
    answers = []
    for email in ("bob@msingi.test", NOBODY):
        body = await ann.post("/me/email", email=email, expect=202)
        answers.append(answer_of(ann, body))
    assert answers[0] == answers[1]
    await ann.post("/me/email", email="bob@msingi.test", expect=202)
    ticket = await ticket_for(world, "email_change", "bob@msingi.test")
    assert (await nobody.put("/me/email", ticket=ticket, password=PASSWORD, expect=409))["code"] == "email_taken"
    assert (await accounts.get("ann")).email == "ann@msingi.test"


async def test_of_two_who_want_the_same_address_one_gets_it(ann: Client, bob: Client, world: World) -> None:
    found = []
    for who in (ann, bob):
        await who.post("/me/email", email=JANE)
        found.append(await ticket_for(world, "email_change", JANE))
    clients = [world.client(None) for _ in found]
    await asyncio.gather(
        *(
            client.put("/me/email", ticket=ticket, password=PASSWORD, expect=(204, 409))
            for client, ticket in zip(clients, found, strict=True)
        )
    )
    assert sorted(client.last.status_code for client in clients) == [204, 409]
    assert await accounts.count({"email_key": email_key(JANE)}) == 1


async def test_a_link_that_went_to_the_old_address_is_void_with_it(ann: Client, nobody: Client, world: World) -> None:
    await nobody.post("/password-reset", email="ann@msingi.test")
    reset = await ticket_for(world, "reset", "ann@msingi.test")
    await ann.post("/me/email", email=JANE)
    await nobody.put("/me/email", ticket=await ticket_for(world, "email_change", JANE), password=PASSWORD, expect=204)
    await nobody.put("/password-reset", ticket=reset, password=OTHER, expect=422)


async def test_d2_no_ticket_shows_an_address(ann: Client, world: World) -> None:
    await ann.post("/me/email", email=JANE)
    await world.work()
    rows = [str(row) for row in await tickets.raw.find({}).to_list()]
    assert len(rows) == 1
    assert not [row for row in rows if JANE in row or "ann@msingi" in row]


# ---- language


async def test_one_chooses_the_language_of_ones_letters(ann: Client, nobody: Client, world: World) -> None:
    assert (await ann.patch("/me", language="sw"))["language"] == "sw"
    await nobody.post("/password-reset", email="ann@msingi.test", headers={"accept-language": "en"})
    await world.work()
    assert [each.subject for each in await mail.written()] == ["Weka nywila mpya"]
    await ann.patch("/me", language="tlh", expect=422)


@pytest.mark.parametrize("language", pages.LANGUAGES)
async def test_every_letter_is_written_in_both_languages_twice(world: World, language: str) -> None:
    given = {"name": "<Ann>", "link": "http://msingi.test/x?ticket=1", "email": "j…@example.org"}
    given |= {"undo": given["link"], "forgot": given["link"]}
    for template in LETTERS:
        letter = mail.Letter(
            product="accounts", template=template, to="ann@msingi.test", language=language, context=given
        )
        said = mail.rendered(letter)
        assert said.subject
        assert "<Ann>" in said.text
        assert "&lt;Ann&gt;" in said.html
        assert given["link"] in said.text
        assert given["link"] in said.html


# ---- pages


async def sent_form(client: Client, path: str, **fields: str) -> Any:
    """What a browser gets that fills in and sends the form of a page."""
    page = (await client.http.get(path, headers={"accept": "text/html"})).text
    token = page.split('name="_csrf" value="')[-1].split('"')[0]
    hidden = page.split('name="ticket" value="')[1].split('"')[0] if 'name="ticket"' in page else None
    fields |= {"_csrf": token} | ({"ticket": hidden} if hidden is not None else {})
    return await client.http.post(path, data=fields, headers={"origin": "http://msingi.test", "accept": "text/html"})


async def test_opening_a_link_does_nothing_and_the_button_does_it(nobody: Client, world: World) -> None:
    made = await nobody.post("/register", **NEW)
    link = (await newest(world, "verify", JANE))["link"].removeprefix("http://msingi.test")
    for _ in range(2):
        assert (await nobody.http.get(link)).status_code == 200
    assert not (await accounts.get(made["id"])).email_verified
    asked = await sent_form(nobody, link)
    assert (asked.status_code, 'name="password"' in asked.text) == (422, True)
    done = await sent_form(nobody, link, password=GOOD)
    assert (done.status_code, "Your address is confirmed" in done.text) == (200, True)
    assert (await accounts.get(made["id"])).email_verified
    again = await sent_form(nobody, link)
    assert (again.status_code, "no longer" in again.text) == (422, True)


async def test_a8_a_forgotten_password_is_set_on_pages(nobody: Client, world: World) -> None:
    assert "on its way" in (await sent_form(nobody, "/forgot?lang=en", email="ann@msingi.test")).text
    link = (await newest(world, "reset", "ann@msingi.test"))["link"].removeprefix("http://msingi.test")
    weak = await sent_form(nobody, link, password="passwordpassword")
    assert (weak.status_code, "too easy to guess" in weak.text) == (422, True)
    assert (await sent_form(nobody, link, password="short")).status_code == 422
    done = await sent_form(nobody, f"{link}&lang=sw", password=OTHER)
    assert (done.status_code, "Nywila yako mpya imewekwa" in done.text) == (200, True)
    assert "set-cookie" not in done.headers
    await sign_in(world, "ann", OTHER)


async def test_an_address_is_changed_and_taken_back_on_pages(ann: Client, nobody: Client, world: World) -> None:
    await ann.post("/me/email", email=JANE)
    link = (await newest(world, "email_change", JANE))["link"].removeprefix("http://msingi.test")
    assert (await sent_form(nobody, link, password=PASSWORD)).status_code == 200
    assert (await accounts.get("ann")).email == JANE
    undo = (await newest(world, "email_changed_notice", "ann@msingi.test"))["undo"].removeprefix("http://msingi.test")
    assert (await sent_form(nobody, undo)).status_code == 200
    assert (await accounts.get("ann")).email == "ann@msingi.test"


async def test_i4_a_ticket_in_an_address_is_only_text_on_the_page(nobody: Client) -> None:
    page = await nobody.http.get("/verify", params={"ticket": '"><script>alert(1)</script>'})
    assert "<script>alert" not in page.text
    assert page.headers["referrer-policy"] == "no-referrer"


# ---- a mail server that is away


@pytest.mark.parametrize("fault", ["refuses", "says 451", "hangs"])
async def test_c7_registering_waits_for_no_mail_server(
    nobody: Client, world: World, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    office, stop = PostOffice(), asyncio.Event()
    monkeypatch.setattr(mail, "CONVERSATION", 1.0)
    here = state.current()
    monkeypatch.setattr(
        here, "settings", msgspec.structs.replace(here.settings, smtp_url=f"smtp://127.0.0.1:{office.port}")
    )
    if fault != "refuses":
        office.open()
    office.to_recipient = "451 not now" if fault == "says 451" else ""
    office.delay = 30.0 if fault == "hangs" else 0.0
    working = asyncio.create_task(worker.run(world.house.products, stop))
    try:
        began = perf_counter()
        await nobody.post("/register", **NEW, expect=201)
        assert perf_counter() - began < 2

        async def put_off() -> bool:
            return any(each.state == "waiting" and each.tries and each.fault for each in await mail.written())

        async def delivered() -> bool:
            return [each.state for each in await mail.written()] == ["delivered"]

        await until(put_off, 20)
        office.to_recipient, office.delay = "", 0.0
        if fault == "refuses":
            office.open()
        await until(delivered, 60)
        assert "http://msingi.test/verify?ticket=" in office.taken[-1].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    finally:
        stop.set()
        await working
        await asyncio.to_thread(office.close)


# ---- who made an account without its address


async def test_a16_a_reset_closes_every_way_that_was_opened_without_the_address(nobody: Client, world: World) -> None:
    made = await nobody.post("/register", **NEW)
    squatter = with_token(world, await nobody.post("/sign-in", email=JANE, password=GOOD))
    key = await squatter.post("/api-keys", name="A way back", scopes=["accounts:read"], expect=201)
    program = world.client(None)
    program.headers["authorization"] = f"Bearer {key['key']}"
    assert (await program.get("/me"))["id"] == made["id"]
    await squatter.put("/me/phone", phone="+254712345678")
    await world.work()
    digits = next(said["code"] for kind, _, said in await world.letters() if kind == "code")
    await squatter.post("/me/phone/verification", code=digits)
    await nobody.post("/password-reset", email=JANE)
    await nobody.put("/password-reset", ticket=await ticket_for(world, "reset", JANE), password=OTHER, expect=204)
    assert (await accounts.get(made["id"])).phone is None
    await squatter.get("/me", expect=401)
    await program.get("/me", expect=401)
    await nobody.post("/sign-in", email=JANE, password=OTHER, expect=200)


async def test_a8_a_reset_of_a_verified_account_keeps_what_its_owner_made(ann: Client, world: World) -> None:
    key = await ann.post("/api-keys", name="Mine", scopes=["accounts:read"], expect=201)
    nobody = world.client(None)
    await nobody.post("/password-reset", email="ann@msingi.test")
    ticket = await ticket_for(world, "reset", "ann@msingi.test")
    await nobody.put("/password-reset", ticket=ticket, password=OTHER, expect=204)
    nobody.headers["authorization"] = f"Bearer {key['key']}"
    assert (await nobody.get("/me"))["id"] == "ann"
