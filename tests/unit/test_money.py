"""Money is whole nano-dollars."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import NanoUsd, divide_half_even, divide_up, from_usd, to_usd


@given(st.integers(min_value=0, max_value=9 * 10**18))
def test_dollars_and_back_is_the_same_amount(amount: int) -> None:
    assert from_usd(to_usd(NanoUsd(amount))) == amount


@given(st.integers(0, 10**24), st.integers(1, 10**9))
def test_cost_is_rounded_half_even(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(st.integers(0, 10**24), st.integers(1, 10**9))
def test_a_hold_is_rounded_up(numerator: int, denominator: int) -> None:
    assert 0 <= Fraction(divide_up(numerator, denominator)) - Fraction(numerator, denominator) < 1


def test_shows_no_trailing_zeros() -> None:
    assert f"{to_usd(NanoUsd(12_000)):f}" == "0.000012"
    assert f"{to_usd(NanoUsd(5_000_000_000)):f}" == "5"
    assert f"{to_usd(NanoUsd(0)):f}" == "0"


@pytest.mark.parametrize("dollars", ["NaN", "Infinity", "1e20"])
def test_refuses_invalid_amounts(dollars: str) -> None:
    with pytest.raises(ValueError, match="is not an amount"):
        from_usd(Decimal(dollars))
