"""Usage summed up furthest: of a project by day, the same over all projects, and of a project and a key by month.

Who looks at everything reads these rows instead of those of every key and model. What they are of and when they count
is as in `projections/usage.py`.
"""

from collections.abc import Sequence
from datetime import timedelta

from domain.events import Event, StoredEvent
from domain.latency import bucket_of
from infra.database import Connection
from projections.histograms import add_answers, add_histograms, durations_of, empty_histograms, row_types
from projections.rollups import ALL, MONEY
from projections.rows import RowType
from projections.sums import EPOCH, SUMS, USAGE_EVENTS, Sums, add_to, usage_events

_TOTAL = {"project_id": "text", "starts_at": "timestamptz"}
_MONTH = _TOTAL | {"key_id": "text"}
_SUMS = {name: "numeric" if name in MONEY else "bigint" for name in SUMS}
_TOTAL_ROW, _MONTH_ROW = RowType("usage_totals_row", _TOTAL | _SUMS), RowType("usage_months_row", _MONTH | _SUMS)
_DURATIONS_OF, _DURATIONS = row_types("usage_total_durations", _TOTAL | {"measure": "text"})


class Totals:
    """Folds answers, costs, failures and refusals into sums of projects, and into sums of keys by month."""

    name = "totals"
    tables = ("usage_totals", "usage_total_durations", "usage_months")
    reads: frozenset[type[Event]] = USAGE_EVENTS

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Add up by project, day and key first: a batch has few of them."""
        sums = Sums()
        durations = empty_histograms()
        for stored, event in usage_events(events):
            project_day = (stored.project_id, (stored.at - EPOCH).days)
            sums.add((*project_day, event.key_id), event)
            for measure, duration_ms in durations_of(event):
                durations[project_day, measure][bucket_of(duration_ms)] += 1
        totals, months = Sums(), Sums()
        for (project_id, days, key_id), amounts in sums.items():
            at = EPOCH + timedelta(days)
            for scope in (project_id, ALL):
                totals.add_all((scope, at), amounts)
            for key in (key_id, ALL):
                months.add_all((project_id, at.replace(day=1), key), amounts)
        histograms = empty_histograms()
        for ((project_id, days), measure), answers in durations.items():
            for scope in (project_id, ALL):
                add_answers(histograms[scope, EPOCH + timedelta(days), measure], answers)
        rows = ((*group, *amounts) for group, amounts in totals.items())
        await add_to(connection, f"usage_totals{suffix}", _TOTAL_ROW, _TOTAL, rows)
        of_keys = ((*group, *amounts) for group, amounts in months.items())
        await add_to(connection, f"usage_months{suffix}", _MONTH_ROW, _MONTH, of_keys)
        await add_histograms(connection, f"usage_total_durations{suffix}", _DURATIONS_OF, _DURATIONS, histograms)
