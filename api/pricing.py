"""Prices that the operator sets: one event each, in use in every process within a second."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from api.inline_append import append_and_project
from domain.errors import Unavailable
from domain.events import INSTALLATION, PriceSet, price_stream
from infra.database import Pool
from infra.event_log import Commit, EventLog
from infra.price_book import PriceBook
from projections.prices import Prices, price_overrides

REFRESH_S = 0.9
_prices = Prices()


class PriceAdmin:
    """Sets prices."""

    def __init__(self, log: EventLog, announce: Callable[[], Awaitable[None]] | None = None) -> None:
        """`announce` tells every process that there are other prices."""
        self._log = log
        self._announce = announce

    async def set_price(self, event: PriceSet) -> None:
        """Set a model's price, from a moment on. What was admitted before keeps the price it was held at."""
        stream, now = price_stream(event.provider, event.model), datetime.now(UTC)
        version = len(await self._log.read_stream(stream))
        commit = Commit(stream=stream, expected_version=version, project_id=INSTALLATION, at=now, events=(event,))
        await append_and_project(self._log, _prices, [commit])
        if self._announce is not None:
            await self._announce()


async def refresh_prices(pool: Pool, book: PriceBook, changed: asyncio.Event) -> None:
    """Refresh the book's overrides from the database until cancelled: when `changed` is set, else every second."""
    while True:
        changed.clear()
        try:
            book.set_overrides(await price_overrides(pool))
        except Unavailable:  # the last prices stay in use; admission needs the database as well
            await asyncio.sleep(REFRESH_S)
            continue
        try:
            await asyncio.wait_for(changed.wait(), REFRESH_S)
        except TimeoutError:
            continue
