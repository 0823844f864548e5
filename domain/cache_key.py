"""From a question to the key under which its answer is kept. Two projects never have a key in common."""

import hashlib
from typing import Any

import msgspec

SCHEMA_VERSION = 1
"""Raise it when the canonical form of requests or answers changes: older answers are then no longer found."""

_encode = msgspec.json.Encoder(order="deterministic").encode


def canonical_body(request: Any) -> bytes:
    """The request as JSON with sorted members: equal questions have equal bytes.

    Everything that the provider is sent counts, `user` too: leaving a field out would be a guess about the provider.
    """
    return _encode(request)


def cache_key(*, project_id: str, operation: str, provider: str, upstream_model: str, body: bytes) -> bytes:
    """SHA-256 over the parts, each with its length before it, so that no two lists of parts run together."""
    digest = hashlib.sha256()
    for part in (str(SCHEMA_VERSION), project_id, operation, provider, upstream_model):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    digest.update(body)
    return digest.digest()
