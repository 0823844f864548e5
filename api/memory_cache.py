"""Answers in this process's memory, least recently used out first, within a limit of bytes.

A front, never the truth: whatever is here is in the log and its blobs as well.
"""

from datetime import datetime

from cachetools import LRUCache
from msgspec import Struct

from domain.job_result import Receipt

OVERHEAD_BYTES = 1_024
"""What an entry takes beside its body."""


class CachedResponse(Struct, frozen=True, kw_only=True):
    """An answer that may be given again: whose it is, what it says, until when."""

    request_id: str
    body: bytes
    receipt: Receipt
    created_at: datetime
    expires_at: datetime


class MemoryCache:
    """Cached answers by key."""

    def __init__(self, limit_bytes: int) -> None:
        self._entries: LRUCache[bytes, CachedResponse] = LRUCache(limit_bytes, getsizeof=_size_bytes)

    def get(self, key: bytes, *, min_created_at: datetime, now: datetime) -> CachedResponse | None:
        """The answer under a key, where it was made after `newer_than` and has not expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= now:
            del self._entries[key]
            return None
        return entry if entry.created_at >= min_created_at else None

    def put(self, key: bytes, entry: CachedResponse) -> None:
        """Keep an answer, if it is not older than the one that is kept, and make room for it."""
        known = self._entries.get(key)
        if known is not None and known.created_at > entry.created_at:
            return
        if _size_bytes(entry) > self._entries.maxsize:
            self._entries.pop(key, None)
            return
        self._entries[key] = entry


def _size_bytes(entry: CachedResponse) -> int:
    return len(entry.body) + OVERHEAD_BYTES
