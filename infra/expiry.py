"""A time limit for a future, for as long as a block lasts. Makes no task and no exception, unless the time is over."""

import asyncio
from typing import Any


class Expiry:
    """Has a future end with TimeoutError if it is not done in time. The block waits for it."""

    def __init__(self, waiting: "asyncio.Future[Any]", timeout_s: float) -> None:
        self._waiting = waiting
        self._timer = waiting.get_loop().call_later(timeout_s, self._expire)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        if not self._waiting.done():
            self._waiting.set_exception(TimeoutError())
