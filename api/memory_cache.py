"""Answers in this process's memory, least recently used out first, within a limit of bytes.

A front, never the truth: whatever is here is in the log and its blobs as well.
"""

from collections import OrderedDict
from datetime import datetime

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
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[bytes, CachedResponse] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes, *, min_created_at: datetime, now: datetime) -> CachedResponse | None:
        """The answer under a key, where it was made after `newer_than` and has not expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= now:
            self._remove(key)
            return None
        if entry.created_at < min_created_at:
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: CachedResponse) -> None:
        """Keep an answer, if it is not older than the one that is kept, and make room for it."""
        known = self._entries.get(key)
        if known is not None and known.created_at > entry.created_at:
            return
        self._remove(key)
        self._entries[key] = entry
        self._bytes += len(entry.body) + OVERHEAD_BYTES
        while self._bytes > self._limit_bytes and self._entries:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry.body) + OVERHEAD_BYTES
