"""What is spent of the windows that run, what it will be by their ends, and every cap with what is taken of it."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import asyncpg
from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Numeric,
    Select,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
    union_all,
)

from domain.budget import Period, day_of, resets_at, window_start
from domain.budget import Scope as BudgetScope
from infra.database import Pool
from infra.statements import fetch, fetch_one
from projections.reports.figures import dollars
from projections.reports.tables import api_keys, budget_balances, held_amounts, projects, usage_rollups
from projections.scope import Scope

TREND_DAYS = 7
"""A forecast goes on as the last days went."""
MAX_CAPS = 100
CapWindow: TypeAlias = Literal["daily", "monthly", "installationDaily"]


class Spend(Struct, kw_only=True, rename="camel"):
    """What is spent in a window that runs, in US dollars."""

    spent: Decimal
    forecast: Decimal | None
    """What it will be at the end if the rest goes as the last seven days did. Null: nothing is known of these."""
    resets_at: datetime


class Cap(Struct, kw_only=True, rename="camel"):
    """One window of one budget, in US dollars: `remaining` = limit - spent - assumed - held."""

    scope: Literal["project", "key"]
    id: str
    name: str
    project_id: str
    window: CapWindow
    limit: Decimal
    spent: Decimal
    assumed: Decimal
    held: Decimal
    remaining: Decimal
    used: float
    """What is spent, assumed and held, of the limit: 0 to 1, or more. 1 if the limit is 0."""
    resets_at: datetime


class Spends(Struct, kw_only=True):
    """The two windows that run."""

    today: Spend
    month: Spend


async def spends(pool: Pool, scope: Scope, now: datetime) -> Spends:
    """Return what is spent, and forecasts. Raises as `infra.statements.fetch`."""
    today = day_of(now)
    midnight = datetime.combine(today, time(), UTC)
    month, trend = midnight.replace(day=1), midnight - timedelta(days=TREND_DAYS)
    hour_of_day = (now - midnight) / timedelta(hours=1)
    c = usage_rollups.c
    days = await fetch(
        pool,
        select(c.starts_at, func.sum(c.cost_nano_usd))
        .where(*_of(scope, "day"), c.starts_at >= min(month, trend), c.starts_at <= midnight)
        .group_by(c.starts_at),
    )
    spent = {row[0]: int(row[1]) for row in days}
    before = {day: cost for day, cost in spent.items() if trend <= day < midnight}
    spent_today = spent.get(midnight, 0)
    spent_month = sum(cost for day, cost in spent.items() if day >= month)
    ends = resets_at(month.date(), "month")
    by_tonight = by_month = None
    if before:
        of_days = (midnight - min(before)).days
        by_tonight = spent_today + await _rest_of_days(pool, scope, trend, midnight, hour_of_day) // of_days
        following = (ends - midnight).days - 1
        by_month = spent_month - spent_today + by_tonight + sum(before.values()) * following // of_days
    return Spends(
        today=Spend(spent=dollars(spent_today), forecast=_known(by_tonight), resets_at=resets_at(today, "day")),
        month=Spend(spent=dollars(spent_month), forecast=_known(by_month), resets_at=ends),
    )


async def _rest_of_days(pool: Pool, scope: Scope, begins: datetime, ends: datetime, from_hour: float) -> int:
    """What the days of a span cost after an hour of the day, in nano-dollars."""
    c = usage_rollups.c
    hour = cast(func.extract("hour", func.timezone("UTC", c.starts_at)), Numeric)
    part = case((hour > int(from_hour), Decimal(1)), else_=Decimal(str(round(1 - from_hour % 1, 6))))
    statement = select(func.coalesce(func.sum(c.cost_nano_usd * part), 0)).where(
        *_of(scope, "hour"), c.starts_at >= begins, c.starts_at < ends, hour >= int(from_hour)
    )
    row = await fetch_one(pool, statement)
    return int(row[0]) if row is not None else 0


def _known(nano_usd: int | None) -> Decimal | None:
    return dollars(nano_usd) if nano_usd is not None else None


def _of(scope: Scope, period: Literal["hour", "day"]) -> list[ColumnElement[bool]]:
    """The rows of a scope without its models' being told apart more than they must."""
    c = usage_rollups.c
    empty: ColumnElement[str] = literal_column("''")
    conditions = [c.period == literal_column(f"'{period}'")]
    if scope.project_id is not None:
        conditions.append(c.project_id == scope.project_id)
    elif scope.key_id is None:
        conditions.append(c.project_id == empty)
    conditions += [c.key_id == scope.key_id, c.key_id != empty] if scope.key_id is not None else [c.key_id == empty]
    return conditions


