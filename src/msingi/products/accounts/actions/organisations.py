"""Organisations and who is in them: made, changed, left, handed over, and never without an owner while others are in.

Whatever takes an owner away is decided by one guarded write on the organisation's document: of two, one comes second.
What a person may is looked up in the transaction that acts on it: whoever was removed meanwhile does nothing more.
"""

from typing import Any

from msgspec import UNSET

from msingi.kit import audit
from msingi.kit.auth import Actor
from msingi.kit.db import Where
from msingi.kit.errors import AlreadyExists, Stale, allow
from msingi.kit.events import emit
from msingi.kit.ids import new_id
from msingi.kit.search import words_of
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.contract import (
    MemberJoined,
    MemberLeft,
    MemberRoleChanged,
    OrganisationMade,
    OrganisationRemoved,
)
from msingi.products.accounts.models.organisations import (
    Membership,
    Organisation,
    OrganisationRole,
    invitations,
    memberships,
    organisations,
)
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.queries.organisations import Seen, pair
from msingi.products.accounts.rules.organisations import membership_policy, organisation_policy
from msingi.products.accounts.schemas.organisations import NewOrganisation, OrganisationPatch

CLEARED_AT_ONCE = 100


# ---- from the first to the last day


async def make(form: NewOrganisation, actor: Actor) -> Seen:
    """Make an organisation, and own it. Raises SlugTaken, BadSlug, TooManyOrganisations.

    Without a slug it gets one that is made of its name, and of chance where that is taken.
    """
    name = form.name.strip()
    if form.slug is not UNSET:
        rules.organisations.check_slug(form.slug)
        try:
            return await _make(name, form.slug, actor)
        except AlreadyExists:
            raise rules.organisations.SlugTaken from None
    chance = new_id()[-6:]
    slug = rules.organisations.slug_of(name, or_else=f"o-{chance}")
    try:
        return await _make(name, slug, actor)
    except AlreadyExists:
        return await _make(name, f"{slug}-{chance}", actor)


@atomic
async def _make(name: str, slug: str, actor: Actor) -> Seen:
    await take_place(actor.id)
    organisation = await organisations.add(
        Organisation(name=name, slug=slug, owners=[actor.id], words=words_of(name, slug))
    )
    await emit(OrganisationMade(organisation_id=organisation.id, user_id=actor.id))
    await audit.note("accounts.organisation_made", actor=actor, about=organisation.id)
    await settle(organisation.id, actor.id, "owner", actor)
    return await queries.organisations.organisation(organisation.id, actor)


async def edit(organisation_id: str, patch: OrganisationPatch, actor: Actor, if_match: int | None) -> Seen:
    """Change name or slug. Raises SlugTaken, BadSlug, Stale."""
    if patch.slug is not UNSET:
        rules.organisations.check_slug(patch.slug)
    try:
        return await _edit(organisation_id, patch.given(), actor, if_match)
    except AlreadyExists:
        raise rules.organisations.SlugTaken from None


@atomic
async def _edit(organisation_id: str, given: dict[str, Any], actor: Actor, if_match: int | None) -> Seen:
    seen = await queries.organisations.organisation(organisation_id, actor)
    allow(organisation_policy.may("edit", seen.asker, seen.organisation))
    _check_version(seen.organisation, if_match)
    tidy = {**given, "name": given["name"].strip()} if "name" in given else given
    changed = rules.people.changes_of(seen.organisation, tidy)
    if not changed:
        return seen
    after = {"name": seen.organisation.name, "slug": seen.organisation.slug, **changed}
    changed["words"] = words_of(after["name"], after["slug"])
    await audit.note("accounts.organisation_changed", actor=actor, about=organisation_id, fields=sorted(tidy))
    return Seen(await organisations.change(organisation_id, {"$set": changed}), seen.asker)


@atomic
async def remove(organisation_id: str, actor: Actor, if_match: int | None) -> None:
    """Remove an organisation. Nobody sees anything of it from then on; `clear` does the rest."""
    seen = await queries.organisations.organisation(organisation_id, actor)
    allow(organisation_policy.may("remove", seen.asker, seen.organisation))
    _check_version(seen.organisation, if_match)
    await _remove(seen.organisation, actor)


@atomic
async def remove_any(organisation_id: str, actor: Actor, if_match: int | None) -> None:
    """Remove an organisation that one need not be in, for the house. Raises NotFound, Stale."""
    organisation = await queries.organisations.any_organisation(organisation_id)
    _check_version(organisation, if_match)
    await _remove(organisation, actor)


async def _remove(organisation: Organisation, by: Actor | str) -> None:
    await organisations.remove(organisation)
    await invitations.remove_many({"organisation": organisation.id})
    await emit(OrganisationRemoved(organisation_id=organisation.id))
    await audit.note("accounts.organisation_removed", actor=by, about=organisation.id)


