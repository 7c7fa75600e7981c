"""docs/contracts/accounts-organisations.md: who is in them, who is not, and how one comes in."""

from functools import partial
from typing import Any

from msingi.checks.accounts.people import ACCOUNTS, ticket
from msingi.checks.harness import NO_BODY, Answer, Caller, Part, World, check, fresh, need_of_all, new_email, together

ALL = f"{ACCOUNTS}/organisations"
ACCEPT, PREVIEW, DECLINE = (f"{ACCOUNTS}/invitations/{word}" for word in ("accept", "preview", "decline"))
FIELDS = ("id", "name", "slug", "role", "members", "created_at", "updated_at", "version")
ORGANISATIONS = Part("organisations", lambda world: world.ann.get(ALL))
LANGUAGE = {"Accept-Language": "en"}


def made(caller: Caller) -> dict[str, Any]:
    """A new organisation, which the caller owns."""
    return caller.post(ALL, {"name": fresh("Shamba ")}).want(201).fields(*FIELDS)


def invite(caller: Caller, organisation: str, email: str, **more: Any) -> Answer:
    return caller.post(f"{ALL}/{organisation}/invitations", {"email": email, **more}, headers=LANGUAGE)


def let_in(world: World, owner: Caller, organisation: str, person: Caller, count: int = 1) -> None:
    """Somebody is invited, by the so-manieth letter to them, and comes in."""
    invite(owner, organisation, person.email).want(201)
    person.post(ACCEPT, {"ticket": ticket(world, person.email, "/invitation", count)}).want(200)


def without_id(answer: Answer) -> dict[str, Any]:
    """A problem's members, but for the request's id."""
    return {name: value for name, value in answer.data.items() if name not in ("request_id", "instance")}


@check("Whoever makes an organisation owns it, and sees it among their own", part=ORGANISATIONS)
def _(world: World) -> None:
    one = made(world.ann)
    again = world.ann.get(f"{ALL}/{one['id']}").want(200)
    again.need((again.data["role"], again.data["members"], again.data["version"]) == ("owner", 1, 1), "its one owner")
    world.ann.post(ALL, {"name": "x", "slug": one["slug"]}).problem(409, code="slug_taken")
    world.ann.post(ALL, {"name": "x", "slug": "Not A Slug"}).problem(422)
    world.ann.post(ALL, {"name": "x", "members": 7}).problem(422)
    members = world.ann.get(f"{ALL}/{one['id']}/members")
    members.need([each["role"] for each in members.page()] == ["owner"], "one member, the owner")
    world.ann.delete(f"{ALL}/{one['id']}/members/{world.ann.id}").problem(409, code="last_owner")
    world.ann.delete(f"{ALL}/{one['id']}").want(204)
    world.ann.get(f"{ALL}/{one['id']}").problem(404)


@check(
    "Z1: an organisation that one is not in is the same 404 as none",
    part=ORGANISATIONS,
    hint="look for it among those that the caller is in, not among all",
)
def _(world: World) -> None:
    one = made(world.ann)
    for method, rest, body in (
        ("GET", "", NO_BODY),
        ("PATCH", "", {"name": "Mine"}),
        ("DELETE", "", NO_BODY),
        ("PUT", "/owner", {"account_id": world.eve.id}),
        ("GET", "/members", NO_BODY),
        ("GET", f"/members/{world.ann.id}", NO_BODY),
        ("PATCH", f"/members/{world.ann.id}", {"role": "member"}),
        ("DELETE", f"/members/{world.ann.id}", NO_BODY),
        ("GET", "/invitations", NO_BODY),
        ("POST", "/invitations", {"email": world.eve.email}),
    ):
        foreign = world.eve.ask(method, f"{ALL}/{one['id']}{rest}", json=body)
        absent = world.eve.ask(method, f"{ALL}/{one['id'][:-4]}zzzz{rest}", json=body)
        absent.problem(404)
        foreign.problem(404, hint="403 would say that it exists")
        foreign.need(without_id(foreign) == without_id(absent), f"the very same as for none: {absent.came}")
    listed = world.eve.get(ALL, params={"limit": 100})
    listed.need(one["id"] not in [each["id"] for each in listed.page()], "a list without it")
    world.ann.get(f"{ALL}/{one['id']}").want(200).need(True, "")


