"""What is stored: accounts, their sessions, the keys that sign tokens, and the list that guards the last admin."""

from datetime import datetime
from typing import Literal

from msgspec import field

from msingi.kit.db import Collection, Doc, Index

Role = Literal["user", "admin"]
Kind = Literal["token", "cookie"]
ADMINS = "admins"


class Account(Doc, kw_only=True):
    """A person. `token_version` rises when tokens made before must stop, `epoch` when sessions must too."""

    email: str
    name: str
    password: str  # id of the pepper's key, then argon2's own encoding
    roles: list[Role] = field(default_factory=lambda: ["user"])
    disabled: bool = False
    token_version: int = 0
    epoch: int = 0
    words: list[str]


class Session(Doc, kw_only=True):
    """One sign-in, and the one secret that is good for it now; of secrets only SHA-256 is kept.

    A refresh token is used once: `generation` counts them, `current` is the newest, `previous` the one before it, and
    `child` the newest sealed so that only the bearer of the previous one can open it.
    """

    account: str
    kind: Kind
    epoch: int
    current: bytes
    user_agent: str = ""
    generation: int = 0
    previous: bytes | None = None
    previous_at: datetime | None = None
    child: bytes | None = None
    last_used_at: datetime
    idle_at: datetime  # when it ends if it is not used again
    ends_at: datetime  # when it ends whatever happens
    ended_at: datetime | None = None


class StoredKey(Doc, kw_only=True):
    """A key that signs access tokens from a time on, until the next one does. Its id counts: `000001`, `000002`."""

    public: bytes
    private: bytes  # sealed
    signs_from: datetime


class Guard(Doc, kw_only=True):
    """Who may not all go: every change of the list is decided on this one document."""

    ids: list[str]


accounts = Collection(Account, "accounts", indexes=[Index("email", unique=True), "words", "roles", "-created_at -_id"])
sessions = Collection(Session, "sessions", indexes=["account -_id", Index("ends_at", expires_after=24 * 3600)])
stored_keys = Collection(StoredKey, "signing_keys")
guards = Collection(Guard, "guards")
