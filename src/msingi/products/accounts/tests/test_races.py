"""What must hold when many do it at the same moment."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from msingi.kit.errors import Problem, Stale
from msingi.kit.revocations import is_revoked
from msingi.kit.testing import PASSWORD, Client, World
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import people, sessions, signing_keys
from msingi.products.accounts.models.people import accounts, email_key, guards
from msingi.products.accounts.models.sessions import sessions as kept
from msingi.products.accounts.models.signing_keys import stored_keys
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.people import PasswordChange, Registration, UserPatch
from msingi.products.accounts.session_secrets import read_refresh_token
from msingi.products.accounts.tests.people import sign_in, with_token

GOOD = "seven herons over the lake"


async def outcome(act: Any) -> Any:
    """What came of it: the result, or the code of the problem."""
    try:
        return await act
    except Problem as problem:
        return problem.code


async def test_a10_of_a_hundred_refreshes_at_once_there_is_one_child(world: World, nobody: Client) -> None:
    tokens = await sign_in(world, "ann")
    form = {"refresh_token": tokens["refresh_token"]}
    replies = await asyncio.gather(*(nobody.http.post("/v1/accounts/refresh", json=form) for _ in range(100)))
    assert Counter(reply.status_code for reply in replies) == {200: 100}
    children = {reply.json()["refresh_token"] for reply in replies}
    assert len(children) == 1
    session = (await kept.many({}))[0]
    assert (session.generation, session.ended_at) == (1, None)
    await nobody.post("/refresh", refresh_token=children.pop())
    await with_token(world, replies[-1].json()).get("/me")


async def test_a10_after_a_replay_against_a_rotation_no_token_lives(world: World) -> None:
    ann = await accounts.get("ann")

    async def race() -> int:
        opened = await sessions.open_session(ann, "token", Visitor(), ["pwd"])
        first, second = opened.secret, (await sessions.refresh(opened.secret)).secret
        third = (await sessions.refresh(second)).secret
        rotated, replayed = await asyncio.gather(outcome(sessions.refresh(third)), outcome(sessions.refresh(first)))
        assert replayed == "bad_refresh_token"
        known = [first, second, third]
        if isinstance(rotated, sessions.Opened):
            known.append(rotated.secret)
        assert is_revoked(sessions.actor_of(opened.session, ann))
        after = [await outcome(sessions.refresh(token)) for token in known]
        return sum(isinstance(each, sessions.Opened) for each in after)

    alive = 0
    for _ in range(30):
        alive += sum(await asyncio.gather(*(race() for _ in range(10))))
    assert alive == 0
    assert await kept.count({"ended_at": None}) == 0


async def test_a10_a_session_that_ended_meanwhile_is_not_rotated(world: World) -> None:
    opened = await sessions.open_session(await accounts.get("ann"), "token", Visitor(), ["pwd"])
    shown = read_refresh_token(opened.secret)
    assert shown
    await sessions.end(opened.session)
    with pytest.raises(Stale):
        await sessions._rotate(opened.session, opened.account, shown)


async def test_of_many_who_register_one_address_one_gets_it(world: World) -> None:
    # Five at a time: more would hear 503, since passwords are hashed one by one.
    form = Registration(email="jane@example.org", password=GOOD, name="Jane")
    results = [
        each for _ in range(4) for each in await asyncio.gather(*(outcome(people.register(form)) for _ in range(5)))
    ]
    assert results.count("email_taken") == 19
    assert await accounts.count({"email_key": email_key("jane@example.org")}) == 1


async def test_two_admins_who_remove_each_other_leave_one(world: World) -> None:
    for _ in range(8):
        await people.edit_user("ann", UserPatch(roles=["admin"], disabled=False), None)
        await people.edit_user("admin", UserPatch(roles=["admin"], disabled=False), None)
        results = await asyncio.gather(
            outcome(people.edit_user("ann", UserPatch(roles=[]), None)),
            outcome(people.edit_user("admin", UserPatch(disabled=True), None)),
        )
        assert sorted(map(str, results)).count("last_admin") == 1
        acting = [each.id for each in await accounts.many({"roles": "admin", "disabled": False})]
        assert len(acting) == 1
        assert (await guards.get("admins")).ids == acting


async def test_of_two_who_change_a_password_at_once_one_does(world: World) -> None:
    account = await accounts.get("ann")
    ann = sessions.actor_of((await sessions.open_session(account, "token", Visitor(), ["pwd"])).session, account)
    forms = [PasswordChange(current_password=PASSWORD, new_password=f"{GOOD} {number}") for number in range(2)]
    results = await asyncio.gather(*(outcome(people.change_password(ann, form)) for form in forms))
    assert [each for each in results if isinstance(each, str)] in (["stale"], ["wrong_password"])
    account = await accounts.get("ann")
    assert (account.token_version, account.epoch) == (1, 1)


async def test_one_of_many_with_the_same_version_changes_an_account(admin: Client) -> None:
    async def rename(number: int) -> int:
        reply = await admin.http.patch(
            "/v1/accounts/users/bob", json={"name": f"Bob {number}"}, headers={**admin.headers, "if-match": '"1"'}
        )
        return reply.status_code

    assert Counter(await asyncio.gather(*(rename(number) for number in range(10)))) == {200: 1, 409: 9}


async def test_b4_processes_that_start_at_once_make_one_key(world: World) -> None:
    await stored_keys.raw.delete_many({})
    made = await asyncio.gather(*(signing_keys._key_in_use() for _ in range(10)))
    assert len({key.public.kid for key in made}) == 1
    assert [key.kid for key in await queries.signing_keys.published_keys()] == [made[0].public.kid]


async def test_a_sign_in_beside_a_disabling_leaves_no_session(world: World, nobody: Client) -> None:
    for _ in range(4):
        await people.edit_user("bob", UserPatch(disabled=False), None)
        form = {"email": "bob@msingi.test", "password": PASSWORD}
        reply, _ = await asyncio.gather(
            nobody.http.post("/v1/accounts/sign-in", json=form),
            people.edit_user("bob", UserPatch(disabled=True), None),
        )
        if reply.status_code == 200:
            tokens = reply.json()
            await with_token(world, tokens).get("/me", expect=401)
            assert await outcome(sessions.refresh(tokens["refresh_token"])) == rules.sessions.BadRefreshToken().code
        else:
            assert reply.status_code in (401, 403)
