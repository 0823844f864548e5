"""A charge is explained by lines that add up, with its rounding, to exactly the cost in the log."""

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from domain.events import CostIncurred, StoredEvent
from domain.extras import NO_EXTRAS
from domain.money import NanoUsd, to_usd
from domain.pricing import ClassPrices, Price, charge
from domain.tokens import TokenUsage
from projections.reports.charges import charges_of

AT = datetime(2026, 3, 1, tzinfo=UTC)
tokens, prices = st.integers(0, 2_000_000), st.integers(0, 10**12)


def stored(event: CostIncurred) -> StoredEvent:
    return StoredEvent(
        position=7, stream="request-r", version=1, type="CostIncurred", project_id="p", at=AT, event=event
    )


def incurred(usage: TokenUsage, price: Price | None) -> CostIncurred:
    applied, breakdown = charge(usage, price, NO_EXTRAS)
    return CostIncurred(
        request_id="r",
        key_id="k",
        operation="chat",
        model="m",
        provider="p",
        attempt=1,
        upstream_model="m-1",
        cost_nano_usd=breakdown.total_nano_usd if breakdown is not None else None,
        price=applied,
        breakdown=breakdown,
        hold_nano_usd=NanoUsd(1),
        budget_day=AT.date(),
    )


@given(tokens, tokens, tokens, prices, prices, prices)
def test_the_lines_and_the_rounding_are_the_cost(
    read: int, cached: int, written: int, of_input: int, of_cache: int, of_output: int
) -> None:
    usage = TokenUsage(input=read, cache_read=cached, output=written)
    row = ClassPrices(input=of_input, cache_read=of_cache, output=of_output)
    event = incurred(usage, Price(provider="p", model="m", source="tests", prices=row))
    (explained,) = charges_of([stored(event)])
    assert event.cost_nano_usd is not None
    assert sum(line.amount for line in explained.lines) + explained.rounding == to_usd(event.cost_nano_usd)
    assert abs(explained.rounding) <= Decimal("0.0000000005")
    assert all(line.amount == line.count * line.price / 1_000_000 for line in explained.lines)
    assert {line.source for line in explained.lines} <= {"tests"}


def test_a_model_without_a_price_has_no_lines_and_no_cost() -> None:
    (explained,) = charges_of([stored(incurred(TokenUsage(input=3), None))])
    assert (explained.cost, explained.lines, explained.rounding) == (None, [], 0)
