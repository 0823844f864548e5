"""Leaves room on Python's stack: what can be followed here can be followed wherever it is read again.

JSON and what walks over it recurse once for each level. How deep they come depends on how many calls are under way, so
a text that one process has read could be too deep for the next one.
"""

from collections.abc import Callable
from typing import TypeVar

RESERVED_CALLS = 150
"""More than any process has under way where it reads JSON. Taking them costs some 10 microseconds."""
SHALLOW_LEVELS = 400
"""JSON of fewer levels is followed anywhere."""

Result = TypeVar("Result")


def with_reserve(content: bytes, function: Callable[[], Result]) -> Result:
    """Call a function that follows some JSON; below the reserve if that may be deep.

    Raises:
        RecursionError: it needs more levels than there are.

    """
    if content.count(b"[") + content.count(b"{") < SHALLOW_LEVELS:
        return function()
    return below_reserve(function)


def below_reserve(function: Callable[[], Result]) -> Result:
    """Call a function with `RESERVED_CALLS` fewer levels than there are. Raises as `with_reserve`."""
    return _below(RESERVED_CALLS, function)


def _below(calls: int, function: Callable[[], Result]) -> Result:
    return _below(calls - 1, function) if calls else function()
