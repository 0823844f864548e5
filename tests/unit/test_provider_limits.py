"""What the headers of a provider say of its rate limits, and what follows for its share of calls."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.provider_limits import ProviderLimit, exhausted_s, headroom, read_limits, seconds_until

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("2d", 172_800.0),
        ("17", 17.0),
        ("0.25", 0.25),
        ("2026-11-26T12:00:30Z", 30.0),
        ("2026-11-26T11:00:00Z", 0.0),
        ("2099-01-01T00:00:00Z", 86_400.0),
    ],
)
def test_reads_a_reset_in_every_form_that_vendors_write(text: str, seconds: float) -> None:
    assert seconds_until(text, NOW) == pytest.approx(min(seconds, 86_400.0))


@given(st.text(max_size=80))
def test_whatever_a_provider_writes_is_a_bounded_time_or_none(text: str) -> None:
    seconds = seconds_until(text, NOW)
    assert seconds is None or 0.0 <= seconds <= 86_400.0


def test_reads_the_limits_of_both_vendors_headers() -> None:
    assert read_limits(
        {
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": "7",
            "x-ratelimit-reset-requests": "6s",
            "x-ratelimit-remaining-tokens": "many",
        },
        NOW,
    ) == (ProviderLimit(kind="requests", remaining=7, limit=100, reset_s=6.0),)
    assert read_limits(
        {
            "anthropic-ratelimit-input-tokens-limit": "50000",
            "anthropic-ratelimit-input-tokens-remaining": "0",
            "anthropic-ratelimit-input-tokens-reset": "2026-11-26T12:00:09Z",
        },
        NOW,
    ) == (ProviderLimit(kind="input_tokens", remaining=0, limit=50_000, reset_s=9.0),)
    assert read_limits({"content-type": "application/json"}, NOW) == ()


def test_a_credential_gets_fewer_calls_the_less_is_left_of_its_limits() -> None:
    def share(remaining: int, age_s: float = 0.0) -> float:
        return headroom((ProviderLimit(kind="requests", remaining=remaining, limit=100, reset_s=10.0),), age_s)

    assert [share(remaining) for remaining in (100, 20, 10, 2, 0)] == pytest.approx([1.0, 1.0, 0.5, 0.1, 0.0])
    assert share(0, age_s=10.0) == 1.0


def test_the_scarcest_limit_counts() -> None:
    limits = (
        ProviderLimit(kind="requests", remaining=90, limit=100, reset_s=10.0),
        ProviderLimit(kind="tokens", remaining=1, limit=100, reset_s=10.0),
    )
    assert headroom(limits, 0.0) == pytest.approx(0.05)


def test_an_exhausted_limit_tells_how_long_to_wait() -> None:
    limits = (
        ProviderLimit(kind="requests", remaining=3, limit=100, reset_s=50.0),
        ProviderLimit(kind="tokens", remaining=0, limit=100, reset_s=4.0),
    )
    assert exhausted_s(limits) == 4.0
    assert exhausted_s(limits[:1]) is None
