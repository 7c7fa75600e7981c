"""Acting in somebody's name: for half an hour, seen by everybody whom it concerns, and never to change who they are."""

from datetime import timedelta
from typing import Any

import pytest

from msingi.kit import audit, clock, mail, state, tokens
from msingi.kit.testing import PEOPLE, Client, World
from msingi.products.accounts.models.sessions import sessions
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.tests.elsewhere import Ask, elsewhere
from msingi.products.accounts.tests.people import Tokens, sign_in, signed_in, until, with_token

WHY = "ticket 4711"
PAGE = {"origin": "http://msingi.test"}


async def begun(admin: Client, who: str = "ann") -> Tokens:
    answer: Tokens = await admin.post(f"/users/{who}/impersonation", reason=WHY, expect=201)
    return answer


async def test_an_admin_sees_what_the_person_sees_and_the_token_says_who_it_is(world: World) -> None:
    answer = await begun(await signed_in(world, "admin"))
    act = await tokens.identify_token(answer["access_token"])
    assert act is not None
    assert (act.id, act.acting, sorted(act.methods), sorted(act.roles)) == ("ann", "admin", ["imp"], ["user"])
    assert not act.in_person
    ann = with_token(world, answer)
    assert (await ann.get("/me"))["id"] == "ann"
    await ann.get("/users", expect=403)


async def test_it_ends_after_half_an_hour_whatever_is_done(world: World, nobody: Client) -> None:
    answer = await begun(await signed_in(world, "admin"))
    for minutes in (9, 18, 27):
        with clock.shifted(timedelta(minutes=minutes)):
            answer = await nobody.post("/refresh", refresh_token=answer["refresh_token"])
    assert answer["expires_in"] <= 180  # the token does not outlive the session
    with clock.shifted(timedelta(minutes=29, seconds=50)):
        await with_token(world, answer).get("/me")
    with clock.shifted(timedelta(minutes=30, seconds=1)):
        await with_token(world, answer).get("/me", expect=401)
        await nobody.post("/refresh", refresh_token=answer["refresh_token"], expect=401)


async def test_in_a_browser_it_is_a_cookie_and_the_page_says_in_whose_name(world: World) -> None:
    admin, browser = await signed_in(world, "admin"), world.client(None)
    form = {"reason": WHY, "session": "cookie"}
    answer = await admin.post("/users/ann/impersonation", json=form, headers=PAGE, expect=201)
    assert set(answer) == {"csrf_token", "expires_in"}
    assert answer["expires_in"] <= 1800
    cookie = admin.last.headers["set-cookie"].partition(";")[0]
    assert (await browser.get("/me", headers={"cookie": cookie}))["id"] == "ann"
    await admin.post("/users/ann/impersonation", json=form, headers={"origin": "https://evil.example"}, expect=403)


@pytest.mark.parametrize(("who", "reason"), [("admin", "yourself"), ("bob", "an admin"), ("eve", "disabled")])
async def test_z1_never_oneself_an_admin_or_who_is_disabled(world: World, who: str, reason: str) -> None:
    admin = await signed_in(world, "admin")
    await admin.patch("/users/bob", roles=["admin"])
    await admin.patch("/users/eve", disabled=True)
    problem = await admin.post(f"/users/{who}/impersonation", reason=WHY, expect=409)
    assert problem["code"] == "not_in_their_name"
    assert reason in problem["reason"]
    assert await sessions.count({"acting": "admin"}) == 0


async def test_z1_nobody_gains_by_acting_for_who_may_do_more(world: World) -> None:
    admin = await signed_in(world, "admin")
    await admin.post("/roles", name="desk", permissions=["users:impersonate"])
    await admin.post("/roles", name="boss", permissions=["users:manage"])
    await admin.patch("/users/bob", roles=["desk"])
    await admin.patch("/users/eve", roles=["boss"])
    bob = await signed_in(world, "bob")
    assert (await bob.post("/users/eve/impersonation", reason=WHY, expect=409))["reason"] == "they may do more than you"
    await begun(bob)


