"""People: their accounts, and the list that guards the last admin."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, field

from msingi.kit import sealing
from msingi.kit.clock import now
from msingi.kit.db import SEALED, Collection, Doc, Index
from msingi.kit.search import words_of

Role = Annotated[str, Meta(pattern="^[a-z][a-z0-9_-]{0,40}$", examples=["user"])]
ADMINS = "admins"


class Account(Doc, kw_only=True):
    """A person. `token_version` rises when tokens made before must stop, `epoch` when sessions must too.

    Address and number are sealed; `email_key` and `phone_key` stand for them where they are looked up, and `words` hold
    those of the name as they are and those of the address as marks.
    """

    email: Annotated[str, SEALED]
    email_key: str = ""
    email_verified: bool = False  # whether its bearer proved that letters to it arrive with them
    phone: Annotated[str, SEALED] | None = None  # as E.164 writes it, once its bearer proved that it is theirs
    phone_key: str | None = None
    phone_at: datetime | None = None  # when a code last showed that it is
    language: str = "en"  # that letters and messages are written in
    name: str
    password: str  # id of the pepper's key, then argon2's own encoding
    roles: list[Role] = field(default_factory=lambda: ["user"])
    disabled: bool = False
    token_version: int = 0
    epoch: int = 0
    organisations: int = 0  # how many they are in
    words: list[str]

    def __post_init__(self) -> None:
        self.email_key = self.email_key or email_key(self.email)


def with_email(name: str, email: str) -> dict[str, Any]:
    """The fields of an account that follow from its address: what a change of it sets."""
    return {"email": email, "email_key": email_key(email), "words": words_to_find(name, email)}


def with_phone(phone: str | None) -> dict[str, Any]:
    """The fields of an account that follow from its number."""
    if phone is None:
        return {"phone": None, "phone_key": None, "phone_at": None}
    return {"phone": phone, "phone_key": phone_key(phone), "phone_at": now()}


def email_key(email: str) -> str:
    """What stands for an address where it is looked up."""
    return sealing.blind("accounts.email", email)


def phone_key(phone: str) -> str:
    """What stands for a number where it is looked up."""
    return sealing.blind("accounts.phone", phone)


def words_to_find(name: str, email: str) -> list[str]:
    """What an account is found by: the words of the name, and marks of those of the address."""
    return [*words_of(name), *(marked(word) for word in words_of(email))]


def marked(word: str) -> str:
    """The mark of a word of an address; no word of a name is one."""
    return f"~{sealing.blind('accounts.email_word', word)}"


class Guard(Doc, kw_only=True):
    """Who may not all go: every change of the list is decided on this one document."""

    ids: list[str]


accounts = Collection(
    Account,
    "accounts",
    indexes=[
        Index("email_key", unique=True),
        Index("phone_key", unique=True, where={"phone_key": {"$type": "string"}}),
        "words",
        "roles",
        "-created_at -_id",
    ],
)
guards = Collection(Guard, "guards")
