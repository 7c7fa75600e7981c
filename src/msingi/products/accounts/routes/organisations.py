"""Organisations, who is in them, and invitations to them."""

from datetime import datetime
from typing import Any

from litestar import Request

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.errors import Stale, allow
from msingi.kit.http import Body, Filters, Given, Path, Query, delete, get, patch, post, put
from msingi.kit.replies import KitResponse, created
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import invitations, organisations
from msingi.products.accounts.models.organisations import Invitation
from msingi.products.accounts.queries.organisations import Seen, seen_member, shown
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.rules.organisations import (
    AlreadyMember,
    BadSlug,
    InvitationForAnother,
    LastOwner,
    NoSuchMember,
    OrganisationFull,
    SlugTaken,
    TooManyInvitations,
    TooManyOrganisations,
    organisation_policy,
)
from msingi.products.accounts.schemas.organisations import (
    AnyOrganisationView,
    Handover,
    InvitationTicket,
    InvitationView,
    InvitedView,
    MembershipPatch,
    MemberView,
    NewInvitation,
    NewOrganisation,
    OrganisationPatch,
    OrganisationView,
)

AnyRequest = Request[Any, Any, Any]
MANAGE = "organisations:manage"
ORGANISATIONS = Filters(name=str, slug=str, created_at=datetime)
ALL_ORGANISATIONS = Filters(name=str, slug=str, owner=("owners", str), created_at=datetime)
MEMBERS = Filters(account_id=("account", str), role=str, disabled=bool, created_at=datetime)
INVITATIONS = Filters(role=str, invited_by=str, expires_at=datetime, created_at=datetime)


async def organisation_in_path(organisation_id: Path[str], actor: Given[Actor]) -> Seen:
    return await queries.organisations.organisation(organisation_id, actor)


# ---- organisations


@get("/organisations", filters=ORGANISATIONS, also=("q",))
async def list_organisations(
    actor: Given[Actor], page: Given[Paging], where: Given[Where], q: Query[str] = ""
) -> Page[OrganisationView]:
    """The organisations that one is in. `q`: whole words of names and slugs, all of them."""
    return await queries.organisations.own_organisations(actor, where, q, page)


@post("/organisations", in_person=True, limit="60/hour", problems=[SlugTaken, BadSlug, TooManyOrganisations])
async def make_organisation(data: Body[NewOrganisation], actor: Given[Actor]) -> KitResponse[OrganisationView]:
    """Make an organisation, and own it."""
    seen = await organisations.make(data, actor)
    return created(shown(seen), f"/v1/accounts/organisations/{seen.organisation.id}")


@get("/organisations/{organisation_id:str}")
async def show_organisation(organisation: Given[Seen]) -> OrganisationView:
    """One organisation."""
    return shown(organisation)


@patch("/organisations/{organisation_id:str}", in_person=True, problems=[SlugTaken, BadSlug, Stale])
async def edit_organisation(
    organisation_id: Path[str], data: Body[OrganisationPatch], actor: Given[Actor], if_match: Given[int | None]
) -> OrganisationView:
    """Change name or slug."""
    return shown(await organisations.edit(organisation_id, data, actor, if_match))


@delete("/organisations/{organisation_id:str}", step_up=True, problems=[Stale])
async def remove_organisation(organisation_id: Path[str], actor: Given[Actor], if_match: Given[int | None]) -> None:
    """Remove an organisation."""
    await organisations.remove(organisation_id, actor, if_match)


@put("/organisations/{organisation_id:str}/owner", step_up=True, problems=[NoSuchMember, Stale])
async def hand_over_organisation(
    organisation_id: Path[str], data: Body[Handover], actor: Given[Actor], if_match: Given[int | None]
) -> OrganisationView:
    """Make another member owner in one's own place."""
    return shown(await organisations.hand_over(organisation_id, data.account_id, actor, if_match))


# ---- for the house's own admins, who need not be in them


@get("/admin/organisations", permission=MANAGE, filters=ALL_ORGANISATIONS, also=("q",))
async def list_all_organisations(
    page: Given[Paging], where: Given[Where], q: Query[str] = ""
) -> Page[AnyOrganisationView]:
    """Every organisation. `q`: whole words of names and slugs, all of them."""
    return (await queries.organisations.all_organisations(where, q, page)).map(AnyOrganisationView.of)


@get("/admin/organisations/{organisation_id:str}", permission=MANAGE)
async def show_any_organisation(organisation_id: Path[str]) -> AnyOrganisationView:
    """One of them."""
    view: AnyOrganisationView = AnyOrganisationView.of(await queries.organisations.any_organisation(organisation_id))
    return view


@delete("/admin/organisations/{organisation_id:str}", permission=MANAGE, step_up=True, problems=[Stale])
async def remove_any_organisation(organisation_id: Path[str], actor: Given[Actor], if_match: Given[int | None]) -> None:
    """Remove one, such as one that is abused."""
    await organisations.remove_any(organisation_id, actor, if_match)


# ---- members


@get("/organisations/{organisation_id:str}/members", filters=MEMBERS)
async def list_members(organisation: Given[Seen], page: Given[Paging], where: Given[Where]) -> Page[MemberView]:
    """Who is in an organisation, the longest there first."""
    return await queries.organisations.members_of(organisation, where, page)


