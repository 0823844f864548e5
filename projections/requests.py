"""One row for each request: its model, provider, key, time, outcome and cost."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import asyncpg
import msgspec
from msgspec import Struct

from domain.call_origin import Origin
from domain.errors import BudgetExceeded
from domain.events import (
    AttemptFailed,
    AttemptLost,
    CostIncurred,
    CostReconciled,
    RequestCompleted,
    RequestFailed,
    RequestRejected,
    RequestServedFromCache,
    StoredEvent,
)
from domain.money import NanoUsd, to_usd
from domain.pricing import Price
from domain.tokens import TokenUsage
from infra.database import Connection, Pool, database_errors

Status = Literal["running", "completed", "cached", "failed", "rejected"]
MAX_PAGE = 200

_encode = msgspec.json.Encoder().encode
_decode_price = msgspec.json.Decoder(Price).decode

_TYPES = {
    "request_id": "text",
    "project_id": "text",
    "key_id": "text",
    "at": "timestamptz",
    "operation": "text",
    "model": "text",
    "provider": "text",
    "status": "text",
    "attempts": "integer",
    "latency_ms": "bigint",
    "finish_reason": "text",
    "prompt_tokens": "bigint",
    "completion_tokens": "bigint",
    "cached_prompt_tokens": "bigint",
    "cost_nano_usd": "bigint",
    "assumed_nano_usd": "bigint",
    "saved_nano_usd": "bigint",
    "tokens_estimated": "boolean",
    "cost_is_lower_bound": "boolean",
    "price": "text",
    "error_code": "text",
    "error_message": "text",
    "origin_request_id": "text",
    "metadata": "text",
    "session": "text",
    "agent": "text",
    "client": "text",
}
_JSON = ("price", "metadata")

_MERGE = ", ".join(
    (
        "status = CASE WHEN excluded.status = 'running' THEN r.status ELSE excluded.status END",
        "provider = CASE WHEN excluded.status = 'completed' THEN excluded.provider ELSE r.provider END",
        "attempts = greatest(r.attempts, excluded.attempts)",
        "prompt_tokens = r.prompt_tokens + excluded.prompt_tokens",
        "completion_tokens = r.completion_tokens + excluded.completion_tokens",
        "cached_prompt_tokens = r.cached_prompt_tokens + excluded.cached_prompt_tokens",
        "cost_nano_usd = CASE WHEN excluded.cost_nano_usd IS NULL THEN r.cost_nano_usd "
        "ELSE coalesce(r.cost_nano_usd, 0) + excluded.cost_nano_usd END",
        "assumed_nano_usd = r.assumed_nano_usd + excluded.assumed_nano_usd",
        "tokens_estimated = r.tokens_estimated OR excluded.tokens_estimated",
        "cost_is_lower_bound = r.cost_is_lower_bound OR excluded.cost_is_lower_bound",
        *(
            f"{name} = coalesce(excluded.{name}, r.{name})"
            for name in ("latency_ms", "finish_reason", "price", "error_code", "error_message")
        ),
    )
)
"""The SQL that merges a request's later events into its row."""


class RequestView(Struct, frozen=True, kw_only=True, rename="camel"):
    """A request as `GET /requests` shows it."""

    request_id: str
    key_id: str
    at: datetime
    operation: str
    model: str
    provider: str
    status: Status
    attempts: int
    latency_ms: int | None
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int
    tokens_estimated: bool
    """The provider did not report them: the answer was cut, or came without its usage."""
    cost: Decimal | None
    """None: no cost has been recorded, or the model has no price."""
    cost_is_lower_bound: bool
    """Something was used that has no known price, and the cost is without it."""
    assumed_cost: Decimal
    saved_cost: Decimal
    price: Price | None
    error_code: str | None
    error_message: str | None
    origin_request_id: str | None
    """The request whose response was served from the cache, or whose end was given again to its retry."""
    metadata: dict[str, Any] | None
    session: str | None
    """This and what follows: where it came from, as its client says."""
    agent: str | None
    client: str | None


