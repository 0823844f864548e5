"""One row for each request: its model, provider, key, time, outcome and cost."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

import msgspec

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
from domain.pricing import Price
from domain.tokens import TokenUsage
from infra.database import Connection
from infra.ids import first_id

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
    "first_token_ms": "bigint",
    "served_model": "text",
    "is_late": "boolean",
}
_JSON = ("price", "metadata")
LATE_AFTER = timedelta(hours=1)
"""A request whose first event comes longer after its id was made is late: one that waited in the queue."""

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
            for name in (
                "latency_ms",
                "first_token_ms",
                "finish_reason",
                "price",
                "error_code",
                "error_message",
                "served_model",
            )
        ),
    )
)
"""The SQL that merges a request's later events into its row."""


class Requests:
    """Folds every event of a request into its row."""

    name = "requests"
    tables = ("requests",)

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Merge the events by request, then merge the results into the stored rows."""
        rows: dict[str, dict[str, Any]] = {}
        never_late_from = first_id("req", max(stored.at for stored in events) - LATE_AFTER) if events else ""
        for stored in events:
            changes = _changes(stored)
            if changes is not None:
                _merge(rows, stored, changes, never_late_from)
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


def _changes(stored: StoredEvent) -> dict[str, Any] | None:
    """Return the columns that an event sets in its request's row; None if the event sets none."""
    match stored.event:
        case RequestCompleted() as event:
            return {
                "status": "completed",
                "served_model": _served(event),
                "provider": event.provider,  # of the target that answered
                "attempts": event.attempt,
                "latency_ms": event.latency_ms,
                "first_token_ms": event.first_token_ms,
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
            return {
                "cost_nano_usd": event.cost_nano_usd,
                "assumed_nano_usd": -event.replaces_assumed_nano_usd,
                **(_tokens(event.usage) if event.usage is not None else {}),
            }
        case RequestRejected() as event:
            return {
                "status": "rejected",
                "served_model": _served(event),
                "error_code": BudgetExceeded.code,
                "error_message": f"the {event.window} budget does not cover it",
            }
        case RequestServedFromCache() as event:
            return {
                "status": "cached",
                "served_model": _served(event),
                "latency_ms": event.latency_ms,
                "saved_nano_usd": event.saved_nano_usd or 0,
                "origin_request_id": event.origin_request_id,
                **_tokens(event.usage),
            }
        case RequestFailed() as event:
            return {
                "status": "failed",
                "served_model": _served(event),
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


def _merge(rows: dict[str, dict[str, Any]], stored: StoredEvent, changes: dict[str, Any], never_late_from: str) -> None:
    """Merge an event into its request's row. Ids from `never_late_from` on are not late at any time of the batch."""
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
            "is_late": event.request_id < never_late_from
            and event.request_id < first_id("req", stored.at - LATE_AFTER),
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


def _served(event: RequestCompleted | RequestServedFromCache | RequestFailed | RequestRejected) -> str | None:
    """The model of the target that the request ended at; None: it is the one that was asked for."""
    return event.model if event.asked_as is not None else None


def _tokens(usage: TokenUsage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_prompt_tokens": usage.cached_prompt_tokens,
    }
