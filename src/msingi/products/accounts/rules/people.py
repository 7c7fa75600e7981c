"""Decisions about people: their addresses, passwords and roles."""

import unicodedata
from collections.abc import Iterable
from typing import Any

from email_validator import EmailNotValidError, validate_email

from msingi.kit.db import Doc
from msingi.kit.errors import Conflict, Forbidden, Invalid, InvalidFields, NotFound
from msingi.products.accounts.models.people import Account, Role


class EmailTaken(Conflict):
    """There is an account with this e-mail address already."""


class NobodyOfThisAddress(NotFound):
    """Nobody has an account with this e-mail address."""


class AccountDisabled(Forbidden):
    """This account is disabled."""


class WrongPassword(Forbidden):
    """This is not your current password."""


class WeakPassword(Invalid):
    """This password is too easy to guess; choose a longer or a stranger one."""

    def __init__(self, reason: str, pointer: str) -> None:
        error = {"pointer": pointer, "in": "body", "message": MESSAGES[reason]}
        super().__init__(reason=reason, errors=[error])


class LastAdmin(Conflict):
    """Somebody has to remain who may look after the others."""


MESSAGES = {
    "too_common": "it is on the lists that are tried first, or follows a pattern",
    "breached": "it is among those that were stolen elsewhere and are tried everywhere",
    "like_you": "it is made of your name, your address or the name of this service",
}


def email_of(text: str) -> str:
    """An address in the one spelling in which it is kept. Raises InvalidFields."""
    try:
        found = validate_email(text.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError as fault:
        error = {"pointer": "/email", "in": "body", "message": str(fault)}
        raise InvalidFields(errors=[error]) from None
    return found.normalized.lower()


def roles_of(asked: Iterable[Role]) -> list[Role]:
    """Roles in their order; everybody is a user."""
    return ["user", *sorted(set(asked) - {"user"})]


def is_acting_admin(account: Account) -> bool:
    return "admin" in account.roles and not account.disabled


def changes_of(doc: Doc, asked: dict[str, Any]) -> dict[str, Any]:
    """What of the fields asked for is different from how it is."""
    return {name: value for name, value in asked.items() if getattr(doc, name) != value}


def normal(password: str) -> bytes:
    """A password as bytes: the same whether a keyboard composes its accents or not."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
