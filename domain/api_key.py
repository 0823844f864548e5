"""The format of an API key: `gw_live_`, 30 characters of secret, 6 of checksum. Does no look-up.

The checksum lets a mistyped or invented key be refused before anything is looked up, and lets scanners for leaked
secrets be sure of what they see.
"""

import zlib

PREFIX = "gw_live_"
SECRET_CHARS = 30
HINT_CHARS = 4
CHECKSUM_CHARS = 6
SECRET_BYTES = 32
"""Random bytes that `format_api_key` takes: more than the 178 bits that 30 characters carry."""
KEY_CHARS = len(PREFIX) + SECRET_CHARS + CHECKSUM_CHARS

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHARACTERS = frozenset(_ALPHABET)


def format_api_key(randomness: bytes) -> str:
    """Write a key from `SECRET_BYTES` random bytes."""
    assert len(randomness) == SECRET_BYTES, "a key is made from SECRET_BYTES random bytes"
    body = PREFIX + _base62(int.from_bytes(randomness, "big"), SECRET_CHARS)
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Return True if the text has the format and the checksum of a key."""
    if len(key) != KEY_CHARS or not key.startswith(PREFIX) or not _CHARACTERS.issuperset(key[len(PREFIX) :]):
        return False
    return _checksum(key[:-CHECKSUM_CHARS]) == key[-CHECKSUM_CHARS:]


def hint(secret: str) -> str:
    """Return the last four characters of a secret, which may be shown; empty if the secret is shorter than eight."""
    return secret[-HINT_CHARS:] if len(secret) >= 2 * HINT_CHARS else ""


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_CHARS)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
