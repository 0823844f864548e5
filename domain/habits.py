"""What is usual, by what was counted lately: for what can no longer be asked. No bound, and so nothing is held by it.

A request that is caught under way is a long one more often than one that is picked out of all: of two, one of which
takes twice as long, twice as often. So it is not the middle answer that counts, but the one by which so much of all
that was counted is reached.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import TypeVar

LATEST = 100
"""The answers that are looked at."""
LOOKED_THROUGH = 2_000
"""Of a key's latest requests, for those that were answered by the same model."""
FEWEST = 20
"""With fewer answers, nothing is known of them."""
SHARE = Fraction(3, 4)

Value = TypeVar("Value", int, Fraction)


def usual(values: Iterable[tuple[Value, int]]) -> Value | None:
    """The least of the values that have, with all below them, `SHARE` of the weight; None if fewer than `FEWEST` have
    any. Each value comes with its weight.
    """
    weighed = sorted((value, weight) for value, weight in values if weight > 0)
    if len(weighed) < FEWEST:
        return None
    enough = SHARE * sum(weight for _, weight in weighed)
    so_far = 0
    for value, weight in weighed:
        so_far += weight
        if so_far >= enough:
            return value
    raise AssertionError("all of them have the whole weight")
