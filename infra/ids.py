"""Ids that sort by time: a prefix, 48 bits of milliseconds and 80 random bits, in Crockford's base 32 (as ULIDs)."""

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_MASK = 0x3FF


def new_id(prefix: str) -> str:
    """Return a new id, such as `req_01jd…`: 26 characters after the prefix."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return f"{prefix}_" + "".join([_PAIRS[number >> shift & _MASK] for shift in range(120, -1, -10)])
