"""Whether arrows go round in a circle: tasks that block others, tasks that are parts of others."""

from collections.abc import Iterable, Mapping

Arrows = Mapping[str, Iterable[str]]


def reached(arrows: Arrows, start: str) -> set[str]:
    """Everything that the arrows lead to from `start`, itself only if they come back to it."""
    seen: set[str] = set()
    ahead = list(arrows.get(start, ()))
    while ahead:
        here = ahead.pop()
        if here not in seen:
            seen.add(here)
            ahead.extend(arrows.get(here, ()))
    return seen


def closes_a_circle(arrows: Arrows, source: str, target: str) -> bool:
    """Whether one more arrow, from `source` to `target`, would close a circle."""
    return source == target or source in reached(arrows, target)
