"""Answers that have been paid for already: in this process's memory, in the log and its blobs, or on their way.

Memory is a front: whatever it has, the log has as well. Says nothing about who may have an answer.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from api.memory_cache import CachedResponse, MemoryCache
from api.request_context import RequestContext
from domain.events import RequestCompleted, RequestFailed, request_stream
from domain.job_result import Receipt, receipt_of
from domain.request_decider import cost_of, ending
from infra.blobs import Blobs
from infra.event_log import EventLog
from infra.replies import ReplyInbox

FOLLOW_LOOK_S = 1.0
"""How often a follower looks into the log itself, should the news that its leader has ended be lost."""


class ResponseCache:
    """Finds answers for one API process."""

    def __init__(
        self, *, log: EventLog, blobs: Blobs, inbox: ReplyInbox, memory: MemoryCache, now: Callable[[], datetime]
    ) -> None:
        self._log = log
        self._blobs = blobs
        self._inbox = inbox
        self._memory = memory
        self._now = now

    def get_local(self, ctx: RequestContext) -> CachedResponse | None:
        """The answer in this process's memory, if it is new enough."""
        min_created_at = ctx.min_created_at
        if ctx.key is None or min_created_at is None:
            return None
        return self._memory.get(ctx.key, min_created_at=min_created_at, now=ctx.inference_request.received_at)

    def remember(self, ctx: RequestContext, body: bytes, receipt: Receipt) -> None:
        """Keep a fresh answer in memory, where it may be kept."""
        if ctx.key is not None:
            entry = CachedResponse(
                request_id=ctx.inference_request.request_id,
                body=body,
                receipt=receipt,
                created_at=receipt.answered_at,
                expires_at=receipt.answered_at + timedelta(seconds=ctx.inference_request.cache.ttl_s),
            )
            self._memory.put(ctx.key, entry)

    async def load(self, ctx: RequestContext, origin: str) -> CachedResponse | None:
        """The answer that the index promises; None where its body is no longer kept."""
        cached = await self.of_request(ctx.caller.project_id, origin)
        if cached is not None and ctx.key is not None:
            self._memory.put(ctx.key, cached)
        return cached

    async def wait_for_leader(self, ctx: RequestContext, origin: str) -> CachedResponse | None:
        """Wait for the end of the request that asked the same first; None where it has no answer to share.

        Raises:
            ClientDisconnected: nobody waits here any more.

        """
        async with self._inbox.follow(origin) as ended:
            while (ctx.deadline - self._now()).total_seconds() > 0:
                stored = [event.event for event in await self._log.read_stream(request_stream(origin))]
                end = ending(stored)
                if isinstance(end, RequestFailed):
                    return None  # not shared: another leads
                if end is not None:
                    return await self.of_request(ctx.caller.project_id, origin)
                try:
                    await ctx.disconnect.or_disconnect(asyncio.wait_for(ended.wait(), FOLLOW_LOOK_S))
                except TimeoutError:
                    continue  # look into the log again
                ended.clear()
        return None

    async def of_request(self, project_id: str, request_id: str) -> CachedResponse | None:
        """A finished request's answer, as the log and its blob have it; None where it is not kept."""
        stored = await self._log.read_stream(request_stream(request_id))
        history = [one.event for one in stored]
        end = ending(history)
        if not isinstance(end, RequestCompleted) or end.cached_copy is None:
            return None
        cost = cost_of(history, end.attempt)
        body = await self._blobs.read(project_id, end.cached_copy.blob_id)
        if cost is None or body is None:
            return None
        created_at = next(one.at for one in stored if one.event is end)
        return CachedResponse(
            request_id=request_id,
            body=body,
            receipt=receipt_of(end, cost, created_at),
            created_at=created_at,
            expires_at=created_at + timedelta(seconds=end.cached_copy.ttl_s),
        )
