"""What of a key's limits is in use at this moment: requests and tokens a minute, requests in flight.

A rate is metered as admission does it (GCRA): what is in use drains evenly, at the limit's own rate. So ten requests of
a limit of 600 a minute are in use for a second.
"""

from datetime import datetime
from typing import Any

import asyncpg
from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, Numeric, and_, case, cast, func, or_, select

from domain.limits import NANO_PER_S
from infra.database import Pool
from infra.statements import fetch
from projections.reports.tables import api_keys, held_amounts, meters, of_scope
from projections.scope import Scope

MAX_LIMITS = 100
MAX_READ = 1_000
"""The most keys in use that are compared."""
NANO_PER_MINUTE = 60 * NANO_PER_S


class Use(Struct, frozen=True, kw_only=True):
    """A limit, and what of it is in use."""

    limit: int
    used: int


class KeyLimits(Struct, kw_only=True, rename="camel"):
    """A key whose limits are in use. Null: it has no such limit."""

    key_id: str
    name: str
    project_id: str
    requests_per_minute: Use | None
    tokens_per_minute: Use | None
    in_flight: Use | None
    requests_in_flight: int
    """With a limit or without."""

    def fullest(self) -> float:
        """The largest used part of a limit; 0 without one."""
        uses = (self.requests_per_minute, self.tokens_per_minute, self.in_flight)
        return max((use.used / use.limit if use.limit else 1.0 for use in uses if use is not None), default=0.0)


async def limits_in_use(
    pool: Pool, scope: Scope, now: datetime, *, most: int = MAX_LIMITS, read: int = MAX_READ
) -> list[KeyLimits]:
    """Return the keys of a scope that use something of their limits, the fullest first; at most `read` are compared.

    Raises:
        Unavailable: the database is away.

    """
    now_ns = round(now.timestamp() * 1_000_000) * 1_000
    k, m, h = api_keys.c, meters.c, held_amounts.c
    flying = (
        select(h.scope_id, cast(func.sum(h.requests), BigInteger).label("requests"))
        .where(h.scope == "key")
        .group_by(h.scope_id)
        .having(func.sum(h.requests) > 0)
        .subquery()
    )
    in_flight = func.coalesce(flying.c.requests, 0)
    statement = (
        select(
            k.key_id,
            k.project_id,
            k.settings["name"].astext.label("name"),
            *(k[name] for name in ("rate_limit", "token_limit", "concurrency_limit")),
            func.coalesce(m.requests_tat, 0).label("requests_tat"),
            func.coalesce(m.tokens_tat, 0).label("tokens_tat"),
            in_flight.label("in_flight"),
        )
        .select_from(
            api_keys.outerjoin(meters, and_(m.scope == "key", m.scope_id == k.key_id)).outerjoin(
                flying, flying.c.scope_id == k.key_id
            )
        )
        .where(
            k.revoked_at.is_(None),
            or_(m.requests_tat > now_ns, m.tokens_tat > now_ns, in_flight > 0),
            *of_scope(api_keys, scope),
        )
        .order_by(_used(now_ns, in_flight).desc(), in_flight.desc(), k.key_id)
        .limit(read)
    )
    found = [_shown(row, now_ns) for row in await fetch(pool, statement)]
    return sorted(found, key=lambda one: (-one.fullest(), one.key_id))[:most]


def _used(now_ns: int, in_flight: ColumnElement[Any]) -> ColumnElement[Any]:
    """The largest used part of a key's limits, but for the rounding of what is metered."""
    k, m = api_keys.c, meters.c
    return func.greatest(
        *(
            case((limit.is_not(None), cast(func.coalesce(tat, now_ns) - now_ns, Numeric) / NANO_PER_MINUTE), else_=0)
            for limit, tat in ((k.rate_limit, m.requests_tat), (k.token_limit, m.tokens_tat))
        ),
        func.coalesce(cast(in_flight, Numeric) / func.nullif(k.concurrency_limit, 0), 0),
    )


def _shown(row: asyncpg.Record, now_ns: int) -> KeyLimits:
    flying, concurrency = row["in_flight"], row["concurrency_limit"]
    return KeyLimits(
        key_id=row["key_id"],
        name=row["name"],
        project_id=row["project_id"],
        requests_per_minute=metered(row["rate_limit"], row["requests_tat"] - now_ns),
        tokens_per_minute=metered(row["token_limit"], row["tokens_tat"] - now_ns),
        in_flight=None if concurrency is None else Use(limit=concurrency, used=flying),
        requests_in_flight=flying,
    )


def metered(limit: int | None, full_again_ns: Any) -> Use | None:
    """What a rate's arrival time, so far ahead of now, says of its use: as `report` in the migrations counts it."""
    if limit is None:
        return None
    if limit == 0:
        return Use(limit=0, used=0)
    interval_ns = -(-NANO_PER_MINUTE // limit)
    return Use(limit=limit, used=min(limit, -(-max(0, int(full_again_ns)) // interval_ns)))
