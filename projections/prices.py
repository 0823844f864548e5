"""The operator's prices. They are folded in the append of their own events, so they apply to the next request."""

from collections.abc import Sequence

import msgspec

from domain.events import Event, PriceSet, StoredEvent
from domain.pricing import ClassPrices, PriceOverride
from infra.database import Connection, Pool, database_errors
from projections.projection import fold_streams

_decode = msgspec.json.Decoder(ClassPrices).decode


class Prices:
    """Folds `PriceSet`. Of two prices with the same start, the later event wins."""

    name = "prices"
    tables = ("price_overrides",)
    reads: frozenset[type[Event]] = frozenset({PriceSet})

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Make the rows what their streams in the log say."""
        await fold_streams(connection, "fold_prices", events, (PriceSet,), suffix)


async def price_overrides(pool: Pool) -> list[PriceOverride]:
    """Return every price that the operator has set, in the order of their start."""
    async with database_errors():
        rows = await pool.fetch(
            "SELECT provider, model, effective_from, prices::text AS prices FROM price_overrides "
            "ORDER BY effective_from"
        )
    return [PriceOverride(**{**row, "prices": _decode(row["prices"])}) for row in rows]
