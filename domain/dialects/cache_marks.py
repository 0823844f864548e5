"""Marks for a provider's prompt cache, as clients of every dialect write them: Anthropic's `cache_control`."""

from typing import Any

from domain.canonical.chat import CacheControl


def parse_cache_control(given: Any) -> CacheControl | None:
    """Read a mark for the prompt cache; None if it is none. A lifetime that nobody has is left out."""
    if not isinstance(given, dict) or given.get("type") != "ephemeral":
        return None
    return CacheControl(ttl=given["ttl"]) if given.get("ttl") in ("5m", "1h") else CacheControl()
