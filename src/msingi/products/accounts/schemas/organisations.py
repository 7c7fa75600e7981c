"""What is sent of organisations, and what is told of them."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from msingi.kit.db import Form, View
from msingi.products.accounts.models.organisations import OrganisationRole
from msingi.products.accounts.schemas.people import Email

OrganisationName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S", examples=["Shamba la Mfano"])]
Slug = Annotated[str, Meta(min_length=2, max_length=40, examples=["shamba-la-mfano"])]
Secret = Annotated[str, Meta(min_length=1, max_length=200)]
AccountId = Annotated[str, Meta(min_length=1, max_length=64)]


class NewOrganisation(Form):
    name: OrganisationName
    slug: Slug | UnsetType = UNSET


class OrganisationPatch(Form):
    name: OrganisationName | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET


class MembershipPatch(Form):
    role: OrganisationRole


class Handover(Form):
    account_id: AccountId


class NewInvitation(Form):
    email: Email
    role: OrganisationRole = "member"


class InvitationTicket(Form):
    ticket: Secret


class OrganisationView(View):
    """An organisation, and what the caller is in it."""

    id: str
    name: str
    slug: str
    role: OrganisationRole
    members: int
    created_at: datetime
    updated_at: datetime
    version: int


class AnyOrganisationView(View):
    """An organisation as the house's admins see it: `owners` are the ids of those who may come in."""

    id: str
    name: str
    slug: str
    owners: list[str]
    members: int
    created_at: datetime
    updated_at: datetime
    version: int


class MemberView(View):
    """Somebody in an organisation. Addresses are told to its owners and admins alone."""

    account_id: str
    name: str
    email: str | None
    role: OrganisationRole
    disabled: bool
    created_at: datetime
    updated_at: datetime
    version: int


class InvitationView(View):
    id: str
    email: str
    role: OrganisationRole
    invited_by: str
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    version: int


class InvitedView(View):
    """What the bearer of an invitation's link is told of it."""

    organisation: str
    slug: str
    inviter: str
    email: str
    role: OrganisationRole
    expires_at: datetime
