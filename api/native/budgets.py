"""Budgets as callers write and see them: US dollars, null for none, 0 for nothing at all."""

from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta

from domain.errors import InvalidRequest
from domain.money import NANO_PER_USD, NanoUsd, from_usd, to_usd

MAX_BUDGET_USD = 1_000_000_000

Dollars = Annotated[
    Decimal,
    Meta(
        description=f"US dollars, 0 to {MAX_BUDGET_USD}, at most nine decimals; as a text where a float is not exact",
        extra_json_schema={
            "type": ["number", "string"],
            "minimum": 0,
            "maximum": MAX_BUDGET_USD,
            "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$",
        },
    ),
]
"""US dollars, 0 to `MAX_BUDGET_USD`, in whole nano-dollars; 0 blocks."""
_FIELDS = (
    ("daily_budget", "dailyBudget"),
    ("monthly_budget", "monthlyBudget"),
    ("installation_daily_budget", "installationDailyBudget"),
)


def in_nano_usd(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a call, with its budgets as nano-dollars under the names that events have for them.

    Raises:
        InvalidRequest: a budget is no such amount.

    """
    settings = dict(given)
    for field, shown in _FIELDS:
        if field in settings:
            dollars = settings.pop(field)
            settings[f"{field}_nano_usd"] = _nano_usd(dollars, shown) if dollars is not None else None
    return settings


def dollars_of(budget: NanoUsd | None) -> Decimal | None:
    """A budget as it is shown."""
    return to_usd(budget) if budget is not None else None


def _nano_usd(dollars: Decimal, field: str) -> NanoUsd:
    exact = dollars * NANO_PER_USD if dollars.is_finite() else None
    if exact is None or not 0 <= dollars <= MAX_BUDGET_USD or exact != exact.to_integral_value():
        raise InvalidRequest(
            f"`{field}` must be US dollars, 0 to {MAX_BUDGET_USD}, with at most nine decimals", field=field
        )
    return from_usd(dollars)
