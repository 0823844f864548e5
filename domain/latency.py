"""Durations as integer histograms: buckets can be added, and a rebuild gives the same percentiles.

Log-linear, as in HdrHistogram: below 64 ms a bucket for each millisecond, above it 32 buckets for each doubling, so a
percentile is off by at most 1.6 %.
"""

from collections.abc import Mapping

_STEPS = 32
MAX_MS = 7 * 24 * 3600 * 1000


def bucket_of(duration_ms: int) -> int:
    """The bucket that a duration falls into; negative ones count as 0, those beyond a week as a week."""
    value = min(max(0, duration_ms), MAX_MS)
    exponent = max(0, value.bit_length() - 6)
    return exponent * _STEPS + (value >> exponent)


def middle_ms(bucket: int) -> int:
    """The duration in the middle of a bucket."""
    exponent = max(0, bucket // _STEPS - 1)
    return ((bucket - exponent * _STEPS) << exponent) + ((1 << exponent) >> 1)


def percentile_ms(answers_by_bucket: Mapping[int, int], percent: int) -> int | None:
    """The duration that `percent` of the answers did not exceed (nearest rank); None if there are none."""
    total = sum(answers_by_bucket.values())
    if not total:
        return None
    rank = -(-total * percent // 100)
    seen = 0
    for bucket in sorted(answers_by_bucket):
        seen += answers_by_bucket[bucket]
        if seen >= rank:
            return middle_ms(bucket)
    raise AssertionError("the ranks of a histogram reach its total")
