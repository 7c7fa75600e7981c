"""Where a task stands among others: a text between its neighbours' texts, so that a move writes one document.

Fractional indexing (`a0` < `a0V` < `a1`), with a few random digits at the end: several who move something to the same
place at the same moment get different positions. A unique index has the last word.
"""

import random

from fractional_indexing import BASE_62_DIGITS, generate_key_between

JITTER = 3  # random digits, 229,276 ways for two to miss each other


def between(low: str | None, high: str | None) -> str:
    """A position after `low` and before `high`; None is the start, or the end, of the list."""
    middle: str = generate_key_between(low, high)
    # Where the digits leave no room behind `middle`, there is room before it.
    while high is not None and high.startswith(middle):
        middle = generate_key_between(low, middle)
    jitter = "".join(random.choices(BASE_62_DIGITS, k=JITTER - 1)) + random.choice(BASE_62_DIGITS[1:])
    return f"{middle}{jitter}"
