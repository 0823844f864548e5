"""Durations as integer histograms: buckets can be added, and a rebuild gives the same percentiles.

Log-linear, as in HdrHistogram: below 64 ms a bucket for each millisecond, above it 32 buckets for each doubling, so a
percentile is off by at most 1.6 %.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

_STEPS = 32
_EXACT_BITS = 6
_EXACT_MS = 1 << _EXACT_BITS
MAX_MS = 7 * 24 * 3600 * 1000


def bucket_of(duration_ms: int) -> int:
    """The bucket that a duration falls into; negative ones count as 0, those beyond a week as a week."""
    if duration_ms < _EXACT_MS:
        return max(0, duration_ms)
    value = min(duration_ms, MAX_MS)
    exponent = value.bit_length() - _EXACT_BITS
    return exponent * _STEPS + (value >> exponent)


def middle_ms(bucket: int) -> int:
    """The duration in the middle of a bucket."""
    exponent = max(0, bucket // _STEPS - 1)
    return ((bucket - exponent * _STEPS) << exponent) + ((1 << exponent) >> 1)


def percentiles_ms(answers_by_bucket: Mapping[int, int], percents: Sequence[int]) -> list[int | None]:
    """For each of `percents`, the duration that so many of the answers did not exceed (nearest rank); None if there are
    no answers.
    """
    buckets = sorted(answers_by_bucket)
    up_to = list(accumulate(answers_by_bucket[bucket] for bucket in buckets))
    if not up_to or not up_to[-1]:
        return [None] * len(percents)
    ranks = (-(-up_to[-1] * percent // 100) for percent in percents)
    return [middle_ms(buckets[bisect_left(up_to, rank)]) for rank in ranks]
