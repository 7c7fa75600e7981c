"""The secrets of sessions: refresh tokens that show by themselves that they are ours, and cookies that are pure chance.

A refresh token is `rt1_` and, in base64url, 16 bytes of session id, 4 of generation, 24 of chance and 16 of HMAC: one
that was made up is turned away without a look into the database.
"""

import os
from base64 import b32hexdecode, b32hexencode, urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from hmac import compare_digest, digest

from msgspec import Struct

from msingi.kit import ids
from msingi.kit.sealing import key_for

PREFIX = "rt1_"
SESSION, GENERATION, CHANCE, MARK = 16, 4, 24, 16
COOKIE_CHANCE = 32


class RefreshToken(Struct, frozen=True):
    """A refresh token of ours, whether or not it is still good for anything."""

    text: str
    session: str
    generation: int

    @property
    def hash(self) -> bytes:
        """What is kept of it."""
        return hash_of(self.text)


def new_refresh_token(session: str, generation: int) -> RefreshToken:
    """The refresh token of one generation of a session."""
    said = _bytes_of(session) + generation.to_bytes(GENERATION, "big") + os.urandom(CHANCE)
    return RefreshToken(PREFIX + _text(said + _mark(said)), session, generation)


def read_refresh_token(text: str) -> RefreshToken | None:
    """What a text says, if it is a refresh token that we made."""
    raw = _raw(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else b""
    if len(raw) != SESSION + GENERATION + CHANCE + MARK:
        return None
    said, mark = raw[:-MARK], raw[-MARK:]
    if not compare_digest(mark, _mark(said)):
        return None
    return RefreshToken(text, _id_of(said[:SESSION]), int.from_bytes(said[SESSION : SESSION + GENERATION], "big"))


def new_cookie(session: str) -> str:
    """The value of a session's cookie: where to look, and 256 bits that nobody can guess."""
    return _text(_bytes_of(session) + os.urandom(COOKIE_CHANCE))


def session_in_cookie(value: str) -> str | None:
    """Which session a cookie's value claims to be of."""
    raw = _raw(value)
    return _id_of(raw[:SESSION]) if len(raw) == SESSION + COOKIE_CHANCE else None


def hash_of(secret: str) -> bytes:
    """What is kept of a secret of at least 192 random bits."""
    return sha256(secret.encode("utf-8", "replace")).digest()


def _mark(said: bytes) -> bytes:
    return digest(key_for("accounts.refresh").raw, said, sha256)[:MARK]


def _raw(text: str) -> bytes:
    """Base64url in its one spelling as bytes, else nothing."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
    return raw if _text(raw) == text else b""


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes_of(id: str) -> bytes:
    return b32hexdecode(id.upper() + "======")


def _id_of(raw: bytes) -> str:
    return b32hexencode(raw)[: ids.LENGTH].decode().lower()
