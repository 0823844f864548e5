"""One row for each request: its model, provider, key, time, outcome and cost."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from domain.errors import BudgetExceeded
from domain.events import (
    AttemptFailed,
    AttemptLost,
    CostIncurred,
    CostReconciled,
    Event,
    RequestCompleted,
    RequestFailed,
    RequestRejected,
    RequestServedFromCache,
    StoredEvent,
)
from domain.tokens import TokenUsage
from infra.database import Connection
from infra.ids import first_id
from projections.rows import RowType

Status = Literal["running", "completed", "cached", "failed", "rejected"]

_encode = msgspec.json.Encoder().encode

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
LATE_AFTER = timedelta(hours=1)
"""A request whose first event comes longer after its id was made is late: one that waited in the queue."""
_ROW = RowType("requests_row", _TYPES)
_SELECTED = ", ".join(f"{name}::json" if name in ("price", "metadata") else name for name in _TYPES)

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

    @property
    def reads(self) -> frozenset[type[Event]]:
        """The kinds of events that change a request's row."""
        return frozenset(_CHANGES)

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Merge the events by request, then merge the results into the stored rows."""
        rows: dict[str, _Row] = {}
        never_late_from = first_id("req", max([stored.at for stored in events]) - LATE_AFTER) if events else ""
        for stored in events:
            event: Any = stored.event
            if type(event) not in _CHANGES:
                continue
            change = _CHANGES[type(event)]
            row = rows.get(event.request_id)
            if row is None:
                row = rows[event.request_id] = _begun(stored, event)
                row.is_late = event.request_id < never_late_from and _is_late(stored, event)
            change(row, event)
        if rows:
            await connection.execute(
                f"INSERT INTO requests{suffix} AS r ({_ROW.names}) SELECT {_SELECTED} FROM {_ROW.source} "  # noqa: S608 - constants of this module
                f"ON CONFLICT (request_id) DO UPDATE SET {_MERGE}",
                sorted(map(astuple, rows.values())),
            )


_End: TypeAlias = RequestCompleted | RequestServedFromCache | RequestFailed | RequestRejected


class _Row(Struct, gc=False):
    """What some events of a request make of its row. The fields are those of `_TYPES`, in their order."""

    request_id: str
    project_id: str
    key_id: str
    at: datetime
    operation: str
    model: str
    provider: str
    status: Status = "running"
    attempts: int = 0
    latency_ms: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    cost_nano_usd: int | None = None
    assumed_nano_usd: int = 0
    saved_nano_usd: int = 0
    tokens_estimated: bool = False
    cost_is_lower_bound: bool = False
    price: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    origin_request_id: str | None = None
    metadata: str | None = None
    session: str | None = None
    agent: str | None = None
    client: str | None = None
    first_token_ms: int | None = None
    served_model: str | None = None
    """Of the target that the request ended at; None: it is `model`."""
    is_late: bool = False

    def end(self, status: Status, event: _End) -> None:
        self.status = status
        if event.asked_as is not None:
            self.served_model = event.model

    def add_tokens(self, usage: TokenUsage | None) -> None:
        if usage is not None:
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens
            self.cached_prompt_tokens += usage.cached_prompt_tokens

    def add_cost(self, event: CostIncurred | CostReconciled) -> None:
        if event.cost_nano_usd is not None:
            self.cost_nano_usd = (self.cost_nano_usd or 0) + event.cost_nano_usd
        self.assumed_nano_usd -= event.replaces_assumed_nano_usd
        self.add_tokens(event.usage)

    def tried(self, attempt: int) -> None:
        self.attempts = max(self.attempts, attempt)


def _begun(stored: StoredEvent, event: Any) -> _Row:
    row = _Row(
        event.request_id,
        stored.project_id,
        event.key_id,
        stored.at,
        event.operation,
        event.asked_as or event.model,
        event.provider,
    )
    if event.metadata is not None:
        row.metadata = _encode(event.metadata).decode()
    if event.origin is not None:
        row.session, row.agent, row.client = event.origin.session, event.origin.agent, event.origin.client
    return row


def _is_late(stored: StoredEvent, event: Any) -> bool:
    return bool(event.request_id < first_id("req", stored.at - LATE_AFTER))


def _completed(row: _Row, event: RequestCompleted) -> None:
    row.end("completed", event)
    row.provider = event.provider  # of the target that answered
    row.tried(event.attempt)
    row.latency_ms = event.latency_ms
    row.first_token_ms = event.first_token_ms if event.first_token_ms is not None else row.first_token_ms
    row.finish_reason = event.finish_reason if event.finish_reason is not None else row.finish_reason
    row.add_tokens(event.usage)


def _incurred(row: _Row, event: CostIncurred) -> None:
    row.tried(event.attempt)
    row.add_cost(event)
    if event.price is not None:
        row.price = _encode(event.price).decode()
    row.tokens_estimated |= event.estimated
    row.cost_is_lower_bound |= event.is_lower_bound


def _rejected(row: _Row, event: RequestRejected) -> None:
    row.end("rejected", event)
    row.error_code = BudgetExceeded.code
    row.error_message = f"the {event.window} budget does not cover it"


def _served(row: _Row, event: RequestServedFromCache) -> None:
    row.end("cached", event)
    row.latency_ms = event.latency_ms
    row.saved_nano_usd += event.saved_nano_usd or 0
    row.origin_request_id = event.origin_request_id
    row.add_tokens(event.usage)


def _failed(row: _Row, event: RequestFailed) -> None:
    row.end("failed", event)
    row.latency_ms = event.latency_ms
    row.error_code, row.error_message = event.code, event.message
    if event.replays_request_id is not None:
        row.origin_request_id = event.replays_request_id


def _lost(row: _Row, event: AttemptLost) -> None:
    row.tried(event.attempt)
    row.assumed_nano_usd += event.assumed_nano_usd


_CHANGES: Mapping[type[Event], Callable[[_Row, Any], None]] = {
    RequestCompleted: _completed,
    CostIncurred: _incurred,
    CostReconciled: _Row.add_cost,
    RequestRejected: _rejected,
    RequestServedFromCache: _served,
    RequestFailed: _failed,
    AttemptFailed: lambda row, event: row.tried(event.attempt),
    AttemptLost: _lost,
}
"""What an event changes in its request's row."""
