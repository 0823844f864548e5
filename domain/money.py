"""Money as integer nano-dollars. Nothing here, or anywhere near a sum, is a float.

One nano-dollar is 10⁻⁹ US dollars: the cheapest token sold today ($0.01 per million) is ten of them, so a price per
token is a whole number for every price that is a multiple of $0.001 per million.
"""

from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import NewType

NanoUsd = NewType("NanoUsd", int)
"""US dollars times 10⁹."""

NANO_PER_USD = 1_000_000_000
MAX_NANO_USD = NanoUsd(9_000_000_000_000_000_000)
"""The largest amount that PostgreSQL's bigint holds, rounded down: nine thousand million dollars."""

MAX_REMEMBERED_AMOUNTS = 1_024
"""In dollars: an answer has its cost in its body, its headers and its access line."""

ZERO = NanoUsd(0)


def from_usd(dollars: Decimal) -> NanoUsd:
    """Turn dollars into nano-dollars, rounded half-even.

    Raises:
        ValueError: not finite, or beyond `MAX_NANO_USD`.

    """
    if not dollars.is_finite() or abs(dollars) > MAX_NANO_USD // NANO_PER_USD:
        raise ValueError(f"{dollars} is not an amount of dollars between 0 and {MAX_NANO_USD // NANO_PER_USD}")
    return NanoUsd(int((dollars * NANO_PER_USD).to_integral_value(ROUND_HALF_EVEN)))


@lru_cache(maxsize=MAX_REMEMBERED_AMOUNTS)
def to_usd(amount: NanoUsd) -> Decimal:
    """Turn nano-dollars into dollars, exactly, without trailing zeros: 12000 → Decimal('0.000012')."""
    if not amount:
        return Decimal(0)
    dollars = Decimal(amount).scaleb(-9).normalize()
    return dollars if amount % (10 * NANO_PER_USD) else dollars.quantize(Decimal(1))  # tens of dollars: no exponent


def divide_half_even(numerator: int, denominator: int) -> int:
    """Divide non-negative integers, rounding half to even: how a cost is rounded, once per request."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    return quotient + (twice > denominator or (twice == denominator and quotient % 2 == 1))


def divide_up(numerator: int, denominator: int) -> int:
    """Divide non-negative integers, rounding up: how a hold is rounded."""
    return -(-numerator // denominator)
