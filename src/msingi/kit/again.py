"""Trying anew what lost a race, with what the winner left."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msingi.kit.db import Collection
from msingi.kit.errors import AlreadyExists, Busy, Problem, Stale

R = TypeVar("R")
TRIES = 40
Losing = type[Problem] | tuple[type[Problem], ...]


async def on_the_newest(
    store: Collection[Any], doc: Any, if_match: int | None, act: Callable[[Any], Awaitable[R]]
) -> R:
    """Do `act` with a document; if another writer was faster, with what that one left.

    Whoever decided on a version (`if_match`) hears of it instead. Raises Stale, NotFound, and Busy if it never ends.
    """
    first = True

    async def once() -> R:
        nonlocal first, doc
        if not first:
            doc = await store.get(doc.id)
        first = False
        return await act(doc)

    return await until_it_fits(once, if_match)


async def until_it_fits(
    act: Callable[[], Awaitable[R]],
    if_match: int | None = None,
    *,
    losing: Losing = (Stale, AlreadyExists),
    tries: int = TRIES,
) -> R:
    """The same for what reads by itself what it decides on. `losing` are the problems by which a race is lost."""
    for _ in range(tries):
        try:
            return await act()
        except losing as lost:
            if isinstance(lost, Stale) and if_match is not None:
                raise
    raise Busy(retry_after=1)
