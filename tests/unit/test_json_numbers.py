"""Numbers of our own answers are written in full digits, and texts stay as they are."""

from decimal import Decimal

import msgspec
import pytest

from domain.json_numbers import encode, in_full, json_number

TEXT = 'a cost of 2.2E-7, "quoted" \\ 3e-5, state-of-the-art'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("2.2E-7"), b"0.00000022"),
        (Decimal("1E+3"), b"1000"),
        (Decimal("0.0125"), b"0.0125"),
        (Decimal(0), b"0"),
        (-1e-5, b"-0.00001"),
        (1.5e-7, b"0.00000015"),
        (7, b"7"),
        (None, b"null"),
    ],
)
def test_no_number_has_an_exponent(value: Decimal | float | None, written: bytes) -> None:
    assert encode([value, {"cost": value}]) == b"[" + written + b',{"cost":' + written + b"}]"


def test_a_text_that_looks_like_a_number_stays_as_it_is() -> None:
    told = {TEXT: TEXT, "cost": Decimal("1E-9"), "last": TEXT}
    assert msgspec.json.decode(encode(told)) == told | {"cost": 1e-9}
    assert encode(told).count(b"E-") == 3  # those of the texts


def test_a_number_is_written_in_full_as_a_part_of_what_another_encoder_writes() -> None:
    told = {"cost": json_number(Decimal("2.2E-7")), "unknown": json_number(None)}
    assert msgspec.json.encode(told) == b'{"cost":0.00000022,"unknown":null}'
    assert in_full(Decimal("1200.00")) == "1200"
