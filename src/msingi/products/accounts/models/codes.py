"""Codes that went to a phone: short, so they are good for few tries and few minutes."""

from datetime import datetime
from typing import Literal

from msingi.kit.db import Collection, Doc, Index

Purpose = Literal["sign_in", "verify"]


class Code(Doc, kw_only=True):
    """Good for one purpose of one person or number (`whose`), once, for MOST_TRIES tries until `expires_at`."""

    purpose: Purpose
    whose: str  # the mark of a number that signs in; the id of an account that wants a number
    secret: bytes  # an HMAC: a million codes are soon tried by whoever has the database alone
    phone: bytes = b""  # the number that is to be the account's, sealed
    tries: int = 0
    expires_at: datetime
    used_at: datetime | None = None


codes = Collection(Code, "codes", indexes=["purpose whose", Index("expires_at", expires_after=24 * 3600)])
