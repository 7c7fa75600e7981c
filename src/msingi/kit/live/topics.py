"""What can be followed, and who may."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from msingi.kit import state
from msingi.kit.actors import Actor
from msingi.kit.auth import InsufficientScope
from msingi.kit.errors import NotFound

LONGEST = 200  # characters of a topic's path
See = Callable[..., Awaitable[Any]]


class NoSuchTopic(NotFound):
    """There is no topic {topic}, or none that you may follow."""


class Topic:
    """A family of topics: `Topic("boards/{id}", see=queries.board_for)`.

    `see` is called with the values of the path's `{names}` in their order and then the actor; it raises a Problem if
    the actor may not see that. Its answer is not used.
    """

    def __init__(self, pattern: str, *, see: See) -> None:
        self.pattern, self.see = pattern, see
        parts = re.split(r"\{\w+\}", pattern)
        self._path = re.compile("([A-Za-z0-9_.~-]{1,64})".join(re.escape(part) for part in parts))

    def values(self, path: str) -> tuple[str, ...] | None:
        """The values of the names in a path of this family; None for another's path."""
        found = self._path.fullmatch(path)
        return found.groups() if found else None


async def check_may_follow(path: str, actor: Actor) -> None:
    """Raise a Problem unless the actor may follow this topic: a topic that no product lists is nobody's.

    Who comes with an API key or for somebody else's program needs `<product>:read`, as at the gate, which Socket.IO
    does not pass.
    """
    for product in state.current().products:
        for topic in product.topics:
            values = topic.values(path)
            if values is not None:
                _check_scope(f"{product.name}:read", actor)
                await topic.see(*values, actor)
                return
    raise NoSuchTopic(topic=path[:LONGEST])


def _check_scope(needed: str, actor: Actor) -> None:
    if not actor.reaches(needed):
        raise InsufficientScope(needed)
