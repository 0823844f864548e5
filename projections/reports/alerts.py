"""Budget alerts that were raised, and errors by their code."""

from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct
from sqlalchemy import BigInteger, cast, func, select

from infra.database import Pool
from infra.statements import fetch
from projections.reports.figures import dollars
from projections.reports.scope import Window
from projections.reports.tables import budget_alerts, of_scope, usage_errors
from projections.scope import Scope

MAX_ALERTS = 20
MAX_CODES = 20


class Alert(Struct, kw_only=True, rename="camel"):
    """A budget's window has reached a threshold."""

    scope: Literal["project", "key"]
    id: str
    project_id: str
    period: Literal["day", "month"]
    starts_on: date
    threshold_percent: int
    limit: Decimal
    taken: Decimal
    """What was spent and assumed as it was raised, in US dollars."""
    raised_at: datetime
    told: str | None
    """`delivered` or `given_up`; null: its webhook has not been told."""


class ErrorCount(Struct, kw_only=True):
    """The requests of a window that ended with an error of this code."""

    code: str
    requests: int


async def last_alerts(pool: Pool, scope: Scope, since: datetime) -> list[Alert]:
    """Return the newest alerts of a scope, at most `MAX_ALERTS`. Raises as `infra.statements.fetch`."""
    c = budget_alerts.c
    statement = (
        select(budget_alerts).where(c.raised_at >= since).order_by(c.raised_at.desc(), c.alert).limit(MAX_ALERTS)
    )
    if scope.project_id is not None:
        statement = statement.where(c.project_id == scope.project_id)
    if scope.key_id is not None:
        statement = statement.where((c.scope == "project") | (c.scope_id == scope.key_id))
    return [
        Alert(
            scope=row["scope"],
            id=row["scope_id"],
            project_id=row["project_id"],
            period=row["period"],
            starts_on=row["starts_on"],
            threshold_percent=row["threshold_percent"],
            limit=dollars(row["limit_nano_usd"]),
            taken=dollars(row["taken_nano_usd"]),
            raised_at=row["raised_at"],
            told=row["told"],
        )
        for row in await fetch(pool, statement)
    ]


async def errors_by_code(pool: Pool, scope: Scope, window: Window) -> list[ErrorCount]:
    """Return the commonest errors, at most `MAX_CODES`. Raises as `infra.statements.fetch`."""
    c = usage_errors.c
    requests = cast(func.sum(c.requests), BigInteger)
    statement = (
        select(c.code, requests)
        .where(c.day.between(window.first, window.last), *of_scope(usage_errors, scope))
        .group_by(c.code)
        .order_by(requests.desc(), c.code)
        .limit(MAX_CODES)
    )
    return [ErrorCount(code=row[0], requests=row[1]) for row in await fetch(pool, statement)]
