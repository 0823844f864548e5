"""NKeys: the Ed25519 keys of NATS in its own spelling, that of github.com/nats-io/nkeys: base32 of a prefix that says
whose key it is, the key, and a CRC-16. (The library of that name has no wheel: to install it is to run its code.)
"""

import base64
import binascii
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Kind = Literal["operator", "account", "user"]
_PREFIXES: dict[Kind, int] = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
_SEED_PREFIX = 18 << 3
_SEED_BYTES = 32
_CRC_BYTES = 2
_BASE32_BLOCK = 8


class NKey:
    """A private key. Its repr shows only the public one."""

    def __init__(self, raw: bytes, kind: Kind = "user") -> None:
        """Make the key from its 32 random bytes."""
        self._raw = raw
        self._prefix = _PREFIXES[kind]
        self._key = Ed25519PrivateKey.from_private_bytes(raw)

    @classmethod
    def from_seed(cls, seed: str) -> "NKey":
        """Read a seed, such as `SUAGC3DJ…`.

        Raises:
            ValueError: it is not the seed of an operator, an account or a user.

        """
        text = seed.strip()
        decoded = base64.b32decode(text + "=" * (-len(text) % _BASE32_BLOCK))
        content, crc = decoded[:-_CRC_BYTES], decoded[-_CRC_BYTES:]
        if len(content) != 2 + _SEED_BYTES or crc != _crc(content) or content[0] & 0xF8 != _SEED_PREFIX:
            raise ValueError("not the seed of an NKey")
        prefix = (content[0] & 7) << 5 | content[1] >> 3
        for kind, number in _PREFIXES.items():
            if number == prefix:
                return cls(content[2:], kind)
        raise ValueError("the seed of an NKey that is not a user's")

    @property
    def seed(self) -> str:
        """Return the private key's text."""
        return _encoded(bytes((_SEED_PREFIX | self._prefix >> 5, (self._prefix & 31) << 3)) + self._raw)

    @property
    def public_key(self) -> str:
        """Return the public key's text, such as `UDXU4RCS…`."""
        return _encoded(bytes((self._prefix,)) + self._key.public_key().public_bytes_raw())

    def sign(self, content: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return self._key.sign(content)

    def __repr__(self) -> str:
        """Show the public key."""
        return f"NKey({self.public_key})"


def _encoded(content: bytes) -> str:
    return base64.b32encode(content + _crc(content)).decode().rstrip("=")


def _crc(content: bytes) -> bytes:
    return binascii.crc_hqx(content, 0).to_bytes(_CRC_BYTES, "little")
