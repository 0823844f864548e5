"""However much there is to show, a page makes a bounded part of it at once."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from api.dashboard.csv_files import csv_pieces, csv_text
from api.dashboard.pages.budgets import MAX_CHART_DAYS, refusal_chart
from api.dashboard.report_filters import ReportFilters
from api.report_scope import MAX_DAYS
from domain.errors import InvalidRequest
from domain.money import NanoUsd, to_usd
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


def test_a_table_has_every_digit_of_a_number_and_times_as_machines_read_them() -> None:
    at = datetime(2026, 11, 26, 6, 5, tzinfo=UTC)
    row = (
        to_usd(NanoUsd(1)),
        to_usd(NanoUsd(850)),
        to_usd(NanoUsd(0)),
        to_usd(NanoUsd(10**18)),
        at,
        at.date(),
        -0.5,
        1e-5,
    )
    assert csv_text((), [row]).splitlines()[-1].split(",") == [
        "0.000000001",
        "0.00000085",
        "0",
        "1000000000",
        "2026-11-26T06:05:00+00:00",
        "2026-11-26",
        "-0.5",
        "0.00001",
    ]


async def test_a_table_in_pieces_is_the_table_that_is_written_at_once() -> None:
    async def pages() -> AsyncIterator[Iterable[Sequence[Any]]]:
        yield [("=1", 2)]
        yield []
        yield [(None, "a,b")]

    pieces = [piece async for piece in csv_pieces(("name", "cost"), pages())]
    assert b"".join(pieces).decode() == csv_text(("name", "cost"), [("=1", 2), (None, "a,b")])
    assert len(pieces) > 1
