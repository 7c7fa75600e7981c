"""What a verification finds: something counted that does not follow from its history."""

from typing import Any

from msgspec import Struct


class Drift(Struct, frozen=True):
    """`what` of `id` is `found`, where its history says `expected`."""

    what: str
    id: str
    expected: Any
    found: Any
