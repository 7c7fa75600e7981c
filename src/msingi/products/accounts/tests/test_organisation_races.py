"""What must hold of organisations when many do it at the same moment."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from msgspec import structs

from msingi.kit import clock
from msingi.kit.actors import Actor
from msingi.kit.errors import Problem
from msingi.kit.testing import PEOPLE, World
from msingi.kit.unit import atomic
from msingi.products.accounts import rules
from msingi.products.accounts.actions import invitations, organisations, people, tickets
from msingi.products.accounts.models.organisations import Invitation, OrganisationRole, memberships
from msingi.products.accounts.models.organisations import invitations as kept_invitations
from msingi.products.accounts.models.organisations import organisations as kept
from msingi.products.accounts.models.people import Account, accounts, email_key
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.organisations import NewInvitation, NewOrganisation, OrganisationPatch
from msingi.products.accounts.schemas.people import UserPatch
from msingi.products.accounts.tests.test_organisations import check_order

ROUNDS, SOME = 50, 10
DAY = 24 * 3600  # seconds: whatever is made here stays fresh for as long as a run takes


def person(id: str) -> Actor:
    """Somebody who has just proved who they are."""
    return structs.replace(PEOPLE["ann"], id=id, name=id, signed_in_at=int(clock.seconds()) + DAY)


ANN, BOB, EVE = person("ann"), person("bob"), person("eve")


async def outcome(act: Any) -> str:
    """What came of it: `done`, or the code of the problem."""
    try:
        await act
    except Problem as problem:
        return problem.code
    return "done"


async def at_once(*acts: Any) -> list[str]:
    return await asyncio.gather(*(outcome(act) for act in acts))


async def both_own() -> str:
    """An organisation that Ann and Bob own."""
    seen = await organisations.make(NewOrganisation(name="Mill"), ANN)
    await put_in(seen.organisation.id, "bob", "owner")
    return seen.organisation.id


@atomic
async def put_in(organisation_id: str, account_id: str, role: OrganisationRole) -> None:
    await organisations.take_place(account_id)
    await organisations.make_room(await kept.get(organisation_id), account_id, role)
    await organisations.settle(organisation_id, account_id, role, ANN)


async def owners_of(organisation_id: str) -> list[str]:
    return (await kept.get(organisation_id)).owners


def leave(id: str, who: Actor) -> Any:
    return organisations.remove_member(id, who.id, who, None)


def remove(id: str, by: Actor, other: Actor) -> Any:
    return organisations.remove_member(id, other.id, by, None)


def demote(id: str, by: Actor, other: Actor) -> Any:
    return organisations.change_role(id, other.id, "member", by, None)


# What two owners do at once, how often it is tried, and whether one of them must be refused.
PAIRS: dict[str, tuple[Any, int, bool]] = {
    "both leave": (lambda place: (leave(place, ANN), leave(place, BOB)), ROUNDS, True),
    "each removes the other": (lambda place: (remove(place, ANN, BOB), remove(place, BOB, ANN)), ROUNDS, True),
    "each demotes the other": (lambda place: (demote(place, ANN, BOB), demote(place, BOB, ANN)), SOME, True),
    "both step down": (lambda place: (demote(place, ANN, ANN), demote(place, BOB, BOB)), SOME, True),
    "one leaves, one is demoted": (lambda place: (leave(place, ANN), demote(place, ANN, BOB)), SOME, True),
    "one leaves, one hands over": (
        lambda place: (leave(place, ANN), organisations.hand_over(place, "ann", BOB, None)),
        SOME,
        False,
    ),
    "one leaves, one is erased": (lambda place: (leave(place, ANN), organisations.let_go_of("bob")), SOME, False),
}


@pytest.mark.parametrize(("acts", "rounds", "refuses"), PAIRS.values(), ids=PAIRS)
async def test_of_two_who_take_the_last_owners_away_at_once_one_comes_second(
    world: World, acts: Any, rounds: int, refuses: bool
) -> None:
    """The second is told that they are the last; or, where the first removed them, that there is nothing here."""
    await organisations.let_go_of("bob")
    for _ in range(rounds):
        id = await both_own()
        results = await at_once(*acts(id))
        assert set(results) <= {"done", "last_owner", "not_found", "no_such_member", "forbidden"}
        assert not refuses or results.count("done") == 1, results
        there = await kept.find({"_id": id})
        if there is not None:
            assert there.owners, results
            await check_order_of(id)
        await forget(id)


async def forget(id: str) -> None:
    """Make room for the next round."""
    await kept.raw.delete_one({"_id": id})
    await organisations.clear(id)


async def check_order_of(id: str) -> None:
    there = await kept.get(id)
    members = await memberships.many({"organisation": id})
    assert there.members == len(members)
    assert sorted(there.owners) == sorted(
        each.account for each in members if each.role == "owner" and not each.disabled
    )


async def test_the_last_owner_cannot_go_while_the_other_is_disabled(world: World) -> None:
    await organisations.let_go_of("bob")
    for _ in range(SOME):
        id = await both_own()
        await put_in(id, "eve", "member")
        await at_once(leave(id, ANN), people.edit_user("bob", UserPatch(disabled=True), None))
        assert await owners_of(id)
        await check_order_of(id)
        await people.edit_user("bob", UserPatch(disabled=False), None)
        await check_order_of(id)
        await forget(id)


async def test_an_heir_is_never_somebody_who_is_shut_out_at_the_same_moment(world: World) -> None:
    for _ in range(SOME):
        await at_once(
            people.edit_user("ann", UserPatch(disabled=True), None),
            people.edit_user("bob", UserPatch(disabled=True), None),
        )
        assert await owners_of("farm") == []
        await at_once(
            people.edit_user("ann", UserPatch(disabled=False), None),
            people.edit_user("bob", UserPatch(disabled=False), None),
        )
        await check_order()


# ---- limits


async def crowd(count: int) -> list[Actor]:
    """People with accounts."""
    ids = [f"p{number}" for number in range(count)]
    await _add([Account(id=id, email=f"{id}@msingi.test", name=id, password="", words=[]) for id in ids])
    return [person(id) for id in ids]


@atomic
async def _add(many: list[Account]) -> None:
    await accounts.add_many(many)


@atomic
async def _ask(email: str, organisation: str) -> str:
    asked = Invitation(
        organisation=organisation,
        email=email,
        email_key=email_key(email),
        role="member",
        invited_by="ann",
        ticket="",
        expires_at=clock.now() + invitations.GOOD_FOR,
    )
    issued = await tickets.issue("invitation", invitations.GOOD_FOR, invitation=asked.id)
    asked.ticket = issued.ticket.id
    await kept_invitations.add(asked)
    return issued.secret


async def test_the_limit_of_members_is_exact_when_many_come_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules.organisations, "MOST_MEMBERS", 7)
    many = await crowd(20)
    secrets = [await _ask(f"{each.id}@msingi.test", "farm") for each in many]
    results = await at_once(*(invitations.accept(secret, who) for secret, who in zip(secrets, many, strict=True)))
    assert Counter(results) == {"done": 5, "organisation_full": 15}
    assert await memberships.count({"organisation": "farm"}) == 7
    assert await kept_invitations.count({}) == 15  # who found no room may come when there is some
    await check_order()


async def test_the_limit_of_organisations_is_exact_when_many_are_made_and_joined_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules.organisations, "MOST_ORGANISATIONS", 5)
    secret = await _ask("eve@msingi.test", "farm")
    makes = [organisations.make(NewOrganisation(name=f"Mill {number}"), EVE) for number in range(11)]
    results = await at_once(invitations.accept(secret, EVE), *makes)
    assert Counter(results) == {"done": 5, "too_many_organisations": 7}
    assert await memberships.count({"account": "eve"}) == 5
    await check_order()


# ---- invitations and names


async def test_of_twenty_who_answer_one_invitation_at_once_one_does(world: World) -> None:
    secret = await _ask("eve@msingi.test", "farm")
    accepts = [invitations.accept(secret, EVE) for _ in range(10)]
    results = await at_once(*accepts, *(invitations.decline(secret, None) for _ in range(10)))
    assert Counter(results) == {"done": 1, "bad_ticket": 19}
    await check_order()


async def test_an_invitation_that_is_taken_back_while_it_is_accepted_does_one_of_both(world: World) -> None:
    for _ in range(20):
        secret = await _ask("eve@msingi.test", "farm")
        invitation = (await kept_invitations.many({}))[0]
        results = await at_once(invitations.accept(secret, EVE), invitations.revoke("farm", invitation.id, ANN))
        assert sorted(results) in (["bad_ticket", "done"], ["done", "not_found"])
        assert await kept_invitations.count({}) == 0
        await outcome(leave("farm", EVE))
        await check_order()


async def test_of_many_invitations_to_one_address_at_once_one_is_left(world: World) -> None:
    form = NewInvitation(email="jane@example.org")
    results = await at_once(*(invitations.invite("farm", form, ANN, Visitor()) for _ in range(8)))
    assert set(results) == {"done"}
    assert await kept_invitations.count({}) == 1


async def test_of_many_who_want_one_slug_one_gets_it(world: World) -> None:
    forms = [NewOrganisation(name="Mill", slug="mill") for _ in range(8)]
    results = await at_once(*(organisations.make(form, EVE) for form in forms))
    assert Counter(results) == {"done": 1, "slug_taken": 7}
    await check_order()


async def test_of_many_with_the_same_version_one_changes_it(world: World) -> None:
    patches = [OrganisationPatch(name=f"Mill {number}") for number in range(8)]
    results = await at_once(*(organisations.edit("farm", patch, ANN, 1) for patch in patches))
    assert Counter(results) == {"done": 1, "stale": 7}


async def test_whatever_happens_in_whatever_order_organisations_stay_in_order(world: World) -> None:
    chance = random.Random(4)
    actors = [ANN, BOB, EVE]

    def something() -> Any:
        one, other = chance.choice(actors), chance.choice(actors)
        role = chance.choice(["owner", "admin", "member"])
        match chance.randrange(7):
            case 0:
                return put_in("farm", one.id, role)  # type: ignore[arg-type]
            case 1:
                return remove("farm", one, other)
            case 2:
                return organisations.change_role("farm", other.id, role, one, None)  # type: ignore[arg-type]
            case 3:
                return organisations.hand_over("farm", other.id, one, None)
            case 4:
                return people.edit_user(one.id, UserPatch(disabled=chance.random() < 0.5), None)
            case 5:
                return organisations.let_go_of(one.id)
            case _:
                return organisations.make(NewOrganisation(name="Mill"), one)

    codes: Counter[str] = Counter()
    for _ in range(40):
        codes.update(await at_once(*(something() for _ in range(4))))
        await check_order()
    assert codes["done"] > 40
    assert {"last_owner", "not_found"} <= set(codes)
