"""The figures of usage as they are shown. Sums stay integers until then, so that money is exact."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeVar

from msgspec import Struct

from domain.latency import percentiles_ms
from domain.money import NanoUsd, to_usd
from projections.histograms import Measure

Durations = Mapping[Measure, Mapping[int, int]]
"""By measure, the answers in each bucket of `domain/latency.py`."""
NO_DURATIONS: Durations = {}


class Figures(Struct, kw_only=True, rename="camel"):
    """The usage in a span of time. By what callers say, some of it is not counted, and null."""

    requests: int
    """The completed, cached and failed requests."""
    cached_requests: int
    failed_requests: int
    rejected_requests: int | None
    """Refused by a budget. They count in none of the others."""
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_prompt_tokens: int | None
    """The part of `promptTokens` that providers read from their caches."""
    cache_write_tokens: int | None
    """The part of `promptTokens` that providers wrote to their caches."""
    reasoning_tokens: int | None
    """The part of `completionTokens` that was thinking."""
    tokens_estimated: bool
    """The tokens of some requests are estimated: an answer was cut, or came without its usage."""
    cost: Decimal
    cost_is_lower_bound: bool
    """Some requests used something that has no known price, and the cost is without it."""
    assumed_cost: Decimal
    saved_cost: Decimal
    unpriced_requests: int
    """Requests whose cost is unknown. No sum of costs includes them."""
    avg_latency_ms: int | None
    """The mean over all responses, from a provider or the cache; None if there were none."""
    p50_latency_ms: int | None
    p95_latency_ms: int | None
    p50_first_token_ms: int | None
    """Of streams, from admission to the first of the output; None if there were none."""
    p95_first_token_ms: int | None
    cache_hit_rate: float
    """The cached requests among all that got a response, 0 to 1."""
    error_rate: float
    """The failed requests among all, 0 to 1."""


AnyFigures = TypeVar("AnyFigures", bound=Figures)


def dollars(nano_usd: int | Decimal) -> Decimal:
    """Convert a sum to dollars. PostgreSQL returns sums of bigints as exact numerics."""
    return to_usd(NanoUsd(int(nano_usd)))


def is_lower_bound(sums: Mapping[str, Any]) -> bool:
    """True if something of these sums has no known price."""
    return bool(sums["lower_bound_requests"] or sums["unpriced_requests"])


def figures(
    kind: type[AnyFigures], sums: Mapping[str, Any], durations: Durations = NO_DURATIONS, **others: Any
) -> AnyFigures:
    """Make figures of sums by their names in `projections.sums.SUMS`. `others`: the fields that `kind` has beside."""
    answered = sums["completed_requests"] + sums["cached_requests"]
    requests = answered + sums["failed_requests"]
    p50_latency_ms, p95_latency_ms = percentiles_ms(durations.get("answer", {}), (50, 95))
    p50_first_token_ms, p95_first_token_ms = percentiles_ms(durations.get("first_token", {}), (50, 95))
    return kind(
        requests=requests,
        cached_requests=sums["cached_requests"],
        failed_requests=sums["failed_requests"],
        rejected_requests=sums.get("rejected_requests"),
        prompt_tokens=sums["prompt_tokens"],
        completion_tokens=sums["completion_tokens"],
        total_tokens=sums["prompt_tokens"] + sums["completion_tokens"],
        cached_prompt_tokens=sums.get("cached_prompt_tokens"),
        cache_write_tokens=sums.get("cache_write_tokens"),
        reasoning_tokens=sums.get("reasoning_tokens"),
        tokens_estimated=sums["estimated_requests"] > 0,
        cost=dollars(sums["cost_nano_usd"]),
        cost_is_lower_bound=is_lower_bound(sums),
        assumed_cost=dollars(sums["assumed_nano_usd"]),
        saved_cost=dollars(sums["saved_nano_usd"]),
        unpriced_requests=sums["unpriced_requests"],
        avg_latency_ms=round(sums["latency_sum_ms"] / answered) if answered and "latency_sum_ms" in sums else None,
        p50_latency_ms=p50_latency_ms,
        p95_latency_ms=p95_latency_ms,
        p50_first_token_ms=p50_first_token_ms,
        p95_first_token_ms=p95_first_token_ms,
        cache_hit_rate=round(sums["cached_requests"] / answered, 4) if answered else 0.0,
        error_rate=round(sums["failed_requests"] / requests, 4) if requests else 0.0,
        **others,
    )
