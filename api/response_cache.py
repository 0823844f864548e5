"""Responses that have been paid for: in this process's memory, in the log and its blobs, or in flight.

Memory, within a limit of bytes, is a front: the log has all that memory has. Does not decide who may have a response.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from cachetools import LRUCache
from msgspec import Struct

from api.request_context import RequestContext
from domain.events import CachedCopy, RequestCompleted, RequestFailed, request_stream
from domain.job_result import Receipt, receipt_of
from domain.request_decider import cost_of, ending, has_moved_on
from infra.blobs import Blobs
from infra.event_log import EventLog
from infra.replies import ReplyInbox

OVERHEAD_BYTES = 1_024
"""The memory of an entry besides its body."""
FOLLOW_LOOK_S = 1.0
"""The interval in which a follower reads the log, in case the message that its leader has ended is lost."""


class CachedResponse(Struct, frozen=True, kw_only=True):
    """A cached response: the request that it answered, its body, its receipt and its expiry."""

    request_id: str
    body: bytes
    receipt: Receipt
    created_at: datetime
    expires_at: datetime


class MemoryCache:
    """Cached responses by key, in this process's memory. Evicts the least recently used."""

    def __init__(self, limit_bytes: int) -> None:
        self._entries: LRUCache[bytes, CachedResponse] = LRUCache(limit_bytes, getsizeof=_size_bytes)

    def get(self, key: bytes, *, min_created_at: datetime, now: datetime) -> CachedResponse | None:
        """Return the response under a key if it was created at or after `min_created_at` and has not expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= now:
            del self._entries[key]
            return None
        return entry if entry.created_at >= min_created_at else None

    def put(self, key: bytes, entry: CachedResponse) -> None:
        """Store a response unless the stored one is newer. Evicts others to make room."""
        stored = self._entries.get(key)
        if stored is not None and stored.created_at > entry.created_at:
            return
        if _size_bytes(entry) > self._entries.maxsize:
            self._entries.pop(key, None)
            return
        self._entries[key] = entry


class ResponseCache:
    """The response cache of one API process."""

    def __init__(
        self, *, log: EventLog, blobs: Blobs, inbox: ReplyInbox, memory: MemoryCache, now: Callable[[], datetime]
    ) -> None:
        self._log = log
        self._blobs = blobs
        self._inbox = inbox
        self._memory = memory
        self._now = now

    def get_local(self, ctx: RequestContext) -> CachedResponse | None:
        """The response in this process's memory, if it is new enough.

        None for a request with an idempotency key: whether that has an answer is looked up first, in the database.
        """
        if ctx.cache_key is None or ctx.min_created_at is None or ctx.identity.idempotency is not None:
            return None
        now = ctx.inference_request.received_at
        return self._memory.get(ctx.cache_key, min_created_at=ctx.min_created_at, now=now)

    def remember(self, ctx: RequestContext, body: bytes, receipt: Receipt) -> None:
        """Store a fresh response in memory, if it has a cache key."""
        if ctx.cache_key is not None:
            entry = CachedResponse(
                request_id=ctx.identity.request_id,
                body=body,
                receipt=receipt,
                created_at=receipt.answered_at,
                expires_at=receipt.answered_at + timedelta(seconds=ctx.inference_request.cache.ttl_s),
            )
            self._memory.put(ctx.cache_key, entry)

    async def load(self, ctx: RequestContext, origin: str) -> CachedResponse | None:
        """The response that the index names; None if its body is no longer stored."""
        cached = await self.of_request(ctx.identity.project_id, origin)
        if cached is not None and ctx.cache_key is not None:
            self._memory.put(ctx.cache_key, cached)
        return cached

    async def wait_for_leader(self, ctx: RequestContext, origin: str) -> CachedResponse | None:
        """Wait until the equal request in flight has ended; None if it has no response to share: it has failed, or gone
        on to another target, whose answer was not asked for here.

        Raises:
            ClientDisconnected: the client left first.

        """
        async with self._inbox.follow(origin) as ended:
            while ctx.remaining_s(self._now()) > 0:
                stored = [event.event for event in await self._log.read_stream(request_stream(origin))]
                end = ending(stored)
                if isinstance(end, RequestFailed):
                    return None  # not shared: another leads
                if end is not None:
                    is_same = end.cached_copy is not None and end.cached_copy.key == (ctx.cache_key or b"").hex()
                    return await self.of_request(ctx.identity.project_id, origin) if is_same else None
                if has_moved_on(stored):
                    return None
                try:
                    await ctx.disconnect.or_disconnect(asyncio.wait_for(ended.wait(), FOLLOW_LOOK_S))
                except TimeoutError:
                    continue  # read the log again
                ended.clear()
        return None

    async def of_request(self, project_id: str, request_id: str) -> CachedResponse | None:
        """A finished request's response that others may have, from the log and its blob; None if it is not stored."""
        return await self._stored(project_id, request_id, is_own=False)

    async def own_response(self, project_id: str, request_id: str) -> CachedResponse | None:
        """A finished request's response for its own caller, whether others may have it or not; None if not stored."""
        return await self._stored(project_id, request_id, is_own=True)

    async def _stored(self, project_id: str, request_id: str, *, is_own: bool) -> CachedResponse | None:
        stored = await self._log.read_stream(request_stream(request_id))
        history = [one.event for one in stored]
        end = ending(history)
        if not isinstance(end, RequestCompleted):
            return None
        copy = end.cached_copy or (end.kept_copy if is_own else None)
        cost = cost_of(history, end.attempt)
        if copy is None or cost is None:
            return None
        body = await self._blobs.read(project_id, copy.blob_id)
        if body is None:
            return None
        created_at = next(one.at for one in stored if one.event is end)
        return CachedResponse(
            request_id=request_id,
            body=body,
            receipt=receipt_of(end, cost, created_at),
            created_at=created_at,
            expires_at=created_at + timedelta(seconds=copy.ttl_s) if isinstance(copy, CachedCopy) else copy.expires_at,
        )


def _size_bytes(entry: CachedResponse) -> int:
    return len(entry.body) + OVERHEAD_BYTES
