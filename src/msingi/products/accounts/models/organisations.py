"""Organisations, who is in them, and who was asked to come."""

from datetime import datetime
from typing import Annotated, Literal

from msingi.kit.db import SEALED, Collection, Doc, Index

OrganisationRole = Literal["owner", "admin", "member"]


class Organisation(Doc, kw_only=True):
    """People who do something together.

    `owners` are the members with that role who may come in (are not disabled): whatever takes one away is decided on
    this list. `members` counts the memberships.
    """

    name: str
    slug: str
    owners: list[str]
    members: int = 1
    words: list[str]


class Membership(Doc, kw_only=True):
    """One person in one organisation; the id is made of both, so that nobody is in one twice."""

    organisation: str
    account: str
    role: OrganisationRole
    disabled: bool = False  # whether the person may not come in at all


class Invitation(Doc, kw_only=True):
    """Somebody who was asked to come, by a letter with a ticket; it is gone as soon as it is answered.

    The address is sealed; `email_key` stands for it where it is looked up, as in an account.
    """

    organisation: str
    email: Annotated[str, SEALED]
    email_key: str
    role: OrganisationRole
    invited_by: str
    ticket: str
    expires_at: datetime


organisations = Collection(Organisation, "organisations", indexes=[Index("slug", unique=True), "words"])
memberships = Collection(
    Membership, "memberships", indexes=["account", "organisation created_at", "organisation role created_at"]
)
invitations = Collection(
    Invitation,
    "invitations",
    indexes=[
        Index("email_key organisation", unique=True),
        "organisation -created_at",
        Index("expires_at", expires_after=24 * 3600),
    ],
)