@check(
    "An invitation says nothing of who has an account, and lets in who owns the address, once",
    part=ORGANISATIONS,
    hint="ask for both: the link, and an account with the address that it was sent to",
)
def _(world: World) -> None:
    world.need_letters()
    one, bob = made(world.ann), world.person("Invited")
    known, unknown = (invite(world.ann, one["id"], email).want(201) for email in (bob.email, new_email("nobody")))
    unknown.need(set(known.data) == set(unknown.data), f"the same members as for a known address: {known.came}")
    first = ticket(world, bob.email, "/invitation")
    invite(world.ann, one["id"], bob.email, role="admin").want(201)
    link = ticket(world, bob.email, "/invitation", 2)
    shown = world.nobody.post(PREVIEW, {"ticket": link}).want(200).fields("organisation", "inviter", "email", "role")
    world.nobody.post(PREVIEW, {"ticket": first}).problem(422, code="bad_ticket", hint="a newer letter has gone")
    world.nobody.post(ACCEPT, {"ticket": link}).problem(401)
    refused = world.eve.post(ACCEPT, {"ticket": link})
    refused.problem(403, code="invitation_for_another")
    refused.need(bob.email not in refused.content.decode(), "no word of whom it is for")
    bob.post(ACCEPT, {"ticket": first}).problem(422, code="bad_ticket")
    answers = together(*[lambda: bob.post(ACCEPT, {"ticket": link})] * 10)
    fine = all(answer.status in (200, 409, 422) for answer in answers)
    came_in = [answer.status for answer in answers].count(200)
    need_of_all(answers, fine and came_in == 1, "1 × 200, 9 × 422 bad_ticket or 409 already_member")
    mine = bob.get(f"{ALL}/{one['id']}").want(200)
    mine.need(
        (mine.data["role"], mine.data["members"]) == (shown["role"], 2), "two members, and the role of the letter"
    )
    bob.post(ACCEPT, {"ticket": link}).problem(409, 422)
    world.nobody.post(DECLINE, {"ticket": link}).problem(422, code="bad_ticket")


@check("What a plain member may not do is 403, and nothing happens", part=ORGANISATIONS)
def _(world: World) -> None:
    world.need_letters()
    one, bob = made(world.ann), world.person("Member")
    let_in(world, world.ann, one["id"], bob)
    at = f"{ALL}/{one['id']}"
    for answer in (
        bob.patch(at, {"name": "Mine"}),
        bob.delete(at),
        bob.put(f"{at}/owner", {"account_id": bob.id}),
        bob.patch(f"{at}/members/{bob.id}", {"role": "owner"}),
        bob.delete(f"{at}/members/{world.ann.id}"),
        bob.get(f"{at}/invitations"),
        invite(bob, one["id"], new_email("friend")),
    ):
        answer.problem(403)
    members = bob.get(f"{at}/members")
    members.need(all(each["email"] is None for each in members.page()), "no addresses for plain members")
    world.ann.delete(f"{at}/members/{bob.id}").want(204)
    bob.get(at).problem(404)


@check(
    "Two owners who leave at the same moment: one stays",
    part=ORGANISATIONS,
    hint="count and remove under one lock: let both write the same document, or take the row for update",
)
def _(world: World) -> None:
    world.need_letters()
    ann, bob = world.ann, world.person("Owner")
    for turn in (1, 2, 3):
        one = made(ann)
        at = f"{ALL}/{one['id']}/members"
        let_in(world, ann, one["id"], bob, turn)
        ann.patch(f"{at}/{bob.id}", {"role": "owner"}).want(200)
        answers = together(partial(ann.delete, f"{at}/{ann.id}"), partial(bob.delete, f"{at}/{bob.id}"))
        need_of_all(answers, sorted(each.status for each in answers) == [204, 409], "1 × 204, 1 × 409 last_owner")
        stayed = ann if answers[0].status == 409 else bob
        left = stayed.get(at)
        left.need([each["role"] for each in left.page()] == ["owner"], "one member, who owns it")
        stayed.delete(f"{ALL}/{one['id']}").want(204)
