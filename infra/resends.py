"""Asking for frames that have not arrived. Knows neither the frames nor who collects them."""

import asyncio
from collections.abc import Callable

RESEND_INTERVAL_S = 1.0
MAX_RESENDS = 6
"""How often frames are asked for: together longer than a connection is dead before it is noticed."""

AskAgain = Callable[[int, int], None]
"""Asks for the frames of an attempt again, from a number on."""


class Resends:
    """Asks for frames that are missing, a few times, then gives up."""

    def __init__(self, ask_again: AskAgain, *, interval_s: float = RESEND_INTERVAL_S) -> None:
        self._ask_again = ask_again
        self._interval_s = interval_s
        self._timer: asyncio.TimerHandle | None = None
        self._asked = 0

    @property
    def are_under_way(self) -> bool:
        """Frames have been asked for, and are still missing."""
        return self._timer is not None

    def begin(self, missing: Callable[[], tuple[int, int]], give_up: Callable[[], None]) -> None:
        """Ask for what is `missing`, an attempt's frames from a number on, unless that is under way already."""
        if self._timer is None:
            self._asked = 0
            self._ask(missing, give_up)

    def end(self) -> None:
        """Nothing is missing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self, missing: Callable[[], tuple[int, int]], give_up: Callable[[], None]) -> None:
        if self._asked == MAX_RESENDS:
            self._timer = None
            give_up()
            return
        self._asked += 1
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._ask, missing, give_up)
        self._ask_again(*missing())
