"""Who holds what at this moment: the attempts in flight, each with the most that it may still cost."""

from datetime import datetime
from decimal import Decimal

from msgspec import Struct
from sqlalchemy import BigInteger, Numeric, cast, func, select

from infra.database import Pool
from infra.statements import fetch, fetch_one
from projections.reports.figures import dollars
from projections.reports.labels import labels_of
from projections.reports.tables import inflight, of_scope
from projections.scope import Scope

MAX_HOLDS = 100


class Hold(Struct, kw_only=True, rename="camel"):
    """An attempt in flight."""

    request_id: str
    attempt: int
    project_id: str
    key_id: str
    key_name: str
    operation: str
    model: str
    """As the caller named it."""
    provider: str
    upstream_model: str
    """As the provider is asked for it."""
    held: Decimal
    """US dollars, in the windows of the key and of the project."""
    admitted_at: datetime
    age_s: float
    deadline: datetime
    """If the attempt has not ended by then, it is given up, and its cost assumed."""
    is_claimed: bool
    """A worker has it: the provider may have been called. False: its job is in the queue."""


class Holds(Struct, kw_only=True):
    """All attempts in flight summed up, and those that hold the most."""

    attempts: int
    held: Decimal
    """US dollars, of all of them."""
    oldest: datetime | None
    """When the first of them was admitted; null: there is none."""
    holds: list[Hold]
    """Those that hold the most, at most 100."""


async def holds(pool: Pool, scope: Scope, now: datetime, *, most: int = MAX_HOLDS) -> Holds:
    """Return what the attempts in flight of a scope hold. Raises as `infra.statements.fetch`."""
    c = inflight.c
    conditions = of_scope(inflight, scope)
    total = await fetch_one(
        pool,
        select(
            cast(func.count(), BigInteger),
            cast(func.coalesce(func.sum(c.hold_nano_usd), 0), Numeric),
            func.min(c.admitted_at),
        ).where(*conditions),
    )
    assert total is not None, "a sum is a row"
    statement = select(inflight).where(*conditions).order_by(c.hold_nano_usd.desc(), c.admitted_at, c.request_id)
    rows = await fetch(pool, statement.limit(most))
    names = await labels_of(pool, keys=(row["key_id"] for row in rows))
    return Holds(
        attempts=total[0],
        held=dollars(total[1]),
        oldest=total[2],
        holds=[
            Hold(
                **{name: row[name] for name in _AS_THEY_ARE},
                key_name=names.get(row["key_id"], row["key_id"]),
                held=dollars(row["hold_nano_usd"]),
                age_s=round(max(0.0, (now - row["admitted_at"]).total_seconds()), 3),
                is_claimed=row["delivery"] is not None,
            )
            for row in rows
        ],
    )


_AS_THEY_ARE = (
    "request_id",
    "attempt",
    "project_id",
    "key_id",
    "operation",
    "model",
    "provider",
    "upstream_model",
    "admitted_at",
    "deadline",
)
