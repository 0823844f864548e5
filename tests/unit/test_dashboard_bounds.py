"""However much there is to show, a page makes a bounded part of it at once."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from api.dashboard.csv_files import csv_pieces, csv_text
from api.dashboard.pages.budgets import refusal_chart
from api.dashboard.report_filters import ReportFilters
from api.dashboard.usage_charts import MAX_DAYS_BY_DAY, MAX_POINTS
from api.report_scope import MAX_DAYS
from domain.errors import InvalidRequest
from domain.money import NanoUsd, to_usd
from projections.reports.refusals import RefusalReport, RefusedDay
from projections.reports.scope import Window


@pytest.mark.parametrize("asked", [{"range": "9999"}, {"first": "1990-01-01", "last": "2026-01-01"}])
def test_more_days_than_can_be_shown_are_refused_however_they_are_asked_for(asked: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        ReportFilters(**asked).window()
    assert ReportFilters(range=f"{MAX_DAYS}").window().days == MAX_DAYS


def test_a_chart_of_refusals_has_a_point_for_each_day_or_of_a_long_window_for_each_week() -> None:
    today = datetime.now(UTC).date()
    for days, step in ((MAX_DAYS_BY_DAY, 1), (MAX_DAYS_BY_DAY + 1, 7), (MAX_DAYS, 7)):
        window = Window(first=today - timedelta(days=days - 1), last=today)
        refused = [RefusedDay(day=today - timedelta(days=ago), window="daily", requests=1) for ago in range(days)]
        chart = refusal_chart(RefusalReport(requests=days, days=refused, last=[]), window)
        moments = [point.at for point in chart.points]
        assert {after - before for before, after in pairwise(moments)} == {timedelta(days=step)}
        assert moments[-1].date() == (today if step == 1 else today - timedelta(days=today.weekday()))
        assert ("by week" in chart.label, chart.note is not None, chart.time) == (
            step == 7,
            step == 7,
            "Day (UTC)" if step == 1 else "Week from (UTC)",
        )
        counted = sum(value or 0 for point in chart.points for value in point.values)
        assert counted == days if days < MAX_POINTS * step else len(moments) == MAX_POINTS


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