@get("/organisations/{organisation_id:str}/members/{account_id:str}")
async def show_member(organisation: Given[Seen], account_id: Path[str]) -> MemberView:
    """Somebody in an organisation."""
    return await seen_member(organisation, await queries.organisations.member(organisation, account_id))


@patch("/organisations/{organisation_id:str}/members/{account_id:str}", step_up=True, problems=[LastOwner, Stale])
async def change_member(
    organisation_id: Path[str],
    account_id: Path[str],
    data: Body[MembershipPatch],
    actor: Given[Actor],
    if_match: Given[int | None],
) -> MemberView:
    """Make somebody owner, admin or member."""
    return await seen_member(*await organisations.change_role(organisation_id, account_id, data.role, actor, if_match))


@delete("/organisations/{organisation_id:str}/members/{account_id:str}", in_person=True, problems=[LastOwner, Stale])
async def remove_member(
    organisation_id: Path[str], account_id: Path[str], actor: Given[Actor], if_match: Given[int | None]
) -> None:
    """Remove somebody, or leave."""
    await organisations.remove_member(organisation_id, account_id, actor, if_match)


# ---- invitations


@get("/organisations/{organisation_id:str}/invitations", filters=INVITATIONS)
async def list_invitations(organisation: Given[Seen], page: Given[Paging], where: Given[Where]) -> Page[InvitationView]:
    """Who was asked to come, and did not answer yet."""
    allow(organisation_policy.may("see_invitations", organisation.asker, organisation.organisation))
    return (await queries.organisations.invitations_of(organisation, where, page)).map(_invitation)


@post(
    "/organisations/{organisation_id:str}/invitations",
    in_person=True,
    limit="100/hour",
    problems=[AlreadyMember, TooManyInvitations],
)
async def invite_member(
    organisation_id: Path[str], data: Body[NewInvitation], actor: Given[Actor], request: AnyRequest
) -> KitResponse[InvitationView]:
    """Ask somebody to come, by a letter. The answer does not tell whether the address has an account."""
    made = await invitations.invite(organisation_id, data, actor, visitor_of(request))
    return created(_invitation(made), f"/v1/accounts/organisations/{organisation_id}/invitations/{made.id}")


@get("/organisations/{organisation_id:str}/invitations/{invitation_id:str}")
async def show_invitation(organisation: Given[Seen], invitation_id: Path[str]) -> InvitationView:
    """An invitation that waits for an answer."""
    allow(organisation_policy.may("see_invitations", organisation.asker, organisation.organisation))
    return _invitation(await queries.organisations.invitation(organisation, invitation_id))


@delete("/organisations/{organisation_id:str}/invitations/{invitation_id:str}", in_person=True)
async def revoke_invitation(organisation_id: Path[str], invitation_id: Path[str], actor: Given[Actor]) -> None:
    """Take an invitation back."""
    await invitations.revoke(organisation_id, invitation_id, actor)


@post(
    "/invitations/preview",
    public=True,
    status_code=200,
    limit="60/minute",
    idempotency="off",
    problems=[rules.tickets.BadTicket],
)
async def preview_invitation(data: Body[InvitationTicket]) -> InvitedView:
    """What an invitation's link is for."""
    invited = await invitations.look_at(data.ticket)
    view: InvitedView = InvitedView.of(
        invited.invitation,
        organisation=invited.organisation.name,
        slug=invited.organisation.slug,
        inviter=invited.inviter,
    )
    return view


@post(
    "/invitations/accept",
    in_person=True,
    status_code=200,
    limit="60/minute",
    idempotency="off",
    problems=[
        rules.tickets.BadTicket,
        InvitationForAnother,
        AlreadyMember,
        OrganisationFull,
        TooManyOrganisations,
    ],
)
async def accept_invitation(data: Body[InvitationTicket], actor: Given[Actor]) -> OrganisationView:
    """Come into the organisation that an invitation is for."""
    return shown(await invitations.accept(data.ticket, actor))


@post(
    "/invitations/decline",
    public=True,
    status_code=204,
    limit="60/minute",
    idempotency="off",
    problems=[rules.tickets.BadTicket],
)
async def decline_invitation(data: Body[InvitationTicket], request: AnyRequest) -> None:
    """Use an invitation's link up, and stay away."""
    actor = request.scope.get("user")
    await invitations.decline(data.ticket, actor if isinstance(actor, Actor) else None)


def _invitation(invitation: Invitation) -> InvitationView:
    view: InvitationView = InvitationView.of(invitation)
    return view


routes = [
    list_organisations,
    make_organisation,
    show_organisation,
    edit_organisation,
    remove_organisation,
    hand_over_organisation,
    list_all_organisations,
    show_any_organisation,
    remove_any_organisation,
    list_members,
    show_member,
    change_member,
    remove_member,
    list_invitations,
    invite_member,
    show_invitation,
    revoke_invitation,
    preview_invitation,
    accept_invitation,
    decline_invitation,
]
dependencies = {"organisation": organisation_in_path}
