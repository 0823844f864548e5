"""Amounts of reports as the pages take them: dollars as nano-dollars, and numbers with all their digits."""

from decimal import Decimal

from domain.money import NanoUsd, from_usd, to_usd


def nano(dollars: Decimal | None) -> NanoUsd | None:
    """Dollars of a report as nano-dollars."""
    return None if dollars is None else from_usd(dollars)


def dollars(amount: NanoUsd | None) -> Decimal | None:
    """Nano-dollars as dollars."""
    return None if amount is None else to_usd(amount)
