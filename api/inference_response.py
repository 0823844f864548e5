"""The response to an inference request, in one piece or as a stream, before a surface has written it in its dialect."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal

from msgspec import Struct

from api.request_context import RequestContext
from domain.job_result import Receipt
from domain.limits import LimitStatus
from domain.money import ZERO, NanoUsd

CacheResult = Literal["hit", "coalesced", "replayed", "miss", "bypass"]
"""What the cache did for a request. `coalesced`: it got the answer of an equal one in flight. `replayed`: that of an
earlier one with the same idempotency key. `bypass`: the cache was not asked."""
CACHE_RESULTS: dict[str, CacheResult] = {"HIT": "hit", "MISS": "miss", "BYPASS": "bypass"}
"""By the header `x-gateway-cache`."""


class Replay(Struct, frozen=True, kw_only=True):
    """The earlier request whose answer a response is: what the answer states of itself is that request's."""

    request_id: str
    received_at: datetime
    is_cached: bool
    """The earlier request got it from the cache: of a stream, the body is not its events but what the cache has."""
    is_passthrough: bool | None = None
    """The body is as the provider wrote it (True), or canonical; None: as this request would get it."""


class InferenceResponse(Struct, frozen=True, kw_only=True):
    """A response in one piece."""

    body: bytes
    """JSON: canonical, or in the provider's own dialect if the request was. Of a replayed stream: its events."""
    receipt: Receipt
    cache: Literal["HIT", "MISS", "BYPASS"]
    limit_status: LimitStatus
    lowered_cap: int | None = None
    """The output cap that the budget had room for or that the model has, if it was lowered."""
    lowered_tool_calls: int | None = None
    """The limit that the budget set to the calls of hosted tools."""
    dropped: tuple[str, ...] = ()
    """The names of the fields that the request's translation left out."""
    attempts: int | None = None
    """The number of the attempt that brought it; None: none was made, the cache had it."""
    target: int = 0
    """The number of its target in what the surface has read."""
    latency_ms: int | None = None
    """What the answer states, if a retry may get its bytes again; None: as long as it took, when it is sent."""
    is_shared: bool = False
    """Of a hit: the answer is that of an equal request that was in flight."""
    replay: Replay | None = None
    """Set if it is the answer of an earlier request under the same idempotency key, whose bytes it has."""

    @property
    def cache_result(self) -> CacheResult:
        """What the cache did, or the idempotency key."""
        if self.replay is not None:
            return "replayed"
        return "coalesced" if self.is_shared else CACHE_RESULTS[self.cache]

    @property
    def cost_nano_usd(self) -> NanoUsd | None:
        """The charge to the caller: 0 for a cached response; None if the model has no known price."""
        return ZERO if self.cache == "HIT" else self.receipt.cost_nano_usd

    @property
    def cost_is_lower_bound(self) -> bool:
        """The charge is without something that has no known price."""
        return self.cache != "HIT" and self.receipt.is_lower_bound

    @property
    def is_cached(self) -> bool:
        """What the body says: of a replay, if the first answer came from the cache."""
        return self.replay.is_cached if self.replay is not None else self.cache == "HIT"

    @property
    def stated_cost_nano_usd(self) -> NanoUsd | None:
        """The cost that the body states: that of the first answer, if this is its replay."""
        return ZERO if self.is_cached else self.receipt.cost_nano_usd

    @property
    def stated_cost_is_lower_bound(self) -> bool:
        """As `cost_is_lower_bound`, of the body."""
        return not self.is_cached and self.receipt.is_lower_bound


class StreamedResponse:
    """A response whose parts arrive one by one, ready for the caller. The receiver has to close it.

    `ctx` is the request at the target that answers, with the attempt of this number.
    """

    def __init__(
        self,
        ctx: RequestContext,
        *,
        attempts: int,
        first: bytes,
        following: Callable[[], Awaitable[bytes | None]],
        is_at_end: Callable[[], bool],
        close: Callable[[], None],
    ) -> None:
        self.request_id = ctx.identity.request_id
        self.attempts = attempts
        self.target = ctx.target
        self.limit_status = ctx.limit_status
        self.lowered_cap = ctx.lowered_cap
        self.lowered_tool_calls = ctx.lowered_tool_calls
        self.dropped = ctx.identity.dropped
        self.facts = ctx.inference_request.facts
        self.cache: Literal["MISS", "BYPASS"] = "MISS" if ctx.cache_key is not None else "BYPASS"
        self.cache_result = CACHE_RESULTS[self.cache]
        self._first: bytes | None = first
        self._following = following
        self.is_at_end = is_at_end
        """True if nothing is missing but how the response has ended, which has come."""
        self.close = close

    def __aiter__(self) -> "StreamedResponse":
        return self

    async def __anext__(self) -> bytes:
        """The next parts, joined.

        Raises:
            GatewayError: the stream broke off, and why.

        """
        part, self._first = self._first, None
        if part is None:
            part = await self._following()
        if part is None:
            raise StopAsyncIteration
        return part
