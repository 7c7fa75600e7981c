"""Authenticator apps and recovery codes: what they open, how often, and what else happens."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyotp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from msingi.kit import audit, clock, mail
from msingi.kit.testing import PASSWORD, Client, World
from msingi.products.accounts import rules
from msingi.products.accounts.models.factors import factors
from msingi.products.accounts.tests.factor_people import claims, code_of, first_step, with_app
from msingi.products.accounts.tests.letters import ticket_for
from msingi.products.accounts.tests.people import sign_in, signed_in, with_token

pytestmark = pytest.mark.usefixtures("mid_step")
SECOND = "/v1/accounts/sign-in/second-factor"


async def kinds(who: str = "ann") -> list[str]:
    """What was noted about somebody, oldest first."""
    return [each.kind for each in await audit.entries.many({"about": who}, sort=[("_id", 1)])]


async def letters(world: World) -> list[tuple[str, str]]:
    return [(to, said["what"]) for name, to, said in await world.letters() if name == "factors_changed"]


# ---- setting up


async def test_a17_an_app_counts_once_its_first_code_was_shown(world: World) -> None:
    ann = await signed_in(world, "ann")
    begun = await ann.post("/me/totp")
    uri = urlsplit(begun["uri"])
    said = {name: value[0] for name, value in parse_qs(uri.query).items()}
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", "/Msingi:ann@msingi.test")
    assert said == {"secret": begun["secret"], "issuer": "Msingi"}
    assert len(begun["secret"]) == 32
    assert begun["qr"].startswith("data:image/svg+xml")
    assert ann.last.headers["cache-control"] == "no-store"
    await sign_in(world, "ann")  # nothing counts yet
    assert (await ann.put("/me/totp", code="000000", expect=403))["code"] == "wrong_code"
    added = await ann.put("/me/totp", code=code_of(begun["secret"]))
    assert len(set(added["recovery_codes"])) == 10
    assert all(len(each.replace("-", "")) * 5 == 120 for each in added["recovery_codes"])
    assert set(added["session"]) == {"access_token", "token_type", "expires_in"}
    assert (await first_step(world))["code"] == "second_factor_needed"
    assert (await kinds())[-1] == "accounts.totp_added"
    assert await letters(world) == [("ann@msingi.test", "totp_added")]


async def test_a17_a_seed_waits_fifteen_minutes_and_is_confirmed_once(world: World) -> None:
    ann = await signed_in(world, "ann")
    seed = (await ann.post("/me/totp"))["secret"]
    with clock.shifted(timedelta(minutes=15, seconds=1)):
        late = with_token(world, await sign_in(world, "ann"))
        assert (await late.put("/me/totp", code=code_of(seed), expect=409))["code"] == "nothing_to_confirm"
    added = await ann.put("/me/totp", code=code_of(seed))
    ann.headers["authorization"] = f"Bearer {added['session']['access_token']}"
    await ann.put("/me/totp", code=code_of(seed, 1), expect=409)


async def test_d2_a_seed_and_recovery_codes_are_unreadable_where_they_lie(world: World) -> None:
    ann = await with_app(world)
    row = str(await factors.raw.find_one({"_id": "ann"}))
    assert ann.seed not in row
    assert pyotp.TOTP(ann.seed).byte_secret() not in row.encode()
    for code in ann.codes:
        assert code not in row
        assert code.replace("-", "") not in row


async def test_a17_with_the_first_factor_all_other_sessions_end_and_this_one_has_proved_it(
    world: World, nobody: Client
) -> None:
    phone, laptop = await sign_in(world, "ann"), await sign_in(world, "ann")
    client = with_token(world, laptop)
    seed = (await client.post("/me/totp"))["secret"]
    added = await client.put("/me/totp", code=code_of(seed))
    await with_token(world, phone).get("/me", expect=401)
    await nobody.post("/refresh", refresh_token=phone["refresh_token"], expect=401)
    await client.get("/me", expect=401)  # its token was made before
    client.headers["authorization"] = f"Bearer {added['session']['access_token']}"
    await client.get("/me")
    assert claims(added["session"])["amr"] == ["mfa", "otp", "pwd"]
    child = await nobody.post("/refresh", refresh_token=laptop["refresh_token"])
    assert claims(child)["amr"] == ["mfa", "otp", "pwd"]
    assert len((await client.get("/sessions"))["items"]) == 1


async def test_a17_a_sign_in_beside_the_first_factor_leaves_no_session_without_it(world: World) -> None:
    for _ in range(4):
        client = with_token(world, await sign_in(world, "bob"))
        seed = (await client.post("/me/totp"))["secret"]
        form = {"email": "bob@msingi.test", "password": PASSWORD}
        added, other = await asyncio.gather(
            client.put("/me/totp", code=code_of(seed)), world.client(None).http.post("/v1/accounts/sign-in", json=form)
        )
        if other.status_code == 200:
            await with_token(world, other.json()).get("/me", expect=401)
            refresh = {"refresh_token": other.json()["refresh_token"]}
            assert (await client.http.post("/v1/accounts/refresh", json=refresh)).status_code == 401
        else:
            assert other.json()["code"] == "second_factor_needed"
        client.headers["authorization"] = f"Bearer {added['session']['access_token']}"
        await client.delete("/me/totp", expect=204)


async def test_a17_a_new_app_replaces_the_old_one_only_when_confirmed(world: World, nobody: Client) -> None:
    ann = await with_app(world)
    second = (await ann.client.post("/me/totp"))["secret"]
    ticket = (await first_step(world))["ticket"]
    await nobody.post("/sign-in/second-factor", ticket=ticket, code=code_of(second), expect=403)
    await nobody.post("/sign-in/second-factor", ticket=ticket, code=code_of(ann.seed))
    added = await ann.client.put("/me/totp", code=code_of(second))
    assert added["recovery_codes"] == []  # those that there are stay good
    ticket = (await first_step(world))["ticket"]
    await nobody.post("/sign-in/second-factor", ticket=ticket, code=code_of(ann.seed, 1), expect=403)
    await nobody.post("/sign-in/second-factor", ticket=ticket, code=code_of(second, 1))


# ---- the second step


async def test_a17_the_password_gives_a_ticket_and_the_code_a_session(world: World, nobody: Client) -> None:
    ann = await with_app(world)
    problem = await ann.first_step()
    assert {name: problem[name] for name in ("status", "code", "methods", "expires_in")} == {
        "status": 401,
        "code": "second_factor_needed",
        "methods": ["totp", "recovery_code"],
        "expires_in": 300,
    }
    tokens = await nobody.post("/sign-in/second-factor", ticket=problem["ticket"], code=code_of(ann.seed))
    assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert claims(tokens)["amr"] == ["mfa", "otp", "pwd"]
    await with_token(world, tokens).get("/me")
    problem = await nobody.post(
        "/sign-in/second-factor", ticket=problem["ticket"], code=code_of(ann.seed, 1), expect=422
    )
    assert problem["code"] == "bad_ticket"


async def test_a17_the_ticket_remembers_that_a_cookie_was_wanted(world: World, nobody: Client) -> None:
    ann = await with_app(world)
    ticket = (await ann.first_step(session="cookie"))["ticket"]
    form = {"ticket": ticket, "code": code_of(ann.seed)}
    evil = {"origin": "https://evil.example"}
    await nobody.post("/sign-in/second-factor", json=form, headers=evil, expect=403)
    assert set(await nobody.post("/sign-in/second-factor", json=form)) == {"csrf_token", "expires_in"}
    assert nobody.last.headers["set-cookie"].startswith("sid=")


async def test_a17_each_step_counts_once_and_the_one_before_and_after_too(world: World, nobody: Client) -> None:
    ann = await with_app(world)  # with the code of the step before
    ticket = (await ann.first_step())["ticket"]
    for steps in (-1, -2, 2):
        form = {"ticket": ticket, "code": code_of(ann.seed, steps)}
        assert (await nobody.post("/sign-in/second-factor", json=form, expect=403))["code"] == "wrong_code"
    await nobody.post("/sign-in/second-factor", ticket=ticket, code=code_of(ann.seed, 1))
    ticket = (await ann.first_step())["ticket"]
    for steps in (1, 0):  # a step that is past what was used is over, too
        await nobody.post("/sign-in/second-factor", ticket=ticket, code=code_of(ann.seed, steps), expect=403)


async def test_a17_a_code_shown_by_twenty_at_once_opens_one_session(world: World, nobody: Client) -> None:
    ann = await with_app(world)
    forms = [{"ticket": (await ann.first_step())["ticket"], "code": code_of(ann.seed)} for _ in range(20)]
    replies = await asyncio.gather(*(nobody.http.post(SECOND, json=form) for form in forms))
    assert Counter(reply.status_code for reply in replies)[200] == 1
    assert {reply.status_code for reply in replies} <= {200, 403, 429}


async def test_a17_one_ticket_shown_by_twenty_at_once_opens_one_session(world: World, nobody: Client) -> None:
    ann = await with_app(world)
    ticket = (await ann.first_step())["ticket"]
    forms = [{"ticket": ticket, "recovery_code": ann.codes[number % 10]} for number in range(20)]
    replies = await asyncio.gather(*(nobody.http.post(SECOND, json=form) for form in forms))
    assert Counter(reply.status_code for reply in replies) == {200: 1, 422: 19}
    assert len((await factors.get("ann")).codes) == 9  # the others' were not used up


async def test_a17_five_misses_in_fifteen_minutes_and_no_more_however_many_at_once(
    world: World, nobody: Client
) -> None:
    ann = await with_app(world)
    ticket = (await ann.first_step())["ticket"]
    wrong = {"ticket": ticket, "code": "abcdef"}
    replies = await asyncio.gather(*(nobody.http.post(SECOND, json=wrong) for _ in range(20)))
    assert Counter(reply.status_code for reply in replies) == {403: 5, 429: 15}
    right = {"ticket": ticket, "code": code_of(ann.seed)}
    problem = await nobody.post("/sign-in/second-factor", json=right, expect=429)
    assert problem["code"] == "quota_exceeded"
    assert 890 <= int(nobody.last.headers["retry-after"]) <= 901
    assert nobody.last.headers["retry-after"] == str(problem["retry_after"])
    # It keeps nobody out: the other ways are open.
    await nobody.post("/sign-in/second-factor", ticket=ticket, recovery_code=ann.codes[0])
    with clock.shifted(timedelta(minutes=15, seconds=1)):
        ticket = (await ann.first_step())["ticket"]
        await nobody.post("/sign-in/second-factor", ticket=ticket, code=code_of(ann.seed))


async def test_a17_right_codes_are_no_misses(world: World, nobody: Client) -> None:
    ann = await with_app(world)
    for minutes in range(7):
        with clock.shifted(timedelta(minutes=minutes)):
            ticket = (await ann.first_step())["ticket"]
            await nobody.post("/sign-in/second-factor", ticket=ticket, code=code_of(ann.seed))
    assert (await factors.get("ann")).misses == []


async def test_a17_a_ticket_lives_five_minutes_and_dies_with_the_password(world: World, nobody: Client) -> None:
    ann = await with_app(world)
    ticket = (await ann.first_step())["ticket"]
    with clock.shifted(timedelta(minutes=5, seconds=1)):
        form = {"ticket": ticket, "code": code_of(ann.seed)}
        assert (await nobody.post("/sign-in/second-factor", json=form, expect=422))["code"] == "bad_ticket"
    change = {"current_password": PASSWORD, "new_password": "seven herons over the lake"}
    await ann.client.post("/me/password", json=change)
    form = {"ticket": ticket, "code": code_of(ann.seed)}
    assert (await nobody.post("/sign-in/second-factor", json=form, expect=422))["code"] == "bad_ticket"


async def test_a17_somebody_elses_code_opens_nothing(world: World, nobody: Client, admin: Client) -> None:
    ann, bob = await with_app(world), await with_app(world, "bob")
    ticket = (await ann.first_step())["ticket"]
    await nobody.post("/sign-in/second-factor", ticket=ticket, code=code_of(bob.seed), expect=403)
    await nobody.post("/sign-in/second-factor", ticket=ticket, recovery_code=bob.codes[0], expect=403)
    await nobody.post("/sign-in/second-factor", ticket=ticket, expect=422)
    await admin.patch("/users/ann", disabled=True)
    problem = await nobody.post("/sign-in/second-factor", ticket=ticket, code=code_of(ann.seed), expect=403)
    assert problem["code"] == "account_disabled"
    assert "accounts.second_factor_refused" in await kinds()


# ---- recovery codes


async def test_a17_a_recovery_code_opens_one_session_however_many_show_it(world: World, nobody: Client) -> None:
    ann = await with_app(world)
    forms = [{"ticket": (await ann.first_step())["ticket"], "recovery_code": ann.codes[3]} for _ in range(20)]
    replies = await asyncio.gather(*(nobody.http.post(SECOND, json=form) for form in forms))
    assert Counter(reply.status_code for reply in replies) == {200: 1, 403: 19}
    assert (await ann.client.get("/me/factors"))["recovery_codes_left"] == 9
    assert (await kinds()).count("accounts.recovery_code_used") == 1
    assert (await letters(world)).count(("ann@msingi.test", "recovery_code_used")) == 1


async def test_a17_a_recovery_code_is_read_however_it_is_typed(world: World, nobody: Client) -> None:
    ann = await with_app(world)
    for typed in (ann.codes[0].upper(), ann.codes[1].replace("-", " "), f"  {ann.codes[2].replace('-', '')} "):
        ticket = (await ann.first_step())["ticket"]
        await nobody.post("/sign-in/second-factor", ticket=ticket, recovery_code=typed)


async def test_a17_new_recovery_codes_void_the_old_ones(world: World, nobody: Client, bob: Client) -> None:
    ann = await with_app(world)
    codes = (await ann.client.post("/me/recovery-codes"))["recovery_codes"]
    assert len(set(codes) | set(ann.codes)) == 20
    ticket = (await ann.first_step())["ticket"]
    await nobody.post("/sign-in/second-factor", ticket=ticket, recovery_code=ann.codes[0], expect=403)
    await nobody.post("/sign-in/second-factor", ticket=ticket, recovery_code=codes[0])
    assert (await bob.post("/me/recovery-codes", expect=409))["code"] == "no_second_factor"


# ---- seeing, removing, resetting


async def test_one_sees_what_one_has(world: World, bob: Client) -> None:
    ann = await with_app(world)
    shown = await ann.client.get("/me/factors")
    at = shown.pop("totp_confirmed_at")
    assert abs((clock.now() - clock.now().fromisoformat(at)).total_seconds()) < 60
    assert shown == {"methods": ["totp", "recovery_code"], "passkeys": [], "recovery_codes_left": 10}
    nothing: dict[str, Any] = {"methods": [], "totp_confirmed_at": None, "passkeys": [], "recovery_codes_left": 0}
    assert await bob.get("/me/factors") == nothing


async def test_without_the_app_the_password_is_enough_again(world: World) -> None:
    ann = await with_app(world)
    await ann.client.delete("/me/totp", expect=204)
    await ann.client.delete("/me/totp", expect=404)
    await sign_in(world, "ann")
    assert (await ann.client.get("/me/factors"))["recovery_codes_left"] == 0
    assert "accounts.totp_removed" in await kinds()


async def test_an_admin_resets_the_factors_of_who_lost_them(world: World, admin: Client) -> None:
    ann = await with_app(world)
    await admin.delete("/users/ann/factors", expect=204)
    await ann.client.get("/me", expect=401)
    await sign_in(world, "ann")
    assert await letters(world) == [("ann@msingi.test", "totp_added"), ("ann@msingi.test", "factors_reset")]
    noted = (await audit.entries.many({"kind": "accounts.factors_reset"}))[0]
    assert (noted.actor, noted.about) == ("admin", "ann")
    await admin.delete("/users/ann/factors", expect=204)  # there is nothing left to reset, nor to tell
    assert len(await letters(world)) == 2


async def test_z1_nobody_resets_the_factors_of_who_may_do_more(world: World, admin: Client) -> None:
    await admin.post("/roles", name="warden", permissions=["users:manage"])
    await admin.patch("/users/bob", roles=["warden"])
    await with_app(world, "admin")
    await with_app(world)
    bob = await signed_in(world, "bob")
    assert (await bob.delete("/users/admin/factors", expect=403))["code"] == "above_you"
    assert (await first_step(world, "admin"))["code"] == "second_factor_needed"
    await bob.delete("/users/ann/factors", expect=204)
    await sign_in(world, "ann")


async def test_a8_a_new_password_by_letter_is_no_way_around_the_second_factor(world: World, nobody: Client) -> None:
    ann = await with_app(world)
    await nobody.post("/password-reset", email="ann@msingi.test")
    ticket = await ticket_for(world, "reset", "ann@msingi.test")
    form = {"ticket": ticket, "password": "seven herons over the lake"}
    await nobody.put("/password-reset", json=form, expect=204)
    form = {"email": "ann@msingi.test", "password": form["password"]}
    needed = await nobody.post("/sign-in", json=form, expect=401)
    assert needed["code"] == "second_factor_needed"
    await nobody.post("/sign-in/second-factor", ticket=needed["ticket"], code=code_of(ann.seed))


@pytest.mark.parametrize("language", ["en", "sw"])
@pytest.mark.parametrize(
    "what",
    [
        "totp_added",
        "totp_removed",
        "passkey_added",
        "passkey_removed",
        "recovery_codes_renewed",
        "recovery_code_used",
        "factors_reset",
    ],
)
async def test_the_letter_has_words_for_all_that_happens(world: World, language: str, what: str) -> None:

    letter = await mail.send(
        "factors_changed", to="a@b.test", language=language, product="accounts", name="<Ann>", what=what, left=7
    )
    said = mail.rendered(letter)
    assert (what == "recovery_code_used") == ("7" in said.text)
    assert len(said.text.splitlines()[2]) > 30
    assert said.text.splitlines()[2].split("{")[0][:30] in said.html
    assert "&lt;Ann&gt;" in said.html


# ---- rules


@settings(max_examples=200, deadline=None)
@given(some.integers(0, 2**31), some.integers(-100, 100))
def test_a17_a_code_fits_its_own_step_and_its_neighbours(second: int, away: int) -> None:
    seed = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    at = clock.now().fromtimestamp(second + 10_000, clock.now().tzinfo)
    code = pyotp.TOTP(seed).at(at, counter_offset=away)
    found = rules.factors.step_of(seed, code, at)
    if abs(away) <= 1:
        assert found is not None
        assert pyotp.HOTP(seed).at(found) == code
    elif found is not None:  # one in a million fits by chance
        assert pyotp.HOTP(seed).at(found) == code


@pytest.mark.parametrize("code", ["", "      ", "abcdef", "１２３４５６", "1234567", "\x00" * 6])
def test_a17_what_is_no_code_fits_nothing(code: str) -> None:
    assert rules.factors.step_of(rules.factors.new_seed(), code, clock.now()) is None
