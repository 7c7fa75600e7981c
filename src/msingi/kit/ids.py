"""Ids that sort by time: 48 bits of milliseconds, then 80 random bits, as 26 letters and digits.

The layout is that of a ULID; the alphabet is base32hex (RFC 4648 §7), because its order is the order of the bytes
and the standard library writes it in C. Ids made by one process within a millisecond still ascend.
"""

import os
from base64 import b32hexdecode, b32hexencode
from datetime import UTC, datetime, timedelta

from msingi.kit.clock import now, shift

LENGTH = 26
_last = 0
_shift = timedelta(0)


def new_id() -> str:
    """A new id, greater than every id that this process made before."""
    global _last, _shift
    if _shift != shift():  # a test travels: what it made in the future shall not hold for the present
        _last, _shift = 0, shift()
    fresh = int(now().timestamp() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    # Within one millisecond, or after the clock was set back, count on from the last one.
    _last = fresh if fresh >> 80 > _last >> 80 else _last + 1 + (fresh & 0xFFFF)
    return _text(_last)


def first_id_at(at: datetime) -> str:
    """The smallest id that could have been made at `at`: to find what is newer by id alone."""
    return _text(int(at.timestamp() * 1000) << 80)


def time_of(id: str) -> datetime:
    """When an id was made. Raises ValueError for text that is no id."""
    raw = b32hexdecode(id.upper() + "======")
    return datetime.fromtimestamp(int.from_bytes(raw[:6], "big") / 1000, UTC)


def _text(number: int) -> str:
    return b32hexencode(number.to_bytes(16, "big"))[:LENGTH].decode().lower()
