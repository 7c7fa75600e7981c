"""Guessing ends soon, tells nothing, and keeps nobody out of their own account (A3 to A6)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from msingi.kit import audit, breaker, clock, mail, state
from msingi.kit.errors import Busy
from msingi.kit.testing import PASSWORD, Client, World
from msingi.products.accounts.actions import known_devices, tries
from msingi.products.accounts.models.defence import doors
from msingi.products.accounts.models.defence import known_devices as kept_devices
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.models.sessions import sessions
from msingi.products.accounts.rules.defence import IN_A_ROW, Patience, TooManyTries
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.tests.letters import letters, newest, ticket_in

ANN = "ann@msingi.test"
WRONG = "not the password"
SIGN_IN = "/v1/accounts/sign-in"
VARYING = ("date", "x-request-id", "ratelimit", "server-timing", "traceparent")


@asynccontextmanager
async def someone(world: World, address: str = "127.0.0.1", **cookies: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at an address: it keeps cookies."""
    transport = httpx.ASGITransport(app=world.house.app, raise_app_exceptions=False, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://msingi.test", cookies=cookies) as http:
        yield http


async def attempt(world: World, password: str = WRONG, email: str = ANN, **who: Any) -> httpx.Response:
    async with someone(world, **who) as http:
        return await http.post(SIGN_IN, json={"email": email, "password": password})


async def shut(world: World, email: str = ANN, **who: Any) -> list[int]:
    """Eleven wrong tries, from as many addresses."""
    return [
        (await attempt(world, email=email, **({"address": f"10.0.0.{turn}"} | who))).status_code for turn in range(11)
    ]


async def known_device(world: World, email: str = ANN) -> str:
    """The cookie of a device on which somebody signed in."""
    return (await attempt(world, PASSWORD, email)).cookies["device"]


# ---- an account's door


async def test_a3_the_eleventh_wrong_password_from_the_eleventh_address_is_not_looked_at(world: World) -> None:
    assert await shut(world) == [401] * 10 + [429]
    reply = await attempt(world, PASSWORD, address="10.0.1.1")
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (429, "too_many_tries")
    assert 55 <= int(reply.headers["retry-after"]) == problem["retry_after"] <= 60
    assert (await attempt(world, PASSWORD, "bob@msingi.test")).status_code == 200


async def test_a3_the_right_password_works_after_the_wait(world: World) -> None:
    await shut(world)
    with clock.shifted(timedelta(seconds=61)):
        assert (await attempt(world, PASSWORD)).status_code == 200


async def test_a3_the_wait_doubles_from_one_minute_to_fifteen_and_begins_anew_after_quiet(world: World) -> None:
    await shut(world)
    waits, later = [], timedelta()
    for _ in range(6):
        with clock.shifted(later):
            waits.append(int((await attempt(world)).headers["retry-after"]))
        later += timedelta(seconds=waits[-1] + 1)
        with clock.shifted(later):
            assert (await attempt(world)).status_code == 401
            while (await attempt(world)).status_code == 401:  # where the first ten count no more, there is room again
                pass
    assert [round(wait / 60) for wait in waits] == [1, 2, 4, 8, 15, 15]
    with clock.shifted(later + timedelta(minutes=31)):
        assert [(await attempt(world)).status_code for _ in range(11)] == [401] * 10 + [429]
        assert 55 <= int((await attempt(world)).headers["retry-after"]) <= 60


async def test_a3_right_passwords_do_not_count(world: World) -> None:
    assert {(await attempt(world, PASSWORD)).status_code for _ in range(12)} == {200}
    assert await shut(world) == [401] * 10 + [429]


async def test_a3_of_parallel_wrong_passwords_exactly_ten_are_looked_at(world: World) -> None:
    statuses: Counter[int] = Counter()
    for _ in range(5):
        replies = await asyncio.gather(*(attempt(world, address=f"10.0.0.{turn}") for turn in range(20)))
        statuses.update(reply.status_code for reply in replies)
    assert set(statuses) <= {401, 429, 503}
    assert statuses[401] == 10
    assert (await attempt(world)).status_code == 429
    assert await audit.entries.count({"kind": "accounts.sign_in_refused", "about": "ann"}) == 10


async def test_a3_twenty_tries_at_once_take_ten_places_and_right_ones_give_theirs_back(world: World) -> None:
    async def begun() -> Any:
        try:
            return await tries.begin({"here": Patience(wrong=10)})
        except (Busy, TooManyTries) as problem:
            return type(problem).__name__

    results = await asyncio.gather(*(begun() for _ in range(20)))
    taken = [each for each in results if isinstance(each, tries.Try)]
    assert Counter(each for each in results if isinstance(each, str)) == {"Busy": 10}
    assert len(taken) == 10
    await asyncio.gather(*(tries.was_wrong(each) for each in taken[1:]))
    await tries.was_right(taken[0])
    await tries.was_wrong(await tries.begin({"here": Patience(wrong=10)}))
    with pytest.raises(TooManyTries):
        await tries.begin({"here": Patience(wrong=10)})


async def test_a3_a6_an_address_that_is_nobodys_hears_the_same_word_for_word(world: World) -> None:
    async def heard(email: str) -> list[Any]:
        said = []
        for turn in range(12):
            reply = await attempt(world, email=email, address=f"10.0.0.{turn}")
            problem = reply.json()
            problem.pop("request_id")
            wait = problem.pop("retry_after", 0)
            problem["detail"] = problem["detail"].replace(str(wait), "…")
            headers = {name: value for name, value in reply.headers.items() if name not in (*VARYING, "retry-after")}
            headers.pop("content-length")
            said.append((reply.status_code, wait > 50, problem, headers))
        return said

    await accounts.raw.update_one({"_id": "bob"}, {"$set": {"disabled": True}})
    known, unknown, disabled, none = [
        await heard(email) for email in (ANN, "nobody@msingi.test", "bob@msingi.test", "no address")
    ]
    assert known == unknown == disabled == none
    assert [each[0] for each in known] == [401] * 10 + [429] * 2


async def test_a3_without_redis_a_process_counts_its_share_and_no_door_stands_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(question: Any, otherwise: Any, *, patience: float | None = None) -> Any:
        return otherwise

    monkeypatch.setattr(breaker, "ask", silent)
    assert state.settings().processes == 2
    assert (await attempt(world, PASSWORD)).status_code == 200
    statuses = [(await attempt(world)).status_code for _ in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    with clock.shifted(timedelta(minutes=15, seconds=1)):
        assert (await attempt(world, PASSWORD)).status_code == 200


# ---- the owner's device


async def test_a4_strangers_cannot_lock_the_owner_out(world: World) -> None:
    device = await known_device(world)
    await shut(world)
    assert (await attempt(world, PASSWORD)).status_code == 429
    assert (await attempt(world, PASSWORD, device=device)).status_code == 200


async def test_a4_the_devices_own_door_shuts_too_and_shuts_nobody_elses(world: World) -> None:
    device = await known_device(world)
    assert [(await attempt(world, device=device)).status_code for _ in range(11)] == [401] * 10 + [429]
    assert (await attempt(world, PASSWORD, device=device)).status_code == 429
    assert (await attempt(world, PASSWORD)).status_code == 200


async def test_a4_a_device_is_known_to_the_account_that_it_was_let_in_with_only(world: World) -> None:
    evil = await known_device(world, "eve@msingi.test")
    await shut(world)
    for cookie in (evil, "made up", ".".join(["x"] * 5), "x" * 5000):
        assert (await attempt(world, PASSWORD, device=cookie)).status_code == 429


async def test_a4_a_cookie_that_was_planted_is_not_taken_over(world: World) -> None:
    planted = await known_device(world, "eve@msingi.test")
    async with someone(world, device=planted) as anns:
        reply = await anns.post(SIGN_IN, json={"email": ANN, "password": PASSWORD})
        assert reply.status_code == 200
        both = reply.cookies["device"]
    assert both.split(".")[1:] == [planted]
    await shut(world)
    assert (await attempt(world, PASSWORD, device=planted)).status_code == 429
    assert (await attempt(world, PASSWORD, device=both)).status_code == 200


async def test_a4_the_cookie_lasts_is_kept_from_scripts_and_unreadable_in_the_database(world: World) -> None:
    reply = await attempt(world, PASSWORD)
    cookie = next(each for each in reply.headers.get_list("set-cookie") if each.startswith("device="))
    for part in ("HttpOnly", "Path=/", "SameSite=lax", "Max-Age=34560000"):
        assert part in cookie
    assert "Domain" not in cookie
    assert len(reply.cookies["device"]) == 43
    kept = await kept_devices.many({})
    assert reply.cookies["device"].encode() not in repr(kept).encode()
    assert (await sessions.many({}))[0].device == kept[0].id


async def test_a4_a_session_in_a_cookie_makes_the_device_known_too(world: World) -> None:
    async with someone(world) as http:
        form = {"email": ANN, "password": PASSWORD, "session": "cookie"}
        reply = await http.post(SIGN_IN, json=form, headers={"origin": "http://msingi.test"})
    assert {"sid", "device"} <= set(dict(reply.cookies)) | {
        each.split("=")[0].removeprefix("__Host-") for each in reply.headers.get_list("set-cookie")
    }


# ---- a network address, over all accounts


async def test_a5_a_hundred_and_one_accounts_from_one_address(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_work(kept: str | None, password: str) -> bool:
        return password == PASSWORD

    monkeypatch.setattr("msingi.products.accounts.hashing.fits", no_work)
    statuses = [
        (await attempt(world, email=f"user{turn}@example.org", address="2001:db8::" + hex(turn + 1)[2:])).status_code
        for turn in range(102)
    ]
    assert statuses == [401] * 100 + [429] * 2
    assert (await attempt(world, PASSWORD, address="2001:db8::1")).status_code == 429
    assert (await attempt(world, PASSWORD, address="2001:db8:0:1::1")).status_code == 200


async def test_a5_a_known_device_comes_in_from_an_address_that_is_shut(world: World) -> None:
    device = await known_device(world)
    for turn in range(100):
        await tries.was_wrong(
            await tries.begin({"from 127.0.0.1": Patience(wrong=100), f"door {turn}": Patience(wrong=10)})
        )
    assert (await attempt(world, PASSWORD)).status_code == 429
    assert (await attempt(world, PASSWORD, device=device)).status_code == 200


async def test_a5_after_a_hundred_in_a_row_only_a_letter_or_a_known_device_opens(world: World) -> None:
    device = await known_device(world)
    await nearly_locked(world, ANN)
    assert (await attempt(world)).status_code == 401
    for email, password in ((ANN, PASSWORD), (ANN, WRONG)):
        reply = await attempt(world, password, email)
        assert (reply.status_code, reply.json()["code"]) == (403, "sign_in_locked")
    with clock.shifted(timedelta(days=1)):
        assert (await attempt(world, PASSWORD)).status_code == 403
    assert (await attempt(world, PASSWORD, device=device)).status_code == 200
    said = await newest(world, "sign_in_locked", ANN)
    assert said["link"].startswith("http://msingi.test/unlock?ticket=")
    async with someone(world) as http:
        for expected in (204, 422):
            form = {"ticket": ticket_in(said["link"])}
            assert (await http.put("/v1/accounts/unlocking", json=form)).status_code == expected
    assert (await attempt(world, PASSWORD)).status_code == 200


async def nearly_locked(world: World, email: str) -> None:
    """One wrong password, made ninety-nine."""
    assert (await attempt(world, email=email)).status_code == 401
    await doors.raw.update_many({}, {"$set": {"failures": IN_A_ROW - 1}})
    await state.redis().flushdb()


async def test_a5_an_address_that_is_nobodys_is_locked_alike_and_gets_no_letter(world: World) -> None:
    await nearly_locked(world, "nobody@msingi.test")
    assert (await attempt(world, email="nobody@msingi.test")).status_code == 401
    reply = await attempt(world, email="nobody@msingi.test")
    assert (reply.status_code, reply.json()["code"]) == (403, "sign_in_locked")
    assert await letters(world) == []


async def test_a5_the_right_password_ends_the_row(world: World) -> None:
    await nearly_locked(world, ANN)
    assert (await attempt(world, PASSWORD)).status_code == 200
    assert (await attempt(world)).status_code == 401
    assert (await attempt(world, PASSWORD)).status_code == 200
    assert [door.failures for door in await doors.many({})] == [0]


async def test_a5_of_parallel_hundredth_passwords_one_writes_the_letter(world: World) -> None:
    await nearly_locked(world, ANN)
    await doors.raw.update_many({}, {"$inc": {"failures": -4}})
    await asyncio.gather(*(attempt(world, address=f"10.0.0.{turn}") for turn in range(8)))
    assert (await attempt(world)).json()["code"] == "sign_in_locked"
    assert len([each for each in await letters(world) if each[0] == "sign_in_locked"]) == 1


async def test_a5_a_letter_to_unlock_can_be_asked_for_again_and_only_if_it_is_needed(
    world: World, nobody: Client
) -> None:
    for email in (ANN, "nobody@msingi.test"):
        await nobody.post("/unlocking", email=email, expect=202)
    assert await letters(world) == []
    await nearly_locked(world, ANN)
    await attempt(world)
    first = await newest(world, "sign_in_locked", ANN)
    await nobody.post("/unlocking", email=ANN, expect=202)
    second = await newest(world, "sign_in_locked", ANN)
    await nobody.put("/unlocking", ticket=ticket_in(first["link"]), expect=422)
    await nobody.put("/unlocking", ticket=ticket_in(second["link"]), expect=204)


async def test_a5_a_new_password_by_letter_opens_the_door_too(world: World, nobody: Client) -> None:
    await nearly_locked(world, ANN)
    await attempt(world)
    await nobody.post("/password-reset", email=ANN, expect=202)
    ticket = ticket_in((await newest(world, "reset", ANN))["link"])
    await nobody.put("/password-reset", ticket=ticket, password="seven herons over the lake", expect=204)
    assert (await attempt(world, "seven herons over the lake")).status_code == 200


# ---- letters of new sign-ins


async def new_sign_ins(world: World) -> list[dict[str, Any]]:
    return [said for template, _, said in await letters(world) if template == "new_sign_in"]


async def test_a_letter_tells_of_a_sign_in_on_a_new_device_and_not_of_the_first(world: World) -> None:
    async with someone(world) as http:
        http.headers["user-agent"] = "Firefox on Linux"
        for _ in range(3):
            await http.post(SIGN_IN, json={"email": ANN, "password": PASSWORD})
    assert await new_sign_ins(world) == []
    async with someone(world, "10.9.8.7") as http:
        http.headers["user-agent"] = "<b>Opera</b>"
        await http.post(SIGN_IN, json={"email": ANN, "password": PASSWORD})
    said = await newest(world, "new_sign_in", ANN)
    assert (said["address"], said["user_agent"], said["name"]) == ("10.9.8.7", "Opera", "Ann")
    assert len(await new_sign_ins(world)) == 1


async def test_a_program_that_keeps_no_cookies_is_known_by_its_name_and_place_and_fills_nothing(world: World) -> None:
    for _ in range(4):
        assert (await attempt(world, PASSWORD)).status_code == 200
    assert await new_sign_ins(world) == []
    assert await kept_devices.count({}) == 1


async def test_no_letter_is_written_of_a_sign_in_that_was_refused(world: World) -> None:
    await attempt(world, PASSWORD)
    await attempt(world, WRONG, address="10.9.8.7")
    assert await new_sign_ins(world) == []


@pytest.mark.parametrize(("language", "subject"), [("en", "A new sign-in"), ("sw", "Mtu ameingia")])
async def test_the_letter_is_in_the_owners_language_and_harmless(world: World, language: str, subject: str) -> None:
    await accounts.raw.update_one({"_id": "ann"}, {"$set": {"language": language}})
    ann = await accounts.get("ann")
    for agent in ("one", "<script>two</script>"):
        await known_devices.remember(ann, Visitor(user_agent=agent, address="10.0.0.1"))
    await world.work()
    letter = (await mail.written())[-1]
    assert letter.subject.startswith(subject)
    assert "10.0.0.1" in letter.text
    assert "<script>" not in letter.html


async def test_a_device_that_was_forgotten_is_new_again(world: World) -> None:
    device = await known_device(world)
    await known_devices.forget(await accounts.get("ann"))
    await shut(world)
    assert (await attempt(world, PASSWORD, device=device)).status_code == 429
