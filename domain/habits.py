"""Estimates from a key's latest answers, for an attempt whose real figures cannot be asked for any more.

An estimate is no upper bound, so no hold is made from it.

An attempt that is interrupted is more likely to be a long one, since it runs for longer. So the estimate is not the
median: it is the value up to which the answers make up `SHARE` of all that was counted.
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
    """Return the least value up to which the values make up `SHARE` of the total weight. Each comes with its weight.

    None: fewer than `FEWEST` have any.
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
