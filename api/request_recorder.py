"""Appends the API's events to a request's stream: refused, failed before a worker had it, or a cache hit.

What happens from the claim on is recorded by `workers/attempt_recorder.py`.
"""

from collections.abc import Callable
from datetime import datetime

from msgspec.structs import replace

from api.request_context import RequestContext
from api.response_cache import CachedResponse
from domain.errors import GatewayError, Unavailable
from domain.events import (
    Event,
    RequestCompleted,
    RequestFailed,
    RequestRejected,
    RequestServedFromCache,
    request_stream,
)
from domain.job_result import Receipt
from domain.limits import Window
from domain.log_head import LogPosition
from domain.request_identity import RequestIdentity
from infra.event_log import Blob, Commit, EventLog


class RequestRecorder:
    """Records for one API process."""

    def __init__(self, log: EventLog, now: Callable[[], datetime]) -> None:
        self._log = log
        self._now = now

    def note_position(self, receipt: Receipt) -> None:
        """Take the log's position after an answer: the answer carries it, or a newer one."""
        self._log.note_position(receipt.log_position)

    def note_head(self, head: LogPosition) -> None:
        """Take the log's head after an append that was made elsewhere."""
        self._log.note_position(str(head))

    def served_from_cache(
        self, ctx: RequestContext, cached: CachedResponse, *, is_shared: bool, kept: Blob | None = None
    ) -> Commit:
        """The commit of a cache hit, to be appended; `is_shared`: the response of a request that was in flight.

        `kept`: the response once more, for retries under the request's idempotency key.
        """
        now = self._now()
        served = RequestServedFromCache(
            **ctx.identity.event_fields(),
            origin_request_id=cached.request_id,
            shared=is_shared,
            usage=cached.receipt.usage,
            saved_nano_usd=cached.receipt.cost_nano_usd,
            latency_ms=ctx.latency_ms(now),
            kept_blob_id=kept.blob_id if kept is not None else None,
            upstream_model=cached.receipt.upstream_model if kept is not None else None,
            is_passthrough=ctx.body.is_passthrough if kept is not None else None,
        )
        commit = _first_commit(ctx, served, now)
        return replace(commit, blobs=(kept,)) if kept is not None else commit

    async def record_replayed(
        self,
        ctx: RequestContext,
        origin: RequestCompleted | RequestServedFromCache,
        receipt: Receipt,
        *,
        is_shared: bool,
    ) -> None:
        """Record that a request got the answer of an earlier one under its idempotency key, for nothing."""
        now = self._now()
        replayed = RequestServedFromCache(
            **ctx.identity.event_fields(),
            origin_request_id=origin.request_id,
            shared=is_shared,
            usage=receipt.usage,
            saved_nano_usd=receipt.cost_nano_usd,
            latency_ms=ctx.latency_ms(now),
            replayed=True,
        )
        await self._log.append(_first_commit(ctx, replayed, now))

    async def record_replayed_error(self, ctx: RequestContext, origin: RequestFailed) -> None:
        """Record that a request got the error of an earlier one under its idempotency key."""
        now = self._now()
        failed = RequestFailed(
            **ctx.identity.event_fields(),
            code=origin.code,
            message=origin.message,
            status=origin.status,
            latency_ms=ctx.latency_ms(now),
            replays_request_id=origin.request_id,
        )
        await self._log.append(_first_commit(ctx, failed, now))

    def abandoned(self, identity: RequestIdentity) -> Commit:
        """The commit of a request whose API process died before a worker had it, to be appended as it is dropped."""
        failed = RequestFailed(
            **identity.event_fields(),
            code=Unavailable.code,
            message="its API process ended before a worker had the request",
            latency_ms=0,
        )
        return Commit(
            stream=request_stream(identity.request_id),
            expected_version=0,
            project_id=identity.project_id,
            at=self._now(),
            events=(failed,),
        )

    async def record_rejected(self, ctx: RequestContext, window: Window) -> None:
        """Record that a window of a budget has refused a request."""
        rejected = RequestRejected(
            **ctx.identity.event_fields(),
            window=window.name,
            limit_nano_usd=window.limit_nano_usd,
            taken_nano_usd=window.taken_nano_usd,
            held_nano_usd=window.held_nano_usd,
            asked_nano_usd=ctx.cost.min_hold_nano_usd,
        )
        await self._log.append(_first_commit(ctx, rejected, self._now()))

    def failed(self, ctx: RequestContext, error: GatewayError) -> Commit:
        """The commit of the error of a request that no worker has claimed, to be appended as its attempt is dropped."""
        now = self._now()
        failed = RequestFailed(
            **ctx.identity.event_fields(), code=error.code, message=error.message, latency_ms=ctx.latency_ms(now)
        )
        return _first_commit(ctx, failed, now)


def _first_commit(ctx: RequestContext, event: Event, at: datetime) -> Commit:
    identity = ctx.identity
    return Commit(
        stream=request_stream(identity.request_id),
        expected_version=0,
        project_id=identity.project_id,
        at=at,
        events=(event,),
    )
