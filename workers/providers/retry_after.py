"""How long a provider asks to wait before the next call: `retry-after-ms`, or `Retry-After`. Pure.

The reset of a rate limit that is used up tells as well: see `domain/provider_limits.py`.
"""

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 86_400.0


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds to wait; None: the provider does not say.

    Both vendors' SDKs read `retry-after-ms` first. `Retry-After` has seconds, or a date (RFC 9110, 10.2.3).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    wait_s = milliseconds / 1_000 if milliseconds is not None else _number(headers.get("retry-after"))
    if wait_s is None:
        wait_s = _until(headers.get("retry-after"), now)
    return min(MAX_RETRY_AFTER_S, max(0.0, wait_s)) if wait_s is not None else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _until(text: str | None, now: datetime) -> float | None:
    try:
        return (parsedate_to_datetime(text) - now).total_seconds() if text is not None else None
    except (ValueError, TypeError):  # it is no date, or one without a zone
        return None
