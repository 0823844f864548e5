"""Usage summed up for reports over many keys and projects: by hour and day, with durations, and errors by their code.

The same sums three times: of a project without its keys, of a key alone, and over all projects. `''` stands for all.
What they are of and when they count is as in `projections/usage.py`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal, TypeAlias

from domain.budget import day_of
from domain.errors import BudgetExceeded
from domain.events import Event, RequestFailed, RequestRejected, StoredEvent
from domain.latency import bucket_of
from infra.database import Connection
from projections.histograms import add_answers, add_histograms, durations_of, empty_histograms, row_types
from projections.rows import RowType
from projections.sums import EPOCH, SUMS, USAGE_EVENTS, Sums, add_to, usage_events

Period: TypeAlias = Literal["hour", "day"]
ALL = ""
"""In the place of a project, a key, an operation, a provider or a model: all of them."""

MONEY = frozenset(name for name in SUMS if name.endswith("_nano_usd"))
"""Wider than bigint, as no other table has them: one project's costs must not make the sum over all overflow, which
would stop everybody's fold. A project that does not fit into the tables of its own is set aside alone.
"""

_GROUP = {
    "project_id": "text",
    "period": "text",
    "starts_at": "timestamptz",
    **dict.fromkeys(("key_id", "operation", "provider", "model"), "text"),
}
_HISTOGRAM = _GROUP | {"measure": "text"}
_ERRORS = {"project_id": "text", "day": "date"} | dict.fromkeys(("key_id", "provider", "model", "code"), "text")

_ROLLUP = RowType("usage_rollups_row", _GROUP | {name: "numeric" if name in MONEY else "bigint" for name in SUMS})
_DURATIONS_OF, _DURATIONS = row_types("usage_durations", _HISTOGRAM)
_ERROR = RowType("usage_errors_row", _ERRORS | {"requests": "bigint"})

_FAILURES = (RequestFailed, RequestRejected)
_HOUR = timedelta(hours=1)


class Rollups:
    """Folds answers, costs, failures and refusals into sums by hour and day."""

    name = "rollups"
    tables = ("usage_rollups", "usage_durations", "usage_errors")
    reads: frozenset[type[Event]] = USAGE_EVENTS

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Add up by the finest group first: a batch has few of them."""
        sums = Sums()
        durations = empty_histograms()
        errors: Counter[tuple[str, date, str, str, str, str]] = Counter()
        for stored, event in usage_events(events):
            hour = (stored.at - EPOCH) // _HOUR
            group = (stored.project_id, hour, event.key_id, event.operation, event.provider, event.model)
            sums.add(group, event)
            for measure, duration_ms in durations_of(event):
                durations[group, measure][bucket_of(duration_ms)] += 1
            if type(event) in _FAILURES:
                code = event.code if isinstance(event, RequestFailed) else BudgetExceeded.code
                day = day_of(stored.at)
                errors[stored.project_id, day, event.key_id, event.provider, event.model, code] += 1
        rolled: Sums = Sums()
        histograms = empty_histograms()
        for finest, amounts in sums.items():
            for group in _groups(finest):
                rolled.add_all(group, amounts)
        for (finest, measure), answers in durations.items():
            for group in _groups(finest):
                add_answers(histograms[(*group, measure)], answers)
        rows = ((*group, *amounts) for group, amounts in rolled.items())
        await add_to(connection, f"usage_rollups{suffix}", _ROLLUP, _GROUP, rows)
        await add_histograms(connection, f"usage_durations{suffix}", _DURATIONS_OF, _DURATIONS, histograms)
        failed = ((*group, requests) for group, requests in errors.items())
        await add_to(connection, f"usage_errors{suffix}", _ERROR, _ERRORS, failed)


def _groups(finest: Any) -> Iterator[tuple[Any, ...]]:
    """The groups of `usage_rollups` that something counts in."""
    project_id, number, key_id, operation, provider, model = finest
    hour = EPOCH + number * _HOUR
    periods: tuple[tuple[Period, datetime], ...] = (("hour", hour), ("day", hour - timedelta(hours=hour.hour)))
    for period, starts_at in periods:
        yield project_id, period, starts_at, ALL, operation, provider, model
        yield project_id, period, starts_at, key_id, ALL, ALL, ALL
        yield ALL, period, starts_at, ALL, operation, provider, model
