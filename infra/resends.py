"""Requests frames that have not arrived, a few times. Knows neither the frames nor their collector."""

import asyncio
from collections.abc import Callable

RESEND_INTERVAL_S = 1.0
MAX_RESENDS = 6
"""How often frames are requested: for longer than a dead connection goes unnoticed."""

AskAgain = Callable[[int, int], None]
"""Requests the frames of an attempt again, from a number on."""


class Resends:
    """Requests missing frames a few times, then gives up."""

    def __init__(self, ask_again: AskAgain, *, interval_s: float = RESEND_INTERVAL_S) -> None:
        self._ask_again = ask_again
        self._interval_s = interval_s
        self._timer: asyncio.TimerHandle | None = None
        self._requests = 0

    @property
    def are_under_way(self) -> bool:
        """True if frames were requested and are still missing."""
        return self._timer is not None

    def begin(self, missing: Callable[[], tuple[int, int]], give_up: Callable[[], None]) -> None:
        """Request the `missing` frames of an attempt, from a number on, unless that is under way already."""
        if self._timer is None:
            self._requests = 0
            self._ask(missing, give_up)

    def end(self) -> None:
        """Stop: nothing is missing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self, missing: Callable[[], tuple[int, int]], give_up: Callable[[], None]) -> None:
        if self._requests == MAX_RESENDS:
            self._timer = None
            give_up()
            return
        self._requests += 1
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._ask, missing, give_up)
        self._ask_again(*missing())
