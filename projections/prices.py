"""The operator's prices. They are folded in the append of their own events, so they apply to the next request."""

from collections.abc import Sequence

import msgspec

from domain.events import PriceSet, StoredEvent
from domain.pricing import ClassPrices, PriceOverride
from infra.database import Connection, Pool, database_errors

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ClassPrices).decode


class Prices:
    """Folds `PriceSet`. Of two prices with the same start, the later event wins."""

    name = "prices"
    tables = ("price_overrides",)

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Write one row at a time: these events are few."""
        for stored in events:
            match stored.event:
                case PriceSet() as event:
                    await connection.execute(
                        f"INSERT INTO price_overrides{suffix} (provider, model, effective_from, prices) "  # noqa: S608 - a constant
                        "VALUES ($1, $2, $3, $4::text::json) "
                        "ON CONFLICT (provider, model, effective_from) DO UPDATE SET prices = excluded.prices",
                        event.provider,
                        event.model,
                        event.effective_from,
                        _encode(event.prices).decode(),
                    )
                case _:
                    continue


async def price_overrides(pool: Pool) -> list[PriceOverride]:
    """Return every price that the operator has set, in the order of their start."""
    async with database_errors():
        rows = await pool.fetch(
            "SELECT provider, model, effective_from, prices::text AS prices FROM price_overrides "
            "ORDER BY effective_from"
        )
    return [PriceOverride(**{**row, "prices": _decode(row["prices"])}) for row in rows]
