"""Organisations from outside: who sees them, who comes in and goes, and that somebody always owns them."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec import structs

from msingi.kit import audit, clock, mail
from msingi.kit.policy import Asker
from msingi.kit.testing import PEOPLE, Client, World
from msingi.products.accounts import rules
from msingi.products.accounts.actions import invitations, organisations, people
from msingi.products.accounts.contract import (
    MemberJoined,
    MemberLeft,
    MemberRoleChanged,
    OrganisationMade,
    OrganisationRemoved,
    organisations_of,
    role_in,
)
from msingi.products.accounts.models.organisations import Invitation, Membership, Organisation, memberships
from msingi.products.accounts.models.organisations import invitations as kept_invitations
from msingi.products.accounts.models.organisations import organisations as kept
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.routes.organisations import routes
from msingi.products.accounts.schemas.people import UserPatch

FARM = "/organisations/farm"
FORMS: dict[str, Any] = {
    "PATCH /organisations/{organisation_id}": {"name": "Barn"},
    "PUT /organisations/{organisation_id}/owner": {"account_id": "bob"},
    "PATCH /organisations/{organisation_id}/members/{account_id}": {"role": "admin"},
    "POST /organisations/{organisation_id}/invitations": {"email": "jane@example.org"},
    "POST /organisations": {"name": "Barn"},
    "POST /invitations/accept": {"ticket": "x"},
    "POST /invitations/decline": {"ticket": "x"},
    "POST /invitations/preview": {"ticket": "x"},
}


def addresses() -> list[tuple[str, str]]:
    """Every route of organisations: method and path."""
    found = []
    for handler in routes:
        for path in handler.paths:
            plain = path.replace(":str}", "}")
            found += [(str(getattr(method, "value", method)), plain) for method in handler.http_methods]
    return sorted(set(found))


WITHIN = [each for each in addresses() if each[1].startswith("/organisations/{organisation_id}")]


def at(path: str, organisation: str = "farm", account: str = "bob", invitation: str = "nothing") -> str:
    return path.format(organisation_id=organisation, account_id=account, invitation_id=invitation)


async def invited(world: World, by: Client, email: str, role: str = "member", organisation: str = "farm") -> str:
    """The secret of the link in the letter that an invitation sends."""
    await by.post(f"/organisations/{organisation}/invitations", email=email, role=role)
    return secret_in(await world.letters())


def secret_in(letters: list[tuple[str, str, dict[str, Any]]]) -> str:
    link = [context["link"] for name, _, context in letters if name == "invitation"][-1]
    return str(parse_qs(urlsplit(link).query)["ticket"][0])


async def joined(world: World, owner: Client, who: Client, role: str = "member") -> None:
    assert who.actor
    await who.post("/invitations/accept", ticket=await invited(world, owner, f"{who.actor.id}@msingi.test", role))


# ---- the house's own admins


async def test_an_admin_sees_every_organisation_and_removes_one_that_is_abused(
    world: World, admin: Client, ann: Client, bob: Client
) -> None:
    made = await bob.post("/organisations", name="Casino Royale")
    listed = (await admin.get("/admin/organisations"))["items"]
    assert {each["slug"] for each in listed} == {"shamba-la-mfano", "casino-royale"}
    assert [each["id"] for each in (await admin.get("/admin/organisations?q=casino"))["items"]] == [made["id"]]
    assert [each["id"] for each in (await admin.get("/admin/organisations?owner=ann"))["items"]] == ["farm"]
    one = await admin.get(f"/admin/organisations/{made['id']}")
    assert set(one) == {"id", "name", "slug", "owners", "members", "created_at", "updated_at", "version"}
    assert (one["owners"], one["members"]) == (["bob"], 1)
    stale = {"if-match": f'"{one["version"] + 1}"'}
    await admin.delete(f"/admin/organisations/{made['id']}", headers=stale, expect=409)
    await admin.delete(f"/admin/organisations/{made['id']}")
    await admin.get(f"/admin/organisations/{made['id']}", expect=404)
    await bob.get(f"/organisations/{made['id']}", expect=404)
    await world.work()
    assert not await memberships.exists({"organisation": made["id"]})
    assert (await accounts.get("bob")).organisations == 1
    [noted] = await audit.entries.many({"kind": "accounts.organisation_removed"})
    assert (noted.actor, noted.about) == ("admin", made["id"])
    assert OrganisationRemoved(organisation_id=made["id"]) in await world.events()


async def test_a19_z1_an_organisation_is_removed_by_an_admin_in_person_who_has_just_proved_it(
    world: World, admin: Client
) -> None:
    assert admin.actor
    old = structs.replace(admin.actor, signed_in_at=int(clock.seconds()) - 400)
    assert (await world.client(old).delete("/admin/organisations/farm", expect=401))["code"] == (
        "insufficient_user_authentication"
    )
    scopes = frozenset({"accounts:read", "accounts:write", "organisations:manage"})
    key = world.client(structs.replace(admin.actor, client="key:k", scopes=scopes))
    await key.get("/admin/organisations")
    await key.delete("/admin/organisations/farm", expect=403)
    assert await kept.exists({"_id": "farm"})


async def check_order() -> None:
    """What must be true of all organisations at any time."""
    for each in await kept.many({}):
        members = await memberships.many({"organisation": each.id})
        acting = {member.account for member in members if not member.disabled}
        owners = [member.account for member in members if member.role == "owner" and not member.disabled]
        assert sorted(each.owners) == sorted(owners), each
        assert each.members == len(members)
        assert owners or not acting, f"nobody owns {each.id}, where {acting} are"
    for person in await accounts.many({}):
        assert person.organisations == await memberships.count({"account": person.id})


# ---- who sees what


@pytest.mark.parametrize(("method", "path"), WITHIN, ids=[" ".join(each) for each in WITHIN])
async def test_z1_anothers_organisation_is_the_same_404_as_one_that_is_not_there(
    world: World, eve: Client, admin: Client, method: str, path: str
) -> None:
    form = FORMS.get(f"{method} {path}")
    for stranger in (eve, admin):
        there = await stranger.ask(method, at(path), json=form, expect=404)
        absent = await stranger.ask(method, at(path, "nowhere"), json=form, expect=404)
        assert there | {"request_id": ""} == absent | {"request_id": ""}
    assert (await kept.get("farm")).version == 1
    assert await memberships.count({"organisation": "farm"}) == 2


async def test_z1_an_invitation_to_one_organisation_is_not_there_in_another(world: World, ann: Client) -> None:
    barn = await ann.post("/organisations", name="Barn")
    made = await ann.post(f"{FARM}/invitations", email="jane@example.org")
    for path in (f"{FARM}/invitations/{made['id']}", f"/organisations/{barn['id']}/invitations/{made['id']}"):
        await ann.get(path, expect=200 if path.startswith(FARM + "/") else 404)
    await ann.delete(f"/organisations/{barn['id']}/invitations/{made['id']}", expect=404)
    assert await kept_invitations.count({}) == 1


async def test_z1_a_member_sees_all_but_changes_nothing(world: World, ann: Client, bob: Client, eve: Client) -> None:
    await joined(world, ann, eve)
    await bob.get(FARM)
    await bob.get(f"{FARM}/members")
    await bob.get(f"{FARM}/members/eve")
    for method, path in WITHIN:
        if method != "GET" or "invitations" in path:
            account = "eve" if method == "DELETE" else "bob"
            await bob.ask(method, at(path, account=account), json=FORMS.get(f"{method} {path}"), expect=403)
    await check_order()
    assert (await kept.get("farm")).name == "Shamba la Mfano"


async def test_z3_answers_hold_what_is_declared_and_nothing_more(world: World, ann: Client, bob: Client) -> None:
    common = {"id", "created_at", "updated_at", "version"}
    organisation = await ann.get(FARM)
    assert organisation.keys() == common | {"name", "slug", "role", "members"}
    assert (organisation["role"], organisation["members"], (await bob.get(FARM))["role"]) == ("owner", 2, "member")
    member = await ann.get(f"{FARM}/members/bob")
    assert member.keys() == common - {"id"} | {"account_id", "name", "email", "role", "disabled"}
    assert (member["name"], member["email"]) == ("Bob", "bob@msingi.test")
    invitation = await ann.post(f"{FARM}/invitations", email="jane@example.org")
    assert invitation.keys() == common | {"email", "role", "invited_by", "expires_at"}


async def test_addresses_are_told_to_owners_and_admins_alone(world: World, ann: Client, bob: Client) -> None:
    assert [each["email"] for each in (await bob.get(f"{FARM}/members"))["items"]] == [None, None]
    assert (await bob.get(f"{FARM}/members/ann"))["email"] is None
    await ann.patch(f"{FARM}/members/bob", role="admin")
    assert (await bob.get(f"{FARM}/members/ann"))["email"] == "ann@msingi.test"


FIELDS = sorted({name for kind in (Organisation, Membership, Invitation) for name in kind.__struct_fields__} - {"name"})


@pytest.mark.parametrize("route", FORMS)
async def test_z2_fields_that_nobody_may_write_are_refused(world: World, ann: Client, route: str) -> None:
    method, path = route.split()
    takes = set(FORMS[route]) | ({"slug"} if path.endswith(("organisations", "}")) else set())
    takes |= {"role"} if path.endswith(("invitations", "members/{account_id}")) else set()
    for field in [each for each in FIELDS if each not in takes] + ["colour", "_id", "$set"]:
        told = await ann.ask(method, at(path), json={**FORMS[route], field: "x"}, expect=422)
        assert told["code"] == "invalid_fields", field
    assert (await kept.get("farm")).version == 1
    assert await kept.count({}) == 1


# ---- what they are


async def test_whoever_makes_an_organisation_owns_it(world: World, eve: Client) -> None:
    made = await eve.post("/organisations", name="  Ümmü's Shamba & Co ")
    assert (made["name"], made["slug"], made["role"], made["members"]) == (
        "Ümmü's Shamba & Co",
        "ummu-s-shamba-co",
        "owner",
        1,
    )
    assert eve.last.headers["location"] == f"/v1/accounts/organisations/{made['id']}"
    assert await world.events() == [
        OrganisationMade(organisation_id=made["id"], user_id="eve"),
        MemberJoined(organisation_id=made["id"], user_id="eve", role="owner"),
    ]
    noted = [(each.kind, each.actor) for each in await audit.entries.many({}, sort=[("_id", 1)])]
    assert noted == [("accounts.organisation_made", "eve"), ("accounts.member_joined", "eve")]
    await check_order()


async def test_a_slug_is_given_once(world: World, ann: Client, eve: Client) -> None:
    assert (await eve.post("/organisations", name="x", slug="shamba-la-mfano", expect=409))["code"] == "slug_taken"
    again = await eve.post("/organisations", name="Shamba la mfano")
    assert again["slug"].startswith("shamba-la-mfano-")
    assert (await ann.patch(FARM, slug=again["slug"], expect=409))["code"] == "slug_taken"
    assert (await ann.patch(FARM, slug="farm"))["slug"] == "farm"
    assert (await eve.post("/organisations", name="農場"))["slug"].startswith("o-")
    await check_order()


@pytest.mark.parametrize(
    "slug", ["A-farm", "-farm", "farm-", "fa--rm", "fa rm", "f", "x" * 41, "mashamba.la", "é-farm"]
)
async def test_a_slug_has_its_form(ann: Client, slug: str) -> None:
    assert (await ann.patch(FARM, slug=slug, expect=422))["code"] in ("bad_slug", "invalid_fields")
    assert (await ann.post("/organisations", name="x", slug=slug, expect=422))["errors"][0]["pointer"] == "/slug"


async def test_versions_are_kept_as_everywhere(world: World, ann: Client) -> None:
    await ann.get(FARM)
    assert ann.last.headers["etag"] == '"1"'
    await ann.get(FARM, headers={"if-none-match": '"1"'}, expect=304)
    stale = {"if-match": '"7"'}
    for method, path in WITHIN:
        if method in ("PATCH", "PUT") or (method == "DELETE" and "invitations" not in path):
            told = await ann.ask(method, at(path), json=FORMS.get(f"{method} {path}"), headers=stale, expect=409)
            assert told["code"] == "stale"
    assert (await ann.patch(FARM, name="Shamba la Mfano"))["version"] == 1
    assert (await ann.patch(FARM, name="Barn", headers={"if-match": '"1"'}))["version"] == 2


async def test_lists_are_filtered_searched_sorted_and_paged(world: World, ann: Client) -> None:
    for name in ("Barn", "Mill", "Dairy of the mill"):
        await ann.post("/organisations", name=name)
    names = [each["name"] for each in (await ann.get("/organisations"))["items"]]
    assert names == ["Dairy of the mill", "Mill", "Barn", "Shamba la Mfano"]
    assert [each["slug"] for each in (await ann.get("/organisations?slug=barn"))["items"]] == ["barn"]
    assert len((await ann.get("/organisations?q=MILL"))["items"]) == 2
    assert len((await ann.get("/organisations?created_at[lt]=2000-01-01T00:00:00Z"))["items"]) == 0
    first = await ann.get("/organisations?sort=name&limit=3")
    rest = await ann.get(f"/organisations?sort=name&limit=3&after={first['next']}")
    assert [each["name"] for each in first["items"] + rest["items"]] == sorted(names)
    await ann.get("/organisations?owners=ann", expect=422)
    await ann.get("/organisations?sort=owners", expect=422)


async def test_members_are_filtered_sorted_and_paged(world: World, ann: Client, eve: Client) -> None:
    await joined(world, ann, eve, "admin")
    who = [each["account_id"] for each in (await ann.get(f"{FARM}/members"))["items"]]
    assert who == ["ann", "bob", "eve"]
    assert [each["account_id"] for each in (await ann.get(f"{FARM}/members?role=admin"))["items"]] == ["eve"]
    first = await ann.get(f"{FARM}/members?sort=-created_at&limit=2")
    rest = await ann.get(f"{FARM}/members?sort=-created_at&limit=2&after={first['next']}")
    assert [each["account_id"] for each in first["items"] + rest["items"]] == ["eve", "bob", "ann"]
    await ann.get(f"{FARM}/members?organisation=other", expect=422)


async def test_p1_the_same_key_makes_one_organisation_and_one_letter(world: World, ann: Client) -> None:
    key = {"idempotency-key": "k1"}
    once = await ann.post("/organisations", name="Barn", headers=key)
    assert await ann.post("/organisations", name="Barn", headers=key) == once
    key = {"idempotency-key": "k2"}
    once = await ann.post(f"{FARM}/invitations", email="jane@example.org", headers=key)
    assert await ann.post(f"{FARM}/invitations", email="jane@example.org", headers=key) == once
    assert (await kept.count({}), len(await world.letters())) == (2, 1)


async def test_a_removed_organisation_is_gone_for_all_and_gives_their_places_back(
    world: World, ann: Client, bob: Client
) -> None:
    secret = await invited(world, ann, "eve@msingi.test")
    await ann.delete(FARM)
    await bob.get(FARM, expect=404)
    assert (await bob.get("/organisations"))["items"] == []
    assert await role_in("farm", "bob") is None
    assert await organisations_of(["ann", "bob"]) == []
    assert (await world.client(PEOPLE["eve"]).post("/invitations/accept", ticket=secret, expect=422))[
        "code"
    ] == "bad_ticket"
    assert await world.events() == [OrganisationRemoved(organisation_id="farm")]
    await world.work()
    assert await memberships.count({}) == 0
    await check_order()


# ---- who owns them


@pytest.mark.parametrize(
    ("method", "path", "form"),
    [
        ("DELETE", "/members/ann", None),
        ("PATCH", "/members/ann", {"role": "member"}),
        ("PATCH", "/members/ann", {"role": "admin"}),
    ],
)
async def test_the_last_owner_stays(world: World, ann: Client, method: str, path: str, form: Any) -> None:
    told = await ann.ask(method, FARM + path, json=form, expect=409)
    assert told["code"] == "last_owner"
    assert [each["slug"] for each in told["organisations"]] == ["shamba-la-mfano"]
    assert await world.events() == []
    await check_order()


async def test_ownership_is_handed_over_in_one(world: World, ann: Client, bob: Client) -> None:
    told = await ann.put(f"{FARM}/owner", account_id="eve", expect=422)
    assert told["code"] == "no_such_member"
    assert (await ann.put(f"{FARM}/owner", account_id="bob"))["role"] == "admin"
    assert (await kept.get("farm")).owners == ["bob"]
    assert {(each.user_id, each.role) for each in await world.events()} == {("bob", "owner"), ("ann", "admin")}
    await ann.put(f"{FARM}/owner", account_id="ann", expect=403)
    await bob.delete(f"{FARM}/members/ann")
    assert MemberLeft(organisation_id="farm", user_id="ann") in await world.events()
    await ann.get(FARM, expect=404)
    await check_order()


async def test_of_two_owners_one_may_go(world: World, ann: Client, bob: Client) -> None:
    await ann.patch(f"{FARM}/members/bob", role="owner")
    assert await world.events() == [MemberRoleChanged(organisation_id="farm", user_id="bob", role="owner")]
    await ann.delete(f"{FARM}/members/ann")
    await bob.delete(f"{FARM}/members/bob", expect=409)
    await check_order()


async def test_an_admin_lets_members_in_and_out_and_nobody_else(
    world: World, ann: Client, bob: Client, eve: Client
) -> None:
    await ann.patch(f"{FARM}/members/bob", role="admin")
    for role in ("admin", "owner"):
        await bob.post(f"{FARM}/invitations", email="eve@msingi.test", role=role, expect=403)
    await bob.delete(f"{FARM}/members/ann", expect=403)
    await bob.patch(f"{FARM}/members/bob", role="owner", expect=403)
    await bob.delete(FARM, expect=403)
    await bob.patch(FARM, name="Barn")
    await joined(world, bob, eve)
    await bob.patch(f"{FARM}/members/eve", role="admin", expect=403)
    await bob.delete(f"{FARM}/members/eve")
    await bob.delete(f"{FARM}/members/bob")  # anybody may leave
    await check_order()


async def test_a_disabled_owner_gets_an_heir_and_is_an_owner_again_afterwards(
    world: World, ann: Client, bob: Client, eve: Client
) -> None:
    await joined(world, ann, eve, "admin")
    await people.edit_user("ann", UserPatch(disabled=True), None)
    assert (await kept.get("farm")).owners == ["eve"]  # the admin, though Bob was there first
    assert (await eve.get(f"{FARM}/members/ann"))["disabled"] is True
    assert MemberRoleChanged(organisation_id="farm", user_id="eve", role="owner") in await world.events()
    await check_order()
    await eve.put(f"{FARM}/owner", account_id="ann", expect=422)
    await people.edit_user("ann", UserPatch(disabled=False), None)
    assert (await kept.get("farm")).owners == ["eve", "ann"]
    await check_order()


async def test_where_nobody_may_come_in_the_first_who_may_again_is_the_owner(world: World, ann: Client) -> None:
    secret = await invited(world, ann, "eve@msingi.test")
    await people.edit_user("bob", UserPatch(disabled=True), None)
    await people.edit_user("ann", UserPatch(disabled=True), None)
    assert (await kept.get("farm")).owners == []
    await world.client(PEOPLE["eve"]).post("/invitations/accept", ticket=secret, expect=422)
    await check_order()
    await people.edit_user("bob", UserPatch(disabled=False), None)
    assert (await kept.get("farm")).owners == ["bob"]
    await check_order()


async def test_an_account_is_let_go_of_where_it_is_not_the_last_owner_of_others(
    world: World, eve: Client, ann: Client
) -> None:
    alone = await ann.post("/organisations", name="Alone")
    await kept_invitations.raw.delete_many({})
    with pytest.raises(rules.organisations.LastOwner) as refused:
        await organisations.let_go_of("ann")
    assert [each["id"] for each in refused.value.details["organisations"]] == ["farm"]
    assert (await kept.count({}), await memberships.count({"account": "ann"})) == (2, 2)
    await organisations.let_go_of("ann", pass_on=True)
    await organisations.let_go_of("ann", pass_on=True)
    assert (await kept.get("farm")).owners == ["bob"]
    assert await memberships.count({"account": "ann"}) == 0
    assert OrganisationRemoved(organisation_id=alone["id"]) in await world.events()
    await organisations.let_go_of("bob")
    assert await kept.count({}) == 0


async def test_an_invitation_goes_with_the_account_that_it_was_for(world: World, ann: Client) -> None:
    await ann.post(f"{FARM}/invitations", email="eve@msingi.test")
    await organisations.let_go_of("eve")
    assert await kept_invitations.count({}) == 0


# ---- how one comes in


async def test_an_invited_person_comes_in_by_the_link_in_the_letter(world: World, ann: Client, eve: Client) -> None:
    made = await ann.post(f"{FARM}/invitations", email=" Eve@MSINGI.test ", role="admin")
    assert (made["email"], made["role"]) == ("eve@msingi.test", "admin")
    name, to, said = (await world.letters())[-1]
    assert (name, to, said["organisation"], said["inviter"]) == (
        "invitation",
        "eve@msingi.test",
        "Shamba la Mfano",
        "Ann",
    )
    assert said["link"].startswith("http://msingi.test/invitation?ticket=")
    secret = secret_in(await world.letters())
    shown = await world.client(None).post("/invitations/preview", ticket=secret)
    assert (shown["organisation"], shown["inviter"], shown["role"]) == ("Shamba la Mfano", "Ann", "admin")
    await accounts.raw.update_one({"_id": "eve"}, {"$set": {"email_verified": False}})
    assert (await eve.post("/invitations/accept", ticket=secret))["role"] == "admin"
    assert (await accounts.get("eve")).email_verified  # the link proved the address
    assert MemberJoined(organisation_id="farm", user_id="eve", role="admin") in await world.events()
    assert (await eve.post("/invitations/accept", ticket=secret, expect=422))["code"] == "bad_ticket"
    assert (await ann.get(f"{FARM}/invitations"))["items"] == []
    await check_order()


@pytest.mark.parametrize(("language", "word"), [("en", "invites you"), ("sw", "anakualika")])
async def test_the_letter_speaks_the_language_of_the_inviter(
    world: World, ann: Client, language: str, word: str
) -> None:
    await ann.post(f"{FARM}/invitations", email="jane@example.org", headers={"accept-language": language})
    await world.work()
    letter = (await mail.written())[-1]
    assert word in letter.subject
    assert word in letter.text
    assert word in letter.html


async def test_a_link_that_was_passed_on_lets_nobody_else_in(
    world: World, ann: Client, admin: Client, eve: Client
) -> None:
    secret = await invited(world, ann, "eve@msingi.test")
    told = await admin.post("/invitations/accept", ticket=secret, expect=403)
    assert told["code"] == "invitation_for_another"
    assert "eve" not in str(told)
    await admin.get(FARM, expect=404)
    await eve.post("/invitations/accept", ticket=secret)  # it was not used up
    await check_order()


async def test_a6_an_invitation_says_nothing_of_whether_the_address_has_an_account(world: World, ann: Client) -> None:
    known = await ann.post(f"{FARM}/invitations", email="eve@msingi.test")
    first = ann.last
    unknown = await ann.post(f"{FARM}/invitations", email="noone@msingi.test")
    assert first.status_code == ann.last.status_code == 201
    differing = {name for name in known if known[name] != unknown[name]}
    assert differing <= {"id", "email", "created_at", "updated_at", "expires_at"}
    assert set(first.headers) == set(ann.last.headers)
    names = [(name, sorted(said)) for name, _, said in await world.letters()]
    assert names[0] == names[1]


async def test_who_is_in_already_is_not_invited(world: World, ann: Client) -> None:
    assert (await ann.post(f"{FARM}/invitations", email="bob@msingi.test", expect=409))["code"] == "already_member"
    assert await world.letters() == []


async def test_a_new_invitation_takes_the_place_of_the_earlier_one(
    world: World, ann: Client, bob: Client, eve: Client
) -> None:
    old = await invited(world, ann, "eve@msingi.test", "owner")
    await ann.patch(f"{FARM}/members/bob", role="admin")
    await bob.post(f"{FARM}/invitations", email="eve@msingi.test", expect=403)  # not over an owner's word
    new = await invited(world, ann, "eve@msingi.test", "member")
    assert [each["role"] for each in (await ann.get(f"{FARM}/invitations"))["items"]] == ["member"]
    await eve.post("/invitations/accept", ticket=old, expect=422)
    assert (await eve.post("/invitations/accept", ticket=new))["role"] == "member"


async def test_an_invitation_ends_when_it_is_taken_back_declined_or_a_week_old(
    world: World, ann: Client, eve: Client
) -> None:
    secret = await invited(world, ann, "eve@msingi.test")
    made = (await ann.get(f"{FARM}/invitations"))["items"][0]
    await ann.delete(f"{FARM}/invitations/{made['id']}")
    await eve.post("/invitations/accept", ticket=secret, expect=422)

    secret = await invited(world, ann, "eve@msingi.test")
    await world.client(None).post("/invitations/decline", ticket=secret)
    await eve.post("/invitations/accept", ticket=secret, expect=422)
    assert await kept_invitations.count({}) == 0

    secret = await invited(world, ann, "eve@msingi.test")
    with clock.shifted(timedelta(days=7, seconds=1)), pytest.raises(rules.tickets.BadTicket):
        await invitations.accept(secret, PEOPLE["eve"])
    await check_order()


async def test_an_organisation_waits_for_so_many_answers_and_no_more(
    world: World, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules.organisations, "MOST_INVITATIONS", 1)
    await ann.post(f"{FARM}/invitations", email="jane@example.org")
    await ann.post(f"{FARM}/invitations", email="jane@example.org")  # again is not one more
    told = await ann.post(f"{FARM}/invitations", email="joe@example.org", expect=409)
    assert told["code"] == "too_many_invitations"
    assert await kept_invitations.count({}) == 1


async def test_an_address_gets_five_invitations_a_day_whoever_sends_them(world: World, ann: Client) -> None:
    for _ in range(7):
        await ann.post(f"{FARM}/invitations", email="jane@example.org")
    assert len(await world.letters()) == 5


async def test_d2_an_invited_address_is_not_readable_in_the_database(world: World, ann: Client) -> None:
    await ann.post(f"{FARM}/invitations", email="jane@example.org")
    assert "jane" not in str(await kept_invitations.raw.find_one({}))


# ---- how sure one must be who it is


STEPPING = [
    ("DELETE", "", None),
    ("PUT", "/owner", {"account_id": "bob"}),
    ("PATCH", "/members/bob", {"role": "owner"}),
]


@pytest.mark.parametrize(("method", "path", "form"), STEPPING)
async def test_a19_what_is_hard_to_undo_wants_a_fresh_proof(world: World, method: str, path: str, form: Any) -> None:
    old = structs.replace(PEOPLE["ann"], signed_in_at=int(clock.seconds()) - 301)
    told = await world.client(old).ask(method, FARM + path, json=form, expect=401)
    assert told["code"] == "insufficient_user_authentication"
    assert (await kept.get("farm")).version == 1
    # Whatever face calls the action, the policy holds.
    asker = Asker(old, {"farm": "owner"})
    assert not rules.organisations.organisation_policy.may("remove", asker, await kept.get("farm"))


async def test_nobody_but_the_person_lets_others_in_or_leaves(world: World) -> None:
    forms = {"POST /organisations/{organisation_id}/invitations", "POST /invitations/accept", "POST /organisations"}
    for change in ({"acting": "admin"}, {"client": "key", "scopes": frozenset({"accounts:read", "accounts:write"})}):
        other = world.client(structs.replace(PEOPLE["ann"], **change))
        for route in forms:
            method, path = route.split()
            assert (await other.ask(method, at(path), json=FORMS[route], expect=403))["code"] == "in_person_only"
        await other.delete(f"{FARM}/members/bob", expect=403)
        await other.get(FARM)


# ---- what other products may know


async def test_other_products_learn_who_is_what_where(world: World, ann: Client) -> None:
    found = await organisations_of(["ann", "bob", "eve"])
    assert {(each.organisation_id, each.slug, each.user_id, each.role) for each in found} == {
        ("farm", "shamba-la-mfano", "ann", "owner"),
        ("farm", "shamba-la-mfano", "bob", "member"),
    }
    assert [await role_in("farm", who) for who in ("ann", "bob", "eve")] == ["owner", "member", None]
    assert await organisations_of([]) == []


def test_a_slug_is_made_of_a_name() -> None:
    slug_of = rules.organisations.slug_of
    assert slug_of("Shamba la Ümmü & Co", "o") == "shamba-la-ummu-co"
    assert slug_of("農場", "o-1") == "o-1"
    assert len(slug_of("a" * 100, "o")) == 33
    assert Account.__struct_fields__.count("organisations") == 1
