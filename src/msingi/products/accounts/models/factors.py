"""Second factors: the seed of an authenticator app, recovery codes, and passkeys."""

from datetime import datetime
from typing import Annotated

from msgspec import field

from msingi.kit.db import SEALED, Collection, Doc, Index


class Factors(Doc, kw_only=True):
    """What a person proves themselves with beside the password; its id is the account's.

    A seed waits in `totp_new` until its first code was shown. `totp_step` is the last step of 30 seconds whose code was
    used. `misses` are ids, whose times say when a code was tried in vain. Of recovery codes only SHA-256 is kept.
    """

    totp: Annotated[str | None, SEALED] = None
    totp_at: datetime | None = None  # when it was confirmed
    totp_step: int = 0
    totp_new: Annotated[str | None, SEALED] = None
    totp_new_at: datetime | None = None
    misses: list[str] = field(default_factory=list)
    codes: list[bytes] = field(default_factory=list)


class Passkey(Doc, kw_only=True):
    """A public key whose private half lies in somebody's device (WebAuthn)."""

    account: str
    name: str
    credential: bytes
    public_key: bytes  # as COSE
    counter: int
    transports: list[str] = field(default_factory=list)
    synced: bool = False
    last_used_at: datetime | None = None
    cloned_at: datetime | None = None  # when its counter went back: somebody else may have a copy


factors = Collection(Factors, "factors")
passkeys = Collection(Passkey, "passkeys", indexes=[Index("credential", unique=True), "account -_id"])
