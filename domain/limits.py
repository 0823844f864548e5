"""A key's limits and what remains of them, as every response shows it. `admit` in the migrations decides them."""

from msgspec import Struct

from domain.money import NanoUsd

NANO_PER_S = 1_000_000_000
INSTALLATION_WINDOW = "installation's daily"
"""The window of a project that limits only requests under the installation's credentials."""


class Meter(Struct, frozen=True, kw_only=True):
    """A rate limit per minute, and what remains of it now."""

    limit: int
    remaining: int
    reset_ns: int
    """Time until the limit is full again if no request comes."""


class LimitStatus(Struct, frozen=True, kw_only=True):
    """What remains to a key after an admission decision. None: there is no such limit."""

    requests: Meter | None = None
    tokens: Meter | None = None
    budget_left_nano_usd: NanoUsd | None = None
    """Of the tightest window; holds count as spent."""


class Window(Struct, frozen=True, kw_only=True):
    """The budget window that refuses a request."""

    name: str
    """`daily`, `monthly`, `project's daily`, `project's monthly` or `INSTALLATION_WINDOW`."""
    limit_nano_usd: NanoUsd
    taken_nano_usd: NanoUsd
    """Spent and assumed."""
    held_nano_usd: NanoUsd
