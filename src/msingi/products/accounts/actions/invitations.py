"""Invitations: a letter with a link, good once, for a week, for whoever has the address that it went to.

Both are asked for: the link, which only the address's owner got, and an account with that address. Without the second a
link that was forwarded, or read on the way, would let in anybody; and the members would not be those who were asked.
The link proves the address as well as any other letter does, so accepting also verifies it.
"""

from datetime import timedelta

import structlog
from msgspec import Struct

from msingi.kit import audit, limits, mail
from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.errors import AlreadyExists, allow
from msingi.kit.unit import atomic
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import letters, tickets
from msingi.products.accounts.actions.organisations import make_room, settle, take_place
from msingi.products.accounts.models.organisations import Invitation, Organisation, invitations, organisations
from msingi.products.accounts.models.people import Account, accounts, email_key
from msingi.products.accounts.models.tickets import Ticket
from msingi.products.accounts.models.tickets import tickets as kept_tickets
from msingi.products.accounts.queries.organisations import Seen
from msingi.products.accounts.rules.organisations import invitation_policy, organisation_policy
from msingi.products.accounts.rules.visitors import Visitor
from msingi.products.accounts.schemas.organisations import NewInvitation

GOOD_FOR = timedelta(days=7)
TO_ONE_ADDRESS = limits.parse("5/day")  # letters, whoever invites: the rest stay unwritten, and nobody is told
log = structlog.get_logger("accounts")


class Invited(Struct, frozen=True):
    """What the bearer of an invitation's link may know of it."""

    invitation: Invitation
    organisation: Organisation
    inviter: str


# ---- sending


async def invite(organisation_id: str, form: NewInvitation, actor: Actor, visitor: Visitor) -> Invitation:
    """Ask somebody to come. The work and the answer are the same whether or not the address has an account.

    An earlier invitation to the same address is void. Raises AlreadyMember, which owners and admins see in the list of
    members anyway, and TooManyInvitations.
    """
    email = rules.people.email_of(form.email)
    seen = await queries.organisations.organisation(organisation_id, actor)
    allow(organisation_policy.may("see_invitations", seen.asker, seen.organisation))
    key = email_key(email)
    writes = (await limits.take(f"accounts invitations to:{key}", TO_ONE_ADDRESS)).allowed
    if not writes:
        log.info("letter_withheld", reason="many invitations went there lately")
    asked = Invitation(
        organisation=organisation_id,
        email=email,
        email_key=key,
        role=form.role,
        invited_by=actor.id,
        ticket="",
        expires_at=now() + GOOD_FOR,
    )
    try:
        return await _invite(asked, actor, visitor.language, writes)
    except AlreadyExists:  # somebody asked the same address at the same moment; theirs is the earlier one now
        return await _invite(asked, actor, visitor.language, writes)


@atomic
async def _invite(asked: Invitation, actor: Actor, language: str, writes: bool) -> Invitation:
    seen = await queries.organisations.organisation(asked.organisation, actor)
    allow(invitation_policy.may("send", seen.asker, asked))
    await _check_not_in(asked)
    await _make_way(asked, seen)
    issued = await tickets.issue("invitation", GOOD_FOR, invitation=asked.id)
    asked.ticket = issued.ticket.id
    await invitations.add(asked)
    await audit.note("accounts.invited", actor=actor, about=asked.id, organisation=asked.organisation, role=asked.role)
    if writes:
        await _write(asked, seen.organisation, await accounts.get(actor.id), language, issued.secret)
    return asked


async def _check_not_in(asked: Invitation) -> None:
    account = await queries.people.account_by_email(asked.email)
    if await queries.organisations.is_member(asked.organisation, account.id if account else ""):
        raise rules.organisations.AlreadyMember


async def _make_way(asked: Invitation, seen: Seen) -> None:
    """Take back the earlier invitation to the same address, or see that there is room for one more."""
    earlier = await queries.organisations.invitation_to(asked.organisation, asked.email_key)
    if earlier is not None:
        allow(invitation_policy.may("revoke", seen.asker, earlier))
        await _take_back(earlier)
        return
    most = rules.organisations.MOST_INVITATIONS
    if await queries.organisations.count_invitations(asked.organisation, most) >= most:
        raise rules.organisations.TooManyInvitations(most=most)


async def _write(asked: Invitation, organisation: Organisation, by: Account, language: str, secret: str) -> None:
    await mail.send(
        "invitation",
        to=asked.email,
        language=language,
        product="accounts",
        organisation=organisation.name,
        inviter=by.name,
        role=asked.role,
        link=letters.link_to("/invitation", secret),
    )


@atomic
async def revoke(organisation_id: str, invitation_id: str, actor: Actor) -> None:
    """Take an invitation back: its link is good for nothing from then on."""
    seen = await queries.organisations.organisation(organisation_id, actor)
    allow(organisation_policy.may("see_invitations", seen.asker, seen.organisation))
    invitation = await queries.organisations.invitation(seen, invitation_id)
    allow(invitation_policy.may("revoke", seen.asker, invitation))
    await _take_back(invitation)
    await audit.note("accounts.invitation_revoked", actor=actor, about=invitation_id, organisation=organisation_id)


async def _take_back(invitation: Invitation) -> None:
    await invitations.remove(invitation)
    await kept_tickets.change_many({"_id": invitation.ticket, "used_at": None}, {"$set": {"used_at": now()}})


# ---- answering


async def look_at(secret: str) -> Invited:
    """What an invitation's link is for, without answering it. Raises BadTicket."""
    invitation, organisation = await _meant(await tickets.look_at("invitation", secret))
    inviter = await queries.people.account_by_id(invitation.invited_by)
    return Invited(invitation, organisation, inviter.name if inviter else "")


async def _meant(ticket: Ticket) -> tuple[Invitation, Organisation]:
    """Raises BadTicket if it was taken back, or nobody is there any more who owns the organisation."""
    invitation = await invitations.find({"_id": ticket.facts["invitation"], "ticket": ticket.id})
    if invitation is not None:
        organisation = await organisations.find({"_id": invitation.organisation, "owners.0": {"$exists": True}})
        if organisation is not None:
            return invitation, organisation
    raise rules.tickets.BadTicket


@atomic
async def accept(secret: str, actor: Actor) -> Seen:
    """Come in. Of many answers at once one counts.

    Raises BadTicket, InvitationForAnother, AlreadyMember, OrganisationFull, TooManyOrganisations.
    """
    invitation, organisation = await _meant(await tickets.redeem("invitation", secret))
    account = await queries.people.me(actor)
    if account.email_key != invitation.email_key:
        raise rules.organisations.InvitationForAnother
    if await queries.organisations.is_member(organisation.id, actor.id):
        raise rules.organisations.AlreadyMember
    await take_place(actor.id)
    await make_room(organisation, actor.id, invitation.role)
    await settle(organisation.id, actor.id, invitation.role, actor)
    await invitations.remove(invitation)
    if not account.email_verified:
        await audit.note("accounts.email_verified", actor=actor, about=actor.id)
        await accounts.change(actor.id, {"$set": {"email_verified": True}})
    return await queries.organisations.organisation(organisation.id, actor)


@atomic
async def decline(secret: str, actor: Actor | None) -> None:
    """Stay away: the link is used up. It needs no account. Raises BadTicket."""
    invitation, organisation = await _meant(await tickets.redeem("invitation", secret))
    await invitations.remove(invitation)
    await audit.note("accounts.invitation_declined", actor=actor, about=invitation.id, organisation=organisation.id)
