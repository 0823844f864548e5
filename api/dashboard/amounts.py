"""Amounts of reports as the pages take them: dollars as nano-dollars, and numbers with all their digits."""

from decimal import Decimal

from domain.money import NanoUsd, from_usd


def nano(dollars: Decimal | None) -> NanoUsd | None:
    """Dollars of a report as nano-dollars."""
    return None if dollars is None else from_usd(dollars)


def plain(number: Decimal) -> str:
    """A number with all its digits, and no more: `0.00000855`."""
    return f"{number.normalize():f}"
