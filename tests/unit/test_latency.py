"""Latency histograms: every bucket is narrow, and percentiles are ranks."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from domain.latency import MAX_MS, bucket_of, middle_ms, percentiles_ms


@given(st.integers(0, MAX_MS))
def test_buckets_are_within_two_percent(duration_ms: int) -> None:
    assert abs(middle_ms(bucket_of(duration_ms)) - duration_ms) <= max(0, duration_ms * 0.017)


@given(st.lists(st.integers(0, 100_000), min_size=1), st.integers(0, 100_000))
def test_buckets_grow_with_durations(durations: list[int], other: int) -> None:
    assert all(
        (bucket_of(one) <= bucket_of(other)) == (one <= other) or bucket_of(one) == bucket_of(other)
        for one in durations
    )


def test_percentiles_are_ranks() -> None:
    answers = Counter(bucket_of(n) for n in range(1, 61))
    assert percentiles_ms(answers, (50, 95)) == [30, 57]
    assert percentiles_ms({}, (50,)) == [None]


def test_what_is_out_of_bounds_is_in_the_first_or_the_last_bucket() -> None:
    assert bucket_of(-1) == bucket_of(0) == 0
    assert bucket_of(MAX_MS + 1) == bucket_of(MAX_MS)


def test_a_bucket_is_as_wide_as_its_duration_is_long() -> None:
    assert [bucket_of(duration_ms) for duration_ms in (62, 63, 64, 65, 66)] == [62, 63, 64, 64, 65]
