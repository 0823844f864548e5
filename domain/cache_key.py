"""The key of a request's cache entry. Two projects never share a key."""

import hashlib

import msgspec

from domain.routing import Target

SCHEMA_VERSION = 1
"""Raise it when the canonical form of requests or responses changes, so that older entries are not used."""

canonical_body = msgspec.json.Encoder(order="deterministic").encode
"""Encodes a request as JSON with sorted members: equal requests have equal bytes.

Every field that the provider is sent counts, `user` too: to leave one out would be a guess about the provider.
"""


def cache_key(*, project_id: str, operation: str, target: Target, body: bytes) -> bytes:
    """SHA-256 over the parts, each with its length before it, so that no two lists of parts run together."""
    provider = target.provider if target.base_url is None else f"{target.provider} {target.base_url}"
    parts = b""
    for part in (str(SCHEMA_VERSION), project_id, operation, provider, target.upstream_model):
        encoded = part.encode()
        parts += len(encoded).to_bytes(4, "big") + encoded
    digest = hashlib.sha256(parts)
    digest.update(body)
    return digest.digest()
