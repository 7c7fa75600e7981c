"""People: their accounts, and the list that guards the last admin."""

from typing import Literal

from msgspec import field

from msingi.kit.db import Collection, Doc, Index

Role = Literal["user", "admin"]
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


class Guard(Doc, kw_only=True):
    """Who may not all go: every change of the list is decided on this one document."""

    ids: list[str]


accounts = Collection(Account, "accounts", indexes=[Index("email", unique=True), "words", "roles", "-created_at -_id"])
guards = Collection(Guard, "guards")