async def clear(organisation_id: str) -> None:
    """Let everybody go who was in a removed organisation. It may be done twice, or go on where it stopped."""
    while await _clear_some(organisation_id):
        pass


@atomic
async def _clear_some(organisation_id: str) -> int:
    found = await memberships.many({"organisation": organisation_id}, limit=CLEARED_AT_ONCE)
    await _give_back([each.account for each in found])
    return await memberships.remove_many({"_id": {"$in": [each.id for each in found]}})


# ---- who is in it


@atomic
async def change_role(
    organisation_id: str, account_id: str, role: OrganisationRole, actor: Actor, if_match: int | None
) -> tuple[Seen, Membership]:
    """Make somebody something else. Raises LastOwner, Stale."""
    seen = await queries.organisations.organisation(organisation_id, actor)
    member = await queries.organisations.member(seen, account_id)
    allow(membership_policy.may("change_role", seen.asker, member))
    _check_version(member, if_match)
    if member.role == role:
        return seen, member
    if account_id in seen.organisation.owners:
        await _drop_owner(seen.organisation, account_id)
    elif role == "owner" and not member.disabled:
        await organisations.change(organisation_id, {"$addToSet": {"owners": account_id}})
    return seen, await _set_role(member, role, actor)


async def _set_role(member: Membership, role: OrganisationRole, by: Actor | str) -> Membership:
    await emit(MemberRoleChanged(organisation_id=member.organisation, user_id=member.account, role=role))
    await audit.note(
        "accounts.member_role_changed",
        actor=by,
        about=member.account,
        organisation=member.organisation,
        role=role,
        before=member.role,
    )
    return await memberships.change(member.id, {"$set": {"role": role}})


@atomic
async def remove_member(organisation_id: str, account_id: str, actor: Actor, if_match: int | None) -> None:
    """Remove a member, or leave. Raises LastOwner, Stale."""
    seen = await queries.organisations.organisation(organisation_id, actor)
    member = await queries.organisations.member(seen, account_id)
    allow(membership_policy.may("remove", seen.asker, member))
    _check_version(member, if_match)
    if account_id in seen.organisation.owners:
        await _drop_owner(seen.organisation, account_id)
    await _take_out(member, actor)
    await _give_back([account_id])


async def _drop_owner(organisation: Organisation, account_id: str) -> None:
    """Two owners who go at the same moment both change this one document, so one of them comes second."""
    others = {"owners": account_id, "owners.1": {"$exists": True}}
    last = rules.organisations.LastOwner(organisations=rules.organisations.named([organisation]))
    await organisations.change(organisation.id, {"$pull": {"owners": account_id}}, others, last)


async def _take_out(member: Membership, by: Actor | str) -> None:
    await memberships.remove(member)
    await organisations.change(member.organisation, {"$inc": {"members": -1}})
    await emit(MemberLeft(organisation_id=member.organisation, user_id=member.account))
    await audit.note("accounts.member_left", actor=by, about=member.account, organisation=member.organisation)


@atomic
async def hand_over(organisation_id: str, account_id: str, actor: Actor, if_match: int | None) -> Seen:
    """Make another member owner in one's own place, and be an admin from then on. Raises NoSuchMember, Stale."""
    seen = await queries.organisations.organisation(organisation_id, actor)
    allow(organisation_policy.may("hand_over", seen.asker, seen.organisation))
    _check_version(seen.organisation, if_match)
    heir = await memberships.find({"_id": pair(organisation_id, account_id), "disabled": False})
    if heir is None:
        raise rules.organisations.NoSuchMember
    if account_id == actor.id:
        return seen
    owners = [each for each in seen.organisation.owners if each not in (actor.id, account_id)]
    await _write_owners(seen.organisation, [*owners, account_id])
    if heir.role != "owner":
        await _set_role(heir, "owner", actor)
    await _set_role(await memberships.get(pair(organisation_id, actor.id)), "admin", actor)
    return await queries.organisations.organisation(organisation_id, actor)


async def _write_owners(organisation: Organisation, owners: list[str]) -> Organisation:
    return await organisations.change(organisation.id, {"$set": {"owners": owners}}, {"owners": organisation.owners})


# ---- places: how many organisations one person is in, how many people are in one organisation


async def take_place(account_id: str) -> None:
    """Let a person be in one organisation more. The account is the one document that decides it.

    Raises TooManyOrganisations, AccountDisabled.
    """
    if (await accounts.get(account_id)).disabled:
        raise rules.people.AccountDisabled
    most = rules.organisations.MOST_ORGANISATIONS
    free: Where = {"organisations": {"$not": {"$gte": most}}}
    full = rules.organisations.TooManyOrganisations(most=most)
    await accounts.change(account_id, {"$inc": {"organisations": 1}}, free, full)


