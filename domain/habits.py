"""Estimates from a key's latest answers, for an attempt whose real figures cannot be asked for any more.

An estimate is the most that was counted lately, so that what a budget assumes is not below the bill as long as answers
stay as they were. It is no upper bound, so no hold is made from it.
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

Value = TypeVar("Value", int, Fraction)


def usual_most(values: Iterable[Value]) -> Value | None:
    """Return the greatest of the values; None: fewer than `FEWEST`."""
    known = list(values)
    return max(known) if len(known) >= FEWEST else None
