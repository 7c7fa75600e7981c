"""What can be followed, and who may."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from msingi.kit import state
from msingi.kit.actors import Actor
from msingi.kit.auth import InsufficientScope
from msingi.kit.errors import NotFound, Problem, SignInFirst

LONGEST = 200  # characters of a topic's path
See = Callable[..., Awaitable[Any]]


class NoSuchTopic(NotFound):
    """There is no topic {topic}, or none that you may follow."""


class Key(NamedTuple):
    """How somebody without an account shows that they may follow: a secret in this header, which `opens` judges."""

    header: str
    opens: See


class Topic:
    """A family of topics: `Topic("boards/{id}", see=queries.board_for)`.

    `see` is called with the values of the path's `{names}` in their order and then the actor; it raises a Problem if
    the actor may not see that. Its answer is not used. With `key=Key("X-Board-Key", queries.opens)` a topic is also
    open to whoever shows a key of its own: `opens` is called with the same values and then what was shown, and raises a
    Problem unless that opens this very topic.
    """

    def __init__(self, pattern: str, *, see: See, key: Key | None = None) -> None:
        self.pattern, self.see, self.key = pattern, see, key
        parts = re.split(r"\{\w+\}", pattern)
        self._path = re.compile("([A-Za-z0-9_.~-]{1,64})".join(re.escape(part) for part in parts))

    def values(self, path: str) -> tuple[str, ...] | None:
        """The values of the names in a path of this family; None for another's path."""
        found = self._path.fullmatch(path)
        return found.groups() if found else None


class Found(NamedTuple):
    """A topic's family, what its path says, and the scope that a program needs to follow it."""

    topic: Topic
    values: tuple[str, ...]
    scope: str


def find(path: str) -> Found:
    """The family of a topic. Raises NoSuchTopic: a topic that no product lists is nobody's."""
    for product in state.current().products:
        for topic in product.topics:
            values = topic.values(path)
            if values is not None:
                return Found(topic, values, f"{product.name}:read")
    raise NoSuchTopic(topic=path[:LONGEST])


async def check_may_follow(path: str, actor: Actor | None, key: str = "") -> None:
    """Raise a Problem unless this topic may be followed by the actor, or by whoever shows this key.

    Who comes with an API key or for somebody else's program needs `<product>:read`, as at the gate, which Socket.IO
    does not pass. What is shown where a topic takes no key is nothing.
    """
    found = find(path)
    if actor is not None:
        try:
            await _check_actor(found, actor)
            return
        except Problem:
            if not key or found.topic.key is None:
                raise
    if not key or found.topic.key is None:
        raise SignInFirst
    await found.topic.key.opens(*found.values, key)


async def _check_actor(found: Found, actor: Actor) -> None:
    _check_scope(found.scope, actor)
    await found.topic.see(*found.values, actor)


def _check_scope(needed: str, actor: Actor) -> None:
    if not actor.reaches(needed):
        raise InsufficientScope(needed)
