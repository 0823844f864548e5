"""A request's charges, line by line: what was used, times its price, is the amount. Read from the events; kept nowhere.

Every number of it stands in the log: the price that the answer was charged at, and the breakdown. The exact sum of the
lines is rounded once, half to even, to whole nano-dollars.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from domain.events import CostIncurred, CostReconciled, StoredEvent
from domain.money import to_usd
from domain.pricing import TOKENS_PER_PRICE, CostItem, Price

_NANO = Decimal(10) ** 9


class ChargeLine(Struct, frozen=True, kw_only=True, rename="camel"):
    """One kind of what was used, in US dollars."""

    what: str
    """A class of tokens, a hosted tool, or `answer` for a cost that the provider states."""
    count: int
    unit: Literal["token", "use"]
    price: Decimal
    """Of a million tokens, or of one use."""
    source: str | None
    """The price list."""
    model: str | None
    """Of another model's tokens; null: they are the answering model's."""
    amount: Decimal
    """`count` times the price: exact, with all its digits."""


class Charge(Struct, frozen=True, kw_only=True, rename="camel"):
    """What one attempt cost, in US dollars: the lines' amounts and the rounding are the cost."""

    attempt: int
    kind: Literal["charged", "reconciled"]
    """`reconciled`: its outcome was not known, and its cost came later."""
    position: int
    """Of the event in the log."""
    provider: str
    model: str
    price: Price | None
    """The row of the price book; null: there was none."""
    lines: list[ChargeLine]
    sum: Decimal
    """Of the lines, exact."""
    rounding: Decimal
    """What makes the sum whole nano-dollars."""
    cost: Decimal | None
    """Null: the model had no price."""
    unpriced: list[str]
    """What was used and has no known price."""
    is_estimated: bool
    replaces_assumed: Decimal
    """What was assumed before."""


def charges_of(events: Sequence[StoredEvent]) -> list[Charge]:
    """Return the charges of a request, in the order of the log."""
    return [
        _incurred(stored, stored.event) if isinstance(stored.event, CostIncurred) else _reconciled(stored, stored.event)
        for stored in events
        if isinstance(stored.event, CostIncurred | CostReconciled)
    ]


def _incurred(stored: StoredEvent, event: CostIncurred) -> Charge:
    breakdown = event.breakdown
    own_source = event.price.source if event.price is not None else None
    lines = [_line(item, own_source) for item in breakdown.items] if breakdown is not None else []
    exact = sum((line.amount for line in lines), Decimal(0))
    cost = to_usd(event.cost_nano_usd) if event.cost_nano_usd is not None else None
    return Charge(
        attempt=event.attempt,
        kind="charged",
        position=stored.position,
        provider=event.provider,
        model=event.upstream_model,
        price=event.price,
        lines=lines,
        sum=exact,
        rounding=cost - exact if cost is not None else Decimal(0),
        cost=cost,
        unpriced=list(breakdown.unpriced) if breakdown is not None else [],
        is_estimated=event.estimated,
        replaces_assumed=to_usd(event.replaces_assumed_nano_usd),
    )


def _reconciled(stored: StoredEvent, event: CostReconciled) -> Charge:
    cost = to_usd(event.cost_nano_usd)
    return Charge(
        attempt=event.attempt,
        kind="reconciled",
        position=stored.position,
        provider=event.provider,
        model=event.upstream_model,
        price=None,
        lines=[],
        sum=cost,
        rounding=Decimal(0),
        cost=cost,
        unpriced=[],
        is_estimated=False,
        replaces_assumed=to_usd(event.replaces_assumed_nano_usd),
    )


def _line(item: CostItem, own_source: str | None) -> ChargeLine:
    per_million = Decimal(item.nano_usd_per_million) / _NANO
    return ChargeLine(
        what=item.token_class,
        count=item.tokens,
        unit=item.unit,
        price=per_million if item.unit == "token" else per_million / TOKENS_PER_PRICE,
        source=item.source or own_source,
        model=item.model,
        amount=per_million * item.tokens / TOKENS_PER_PRICE,
    )
