"""Tickets: what a link in a letter, or a step on the way in, is good for; of the secret only SHA-256 is kept."""

from datetime import datetime
from typing import Any

from msgspec import field

from msingi.kit.db import Collection, Doc, Index


class Ticket(Doc, kw_only=True):
    """Good for one purpose, once, until `expires_at`. `account` is whose it is, if it is anybody's; `newest_only`: void
    once that account has a later one for the same purpose."""

    purpose: str
    account: str = ""
    secret: bytes
    newest_only: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    expires_at: datetime
    used_at: datetime | None = None


tickets = Collection(Ticket, "tickets", indexes=["account purpose _id", Index("expires_at", expires_after=24 * 3600)])
