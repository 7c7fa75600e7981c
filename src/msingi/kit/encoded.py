"""An answer as it goes out: encoded once, with what its headers follow from, and sent to many."""

from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

from msingi.kit.db import Page


class Encoded(Struct, frozen=True):
    """JSON, its ETag, and the cursor of the page that follows, if it is a page. What @cached may keep as it is."""

    body: bytes
    tag: str
    next: str | None = None


def encoded(answer: Any) -> Encoded:
    """An answer as JSON. Its ETag is its version, as in every reply, or else follows from its bytes."""
    body = msgspec.json.encode(answer)
    version = getattr(answer, "version", None)
    tag = f'"{version}"' if isinstance(version, int) else weak_tag(body)
    return Encoded(body, tag, answer.next if type(answer) is Page else None)


def weak_tag(body: bytes) -> str:
    """An ETag for these bytes, or for what says the same in other bytes: compressed, for one."""
    return f'W/"{blake2b(body, digest_size=12).hexdigest()}"'
