"""Figures as the pages show them: money to the digits that matter, times in UTC. Computes no sums."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from api.dashboard.charts import Unit
from domain.money import NanoUsd, to_usd
from infra.ids import time_of_id

MISSING = "–"
"""For what is not known or does not apply."""
_SMALL_DIGITS = 3
"""The digits of an amount below a dollar that are shown."""
_MS_PER_S = 1_000
_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_SHORT_COUNTS = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k"))
_EXACT_BELOW = 10_000


def money(amount: NanoUsd | None) -> str:
    """`$1,234.56`, or the first three digits of what is less than a dollar: `$0.0125`, `$0.00000855`."""
    return MISSING if amount is None else dollars(to_usd(amount))


def dollars(amount: Decimal) -> str:
    """As `money`, of an amount in dollars."""
    if amount == 0:
        return "$0"
    usd, sign = abs(amount), "−" if amount < 0 else ""
    if usd >= 1:
        return f"{sign}${usd:,.2f}"
    digits = min(9, _SMALL_DIGITS - 1 - usd.adjusted())
    text = f"{usd:.{digits}f}".rstrip("0")
    whole, _, fraction = text.partition(".")
    return f"{sign}${whole}.{fraction.ljust(2, '0')}"


def exact_money(amount: NanoUsd | None) -> str:
    """Every nano-dollar: `$0.000008550`."""
    return MISSING if amount is None else f"${to_usd(amount):,.9f}"


def plain_dollars(amount: NanoUsd | None) -> str:
    """An amount as forms and CSV files have it: `0.0125`; empty for None."""
    return "" if amount is None else f"{to_usd(amount).normalize():f}"


def count(number: int | None) -> str:
    """`1,234,567`."""
    return MISSING if number is None else f"{number:,}"


def short_count(number: int | None) -> str:
    """`1.23M`, for a figure whose exact number is near by."""
    if number is None:
        return MISSING
    for size, letter in _SHORT_COUNTS:
        if number >= max(size, _EXACT_BELOW):
            shown = number / size
            return f"{shown:.{max(0, 3 - len(str(int(shown))))}f}{letter}"
    return f"{number:,}"


def percent(share: float | Decimal | None) -> str:
    """`12.3 %` of a share between 0 and 1."""
    if share is None:
        return MISSING
    hundredths = Decimal(share) * 100
    return f"{hundredths:.0f} %" if hundredths == hundredths.to_integral_value() else f"{hundredths:.1f} %"


def milliseconds(duration_ms: int | float | None) -> str:
    """`450 ms`, `1.25 s`."""
    if duration_ms is None:
        return MISSING
    return f"{duration_ms:.0f} ms" if duration_ms < _MS_PER_S else f"{duration_ms / _MS_PER_S:.2f} s"


def in_unit(value: float | int | None, unit: Unit) -> str:
    """A figure of a chart or of a report, as its unit is written."""
    return _IN_UNIT[unit](value)


_IN_UNIT: Mapping[Unit, Callable[[Any], str]] = {
    "usd": money,
    "count": count,
    "ms": milliseconds,
    "share": percent,
}


def moment(at: datetime | None) -> str:
    """`2026-11-26 06:05:38`, in UTC."""
    return MISSING if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def came_at(request_id: str, at: datetime) -> datetime:
    """When a request came, which its id tells. `at`: when the log first had it, for ids that tell no time."""
    return time_of_id(request_id) or at


def machine_moment(at: datetime) -> str:
    """As `<time datetime>` has it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(at: datetime | None, now: datetime) -> str:
    """`3 min ago`, `in 2 h`, in whole units."""
    if at is None:
        return MISSING
    seconds = (now - at).total_seconds()
    for size, unit in _STEPS:
        if abs(seconds) >= size:
            number = int(abs(seconds) // size)
            return f"{number} {unit} ago" if seconds > 0 else f"in {number} {unit}"
    return "now"
