"""Whether the time of an answer tells what its words do not."""

import random
import statistics
from collections.abc import Callable

from msingi.checks.harness import Answer, Skipped

Ask = Callable[[], Answer]
Pair = tuple[Ask, Ask]
BOUND = 0.2  # d′ below which a single answer tells next to nothing
CLEAR = 1.0  # and from which on it is no matter of a busy machine
TRIES = 200
SERIES = 3  # a busy machine may mislead once or twice, but hardly three times the same way


def cannot_be_told_apart(prepare: Callable[[], Pair], status: int) -> str:
    """Fail if how long two requests take tells which it was: their means are d′ ≥ 0.2 standard deviations apart.

    `prepare` gives the two for a series: 200 tries in an order of chance, the slowest twentieth of each left out. A
    series above the bound is tried again: only three that agree on which is slower are a failure, or one that is far
    above. Answers of another `status` do not count. Returns the figure to tell. Raises Skipped if too few do.
    """
    seen: list[float] = []
    while len(seen) < SERIES:
        one, other = prepare()
        first, second = _series(one, other, status)
        if min(len(first), len(second)) < TRIES // 4:
            raise Skipped(f"only {len(first)} and {len(second)} of {TRIES} tries could be timed: a limit came first")
        seen.append(_distance(first, second))
        said = f"d′ = {' / '.join(f'{each:+.2f}' for each in seen)} over {TRIES} tries each"
        if abs(seen[-1]) < BOUND or seen[0] * seen[-1] < 0:
            return said
        if abs(seen[-1]) >= CLEAR:
            break
    slower, faster = statistics.mean(first) * 1000, statistics.mean(second) * 1000
    should = "the same time, whether the address is known or not"
    one().need(False, f"{should}; {said}, on average {slower:.1f} and {faster:.1f} ms")
    return said


def _series(one: Ask, other: Ask, status: int) -> tuple[list[float], list[float]]:
    taken: tuple[list[float], list[float]] = ([], [])
    order = [0, 1] * (TRIES // 2)
    random.shuffle(order)
    for which in order:
        answer = (one, other)[which]()
        if answer.status == status:
            taken[which].append(answer.seconds)
    trimmed = [sorted(times)[: len(times) - len(times) // 20] for times in taken]
    return trimmed[0], trimmed[1]


def _distance(first: list[float], second: list[float]) -> float:
    """d′: how many (common) standard deviations the means lie apart."""
    spread = ((statistics.variance(first) + statistics.variance(second)) / 2) ** 0.5
    return (statistics.mean(first) - statistics.mean(second)) / max(float(spread), 1e-6)
