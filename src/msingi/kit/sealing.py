"""The house's keys for its many purposes, and fields that are sealed at rest.

What is compared (marks, blind indexes) follows from the first data key, which never changes; what is opened is sealed
with the newest, and names it (decision 0010).
"""

from base64 import urlsafe_b64encode
from hashlib import sha256
from hmac import digest
from typing import Any

import structlog

from msingi.kit.ciphers import HEAD, ID_BYTES, CannotOpen, Key, key_from, seal, unseal
from msingi.kit.data_keys import ring

__all__ = [
    "CannotOpen",
    "Key",
    "blind",
    "key_for",
    "key_from",
    "keys_for",
    "open_field",
    "seal",
    "seal_field",
    "unseal",
]

BLIND_BYTES = 16
log = structlog.get_logger("sealing")


def key_for(purpose: str) -> Key:
    """The house's key for one purpose, such as `"accounts.refresh"`: the same in every process, today and tomorrow."""
    return key_from(ring().first().raw, purpose)


def keys_for(purpose: str) -> list[Key]:
    """A purpose's key from each data key, the newest first: for what is kept with its key's id, and made anew."""
    at_work = ring().newest().number
    return [key_from(each.raw, purpose) for each in ring().all() if each.number <= at_work]


def blind(purpose: str, text: str) -> str:
    """What equal texts have in common and who lacks the key cannot compute: to look up what is sealed, by equality."""
    mark = digest(key_for(f"blind.{purpose}").raw, text.encode("utf-8", "replace"), sha256)[:BLIND_BYTES]
    return urlsafe_b64encode(mark).rstrip(b"=").decode()


def seal_field(plain: bytes, place: str, store: str) -> bytes:
    """A field's value, sealed with the newest data key for `place` (`"accounts.accounts/000001/email"`)."""
    key = ring().newest()
    return seal(_field_key(key.number, key.raw, store), plain, place)


def open_field(sealed: Any, place: str, store: str) -> bytes:
    """The value of a sealed field. Raises CannotOpen, and says so in the log."""
    number = number_of(sealed)
    key = ring().find(number) if number else None
    try:
        if key is None:
            raise CannotOpen(f"{place} is not sealed" if number is None else f"there is no data key {number:06d}")
        return unseal(_field_key(key.number, key.raw, store), sealed, place)
    except CannotOpen as reason:
        log.error("sealed_field_unreadable", place=place, key=number, reason=str(reason))
        raise CannotOpen(f"{place}: {reason}") from None


def number_of(sealed: Any) -> int | None:
    """Which data key a field is sealed with; None for what is not sealed."""
    return int.from_bytes(sealed[1:HEAD], "big") if isinstance(sealed, bytes) and len(sealed) > HEAD else None


def _field_key(number: int, raw: bytes, store: str) -> Key:
    """Each collection has a key of its own, so that none comes near the 2³² values that one key may seal."""
    return Key(number.to_bytes(ID_BYTES, "big"), key_from(raw, f"field.{store}").raw)
