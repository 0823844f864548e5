"""Has a request decided about by `admit`: limits, budgets, the cache's index, and requests in flight. Decides only.

If nothing but requests in flight stands in the way, waits for them: one queue for each key. What a refusal means for
the caller is `api/refusals.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from msgspec.structs import replace

from api.client_disconnect import ClientDisconnect
from api.request_context import RequestContext
from domain.routing import KEYLESS_KINDS
from infra.admission import Admission, AdmissionDecision, AdmissionRequest, Attempt
from infra.event_log import Commit
from infra.replies import ReplyInbox

RETRY_S = 0.025
"""The interval in which the head of a queue retries: a hold is released a moment after its response."""
WAITING = ("budget_held", "concurrency")


class StaleKey(Exception):
    """The key works no longer, or has other settings than the request was planned with."""

    def __init__(self, *, is_counted: bool) -> None:
        super().__init__()
        self.is_counted = is_counted
        """The request was counted toward the rate limit before that."""


class AdmissionQueue:
    """Requests that wait for what others hold: one queue for each key of one process. Only its head asks again."""

    def __init__(self) -> None:
        self._heads: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def wait(
        self, key_id: str, ask: Callable[[], Awaitable[AdmissionDecision]], wait_s: float, disconnect: ClientDisconnect
    ) -> AdmissionDecision | None:
        """Queue and ask again until the decision is not to wait; None on timeout.

        Raises:
            ClientDisconnected: the client has left; nothing is held.

        """
        until = time.monotonic() + wait_s
        head = self._heads.get(key_id)
        if head is None:
            head = self._heads[key_id] = asyncio.Lock()
        try:
            await disconnect.or_disconnect(asyncio.wait_for(head.acquire(), wait_s))
        except TimeoutError:
            return None
        try:
            while (left_s := until - time.monotonic()) > 0:
                disconnect.check()
                decision = await ask()
                if decision.outcome not in WAITING:
                    return decision
                await asyncio.sleep(min(RETRY_S, left_s))
            return None
        finally:
            head.release()


class AdmissionController:
    """Decides for one API process."""

    def __init__(self, *, admission: Admission, inbox: ReplyInbox) -> None:
        self._admission = admission
        self._inbox = inbox
        self._queue = AdmissionQueue()

    async def decide(self, ctx: RequestContext, served: Commit | None = None) -> AdmissionDecision:
        """Have a request decided about. With `served`, the event of a cache hit: have it counted, and that appended.

        Raises:
            Unavailable, Overloaded: no decision can be made at the moment.
            ClientDisconnected: the client left while the request waited; nothing is held.
            StaleKey: the key has changed since it was read; nothing is held.

        """
        request = self._request(ctx, served)
        decision = await self._admission.admit(request)
        if decision.outcome in WAITING:
            request = replace(request, is_counted=True)
            waited = await self._queue.wait(
                ctx.caller.key_id,
                lambda: self._admission.admit(request),
                ctx.caller.settings.budget_wait_ms / 1000,
                ctx.disconnect,
            )
            decision = waited or await self._admission.admit(replace(request, accept_lower_hold=True))
        if decision.outcome == "stale":
            raise StaleKey(is_counted=request.is_counted)
        return decision

    def _request(self, ctx: RequestContext, served: Commit | None) -> AdmissionRequest:
        return AdmissionRequest(
            min_created_at=ctx.min_created_at if served is None else None,
            served=served,
            hold_nano_usd=ctx.cost.hold_nano_usd,
            min_hold_nano_usd=ctx.cost.min_hold_nano_usd,
            token_bound=ctx.cost.input_tokens,
            is_counted=ctx.is_counted,
            key_version=ctx.caller.key_version,
            attempt=Attempt(
                identity=ctx.identity,
                cache_key=None if served is not None else ctx.cache_key,
                reply_to=self._inbox.subject(ctx.identity.request_id),
                admitted_at=ctx.inference_request.received_at if served is None else served.at,
                deadline=ctx.deadline,
                uses_installation_credential=ctx.target.kind not in KEYLESS_KINDS
                and ctx.target.provider not in ctx.caller.own_credentials,
            ),
        )
