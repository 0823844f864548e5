"""The cache in memory stays within its size, and returns no response that is too old."""

from datetime import UTC, datetime, timedelta

from api.response_cache import OVERHEAD_BYTES, CachedResponse, MemoryCache
from domain.job_result import Receipt
from domain.money import NanoUsd
from domain.tokens import TokenUsage

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


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


def test_keeps_the_last_used_entries() -> None:
    cache = MemoryCache(10_000)
    for name in (b"a", b"b", b"c"):
        cache.put(name, answer(2_000))
        cache.get(b"a", min_created_at=NOW, now=NOW)
    cache.put(b"d", answer(2_000))
    found = {name for name in (b"a", b"b", b"c", b"d") if cache.get(name, min_created_at=NOW, now=NOW)}
    assert b"a" in found
    assert b"b" not in found


def test_gives_nothing_too_old_or_expired() -> None:
    cache = MemoryCache(10_000)
    cache.put(b"a", answer(10))
    assert cache.get(b"a", min_created_at=NOW + timedelta(seconds=1), now=NOW) is None
    assert cache.get(b"a", min_created_at=NOW, now=NOW) is not None
    assert cache.get(b"a", min_created_at=NOW, now=NOW + timedelta(hours=2)) is None


def test_keeps_nothing_larger_than_itself() -> None:
    cache = MemoryCache(1_000)
    cache.put(b"a", answer(2_000))
    assert cache.get(b"a", min_created_at=NOW, now=NOW) is None


def test_an_answer_that_is_too_large_leaves_the_others() -> None:
    cache = MemoryCache(10_000)
    cache.put(b"a", answer(10))
    cache.put(b"b", answer(20_000))
    assert cache.get(b"a", min_created_at=NOW, now=NOW) is not None
    cache.put(b"a", answer(20_000, NOW + timedelta(seconds=1)))
    assert cache.get(b"a", min_created_at=NOW, now=NOW) is None


def test_counts_an_answer_that_is_replaced_once() -> None:
    cache = MemoryCache(2 * (1_000 + OVERHEAD_BYTES))
    for _ in range(10):
        cache.put(b"a", answer(1_000))
    cache.put(b"b", answer(1_000))
    assert cache.get(b"a", min_created_at=NOW, now=NOW) is not None


def test_keeps_the_newer_of_two_answers() -> None:
    cache = MemoryCache(10_000)
    cache.put(b"a", answer(20, NOW + timedelta(seconds=1)))
    cache.put(b"a", answer(10))
    kept = cache.get(b"a", min_created_at=NOW, now=NOW)
    assert kept is not None
    assert len(kept.body) == 20
