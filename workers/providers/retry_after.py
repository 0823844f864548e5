"""How long a provider asks to wait before the next call, in whichever header it says so."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 86_400.0
_METERS = ("requests", "tokens", "input-tokens", "output-tokens")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS_S = (3_600.0, 60.0, 1.0, 0.001)


def retry_after_s(headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Return the seconds to wait after a refusal; None: the provider does not say.

    `retry-after-ms` (both vendors' SDKs), then `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), then the reset
    of each limit that has nothing left: OpenAI's is a duration (`1m30s`, `12ms`), Anthropic's a time (RFC 3339). All of
    these limits have to have room again.
    """
    for name, read in (("retry-after-ms", _milliseconds), ("retry-after", _seconds_or_date)):
        wait_s = read(headers[name], now) if name in headers else None
        if wait_s is not None:
            return _bounded(wait_s)
    resets = [
        wait_s
        for meter in _METERS
        for remaining, reset, read in (
            (f"x-ratelimit-remaining-{meter}", f"x-ratelimit-reset-{meter}", _duration),
            (f"anthropic-ratelimit-{meter}-remaining", f"anthropic-ratelimit-{meter}-reset", _time),
        )
        if headers.get(remaining) == "0" and (wait_s := read(headers.get(reset, ""), now)) is not None
    ]
    return _bounded(max(resets)) if resets else None


def _bounded(wait_s: float) -> float:
    return min(MAX_RETRY_AFTER_S, max(0.0, wait_s))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _milliseconds(text: str, _now: Callable[[], datetime]) -> float | None:
    number = _number(text)
    return number / 1_000 if number is not None else None


def _seconds_or_date(text: str, now: Callable[[], datetime]) -> float | None:
    number = _number(text)
    if number is not None:
        return number
    try:
        return (parsedate_to_datetime(text) - now()).total_seconds()
    except (ValueError, TypeError):  # it is no date, or one without a zone
        return None


def _duration(text: str, _now: Callable[[], datetime]) -> float | None:
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    return sum(float(part) * unit_s for part, unit_s in zip(match.groups(), _UNITS_S, strict=True) if part is not None)


def _time(text: str, now: Callable[[], datetime]) -> float | None:
    try:
        return (datetime.fromisoformat(text) - now()).total_seconds()
    except (ValueError, TypeError):
        return None
