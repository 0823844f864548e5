"""JSON of our own answers: decimals are numbers in full digits, never `2.2E-7`.

Clients read both alike, people and `grep` do not, and a table of costs in two notations cannot be compared by eye.
"""

import re
from decimal import Decimal
from typing import Any

import msgspec

_encode = msgspec.json.Encoder(decimal_format="number").encode
_EXPONENT = re.compile(rb"[0-9][Ee][+-][0-9]")
_NUMBER = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|(-?[0-9]+(?:\.[0-9]+)?[Ee][+-][0-9]+)', re.DOTALL)
"""A text, which stays as it is, or a number with an exponent: msgspec writes `E` in decimals and `e` in floats."""


def encode(value: Any) -> bytes:
    """A value as JSON. Decimals are numbers."""
    text = _encode(value)
    if b"E-" in text or b"e-" in text or b"e+" in text or b"E+" in text:  # quickly: few texts have one
        return _NUMBER.sub(_in_full, text) if _EXPONENT.search(text) is not None else text
    return text


def json_number(amount: Decimal | None) -> msgspec.Raw:
    """A number, or null, as a part of a value that another encoder writes."""
    return msgspec.Raw(in_full(amount).encode() if amount is not None else b"null")


def in_full(amount: Decimal) -> str:
    """A number with all its digits, and no more: `0.00000855`."""
    return f"{amount.normalize():f}"


def _in_full(found: re.Match[bytes]) -> bytes:
    text: bytes | None = found[1]
    return in_full(Decimal(text.decode())).encode() if text is not None else found[0]
