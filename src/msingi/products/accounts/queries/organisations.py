"""Organisations: only those that the actor is in; others do not exist for them."""

from collections.abc import Iterable
from typing import NamedTuple

from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import NotFound
from msingi.kit.peers import answers
from msingi.kit.policy import Asker
from msingi.kit.search import words_of
from msingi.products.accounts.contract import BELONGINGS, Belonging, BelongingsAsked
from msingi.products.accounts.models.organisations import (
    Invitation,
    Membership,
    Organisation,
    OrganisationRole,
    invitations,
    memberships,
    organisations,
)
from msingi.products.accounts.models.people import Account, accounts
from msingi.products.accounts.rules.organisations import (
    MOST_ORGANISATIONS,
    invitation_policy,
    membership_policy,
    organisation_policy,
)
from msingi.products.accounts.schemas.organisations import MemberView, OrganisationView

SORTS = ("-created_at", "name", "slug")
HEIRS: tuple[OrganisationRole, ...] = ("owner", "admin", "member")


class Seen(NamedTuple):
    """An organisation, and who sees it with what they are in it."""

    organisation: Organisation
    asker: Asker

    @property
    def role(self) -> str:
        return self.asker.roles[self.organisation.id]


def pair(organisation_id: str, account_id: str) -> str:
    """The id of somebody's membership."""
    return f"{organisation_id}:{account_id}"


# ---- one


async def organisation(organisation_id: str, actor: Actor) -> Seen:
    """An organisation that the actor is in. Raises NotFound for any other: the work is the same if it is there."""
    mine = await memberships.find({"_id": pair(organisation_id, actor.id)})
    asker = Asker(actor, {mine.organisation: mine.role} if mine else {})
    found = await organisations.get(organisation_id, when=organisation_policy.scope_filter("see", asker))
    return Seen(found, asker)


async def member(seen: Seen, account_id: str) -> Membership:
    """Somebody in it. Raises NotFound."""
    visible = membership_policy.scope_filter("see", seen.asker)
    return await memberships.get(pair(seen.organisation.id, account_id), when=visible)


async def invitation(seen: Seen, invitation_id: str) -> Invitation:
    """An invitation that waits for an answer. Raises NotFound."""
    visible = invitation_policy.scope_filter("see", seen.asker)
    return await invitations.get(invitation_id, when={"organisation": seen.organisation.id, **_open(), **visible})


async def invitation_to(organisation_id: str, key: str) -> Invitation | None:
    """The invitation that went to an address, whether or not it is still good."""
    return await invitations.find({"organisation": organisation_id, "email_key": key})


# ---- many


async def own_organisations(actor: Actor, where: Where, q: str, page: Paging) -> Page[OrganisationView]:
    """Those that the actor is in."""
    asker = Asker(actor, {each.organisation: each.role for each in await _memberships_of([actor.id])})
    mine = organisation_policy.scope_filter("see", asker)
    if q.strip():
        mine = {"$and": [mine, {"words": {"$all": words_of(q) or [""]}}]}
    found = await organisations.page(mine, page, sorts=SORTS, also=where)
    return found.map(lambda each: shown(Seen(each, asker)))


async def members_of(seen: Seen, where: Where, page: Paging) -> Page[MemberView]:
    """Who is in an organisation, the longest there first."""
    visible = {"$and": [{"organisation": seen.organisation.id}, membership_policy.scope_filter("see", seen.asker)]}
    found = await memberships.page(visible, page, sorts=("created_at", "role"), also=where)
    known = {each.id: each for each in await accounts.many({"_id": {"$in": [each.account for each in found.items]}})}
    return found.map(lambda each: shown_member(seen, each, known.get(each.account)))


async def invitations_of(seen: Seen, where: Where, page: Paging) -> Page[Invitation]:
    """Who was asked to come and did not answer yet, the last first."""
    visible = invitation_policy.scope_filter("see", seen.asker)
    theirs = {"$and": [{"organisation": seen.organisation.id, **_open()}, visible]}
    return await invitations.page(theirs, page, sorts=("-created_at", "expires_at"), also=where)


def _open() -> Where:
    return {"expires_at": {"$gt": now()}}


async def count_invitations(organisation_id: str, limit: int) -> int:
    return await invitations.count({"organisation": organisation_id, **_open()}, limit=limit)


# ---- for the house's own admins, which the route sees to


async def all_organisations(where: Where, q: str, page: Paging) -> Page[Organisation]:
    """Whichever there are."""
    found: Where = {"words": {"$all": words_of(q) or [""]}} if q.strip() else {}
    return await organisations.page(found, page, sorts=SORTS, also=where)


async def any_organisation(organisation_id: str) -> Organisation:
    """One of them. Raises NotFound."""
    return await organisations.get(organisation_id)


# ---- for the house itself


async def is_member(organisation_id: str, account_id: str) -> bool:
    return await memberships.exists({"_id": pair(organisation_id, account_id)})


async def memberships_of(account_id: str) -> list[Membership]:
    """Wherever somebody is in, in one order for all who write there."""
    return await memberships.many({"account": account_id}, sort=[("_id", 1)])


async def heir(organisation_id: str, but: str) -> Membership | None:
    """Who owns an organisation that lost its owners: of the admins, else of the members, who was there first."""
    for role in HEIRS:
        waiting = {"organisation": organisation_id, "role": role, "disabled": False, "account": {"$ne": but}}
        found = await memberships.find(waiting, sort=[("created_at", 1), ("_id", 1)])
        if found is not None:
            return found
    return None


async def _memberships_of(ids: Iterable[str], organisation_id: str | None = None) -> list[Membership]:
    wanted = list(ids)
    theirs: Where = {"account": {"$in": wanted}}
    if organisation_id is not None:
        theirs = {"_id": {"$in": [pair(organisation_id, each) for each in wanted]}}
    return await memberships.many(theirs, limit=2 * MOST_ORGANISATIONS * max(len(wanted), 1))


@answers(BELONGINGS)
async def belongings(asked: BelongingsAsked) -> list[Belonging]:
    """What some people are in which organisations, for other products. What is being cleared away is not there."""
    found = await _memberships_of(asked.ids, asked.organisation)
    there = await organisations.many({"_id": {"$in": list({each.organisation for each in found})}}, limit=0)
    known = {each.id: each for each in there}
    return [
        Belonging(
            organisation_id=each.organisation,
            organisation=known[each.organisation].name,
            slug=known[each.organisation].slug,
            user_id=each.account,
            role=each.role,
        )
        for each in found
        if each.organisation in known
    ]


# ---- shown


def shown(seen: Seen) -> OrganisationView:
    view: OrganisationView = OrganisationView.of(seen.organisation, role=seen.role)
    return view


async def seen_member(seen: Seen, membership: Membership) -> MemberView:
    try:
        return shown_member(seen, membership, await accounts.get(membership.account))
    except NotFound:
        return shown_member(seen, membership, None)


def shown_member(seen: Seen, membership: Membership, account: Account | None) -> MemberView:
    """Somebody in an organisation, as the others see them."""
    tells = account is not None and organisation_policy.may("see_addresses", seen.asker, seen.organisation)
    view: MemberView = MemberView.of(
        membership,
        account_id=membership.account,
        name=account.name if account else "",
        email=account.email if account and tells else None,
    )
    return view
