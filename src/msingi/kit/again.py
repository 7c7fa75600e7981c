"""Trying anew what lost a race, with what the winner left."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msingi.kit.db import Collection
from msingi.kit.errors import AlreadyExists, Busy, Stale

R = TypeVar("R")
TRIES = 40


async def on_the_newest(
    store: Collection[Any], doc: Any, if_match: int | None, act: Callable[[Any], Awaitable[R]]
) -> R:
    """Do `act` with a document; if another writer was faster, with what that one left.

    Whoever decided on a version (`if_match`) hears of it instead. Raises Stale, NotFound, and Busy if it never ends.
    """
    for _ in range(TRIES):
        try:
            return await act(doc)
        except AlreadyExists:
            pass
        except Stale:
            if if_match is not None:
                raise
        doc = await store.get(doc.id)
    raise Busy(retry_after=1)


async def until_it_fits(act: Callable[[], Awaitable[R]], if_match: int | None = None) -> R:
    """The same for what reads by itself what it decides on."""
    for _ in range(TRIES):
        try:
            return await act()
        except AlreadyExists:
            pass
        except Stale:
            if if_match is not None:
                raise
    raise Busy(retry_after=1)