async def test_a19_it_wants_a_fresh_proof_a_reason_and_the_person(world: World) -> None:
    admin = await signed_in(world, "admin")
    for reason in ("", "  ", "   \n"):
        await admin.post("/users/ann/impersonation", reason=reason, expect=422)
    with clock.shifted(timedelta(seconds=301)):
        problem = await admin.post("/users/ann/impersonation", reason=WHY, expect=401)
    assert problem["code"] == "insufficient_user_authentication"
    acting = with_token(world, await begun(admin))
    await acting.post("/users/bob/impersonation", reason=WHY, expect=403)


async def test_l1_the_person_is_told_sees_it_and_ends_it_and_all_is_noted(world: World) -> None:
    admin, ann = await signed_in(world, "admin"), await signed_in(world, "ann")
    await ann.patch("/me", language="sw")
    answer = await begun(admin)
    letter = (await mail.written())[-1]
    assert (letter.template, letter.to) == ("impersonated", "ann@msingi.test")
    said = mail.rendered(letter)
    assert said.subject == "Msimamizi anatenda kwa niaba yako"
    assert WHY in said.text
    shown = [each for each in (await ann.get("/sessions"))["items"] if each["acting"]]
    assert [each["acting"] for each in shown] == ["admin"]
    acting = with_token(world, answer)
    await acting.patch("/me", name="Anna")
    await ann.delete(f"/sessions/{shown[0]['id']}")
    await acting.get("/me", expect=401)
    noted = await audit.entries.find({"kind": "accounts.impersonation_began"})
    assert noted is not None
    assert (noted.actor, noted.about, noted.facts["reason"]) == ("admin", "ann", WHY)


async def test_whose_house_does_not_want_it_nobody_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = AccountsSettings(tells_of_impersonation=False)
    monkeypatch.setitem(state.current().parts, AccountsSettings, quiet)
    await begun(await signed_in(world, "admin"))
    assert [template for template, _, _ in await world.letters()] == []


# ---- it ends with what it rests on


async def _sign_out(world: World, admin: Client) -> None:
    await admin.post("/sign-out", expect=204)


async def _disable(world: World, admin: Client) -> None:
    await world_admin(world).patch("/users/admin", disabled=True)


async def _demote(world: World, admin: Client) -> None:
    await world_admin(world).patch("/users/admin", roles=[])


async def _lose(world: World, admin: Client) -> None:
    await admin.patch("/roles/admin", permissions=["users:manage", "roles:manage"])


def world_admin(world: World) -> Client:
    """Another admin."""
    return world.client(PEOPLE["admin"])


@pytest.mark.parametrize("end", [_sign_out, _disable, _demote, _lose])
async def test_a11_it_ends_with_the_admins_session_account_and_permission(world: World, end: Any) -> None:
    await world_admin(world).patch("/users/bob", roles=["admin"])  # somebody has to remain one
    admin = await signed_in(world, "admin")
    answer = await begun(admin)
    acting = with_token(world, answer)
    await acting.get("/me")
    await end(world, admin)

    async def ended() -> bool:
        await acting.get("/me", expect=[200, 401])
        return acting.last.status_code == 401

    await until(ended)
    await world.client(None).post("/refresh", refresh_token=answer["refresh_token"], expect=401)


async def test_another_session_of_the_admin_ends_and_this_goes_on(world: World) -> None:
    admin, other = await signed_in(world, "admin"), await signed_in(world, "admin")
    acting = with_token(world, await begun(admin))
    await other.post("/sign-out", expect=204)
    await acting.get("/me")


async def test_a11_another_process_hears_of_the_end_within_a_second(world: World) -> None:
    admin = await signed_in(world, "admin")
    token = (await begun(admin))["access_token"]
    async with elsewhere() as ask:
        assert await ask("/me", token) == 200
        await admin.post("/sign-out", expect=204)
        await until(lambda: refused(ask, token))


async def refused(ask: Ask, token: str) -> bool:
    return await ask("/me", token) == 401


async def test_signing_out_of_it_leaves_the_person_and_the_admin_signed_in(world: World) -> None:
    admin, ann = await signed_in(world, "admin"), with_token(world, await sign_in(world, "ann"))
    acting = with_token(world, await begun(admin))
    await acting.post("/sign-out", expect=204)
    await acting.get("/me", expect=401)
    await ann.get("/me")
    await admin.get("/users")
