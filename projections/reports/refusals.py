"""Requests that a budget refused: how often, by day and window, and why the last of each key was.

A refusal for a rate is no event. The metric `gateway_refusals_total` counts those.
"""

from datetime import date, datetime
from decimal import Decimal

from msgspec import Struct
from sqlalchemy import BigInteger, cast, func, select

from infra.database import Pool
from infra.statements import fetch
from projections.reports.figures import dollars
from projections.reports.labels import labels_of
from projections.reports.scope import Window
from projections.reports.tables import of_scope, usage_refusals
from projections.scope import Scope

MAX_LAST = 100


class RefusedDay(Struct, kw_only=True):
    """The requests that one window refused on a day."""

    day: date
    window: str
    """`daily`, `monthly`, `project's daily`, `project's monthly` or `installation's daily`."""
    requests: int


class Refused(Struct, kw_only=True, rename="camel"):
    """A key's requests that one window refused on a day. The amounts are the last one's, in US dollars."""

    day: date
    project_id: str
    key_id: str
    key_name: str
    window: str
    requests: int
    last_at: datetime
    last_request_id: str
    limit: Decimal
    taken: Decimal
    """Spent and assumed."""
    held: Decimal
    """By other requests. If the rest would have been enough without it, waiting would have helped."""
    asked: Decimal
    """The least that the request had to hold."""


class RefusalReport(Struct, kw_only=True):
    """Refusals for money, of a window of days."""

    requests: int
    days: list[RefusedDay]
    """By day, and window."""
    last: list[Refused]
    """The newest first, at most 100."""


async def refusal_report(pool: Pool, scope: Scope, window: Window, *, most: int = MAX_LAST) -> RefusalReport:
    """Return what budgets refused. Raises as `infra.statements.fetch`."""
    c = usage_refusals.c
    conditions = [c.day.between(window.first, window.last), *of_scope(usage_refusals, scope)]
    counted = (
        select(c.day, c.window_name, cast(func.sum(c.requests), BigInteger))
        .where(*conditions)
        .group_by(c.day, c.window_name)
        .order_by(c.day, c.window_name)
    )
    days = [RefusedDay(day=row[0], window=row[1], requests=row[2]) for row in await fetch(pool, counted)]
    newest = select(usage_refusals).where(*conditions).order_by(c.last_position.desc()).limit(most)
    rows = await fetch(pool, newest)
    names = await labels_of(pool, keys=(row["key_id"] for row in rows))
    return RefusalReport(
        requests=sum(day.requests for day in days),
        days=days,
        last=[
            Refused(
                day=row["day"],
                project_id=row["project_id"],
                key_id=row["key_id"],
                key_name=names.get(row["key_id"], row["key_id"]),
                window=row["window_name"],
                requests=row["requests"],
                last_at=row["last_at"],
                last_request_id=row["last_request_id"],
                limit=dollars(row["limit_nano_usd"]),
                taken=dollars(row["taken_nano_usd"]),
                held=dollars(row["held_nano_usd"]),
                asked=dollars(row["asked_nano_usd"]),
            )
            for row in rows
        ],
    )
