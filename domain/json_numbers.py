"""JSON of our own answers: decimals are numbers in full digits, never `2.2E-7`.

Clients read both alike, people and `grep` do not, and a table of costs in two notations cannot be compared by eye.
JSON of others, which is a `msgspec.Raw` in a value, is not for `encode`: it would be rewritten.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(decimal_format="number")
encode_with_raw = _encoder.encode
"""A value as JSON, of which parts are the JSON of others: these keep their bytes. Decimals are as Python writes them;
one that is to be in full digits is given as a `json_number`.
"""
_EXPONENT = re.compile(rb"[0-9][Ee][+-][0-9]")
_NUMBER = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|(?<![0-9.Ee+-])(-?[0-9]++(?:\.[0-9]++)?[Ee][+-]0?(?:[12]?[0-9]|30)(?![0-9]))',
    re.DOTALL,
)
"""A text, which stays as it is, or a number with an exponent: msgspec writes `E` in decimals and `e` in floats.

A number is looked at from its first character only, so that the time grows as the text does and not as its square. One
with an exponent beyond 30 keeps it: it is nobody's cost, and would be a page of zeros.
"""


def encode(value: Any) -> bytes:
    """A value without any `msgspec.Raw` of others as JSON. Decimals are numbers."""
    return _all_in_full(encode_with_raw(value))


def encode_lines(values: Sequence[Any]) -> bytes:
    """Values as `encode` writes them, each on a line, which ends."""
    return _all_in_full(_encoder.encode_lines(values))


def _all_in_full(text: bytes) -> bytes:
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
