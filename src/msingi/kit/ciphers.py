"""Values that only the holder of a key can read, at the one place where they belong.

A key is derived for one purpose (HKDF-SHA-256, RFC 5869), so that what is known of one says nothing of another. What
is sealed (AES-256-GCM) names its key and is bound to the place it belongs to: it cannot be opened anywhere else.
"""

import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

FORMAT = b"\x01"  # of what `seal` returns: format, key id, nonce, ciphertext with its tag
ID_BYTES, NONCE_BYTES, TAG_BYTES = 4, 12, 16
HEAD = len(FORMAT) + ID_BYTES
SHORTEST = HEAD + NONCE_BYTES + TAG_BYTES


class CannotOpen(ValueError):
    """Sealed under another key, for another place, or altered."""


class Key(Struct, frozen=True):
    """A key and the short id by which sealed values name it; the id tells nothing of the key."""

    id: bytes
    raw: bytes

    def __repr__(self) -> str:
        return f"Key({self.id.hex()})"


@lru_cache(maxsize=1024)
def key_from(material: bytes, purpose: str) -> Key:
    """The key that follows from some secret bytes (at least 128 bits of chance) for one purpose."""
    derived = HKDF(SHA256(), 32 + ID_BYTES, salt=None, info=f"msingi/{purpose}".encode()).derive(material)
    return Key(derived[32:], derived[:32])


def seal(key: Key, plain: bytes, place: str) -> bytes:
    """`plain` so that only who has `key` reads it, and only at `place` (`"accounts/keys/000001/private"`)."""
    head, nonce = FORMAT + key.id, os.urandom(NONCE_BYTES)
    return head + nonce + _cipher(key.raw).encrypt(nonce, plain, head + place.encode())


def unseal(key: Key, sealed: bytes, place: str) -> bytes:
    """What was sealed. Raises CannotOpen."""
    head, nonce = sealed[:HEAD], sealed[HEAD : HEAD + NONCE_BYTES]
    if len(sealed) < SHORTEST or head != FORMAT + key.id:
        raise CannotOpen("it names another key")
    try:
        return _cipher(key.raw).decrypt(nonce, sealed[HEAD + NONCE_BYTES :], head + place.encode())
    except InvalidTag:
        raise CannotOpen("it was altered, or belongs elsewhere") from None


@lru_cache(maxsize=256)
def _cipher(raw: bytes) -> AESGCM:
    """Kept, since making one costs more than using it."""
    return AESGCM(raw)
