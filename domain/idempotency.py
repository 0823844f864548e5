"""What a request is known by to its retries: the `Idempotency-Key` that its caller sends, or one that is derived.

The text that a caller chose is never stored: only its hash, over the project and the API key, so that two API keys
never share an answer by it. Does not decide which answers are kept (`domain/request_decider.py`).
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

MAX_REPLAYED_BYTES = 16 * 1024 * 1024
"""Of an answer that is kept for retries. A larger one is not: its retry is told so."""
DERIVED_TTL_S = 60
"""How long after its answer a derived key finds it: retries of the vendors' SDKs come within seconds."""


class Idempotency(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The key of a request, and what a retry has to have in common with it."""

    key: str
    """SHA-256, hexadecimal, over the project, the API key, and the text that the caller sent or the body."""
    fingerprint: str
    """SHA-256, hexadecimal, over the call and its body: another one under the same key is refused."""
    received_at_ms: int
    """When the request came, in whole milliseconds since 1970: a replay states the times of the first answer."""
    ttl_s: int
    """How long after its end a retry gets the same answer."""
    derived: Literal["first", "retry"] | None = None
    """None: the caller sent the key. Else it is derived from the body: only a `retry` is given what is kept."""

    @property
    def is_replayable(self) -> bool:
        """True if the request may be answered by what is kept under its key."""
        return self.derived != "first"


def sent_key(project_id: str, key_id: str, text: str) -> str:
    """Return the key of a request whose caller sent `text`."""
    return _digest("sent", (project_id.encode(), key_id.encode(), text.encode()))


def derived_key(project_id: str, key_id: str, fingerprint: str) -> str:
    """Return the key that is derived for a request with this fingerprint."""
    return _digest("derived", (project_id.encode(), key_id.encode(), fingerprint.encode()))


def fingerprint_of(path: str, query: bytes, body: bytes) -> str:
    """Return what a request has to have in common with its retry: where it was sent, and its body byte for byte."""
    return _digest("request", (path.encode(), query, body))


def _digest(purpose: str, parts: Iterable[bytes]) -> str:
    """SHA-256 over the parts, each with its length before it, so that no two lists of parts run together."""
    digest = hashlib.sha256(purpose.encode() + b"\n")
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
