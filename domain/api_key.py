"""How an API key is written: `gw_live_`, 30 characters of secret, 6 of checksum. Knows no database.

The checksum lets a mistyped or invented key be refused before anything is looked up, and lets scanners for leaked
secrets be sure of what they see.
"""

import zlib

PREFIX = "gw_live_"
SECRET_CHARS = 30
HINT_CHARS = 4
CHECKSUM_CHARS = 6
SECRET_BYTES = 32
"""How much randomness `format_api_key` wants: more than the 178 bits that 30 characters carry."""
KEY_CHARS = len(PREFIX) + SECRET_CHARS + CHECKSUM_CHARS

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHARACTERS = frozenset(_ALPHABET)


def format_api_key(randomness: bytes) -> str:
    """Write a key from `SECRET_BYTES` random bytes."""
    assert len(randomness) == SECRET_BYTES, "a key wants its randomness"
    body = PREFIX + _base62(int.from_bytes(randomness, "big"), SECRET_CHARS)
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Whether a text can be a key at all."""
    if len(key) != KEY_CHARS or not key.startswith(PREFIX) or not _CHARACTERS.issuperset(key[len(PREFIX) :]):
        return False
    return _checksum(key[:-CHECKSUM_CHARS]) == key[-CHECKSUM_CHARS:]


def hint(secret: str) -> str:
    """What may be shown of a secret: its last four characters, of one too short for that nothing."""
    return secret[-HINT_CHARS:] if len(secret) >= 2 * HINT_CHARS else ""


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_CHARS)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