_COLUMNS: dict[CapWindow, tuple[str, Period]] = {
    "daily": ("daily_budget_nano_usd", "day"),
    "monthly": ("monthly_budget_nano_usd", "month"),
    "installationDaily": ("installation_daily_budget_nano_usd", "day"),
}
"""The column of a window's limit, and how long it runs."""
_CAPS: tuple[tuple[BudgetScope, CapWindow], ...] = (
    ("project", "daily"),
    ("project", "monthly"),
    ("project", "installationDaily"),
    ("key", "daily"),
    ("key", "monthly"),
)


async def caps(pool: Pool, scope: Scope, now: datetime, *, most: int = MAX_CAPS) -> list[Cap]:
    """Return the caps of a scope, the fullest first, at most so many. Raises as `infra.statements.fetch`."""
    today = day_of(now)
    every = union_all(*(_cap(scope, of, window, today) for of, window in _CAPS)).subquery()
    used = (every.c.spent + every.c.assumed + every.c.held) / func.nullif(every.c.limit_nano_usd, 0)
    rows = await fetch(pool, select(every).order_by(used.desc().nulls_first(), every.c.id).limit(most))
    return [_shown(row, today) for row in rows]


def _cap(scope: Scope, of: BudgetScope, window: CapWindow, today: date) -> Select[Any]:
    """The caps of one kind, with what is taken of each."""
    column, period = _COLUMNS[window]
    table, name = (projects, projects.c.name) if of == "project" else (api_keys, api_keys.c.settings["name"].astext)
    owner = table.c.project_id if of == "project" else table.c.key_id
    limit, start = table.c[column], window_start(today, period)
    b, h = budget_balances.c, held_amounts.c
    balance = and_(b.scope == of, b.scope_id == owner, b.period == period, b.starts_on == start)
    held = (
        select(func.coalesce(func.sum(h.held_nano_usd), 0))
        .where(
            h.scope == of, h.scope_id == owner, h.budget_day >= start, h.budget_day < resets_at(start, period).date()
        )
        .scalar_subquery()
    )
    statement = (
        select(
            literal(of).label("scope"),
            owner.label("id"),
            name.label("name"),
            table.c.project_id,
            literal(window).label("window"),
            cast(limit, Numeric).label("limit_nano_usd"),
            cast(func.coalesce(b.spent_nano_usd, 0), Numeric).label("spent"),
            cast(func.coalesce(b.assumed_nano_usd, 0), Numeric).label("assumed"),
            cast(held, Numeric).label("held"),
        )
        .select_from(table.outerjoin(budget_balances, balance))
        .where(limit.is_not(None))
    )
    if scope.project_id is not None:
        statement = statement.where(table.c.project_id == scope.project_id)
    if of == "key":
        statement = statement.where(api_keys.c.revoked_at.is_(None))
        if scope.key_id is not None:
            statement = statement.where(api_keys.c.key_id == scope.key_id)
    return statement


def _shown(row: asyncpg.Record, today: date) -> Cap:
    taken, limit = row["spent"] + row["assumed"] + row["held"], row["limit_nano_usd"]
    _, period = _COLUMNS[row["window"]]
    return Cap(
        scope=row["scope"],
        id=row["id"],
        name=row["name"],
        project_id=row["project_id"],
        window=row["window"],
        limit=dollars(limit),
        spent=dollars(row["spent"]),
        assumed=dollars(row["assumed"]),
        held=dollars(row["held"]),
        remaining=dollars(limit - taken),
        used=round(float(taken / limit), 4) if limit else 1.0,
        resets_at=resets_at(window_start(today, period), period),
    )
