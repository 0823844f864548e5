"""Ids that sort by time: a prefix, 48 bits of milliseconds and 80 random bits, in Crockford's base 32 (as ULIDs)."""

import os
import time
from datetime import UTC, datetime, timedelta

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_MASK = 0x3FF
_DIGITS = 26
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = (1 << 48) - 1


def new_id(prefix: str) -> str:
    """Return a new id, such as `req_01jd…`: 26 characters after the prefix."""
    return _id(prefix, time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10), "big"))


def first_id(prefix: str, at: datetime) -> str:
    """Return the lowest id that can be made at this time: ids of before sort before it, those from then on do not."""
    past = at - _EPOCH
    return _id(
        prefix, min(max(past.days * 86_400_000 + past.seconds * 1_000 + past.microseconds // 1_000, 0), _LAST_MS), 0
    )


def time_of_id(text: str) -> datetime | None:
    """Return when an id was made, to the millisecond; None: it is no id as `new_id` makes them."""
    digits = text.rpartition("_")[2]
    if len(digits) != _DIGITS or not set(digits) <= set(_ALPHABET):
        return None
    number = 0
    for digit in digits:
        number = number << 5 | _ALPHABET.index(digit)
    time_ms = number >> 80
    return _EPOCH + timedelta(milliseconds=time_ms) if time_ms <= _LAST_MS else None


def _id(prefix: str, time_ms: int, random: int) -> str:
    number = time_ms << 80 | random
    return f"{prefix}_" + "".join([_PAIRS[number >> shift & _MASK] for shift in range(120, -1, -10)])
