"""The columns of the read models that reports read, for SQLAlchemy. `migrations/sql/` has their definitions."""

from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, Date, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from projections.attributes import KEPT
from projections.scope import Scope
from projections.sums import SUMS

_metadata = MetaData()


def _text(*names: str) -> list[Column[str]]:
    return [Column(name, Text) for name in names]


def _amounts(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger) for name in names]


usage_daily = Table(
    "usage_daily",
    _metadata,
    *_text("project_id", "key_id", "operation", "provider", "model"),
    Column("day", Date),
    *_amounts(*SUMS),
)
usage_rollups = Table(
    "usage_rollups",
    _metadata,
    *_text("project_id", "period", "key_id", "operation", "provider", "model"),
    Column("starts_at", DateTime(timezone=True)),
    *_amounts(*SUMS),
)
usage_durations = Table(
    "usage_durations",
    _metadata,
    *_text("project_id", "period", "key_id", "operation", "provider", "model", "measure"),
    Column("starts_at", DateTime(timezone=True)),
    Column("buckets", ARRAY(Integer)),
    Column("answers", ARRAY(BigInteger)),
)
usage_totals = Table(
    "usage_totals",
    _metadata,
    *_text("project_id"),
    Column("starts_at", DateTime(timezone=True)),
    *_amounts(*SUMS),
)
usage_total_durations = Table(
    "usage_total_durations",
    _metadata,
    *_text("project_id", "measure"),
    Column("starts_at", DateTime(timezone=True)),
    Column("buckets", ARRAY(Integer)),
    Column("answers", ARRAY(BigInteger)),
)
usage_months = Table(
    "usage_months",
    _metadata,
    *_text("project_id", "key_id"),
    Column("starts_at", DateTime(timezone=True)),
    *_amounts(*SUMS),
)
usage_errors = Table(
    "usage_errors",
    _metadata,
    *_text("project_id", "key_id", "provider", "model", "code"),
    Column("day", Date),
    Column("requests", BigInteger),
)
usage_attributes = Table(
    "usage_attributes",
    _metadata,
    *_text("project_id", "name", "key_id"),
    Column("day", Date),
    Column("number", Integer),
    *_amounts(*KEPT),
)
usage_attribute_values = Table(
    "usage_attribute_values",
    _metadata,
    *_text("project_id", "name", "value"),
    Column("day", Date),
    Column("number", Integer),
)
requests = Table(
    "requests",
    _metadata,
    *_text("request_id", "project_id", "key_id", "operation", "model", "provider", "status", "finish_reason"),
    *_text("error_code", "error_message", "origin_request_id", "session", "agent", "client", "served_model"),
    Column("at", DateTime(timezone=True)),
    Column("attempts", Integer),
    *_amounts("latency_ms", "first_token_ms", "prompt_tokens", "completion_tokens", "cached_prompt_tokens"),
    *_amounts("cost_nano_usd", "assumed_nano_usd", "saved_nano_usd"),
    Column("tokens_estimated", Boolean),
    Column("cost_is_lower_bound", Boolean),
    Column("is_late", Boolean),
    Column("price", JSON),
    Column("metadata", JSON),
)
budget_balances = Table(
    "budget_balances",
    _metadata,
    *_text("scope", "scope_id", "period", "project_id"),
    Column("starts_on", Date),
    *_amounts("spent_nano_usd", "assumed_nano_usd", "overage_nano_usd"),
)
held_amounts = Table(
    "held_amounts",
    _metadata,
    *_text("scope", "scope_id"),
    Column("budget_day", Date),
    *_amounts("held_nano_usd", "requests"),
)
projects = Table(
    "projects",
    _metadata,
    *_text("project_id", "name"),
    *_amounts("daily_budget_nano_usd", "monthly_budget_nano_usd", "installation_daily_budget_nano_usd"),
)
api_keys = Table(
    "api_keys",
    _metadata,
    *_text("key_id", "project_id", "hint"),
    *_amounts("daily_budget_nano_usd", "monthly_budget_nano_usd", "rate_limit", "token_limit", "concurrency_limit"),
    Column("settings", JSON),
    Column("revoked_at", DateTime(timezone=True)),
)
budget_alerts = Table(
    "budget_alerts",
    _metadata,
    *_text("alert", "project_id", "scope", "scope_id", "period", "told"),
    Column("starts_on", Date),
    Column("threshold_percent", Integer),
    *_amounts("limit_nano_usd", "taken_nano_usd"),
    Column("raised_at", DateTime(timezone=True)),
)
usage_refusals = Table(
    "usage_refusals",
    _metadata,
    *_text("project_id", "key_id", "window_name", "last_request_id"),
    Column("day", Date),
    Column("last_at", DateTime(timezone=True)),
    *_amounts("requests", "last_position", "limit_nano_usd", "taken_nano_usd", "held_nano_usd", "asked_nano_usd"),
)
inflight = Table(
    "inflight",
    _metadata,
    *_text("request_id", "project_id", "key_id", "operation", "model", "provider", "upstream_model"),
    Column("attempt", Integer),
    Column("hold_nano_usd", BigInteger),
    Column("budget_day", Date),
    *(Column(name, DateTime(timezone=True)) for name in ("admitted_at", "deadline")),
    Column("delivery", Integer),
)
meters = Table("meters", _metadata, *_text("scope", "scope_id"), *_amounts("requests_tat", "tokens_tat"))


def of_scope(table: Table, scope: Scope) -> list[ColumnElement[bool]]:
    """Return the conditions that a row of a table with projects and keys belongs to a scope."""
    conditions: list[ColumnElement[bool]] = []
    if scope.project_id is not None:
        conditions.append(table.c.project_id == scope.project_id)
    if scope.key_id is not None:
        conditions.append(table.c.key_id == scope.key_id)
    return conditions
