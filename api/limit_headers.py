"""A key's standing as response headers: in the words that OpenAI's clients know (a duration is `12ms` or `6m0s`), and
in Anthropic's (the time at which all is there again, RFC 3339).
"""

from datetime import datetime, timedelta

from domain.limits import LimitStatus, Meter
from domain.money import to_usd

_NANO_PER_MS = 1_000_000


def limit_headers(limit_status: LimitStatus) -> dict[str, str]:
    """The headers of what is limited; nothing of what is not."""
    headers: dict[str, str] = {}
    for name, meter in (("requests", limit_status.requests), ("tokens", limit_status.tokens)):
        if meter is not None:
            headers |= _meter_headers(name, meter)
    if limit_status.budget_left_nano_usd is not None:
        headers["x-gateway-budget-remaining-usd"] = f"{to_usd(limit_status.budget_left_nano_usd):f}"
    return headers


def anthropic_limit_headers(limit_status: LimitStatus, now: datetime) -> dict[str, str]:
    """The headers of what is limited, for Anthropic's clients; what a budget leaves has no words of theirs."""
    headers: dict[str, str] = {}
    for name, meter in (("requests", limit_status.requests), ("tokens", limit_status.tokens)):
        if meter is not None:
            reset = now + timedelta(microseconds=-(-meter.reset_ns // 1000))
            headers |= {
                f"anthropic-ratelimit-{name}-limit": str(meter.limit),
                f"anthropic-ratelimit-{name}-remaining": str(max(0, meter.remaining)),
                f"anthropic-ratelimit-{name}-reset": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
    if limit_status.budget_left_nano_usd is not None:
        headers["x-gateway-budget-remaining-usd"] = f"{to_usd(limit_status.budget_left_nano_usd):f}"
    return headers


def duration(nanoseconds: int) -> str:
    """A time as Go writes it, in whole milliseconds rounded up: `0s`, `12ms`, `1.5s`, `6m0s`."""
    milliseconds = -(-nanoseconds // _NANO_PER_MS)
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60 * 1000)
    seconds = f"{rest / 1000:g}s"
    return f"{minutes}m{seconds}" if minutes else seconds


def _meter_headers(name: str, meter: Meter) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{name}": str(meter.limit),
        f"x-ratelimit-remaining-{name}": str(max(0, meter.remaining)),
        f"x-ratelimit-reset-{name}": duration(meter.reset_ns),
    }
