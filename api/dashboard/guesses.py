"""Limits how often keys can be guessed on the sign-in page, for each address. Each process counts for itself.

Wrong keys are spent from a store that fills up again, so that somebody who shares an address with a guesser (behind a
reverse proxy all do) waits for seconds and not for ever. Who is signed in needs no guess.
"""

import time
from collections.abc import Callable

from api.connections import address_group
from domain.errors import RateLimited

MAX_GUESSES = 20
"""Wrong keys at once, from one address."""
GUESSES_PER_S = 1.0
"""So many are given back."""
MAX_ADDRESSES = 10_000
"""Addresses that are remembered. The one that guessed longest ago makes room."""


class Guesses:
    """Counts wrong keys by address."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._full_at_s: dict[str, float] = {}
        """When each address will have all its guesses again, the one that guessed last at the end."""

    def take(self, address: str) -> None:
        """Count a guess before it is looked at, so that many at once are not more than one after another.

        Raises:
            RateLimited: there were too many.

        """
        group, now_s = address_group(address), self._now_s()
        full_at_s = max(self._full_at_s.pop(group, now_s), now_s) + 1 / GUESSES_PER_S
        wait_s = full_at_s - now_s - MAX_GUESSES / GUESSES_PER_S
        if wait_s > 0:
            self._full_at_s[group] = full_at_s - 1 / GUESSES_PER_S
            raise RateLimited(
                "too many keys that do not work were tried from this address: try again in a moment",
                retry_after_s=wait_s,
            )
        if len(self._full_at_s) >= MAX_ADDRESSES:
            del self._full_at_s[next(iter(self._full_at_s))]
        self._full_at_s[group] = full_at_s

    def give_back(self, address: str) -> None:
        """Take a guess back: the key was right."""
        group = address_group(address)
        if group in self._full_at_s:
            self._full_at_s[group] -= 1 / GUESSES_PER_S
