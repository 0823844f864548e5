"""The rate limit headers, with the names and formats that clients know."""

import pytest

from api.delivery import duration, limit_headers
from domain.limits import NANO_PER_S, LimitStatus, Meter
from domain.money import NanoUsd


@pytest.mark.parametrize(
    ("nanoseconds", "written"),
    [
        (0, "0s"),
        (1, "1ms"),
        (12_000_000, "12ms"),
        (NANO_PER_S, "1s"),
        (1_500_000_000, "1.5s"),
        (60 * NANO_PER_S, "1m0s"),
        (360 * NANO_PER_S, "6m0s"),
        (61_250_000_000, "1m1.25s"),
    ],
)
def test_a_duration_is_written_as_clients_read_it(nanoseconds: int, written: str) -> None:
    assert duration(nanoseconds) == written


def test_only_limited_values_are_shown() -> None:
    assert limit_headers(LimitStatus()) == {}
    limit_status = LimitStatus(
        requests=Meter(limit=60, remaining=59, reset_ns=NANO_PER_S), budget_left_nano_usd=NanoUsd(4_999_991_450)
    )
    assert limit_headers(limit_status) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-gateway-budget-remaining-usd": "4.99999145",
    }
