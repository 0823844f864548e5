"""The log's head: a position, and the digest of the whole chain up to it. What is signed of it, and how it is written.

A signed head says that the log had this digest at this position, at this time, for whoever holds the key. Each one
names the one before it by its hash. Nothing here has a key or a signature's algorithm: `infra/audit_keys.py` has.
"""

import hashlib
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

GENESIS = hashlib.sha256(b"").digest()
"""The digest of the empty log, at position 0."""
NO_HEAD = bytes(32)
"""The `previous` of the first head."""
SHOWN_HEX_DIGITS = 32
"""Of a digest, in an answer's header: 128 bits, for which nobody finds a second log."""
MIN_HEX_DIGITS = 16
"""The fewest digits of a digest that prove something."""
MAX_REASON_CHARS = 200
_KEPT = re.compile(rf"(\d{{1,19}}):([0-9a-f]{{{MIN_HEX_DIGITS},64}})")


class LogPosition(NamedTuple):
    """A position at which a batch of the log ends, and the digest of the chain there."""

    position: int
    digest: bytes
    """The first bytes of it, if it was read from its written form."""

    def __str__(self) -> str:
        """Write it as answers carry it: `1234:9f86d081884c7d659a2feaa0c55ad015`."""
        return f"{self.position}:{self.digest.hex()[:SHOWN_HEX_DIGITS]}"


class SignedHead(Struct, frozen=True, kw_only=True):
    """A statement that the log had this digest at this position."""

    sequence: int
    """1, 2, 3 …; after a restore it goes on behind the last one that was ever signed."""
    position: int
    digest: bytes
    at: datetime
    previous: bytes
    """The `head_hash` of the head before this one; `NO_HEAD` for the first."""
    resumes_after: int | None = None
    """None, unless the operator has restored a backup. Then it is the sequence of the last head that the backup has (0:
    none); the heads between that one and this one are given up."""
    reason: str = ""
    """The operator's reason for that."""
    key_id: str
    signature: bytes


class _Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A signed head as JSON. Bytes are hexadecimal."""

    sequence: int
    position: int
    digest: str
    at: datetime
    previous: str
    resumes_after: int | None = None
    reason: str = ""
    key_id: str
    signature: str


_BYTES = ("digest", "previous", "signature")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


def signed_text(head: SignedHead) -> bytes:
    """Return what the signature of a head is made of: one value on each line, none of which has a line break."""
    resumes_after = "-" if head.resumes_after is None else str(head.resumes_after)
    return "\n".join(
        (
            "ai-gateway log head 1",
            str(head.sequence),
            str(head.position),
            head.digest.hex(),
            head.at.astimezone(UTC).isoformat(),
            head.previous.hex(),
            resumes_after,
            head.reason,
            head.key_id,
        )
    ).encode()


def head_hash(head: SignedHead) -> bytes:
    """Return the hash by which the next head names this one: SHA-256 of its text and its signature."""
    return hashlib.sha256(signed_text(head) + b"\n" + head.signature).digest()


def one_line(reason: str) -> str:
    """Return a reason as a head keeps it: what can be printed of it, on one line, cut to `MAX_REASON_CHARS`."""
    printable = "".join(character if character.isprintable() else " " for character in reason)
    return " ".join(printable.split())[:MAX_REASON_CHARS].strip()


def encode_head(head: SignedHead) -> bytes:
    """Write a head as one line of JSON, without the line break."""
    written: dict[str, Any] = {name: getattr(head, name) for name in head.__struct_fields__}
    written |= {name: written[name].hex() for name in _BYTES}
    return _encode(_Line(**written))


def decode_head(line: bytes) -> SignedHead:
    """Read a line that `encode_head` wrote.

    Raises:
        ValueError: it is no such line.

    """
    try:
        read = _decode(line)
        values: dict[str, Any] = {name: getattr(read, name) for name in read.__struct_fields__}
        values |= {name: bytes.fromhex(values[name]) for name in _BYTES}
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if read.at.tzinfo is None or read.reason != one_line(read.reason):
        raise ValueError("not a line of a signed head")
    return SignedHead(**values)


def parse_position(text: str) -> LogPosition:
    """Read a position that an answer carried. An odd last digit of the digest is left out.

    Raises:
        ValueError: it is none, or has too little of a digest to prove anything.

    """
    found = _KEPT.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not POSITION:DIGEST, with at least {MIN_HEX_DIGITS} hexadecimal digits")
    digits = found[2]
    return LogPosition(int(found[1]), bytes.fromhex(digits[: len(digits) // 2 * 2]))
