"""Where a key stands with its limits, as every answer shows it. How they are decided is `admit` in the migrations."""

from msgspec import Struct

from domain.money import NanoUsd

NANO_PER_S = 1_000_000_000
INSTALLATION_WINDOW = "installation's daily"
"""The window of a project that applies to requests under the installation's credentials alone."""


class Meter(Struct, frozen=True, kw_only=True):
    """A rate limit: so many a minute, so many of them left at this moment."""

    limit: int
    remaining: int
    reset_ns: int
    """Until all of them are there again, if nobody asks meanwhile."""


class LimitStatus(Struct, frozen=True, kw_only=True):
    """What is left to a key after a decision. None: there is no such limit."""

    requests: Meter | None = None
    tokens: Meter | None = None
    budget_left_nano_usd: NanoUsd | None = None
    """Of the tightest window, with what is held counted as gone."""


class Window(Struct, frozen=True, kw_only=True):
    """A window of a budget that stands in a request's way."""

    name: str
    """`daily`, `monthly`, `project's daily`, `project's monthly` or `INSTALLATION_WINDOW`."""
    limit_nano_usd: NanoUsd
    taken_nano_usd: NanoUsd
    """Spent and assumed."""
    held_nano_usd: NanoUsd
