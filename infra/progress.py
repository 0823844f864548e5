"""How far a long piece of work is. Who shows it is the caller's business: a terminal, a line of a log, a row."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how much is done, and with how much there is in all: events, unless it is said otherwise."""


def untold(_done: int, _total: int) -> None:
    """Tell nobody."""
