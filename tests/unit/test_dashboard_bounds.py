"""However much there is to show, a page makes a bounded part of it at once."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import date, timedelta
from typing import Any

import pytest

from api.dashboard.csv_files import csv_pieces, csv_text
from api.dashboard.pages.budgets import MAX_CHART_DAYS, refusal_chart
from api.dashboard.report_filters import ReportFilters
from api.report_scope import MAX_DAYS
from domain.errors import InvalidRequest
from projections.reports.refusals import RefusalReport, RefusedDay
from projections.reports.scope import Window

TODAY = date(2026, 11, 26)


@pytest.mark.parametrize("asked", [{"range": "9999"}, {"first": "1990-01-01", "last": "2026-01-01"}])
def test_more_days_than_can_be_shown_are_refused_however_they_are_asked_for(asked: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        ReportFilters(**asked).window()
    assert ReportFilters(range=f"{MAX_DAYS}").window().days == MAX_DAYS


def test_a_chart_of_refusals_has_the_last_days_of_a_long_window() -> None:
    report = RefusalReport(requests=1, days=[RefusedDay(day=TODAY, window="daily", requests=1)], last=[])
    chart = refusal_chart(report, Window(first=TODAY - timedelta(days=2_000), last=TODAY))
    assert len(chart.points) == MAX_CHART_DAYS
    assert (chart.points[-1].at.date(), chart.points[-1].values) == (TODAY, (1,))


async def test_a_table_in_pieces_is_the_table_that_is_written_at_once() -> None:
    async def pages() -> AsyncIterator[Iterable[Sequence[Any]]]:
        yield [("=1", 2)]
        yield []
        yield [(None, "a,b")]

    pieces = [piece async for piece in csv_pieces(("name", "cost"), pages())]
    assert b"".join(pieces).decode() == csv_text(("name", "cost"), [("=1", 2), (None, "a,b")])
    assert len(pieces) > 1
