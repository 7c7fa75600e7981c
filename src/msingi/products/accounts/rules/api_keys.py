"""Decisions about API keys: what they may be for."""

from collections.abc import Iterable
from datetime import datetime

from msingi.kit.errors import Conflict, Forbidden, Invalid
from msingi.products.accounts.models.api_keys import ApiKey
from msingi.products.accounts.models.people import Account

MOST_KEYS = 100  # of a person at a time; looked at before a write, so a few more may get in


class UnknownScope(Invalid):
    """There is no such scope, or none that you could grant: {scopes}."""

    def __init__(self, scopes: str) -> None:
        error = {"pointer": "/scopes", "in": "body", "message": f"not known, or not yours to grant: {scopes}"}
        super().__init__(scopes=scopes, errors=[error])


class TooManyKeys(Conflict):
    """One person keeps at most {most} keys: end one first."""


class KeyOnly(Forbidden):
    """Only who comes with an API key may swap it for a token."""


def known_scopes(products: Iterable[str], held: Iterable[str]) -> list[str]:
    """What a key may be for: reading and writing in each product, and what its owner has permission for."""
    return sorted({*(f"{product}:{way}" for product in products for way in ("read", "write")), *held})


def check_scopes(asked: Iterable[str], known: Iterable[str]) -> None:
    """Raise UnknownScope for what is not among the known ones."""
    unknown = sorted(set(asked) - set(known))
    if unknown:
        raise UnknownScope(", ".join(unknown))


def is_good(key: ApiKey, account: Account, at: datetime) -> bool:
    """Whether a key still lets its owner's programs in."""
    return key.revoked_at is None and at < key.expires_at and not account.disabled
