"""Reads a provider's own rate limits from the headers of its answers: what is left, and until when.

Shapes: OpenAI and those that speak alike send `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as a
duration (`12ms`, `6m0s`) or in seconds; Anthropic sends `anthropic-ratelimit-KIND-{limit,remaining,reset}`, the reset
as a time (RFC 3339). A provider may write anything there: what cannot be read does not count. Pure.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Struct

MAX_WAIT_S = 86_400.0
MAX_CHARS = 64
"""Of a value that is read."""
LOW = 0.2
"""The part of a limit below which its credential gets fewer calls."""
_KINDS: tuple[tuple[str, str, str], ...] = (
    ("x-ratelimit-{}-requests", "requests", "x-ratelimit-remaining-requests"),
    ("x-ratelimit-{}-tokens", "tokens", "x-ratelimit-remaining-tokens"),
    ("anthropic-ratelimit-requests-{}", "requests", "anthropic-ratelimit-requests-remaining"),
    ("anthropic-ratelimit-tokens-{}", "tokens", "anthropic-ratelimit-tokens-remaining"),
    ("anthropic-ratelimit-input-tokens-{}", "input_tokens", "anthropic-ratelimit-input-tokens-remaining"),
    ("anthropic-ratelimit-output-tokens-{}", "output_tokens", "anthropic-ratelimit-output-tokens-remaining"),
)
"""The names of a kind of limit's headers, what is counted, and the name whose absence ends the look."""
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS_S = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)


class ProviderLimit(Struct, frozen=True, kw_only=True):
    """What a provider says of one of its limits."""

    kind: str
    """`requests`, `tokens`, `input_tokens` or `output_tokens`."""
    remaining: int
    limit: int | None = None
    reset_s: float | None = None
    """Seconds until it is whole again; None: the provider does not say."""


def read_limits(headers: Mapping[str, str], now: datetime) -> tuple[ProviderLimit, ...]:
    """Return the limits that an answer's headers tell, in the order of the table; empty if they tell none."""
    found = []
    for pattern, kind, remaining_name in _KINDS:
        if remaining_name not in headers:
            continue
        remaining = _count(headers.get(remaining_name))
        if remaining is None:
            continue
        limit = _count(headers.get(pattern.format("limit")))
        reset_s = seconds_until(headers.get(pattern.format("reset")), now)
        found.append(ProviderLimit(kind=kind, remaining=remaining, limit=limit, reset_s=reset_s))
    return tuple(found)


def exhausted_s(limits: tuple[ProviderLimit, ...]) -> float | None:
    """Return the seconds until every exhausted limit is whole again; None: none is, or no time is told."""
    return max((one.reset_s for one in limits if one.remaining == 0 and one.reset_s is not None), default=None)


def headroom(limits: tuple[ProviderLimit, ...], age_s: float) -> float:
    """Return the share of its usual calls that a credential should get, 0 to 1, by limits told `age_s` seconds ago.

    1 as long as a fifth of each limit is left, then less in proportion; 0 once nothing is left. A limit that has been
    reset since counts as whole.
    """
    share = 1.0
    for one in limits:
        if one.reset_s is None or age_s >= one.reset_s:
            continue
        left = one.remaining / one.limit if one.limit else float(one.remaining > 0)
        share = min(share, left / LOW)
    return max(0.0, share)


def seconds_until(text: str | None, now: datetime) -> float | None:
    """Read a reset: a number of seconds, a duration, or a time with its zone. None: it is none of them."""
    if not text or len(text) > MAX_CHARS:
        return None
    seconds = _number(text)
    if seconds is None and (found := _DURATION.fullmatch(text)) is not None:
        seconds = sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS_S, strict=True) if part)
    if seconds is None:
        seconds = _until_time(text, now)
    return min(MAX_WAIT_S, max(0.0, seconds)) if seconds is not None else None


def _until_time(text: str, now: datetime) -> float | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at - now).total_seconds() if at.tzinfo is not None else (at.replace(tzinfo=UTC) - now).total_seconds()


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII) else None


def _count(text: str | None) -> int | None:
    if text is None or len(text) > MAX_CHARS:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None
