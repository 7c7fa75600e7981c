"""Organisations that one is in, who else is, and invitations to them."""

from typing import Any
from urllib.parse import urlencode

from litestar import Response
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, Struct

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.db import Paging
from msingi.kit.errors import Problem
from msingi.kit.http import Given, Path, form_at, page_at
from msingi.products.accounts import queries
from msingi.products.accounts.actions import invitations, organisations
from msingi.products.accounts.models.organisations import OrganisationRole
from msingi.products.accounts.pages.shell import AnyRequest, Nothing, Question, ask, show
from msingi.products.accounts.queries.organisations import Seen, seen_member, shown
from msingi.products.accounts.routes.sessions import NOT_KEPT
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.rules.organisations import organisation_policy
from msingi.products.accounts.schemas.organisations import (
    MemberView,
    NewInvitation,
    NewOrganisation,
    OrganisationName,
    OrganisationPatch,
    Secret,
)
from msingi.products.accounts.schemas.people import Email

HERE = "/account/organisations"
REMOVE = Question(
    "Delete this organisation",
    "It is gone for everybody who is in it, with all invitations to it. Nobody can bring it back.",
    "Delete it for good",
)
LEAVE = Question(
    "Leave this organisation",
    "You see nothing of it any more, until somebody invites you again.",
    "Leave",
)
REMOVE_MEMBER = Question(
    "Remove from the organisation",
    "They see nothing of it any more, until somebody invites them again.",
    "Remove",
)
HAND_OVER = Question(
    "Hand the organisation over",
    "They become an owner in your place, and you an admin.",
    "Hand over",
)


class New(Struct):
    """A new organisation."""

    name: OrganisationName


class Changed(Struct):
    """Its name and its slug."""

    name: OrganisationName
    slug: str


class Invited(Struct):
    """Whom to ask to come."""

    email: Email
    role: OrganisationRole = "member"


class Role(Struct):
    """What somebody is to be."""

    role: OrganisationRole


class Ticket(Struct):
    """What an invitation's link brought along."""

    ticket: Secret


def _at(organisation_id: str) -> str:
    return f"{HERE}/{organisation_id}"


# ---- all of them


@page_at("/account/organisations")
async def show_organisations(request: AnyRequest, actor: Given[Actor], page: Given[Paging]) -> Response[str]:
    """Those that one is in."""
    return await _list(request, actor, page)


@form_at("/account/organisations", in_person=True, limit="60/hour")
async def make_organisation_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """A new one, which one owns."""
    try:
        form = await pages.form_of(request, New)
        seen = await organisations.make(NewOrganisation(name=form.name), actor)
    except Problem as problem:
        return await _list(request, actor, Paging(), pages.to_show(problem))
    return pages.gone_well(_at(seen.organisation.id), "organisation_made")


async def _list(request: AnyRequest, actor: Actor, page: Paging, problem: Problem | None = None) -> Response[str]:
    found = await queries.organisations.own_organisations(actor, {}, "", page)
    return show("organisations", request, problem, found=found)


# ---- one


@page_at("/account/organisations/{organisation_id:str}")
async def show_one(
    request: AnyRequest, organisation_id: Path[str], actor: Given[Actor], page: Given[Paging]
) -> Response[str]:
    """Who is in it, who was asked to come, and what one may change."""
    return await _one(request, organisation_id, actor, page)


async def _one(
    request: AnyRequest, organisation_id: str, actor: Actor, page: Paging, problem: Problem | None = None
) -> Response[str]:
    seen = await queries.organisations.organisation(organisation_id, actor)
    return show(
        "organisation",
        request,
        problem,
        organisation=shown(seen),
        members=await queries.organisations.members_of(seen, {}, page),
        invitations=await _invitations(seen),
        manages=_manages(seen),
        owns=seen.role == "owner",
    )


def _manages(seen: Seen) -> bool:
    return organisation_policy.may("edit", seen.asker, seen.organisation)


async def _invitations(seen: Seen) -> list[Any]:
    """The newest hundred that wait, for who may see them."""
    if not organisation_policy.may("see_invitations", seen.asker, seen.organisation):
        return []
    return (await queries.organisations.invitations_of(seen, {}, Paging(limit=100))).items


