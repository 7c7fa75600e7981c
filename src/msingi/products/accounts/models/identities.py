"""Identities: who somebody is at a provider, and whose account here that opens."""

from datetime import datetime
from typing import Annotated

from msgspec import field

from msingi.kit import sealing
from msingi.kit.clock import now
from msingi.kit.db import SEALED, Collection, Doc, Index


class Identity(Doc, kw_only=True):
    """A person at a provider: `issuer` and `subject` name them for ever; the address is only what was last told.

    `key` stands for the two where they are looked up.
    """

    account: str
    provider: str
    issuer: str
    subject: Annotated[str, SEALED]
    key: str = ""
    email: Annotated[str, SEALED] = ""
    last_used_at: datetime = field(default_factory=now)

    def __post_init__(self) -> None:
        self.key = self.key or identity_key(self.issuer, self.subject)


def identity_key(issuer: str, subject: str) -> str:
    """What stands for an identity where it is looked up."""
    return sealing.blind("accounts.identity", f"{issuer}\n{subject}")


identities = Collection(Identity, "identities", indexes=[Index("key", unique=True), "account -_id"])
