"""Decisions about organisations: who may do what in them, and what they may be called."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from msingi.kit.auth import STEP_UP
from msingi.kit.errors import Conflict, Forbidden, Invalid
from msingi.kit.policy import Policy, has, names_actor, proven_within, role_in
from msingi.products.accounts.models.organisations import Invitation, Membership, Organisation

MOST_MEMBERS = 10_000  # of an organisation
MOST_ORGANISATIONS = 100  # that one person is in
MOST_INVITATIONS = 1_000  # of an organisation at a time; looked at before a write, so a few more may get in
LONGEST_SLUG = 40


class SlugTaken(Conflict):
    """There is an organisation with this slug already."""


class BadSlug(Invalid):
    """A slug is made of small letters, digits and single hyphens between them, 2 to 40 characters in all."""

    def __init__(self) -> None:
        super().__init__(errors=[{"pointer": "/slug", "in": "body", "message": type(self).__doc__}])


class LastOwner(Conflict):
    """An organisation with members has an owner who may come in: make somebody else owner first, or delete it."""


class OrganisationFull(Conflict):
    """There is room for {most} members in an organisation, and they are there already."""


class TooManyOrganisations(Conflict):
    """One person may be in {most} organisations, and is in as many."""


class TooManyInvitations(Conflict):
    """An organisation may wait for the answer to {most} invitations, and does."""


class AlreadyMember(Conflict):
    """This person is in the organisation already."""


class NoSuchMember(Invalid):
    """Nobody with that id is in this organisation."""


class InvitationForAnother(Forbidden):
    """This invitation was sent to another address than your account has."""


# ---- who may do what

owner, manager = ("owner",), ("owner", "admin")

organisation_policy = Policy(
    Organisation,
    see=role_in("_id"),
    edit=role_in("_id", *manager),
    remove=role_in("_id", *owner) & proven_within(STEP_UP),
    hand_over=role_in("_id", *owner) & proven_within(STEP_UP),
    see_addresses=role_in("_id", *manager),
    see_invitations=role_in("_id", *manager),
)

# Admins let members in and out. Who is admin or owner is for owners to say; anybody may leave.
membership_policy = Policy(
    Membership,
    see=role_in("organisation"),
    change_role=role_in("organisation", *owner) & proven_within(STEP_UP),
    remove=names_actor("account")
    | role_in("organisation", *owner)
    | (role_in("organisation", *manager) & has("role", "member")),
)

invitation_policy = Policy(
    Invitation,
    see=role_in("organisation", *manager),
    send=role_in("organisation", *owner) | (role_in("organisation", *manager) & has("role", "member")),
    revoke=role_in("organisation", *owner) | (role_in("organisation", *manager) & has("role", "member")),
)


# ---- what an organisation may be called


def check_slug(slug: str) -> None:
    """Raise BadSlug."""
    if not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", slug) or not 2 <= len(slug) <= LONGEST_SLUG:
        raise BadSlug


def slug_of(name: str, or_else: str) -> str:
    """A slug made of a name: `Shamba la Ümmü & Co` is `shamba-la-ummu-co`; of one without such letters, the other."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = "-".join(re.findall(r"[a-z0-9]+", plain))[: LONGEST_SLUG - 7].strip("-")
    return slug if len(slug) >= 2 else or_else


def named(organisations: Iterable[Organisation]) -> list[dict[str, Any]]:
    """What a problem tells of organisations that the caller sees."""
    return [{"id": each.id, "name": each.name, "slug": each.slug} for each in organisations]
