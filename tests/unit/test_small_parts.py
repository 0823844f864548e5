"""Latency histograms, budget windows, batches, pull's arithmetic, the memory cache, who hears of departures."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.memory_cache import CachedResponse, MemoryCache
from domain.budget import day_of, resets_at, window_start
from domain.job_result import Receipt
from domain.latency import MAX_MS, bucket_of, middle_ms, percentile_ms
from domain.money import NanoUsd
from domain.tokens import TokenUsage
from infra.cancellations import CancellationListener
from workers.delivery import delivery_number
from workers.pull import outstanding_after_status

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@given(st.integers(0, MAX_MS))
def test_a_bucket_is_within_two_percent_of_what_fell_into_it(duration_ms: int) -> None:
    assert abs(middle_ms(bucket_of(duration_ms)) - duration_ms) <= max(0, duration_ms * 0.017)


@given(st.lists(st.integers(0, 100_000), min_size=1), st.integers(0, 100_000))
def test_buckets_grow_with_durations(durations: list[int], other: int) -> None:
    assert all(
        (bucket_of(one) <= bucket_of(other)) == (one <= other) or bucket_of(one) == bucket_of(other)
        for one in durations
    )


def test_percentiles_are_ranks() -> None:
    answers = Counter(bucket_of(n) for n in range(1, 61))
    assert (percentile_ms(answers, 50), percentile_ms(answers, 95), percentile_ms({}, 50)) == (30, 57, None)


def test_windows_are_utc_days_and_months() -> None:
    late = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    assert day_of(late.astimezone()) == date(2026, 12, 31)
    assert window_start(date(2026, 12, 31), "month") == date(2026, 12, 1)
    assert resets_at(date(2026, 12, 31), "day") == datetime(2027, 1, 1, tzinfo=UTC)
    assert resets_at(date(2026, 12, 1), "month") == datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("subject", "number"),
    [
        ("$JS.ACK.JOBS.workers-sync.3.10.11.1700000000000000000.0", 3),
        ("$JS.ACK._.hash.JOBS.workers-sync.4.10.11.1700000000000000000.0.token", 4),
    ],
)
def test_reads_the_delivery_number(subject: str, number: int) -> None:
    assert delivery_number(subject) == number


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        ({"Status": "100"}, 50),
        ({"Status": "408", "Nats-Pending-Messages": "20"}, 30),
        ({"Status": "404", "Nats-Pending-Messages": "70"}, 0),
        ({"Status": "409"}, 0),
        ({}, 0),
    ],
)
def test_a_status_says_how_many_jobs_are_still_asked_for(headers: dict[str, str], left: int) -> None:
    assert outstanding_after_status(50, headers) == left


def answer(size: int, created_at: datetime = NOW) -> CachedResponse:
    receipt = Receipt(
        provider="p", upstream_model="m", usage=TokenUsage(), cost_nano_usd=NanoUsd(1), answered_at=created_at
    )
    return CachedResponse(
        request_id="r",
        body=b"x" * size,
        receipt=receipt,
        created_at=created_at,
        expires_at=created_at + timedelta(hours=1),
    )


def test_memory_keeps_what_was_used_last_within_its_bytes() -> None:
    cache = MemoryCache(10_000)
    for name in (b"a", b"b", b"c"):
        cache.put(name, answer(2_000))
        cache.get(b"a", min_created_at=NOW, now=NOW)
    cache.put(b"d", answer(2_000))
    found = {name for name in (b"a", b"b", b"c", b"d") if cache.get(name, min_created_at=NOW, now=NOW)}
    assert b"a" in found
    assert b"b" not in found


def test_memory_gives_nothing_too_old_and_nothing_expired() -> None:
    cache = MemoryCache(10_000)
    cache.put(b"a", answer(10))
    assert cache.get(b"a", min_created_at=NOW + timedelta(seconds=1), now=NOW) is None
    assert cache.get(b"a", min_created_at=NOW, now=NOW) is not None
    assert cache.get(b"a", min_created_at=NOW, now=NOW + timedelta(hours=2)) is None


def test_memory_keeps_nothing_larger_than_itself() -> None:
    cache = MemoryCache(1_000)
    cache.put(b"a", answer(2_000))
    assert cache.get(b"a", min_created_at=NOW, now=NOW) is None


async def test_of_two_who_listen_for_a_departure_the_other_hears_it_when_one_has_stopped() -> None:
    cancellations = CancellationListener()
    with cancellations.of("req_1") as first:
        with cancellations.of("req_1") as second:
            cancellations.note("req_2", is_caller=True)
        cancellations.note("req_1", is_caller=True)
    cancellations.note("req_1", is_caller=True)
    assert (first.news.is_set(), second.news.is_set()) == (True, False)


async def test_those_who_wait_with_a_caller_are_not_the_caller() -> None:
    cancellations = CancellationListener()
    with cancellations.of("req_1") as left:
        cancellations.note("req_1", is_caller=False)
        assert (left.news.is_set(), left.caller_is_gone) == (True, False)
        cancellations.note("req_1", is_caller=True)
        cancellations.note("req_1", is_caller=False)
        assert left.caller_is_gone