@form_at("/account/organisations/{organisation_id:str}", in_person=True)
async def edit_on_page(request: AnyRequest, organisation_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """Another name or slug."""
    try:
        form = await pages.form_of(request, Changed)
        patch = OrganisationPatch(name=form.name, slug=form.slug or UNSET)
        await organisations.edit(organisation_id, patch, actor, None)
    except Problem as problem:
        return await _one(request, organisation_id, actor, Paging(), pages.to_show(problem))
    return pages.gone_well(_at(organisation_id))


@page_at("/account/organisations/{organisation_id:str}/removal", step_up=True)
async def show_organisation_removal(
    request: AnyRequest, organisation_id: Path[str], actor: Given[Actor]
) -> Response[str]:
    """Ask before it goes."""
    return await _ask(REMOVE, request, organisation_id, actor)


@form_at("/account/organisations/{organisation_id:str}/removal", step_up=True)
async def remove_on_page(request: AnyRequest, organisation_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """It is gone."""
    await pages.form_of(request, Nothing)
    try:
        await organisations.remove(organisation_id, actor, None)
    except Problem as problem:
        return await _ask(REMOVE, request, organisation_id, actor, pages.to_show(problem))
    return pages.gone_well(HERE, "organisation_removed")


async def _ask(
    question: Question, request: AnyRequest, organisation_id: str, actor: Actor, problem: Problem | None = None
) -> Response[str]:
    seen = await queries.organisations.organisation(organisation_id, actor)
    return ask(question, request, _at(organisation_id), about=seen.organisation.name, problem=problem)


# ---- who is in it


@page_at("/account/organisations/{organisation_id:str}/members/{account_id:str}", step_up=True)
async def show_member_page(
    request: AnyRequest, organisation_id: Path[str], account_id: Path[str], actor: Given[Actor]
) -> Response[str]:
    """Somebody, and what they may be made."""
    return await _member_page(request, organisation_id, account_id, actor)


@form_at("/account/organisations/{organisation_id:str}/members/{account_id:str}", step_up=True)
async def change_role_on_page(
    request: AnyRequest, organisation_id: Path[str], account_id: Path[str], actor: Given[Actor]
) -> Response[Any]:
    """They are something else."""
    try:
        form = await pages.form_of(request, Role)
        await organisations.change_role(organisation_id, account_id, form.role, actor, None)
    except Problem as problem:
        return await _member_page(request, organisation_id, account_id, actor, pages.to_show(problem))
    return pages.gone_well(_at(organisation_id))


async def _member_page(
    request: AnyRequest, organisation_id: str, account_id: str, actor: Actor, problem: Problem | None = None
) -> Response[str]:
    seen, member = await _member(organisation_id, account_id, actor)
    owns = seen.role == "owner"
    return show("member", request, problem, organisation=seen.organisation, member=member, owns=owns)


async def _member(organisation_id: str, account_id: str, actor: Actor) -> tuple[Seen, MemberView]:
    seen = await queries.organisations.organisation(organisation_id, actor)
    return seen, await seen_member(seen, await queries.organisations.member(seen, account_id))


@page_at("/account/organisations/{organisation_id:str}/members/{account_id:str}/removal", in_person=True)
async def show_member_removal(
    request: AnyRequest, organisation_id: Path[str], account_id: Path[str], actor: Given[Actor]
) -> Response[str]:
    """Ask before they go, or oneself."""
    return await _removal(request, organisation_id, account_id, actor)


@form_at("/account/organisations/{organisation_id:str}/members/{account_id:str}/removal", in_person=True)
async def remove_member_on_page(
    request: AnyRequest, organisation_id: Path[str], account_id: Path[str], actor: Given[Actor]
) -> Response[Any]:
    """They are out, or oneself."""
    await pages.form_of(request, Nothing)
    try:
        await organisations.remove_member(organisation_id, account_id, actor, None)
    except Problem as problem:
        return await _removal(request, organisation_id, account_id, actor, pages.to_show(problem))
    return (
        pages.gone_well(HERE, "left")
        if account_id == actor.id
        else pages.gone_well(_at(organisation_id), "member_removed")
    )


async def _removal(
    request: AnyRequest, organisation_id: str, account_id: str, actor: Actor, problem: Problem | None = None
) -> Response[str]:
    if account_id == actor.id:
        return await _ask(LEAVE, request, organisation_id, actor, problem)
    seen, member = await _member(organisation_id, account_id, actor)
    about = f"{member.name} · {seen.organisation.name}"
    return ask(REMOVE_MEMBER, request, _at(organisation_id), about=about, problem=problem)


@page_at("/account/organisations/{organisation_id:str}/members/{account_id:str}/ownership", step_up=True)
async def show_handing_over(
    request: AnyRequest, organisation_id: Path[str], account_id: Path[str], actor: Given[Actor]
) -> Response[str]:
    """Ask before one is no owner any more."""
    return await _handing_over(request, organisation_id, account_id, actor)


@form_at("/account/organisations/{organisation_id:str}/members/{account_id:str}/ownership", step_up=True)
async def hand_over_on_page(
    request: AnyRequest, organisation_id: Path[str], account_id: Path[str], actor: Given[Actor]
) -> Response[Any]:
    """It has another owner."""
    await pages.form_of(request, Nothing)
    try:
        await organisations.hand_over(organisation_id, account_id, actor, None)
    except Problem as problem:
        return await _handing_over(request, organisation_id, account_id, actor, pages.to_show(problem))
    return pages.gone_well(_at(organisation_id), "handed_over")


async def _handing_over(
    request: AnyRequest, organisation_id: str, account_id: str, actor: Actor, problem: Problem | None = None
) -> Response[str]:
    seen, member = await _member(organisation_id, account_id, actor)
    about = f"{member.name} · {seen.organisation.name}"
    return ask(HAND_OVER, request, _at(organisation_id), about=about, problem=problem)


# ---- asking somebody to come


@form_at("/account/organisations/{organisation_id:str}/invitations", in_person=True, limit="100/hour")
async def invite_on_page(request: AnyRequest, organisation_id: Path[str], actor: Given[Actor]) -> Response[Any]:
    """A letter goes to them."""
    try:
        form = await pages.form_of(request, Invited)
        asked = NewInvitation(email=form.email, role=form.role)
        await invitations.invite(organisation_id, asked, actor, visitor_of(request))
    except Problem as problem:
        return await _one(request, organisation_id, actor, Paging(), pages.to_show(problem))
    return pages.gone_well(_at(organisation_id), "invited")


@form_at("/account/organisations/{organisation_id:str}/invitations/{invitation_id:str}/removal", in_person=True)
async def revoke_invitation_on_page(
    request: AnyRequest, organisation_id: Path[str], invitation_id: Path[str], actor: Given[Actor]
) -> Response[Any]:
    """Its link is good for nothing."""
    await pages.form_of(request, Nothing)
    try:
        await invitations.revoke(organisation_id, invitation_id, actor)
    except Problem as problem:
        return await _one(request, organisation_id, actor, Paging(), pages.to_show(problem))
    return pages.gone_well(_at(organisation_id), "invitation_revoked")


# ---- being asked: looking at the link changes nothing


@page_at("/invitation", public=True)
async def show_invitation_page(request: AnyRequest) -> Response[str]:
    """What an invitation's link is for."""
    return await _invitation(request, request.query_params.get("ticket", ""))


@form_at("/invitation", in_person=True, limit="60/minute")
async def accept_on_page(request: AnyRequest, actor: Given[Actor]) -> Response[Any]:
    """Come in."""
    form = await pages.form_of(request, Ticket)
    try:
        seen = await invitations.accept(form.ticket, actor)
    except Problem as problem:
        return await _invitation(request, form.ticket, pages.to_show(problem))
    return pages.gone_well(_at(seen.organisation.id), "joined")


@form_at("/invitation/refusal", public=True, limit="60/minute")
async def decline_on_page(request: AnyRequest) -> Response[str]:
    """Stay away."""
    form = await pages.form_of(request, Ticket)
    try:
        await invitations.decline(form.ticket, request.user if isinstance(request.user, Actor) else None)
    except Problem as problem:
        return await _invitation(request, form.ticket, pages.to_show(problem))
    return pages.page("accounts/invitation.html", request, invited=None, problem=None, declined=True)


async def _invitation(request: AnyRequest, ticket: str, problem: Problem | None = None) -> Response[str]:
    invited = None
    try:
        invited = await invitations.look_at(ticket)
    except Problem as fault:
        problem = problem or pages.to_show(fault)
    reply = pages.page(
        "accounts/invitation.html",
        request,
        status=problem.status if problem else 200,
        invited=invited,
        problem=problem,
        declined=False,
        ticket=ticket,
        sign_in=f"/sign-in?{urlencode({'back': '/invitation?' + urlencode({'ticket': ticket})})}",
    )
    reply.headers.update(NOT_KEPT)
    return reply


routes: list[ControllerRouterHandler] = [
    show_organisations,
    make_organisation_on_page,
    show_one,
    edit_on_page,
    show_organisation_removal,
    remove_on_page,
    show_member_page,
    change_role_on_page,
    show_member_removal,
    remove_member_on_page,
    show_handing_over,
    hand_over_on_page,
    invite_on_page,
    revoke_invitation_on_page,
    show_invitation_page,
    accept_on_page,
    decline_on_page,
]