class Requests:
    """Folds every event of a request into its row."""

    name = "requests"
    tables = ("requests",)

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Merge the events by request, then merge the results into the stored rows."""
        rows: dict[str, dict[str, Any]] = {}
        for stored in events:
            changes = _changes(stored)
            if changes is not None:
                _merge(rows, stored, changes)
        if rows:
            columns = [[rows[request_id][name] for request_id in sorted(rows)] for name in _TYPES]
            selected = ", ".join(f"{name}::json" if name in _JSON else name for name in _TYPES)
            names = ", ".join(_TYPES)
            arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_TYPES.values(), start=1))
            await connection.execute(
                f"INSERT INTO requests{suffix} AS r ({names}) SELECT {selected} FROM unnest({arrays}) AS n ({names}) "  # noqa: S608 - constants of this module
                f"ON CONFLICT (request_id) DO UPDATE SET {_MERGE}",
                *columns,
            )


class Search(Struct, frozen=True, kw_only=True):
    """A filter for requests. None means any."""

    project_id: str
    key_id: str | None = None
    status: Status | None = None
    model: str | None = None
    session: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""
    before: str | None = None
    """The request id at which the last page ended."""
    limit: int = 50


async def search(pool: Pool, filter_: Search) -> list[RequestView]:
    """Return the requests of a project that match, newest first."""
    async with database_errors():
        rows = await pool.fetch(
            "SELECT *, price::text AS price, metadata::text AS metadata FROM requests WHERE project_id = $1 "
            "AND ($2::text IS NULL OR key_id = $2) AND ($3::text IS NULL OR status = $3) "
            "AND ($4::text IS NULL OR model = $4) AND ($5::timestamptz IS NULL OR at >= $5) "
            "AND ($6::timestamptz IS NULL OR at < $6) AND ($7::text IS NULL OR request_id < $7) "
            "AND ($8::text IS NULL OR session = $8) ORDER BY request_id DESC LIMIT $9",
            filter_.project_id,
            filter_.key_id,
            filter_.status,
            filter_.model,
            filter_.since,
            filter_.until,
            filter_.before,
            filter_.session,
            filter_.limit,
        )
    return [_view(row) for row in rows]


async def get_request(pool: Pool, project_id: str, request_id: str) -> RequestView | None:
    """Return a request of a project; None if the project has no such request."""
    async with database_errors():
        row = await pool.fetchrow(
            "SELECT *, price::text AS price, metadata::text AS metadata FROM requests "
            "WHERE project_id = $1 AND request_id = $2",
            project_id,
            request_id,
        )
    return _view(row) if row is not None else None


def _changes(stored: StoredEvent) -> dict[str, Any] | None:
    """Return the columns that an event sets in its request's row; None if the event sets none."""
    match stored.event:
        case RequestCompleted() as event:
            return {
                "status": "completed",
                "provider": event.provider,  # of the target that answered
                "attempts": event.attempt,
                "latency_ms": event.latency_ms,
                "finish_reason": event.finish_reason,
                **_tokens(event.usage),
            }
        case CostIncurred() as event:
            return {
                "attempts": event.attempt,
                "cost_nano_usd": event.cost_nano_usd,
                "assumed_nano_usd": -event.replaces_assumed_nano_usd,
                "price": _encode(event.price).decode() if event.price is not None else None,
                "tokens_estimated": event.estimated or None,
                "cost_is_lower_bound": event.is_lower_bound or None,
                **(_tokens(event.usage) if event.usage is not None else {}),
            }
        case CostReconciled() as event:
            return {"cost_nano_usd": event.cost_nano_usd, "assumed_nano_usd": -event.replaces_assumed_nano_usd}
        case RequestRejected() as event:
            return {
                "status": "rejected",
                "error_code": BudgetExceeded.code,
                "error_message": f"the {event.window} budget does not cover it",
            }
        case RequestServedFromCache() as event:
            return {
                "status": "cached",
                "latency_ms": event.latency_ms,
                "saved_nano_usd": event.saved_nano_usd or 0,
                "origin_request_id": event.origin_request_id,
                **_tokens(event.usage),
            }
        case RequestFailed() as event:
            return {
                "status": "failed",
                "latency_ms": event.latency_ms,
                "error_code": event.code,
                "error_message": event.message,
                "origin_request_id": event.replays_request_id,
            }
        case AttemptFailed() as event:
            return {"attempts": event.attempt}
        case AttemptLost() as event:
            return {"attempts": event.attempt, "assumed_nano_usd": event.assumed_nano_usd}
        case _:
            return None


def _merge(rows: dict[str, dict[str, Any]], stored: StoredEvent, changes: dict[str, Any]) -> None:
    event: Any = stored.event
    row = rows.get(event.request_id)
    if row is None:
        row = rows[event.request_id] = dict.fromkeys(_TYPES) | {
            "request_id": event.request_id,
            "project_id": stored.project_id,
            "key_id": event.key_id,
            "at": stored.at,
            "operation": event.operation,
            "model": event.asked_as or event.model,
            "provider": event.provider,
            "status": "running",
            "attempts": 0,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "cached_prompt_tokens": 0,
            "assumed_nano_usd": 0,
            "saved_nano_usd": 0,
            "tokens_estimated": False,
            "cost_is_lower_bound": False,
            "metadata": _encode(event.metadata).decode() if event.metadata is not None else None,
        }
        if event.origin is not None:
            row |= {name: getattr(event.origin, name) for name in Origin.__struct_fields__}
    for name, value in changes.items():
        if value is None:
            continue
        if name == "attempts":
            row[name] = max(row[name], value)
        elif name.endswith(("_tokens", "_nano_usd")):
            row[name] = (row[name] or 0) + value
        else:
            row[name] = value


def _tokens(usage: TokenUsage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_prompt_tokens": usage.cached_prompt_tokens,
    }


def _view(row: asyncpg.Record) -> RequestView:
    cost = row["cost_nano_usd"]
    plain = (name for name in RequestView.__struct_fields__ if name in row and name not in _JSON)
    return RequestView(
        **{name: row[name] for name in plain},
        cost=to_usd(NanoUsd(cost)) if cost is not None else None,
        assumed_cost=to_usd(NanoUsd(row["assumed_nano_usd"])),
        saved_cost=to_usd(NanoUsd(row["saved_nano_usd"])),
        price=_decode_price(row["price"]) if row["price"] is not None else None,
        metadata=msgspec.json.decode(row["metadata"]) if row["metadata"] is not None else None,
    )
