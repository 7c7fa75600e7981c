"""The secrets of API keys: text that tells by itself what it is, so that a scanner finds one that leaked.

`msk_live_` (in tests and development `msk_test_`), the key's id, 256 bits of chance in base 62, and six characters of
CRC-32: a key that was mistyped or made up is turned away without a look into the database.
"""

import os
import re
from zlib import crc32

from msgspec import Struct

from msingi.kit import ids, state
from msingi.products.accounts.session_secrets import hash_of

PREFIX = "msk_"
CHANCE, SUM = 43, 6  # characters
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SHAPE = re.compile(rf"msk_(live|test)_([0-9a-v]{{{ids.LENGTH}}})_[0-9A-Za-z]{{{CHANCE}}}([0-9A-Za-z]{{{SUM}}})")


class KeySecret(Struct, frozen=True):
    """The secret of an API key of ours, whether or not it is still good for anything."""

    text: str
    key: str

    @property
    def hash(self) -> bytes:
        """What is kept of it."""
        return hash_of(self.text)


def new_secret(key: str) -> KeySecret:
    """The secret of a new key."""
    said = f"{beginning_of(key)}_{_text(int.from_bytes(os.urandom(32), 'big'), CHANCE)}"
    return KeySecret(said + _sum(said), key)


def read_secret(text: str) -> KeySecret | None:
    """What a text says, if it is a key that was made for this kind of house."""
    found = SHAPE.fullmatch(text)
    if found is None or found[1] != _kind() or found[3] != _sum(text[:-SUM]):
        return None
    return KeySecret(text, found[2])


def beginning_of(key: str) -> str:
    """The part of a secret by which its owner knows it again; it is no secret."""
    return f"{PREFIX}{_kind()}_{key}"


def _kind() -> str:
    return "live" if state.settings().production else "test"


def _sum(said: str) -> str:
    return _text(crc32(said.encode()), SUM)


def _text(number: int, length: int) -> str:
    """A number in base 62."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(LETTERS))
        digits.append(LETTERS[digit])
    return "".join(reversed(digits))
