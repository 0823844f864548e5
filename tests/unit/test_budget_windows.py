"""Budget windows are days and months of UTC."""

from datetime import UTC, date, datetime

from domain.budget import day_of, resets_at, window_start


def test_windows_are_utc_days_and_months() -> None:
    late = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    assert day_of(late.astimezone()) == date(2026, 12, 31)
    assert window_start(date(2026, 12, 31), "month") == date(2026, 12, 1)
    assert resets_at(date(2026, 12, 31), "day") == datetime(2027, 1, 1, tzinfo=UTC)
    assert resets_at(date(2026, 12, 1), "month") == datetime(2027, 1, 1, tzinfo=UTC)