async def _give_back(account_ids: list[str]) -> None:
    await accounts.change_many({"_id": {"$in": account_ids}}, {"$inc": {"organisations": -1}})


async def make_room(organisation: Organisation, account_id: str, role: OrganisationRole) -> None:
    """Count one member more, and one owner if it is one. Raises OrganisationFull."""
    most = rules.organisations.MOST_MEMBERS
    update: Where = {"$inc": {"members": 1}}
    if role == "owner":
        update["$addToSet"] = {"owners": account_id}
    full = rules.organisations.OrganisationFull(most=most)
    await organisations.change(organisation.id, update, {"members": {"$lt": most}}, full)


async def settle(organisation_id: str, account_id: str, role: OrganisationRole, by: Actor) -> None:
    """Put somebody in whose place was taken."""
    whole = pair(organisation_id, account_id)
    await memberships.add(Membership(id=whole, organisation=organisation_id, account=account_id, role=role))
    await emit(MemberJoined(organisation_id=organisation_id, user_id=account_id, role=role))
    await audit.note("accounts.member_joined", actor=by, about=account_id, organisation=organisation_id, role=role)


# ---- when an account may not come in any more, or is no more: called in the transaction that sees to that


@atomic
async def step_back(account_id: str) -> None:
    """Somebody may not come in any more. What they alone owned gets the longest admin, else member, as another owner.

    It does not refuse: else whoever makes an organisation could never be shut out. Their own role stays with them.
    """
    await memberships.change_many({"account": account_id, "disabled": False}, {"$set": {"disabled": True}})
    for each in await queries.organisations.memberships_of(account_id):
        organisation = await organisations.find({"_id": each.organisation, "owners": account_id})
        if organisation is not None:
            await _own_without(organisation, account_id)


async def _own_without(organisation: Organisation, account_id: str) -> Organisation:
    """Take somebody off the owners, whoever is left. With nobody left who may come in there are none, until one may."""
    owners = [each for each in organisation.owners if each != account_id]
    heir = None if owners else await queries.organisations.heir(organisation.id, but=account_id)
    if heir is None:
        return await _write_owners(organisation, owners)
    return await _crown(organisation, heir)


async def _crown(organisation: Organisation, heir: Membership) -> Organisation:
    if heir.role != "owner":
        await _set_role(heir, "owner", "")
    return await _write_owners(organisation, [heir.account])


@atomic
async def come_back(account_id: str) -> None:
    """Somebody may come in again: an owner is one again, and whoever finds no owner there becomes one."""
    await memberships.change_many({"account": account_id, "disabled": True}, {"$set": {"disabled": False}})
    for each in await queries.organisations.memberships_of(account_id):
        organisation = await organisations.find({"_id": each.organisation})
        if organisation is None:
            continue
        if not organisation.owners:
            await _crown(organisation, each)
        elif each.role == "owner":
            await organisations.change(organisation.id, {"$addToSet": {"owners": account_id}})


@atomic
async def let_go_of(account_id: str, *, pass_on: bool = False) -> None:
    """Take an account that is about to be erased out of everything, in the same transaction; it may be called twice.

    Where it is alone the organisation goes with it. Where it is the last owner of others, raises LastOwner with all of
    those `organisations`; with `pass_on` they get an heir instead, as in `step_back`.
    """
    stuck: list[Organisation] = []
    for each in await queries.organisations.memberships_of(account_id):
        organisation = await organisations.find({"_id": each.organisation})
        if organisation is None:
            await memberships.remove(each)
        elif organisation.members == 1:
            await _remove(organisation, account_id)
            await memberships.remove(each)
        elif not pass_on and await _leaves_others_alone(organisation, account_id):
            stuck.append(organisation)
        else:
            if account_id in organisation.owners:
                await _own_without(organisation, account_id)
            await _take_out(each, account_id)
    if stuck:
        raise rules.organisations.LastOwner(organisations=rules.organisations.named(stuck))
    account = await accounts.find({"_id": account_id})
    if account is not None:
        await accounts.change(account_id, {"$set": {"organisations": 0}})
        await invitations.remove_many({"email_key": account.email_key})


async def _leaves_others_alone(organisation: Organisation, account_id: str) -> bool:
    if organisation.owners != [account_id]:
        return False
    return await queries.organisations.heir(organisation.id, but=account_id) is not None


def _check_version(doc: Organisation | Membership, if_match: int | None) -> None:
    if if_match not in (None, doc.version):
        raise Stale
