"""A request on its way: what a surface hands over, and what the steps of `api/inference.py` add to it.

Nothing here is changed in place: each step takes a context and returns the next one.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from api.authentication import Caller
from api.client_disconnect import ClientDisconnect
from api.request_facts import RequestFacts
from domain.call_origin import Origin
from domain.dialects.request_body import RequestBody
from domain.errors import ProviderTimeout
from domain.events import Operation
from domain.failover import TargetFate
from domain.holds import Hold
from domain.idempotency import Idempotency
from domain.job_result import Receipt
from domain.limits import LimitStatus
from domain.money import ZERO, NanoUsd
from domain.pricing import Price
from domain.prompt_prefix import PromptChain
from domain.request_identity import RequestIdentity
from domain.routes import FailoverCause, RouteTarget
from domain.routing import Target
from infra.byte_budget import BytesInHand
from infra.jobs import HttpMethod, StreamFormat


class CachePolicy(Struct, frozen=True, kw_only=True):
    """A request's use of the cache."""

    mode: Literal["on", "off", "refresh"]
    """`refresh`: get a fresh response and store it."""
    ttl_s: int

    @property
    def is_used(self) -> bool:
        """True if the request reads the cache, or stores its response there."""
        return self.mode != "off"


class Background(Struct, frozen=True, kw_only=True):
    """What is different for a request of an asynchronous job: nobody waits for it."""

    deadline: datetime
    """Of this request, not of its job."""
    keep_until: datetime
    """So long its answer is kept with the log, whether it is cached or not."""
    started: Callable[[str], Awaitable[None]]
    """Called with the request's id once it is admitted, before it is published. If it raises, the admission is given
    back.
    """


class InferenceRequest(Struct, frozen=True, kw_only=True):
    """A request as a surface hands it over."""

    request_id: str
    operation: Operation
    body: RequestBody
    target: Target
    size_bytes: int
    """Of the HTTP request's body."""
    cache: CachePolicy
    metadata: dict[str, Any] | None
    origin: Origin | None = None
    """The session, the agent and the program that the client names."""
    received_at: datetime
    in_hand: BytesInHand
    """The bytes of the request and its response, counted against the budget of the process."""
    has_native_defaults: bool = False
    """Fields that the caller left out have the native API's defaults, not the vendor's."""
    stream: StreamFormat | None = None
    """None: the response is sent in one piece."""
    dropped: tuple[str, ...] = ()
    """The names of the fields that reading the request into the canonical form left out."""
    field_names: Mapping[str, str] = {}
    """Canonical fields (in snake case) that the client knows by another name."""
    is_strict: bool | None = None
    """True: refuse the request rather than lose a field in its translation. None: as its key says."""
    headers: dict[str, str] | None = None
    query: str | None = None
    """The vendor headers and the query that a passthrough request is forwarded with."""
    method: HttpMethod = "POST"
    path: str | None = None
    """At the provider; None: its codec's."""
    asked_as: str | None = None
    """What the caller named as its model, if that is another name than this target's."""
    route: str | None = None
    """The route whose target this is; None: the caller named the model itself."""
    asked: RouteTarget | None = None
    """What the route says of this target: the time for an attempt, the credential. None: nothing."""
    number: int = 0
    """The target's number in what the surface has read."""
    failover: "Failover | None" = None
    """Where the request goes if this target fails; None: nowhere."""
    background: Background | None = None
    """None: a caller waits for the answer."""
    idempotency: Idempotency | None = None
    """What its retries know it by."""
    facts: RequestFacts = field(default_factory=RequestFacts)
    """What becomes known of it; its targets share them."""

    @property
    def planned_bytes(self) -> int:
        """What there is to be worked on to plan and bound it: its body, once for each target."""
        return self.size_bytes * (1 + len(self.failover.further) if self.failover is not None else 1)


class Failover(Struct, frozen=True, kw_only=True):
    """The rest of a request's plan, behind its first target."""

    further: tuple[InferenceRequest, ...]
    """The same request for each further target, in their order. These have no `failover`."""
    dropped: tuple[TargetFate, ...]
    """The targets that the plan does without."""
    fail_over_on: tuple[FailoverCause, ...]
    attempts: int
    """At one target."""


class CostBound(Struct, frozen=True, kw_only=True):
    """The most that a request can be counted and charged as. As it is by default, nothing is held."""

    price: Price | None = None
    """None: the model has no known price."""
    unbounded_field: str | None = None
    """A field of the request whose cost has no bound."""
    unpriced: tuple[str, ...] = ()
    """What the request uses that has no known price."""
    input_tokens: int = 0
    output_tokens: int = 0
    """Over all choices."""
    unseen_input_tokens: int = 0
    unseen_output_tokens: int = 0
    """The most that may be charged beside the prompt and the answer."""
    audio_tokens: int = 0
    """Those of the input that may be audio."""
    input_class: str = "input"
    """The dearest class that the rest of the input can be charged as."""
    writes_audio: bool = False
    choices: int = 1
    terms: dict[str, str] | None = None
    """The terms that it asks for, other than the standard ones."""
    context_window: int = 0
    """The most tokens that the model reads again for each call of a hosted tool; 0: the request has no such tools."""
    basis: Hold | None = None
    """The prices and figures that the hold is computed from; None: the cost has no bound."""
    media_tokens: int = 0
    """The part of the input that images and files are."""
    hold_nano_usd: NanoUsd | None = None
    """None: the cost has no bound."""
    min_hold_nano_usd: NanoUsd = ZERO
    """The least hold that is of use: less than the hold if the output cap, or the calls of tools, may be lowered."""


class Prompt(Struct, frozen=True, kw_only=True):
    """A long prompt, which its provider may have counted in part."""

    chain: PromptChain
    text_bound: int
    """The most tokens of its texts, by their bytes."""


class RequestContext(Struct, frozen=True, kw_only=True):
    """A request with everything that has been decided about it so far."""

    identity: RequestIdentity
    caller: Caller
    inference_request: InferenceRequest
    disconnect: ClientDisconnect
    target: Target
    body: RequestBody
    """As the provider will get it."""
    payload: bytes
    """The body's JSON: canonical, or in the provider's own dialect."""
    cache_key: bytes | None
    """None: the cache is neither read nor written."""
    min_created_at: datetime | None
    """A cached response must not be older; None: only a fresh response will do."""
    deadline: datetime
    needs_own_credential: bool
    """The request may be made only under the project's own credential: it was admitted as a call under it, or names
    objects at the provider that belong to it.
    """
    is_counted: bool
    """The request has been counted toward the rate limit."""
    cost: CostBound = CostBound()
    prompt: Prompt | None = None
    """None: it is short, or the provider's count of it would say nothing about another."""
    limit_status: LimitStatus = LimitStatus()
    """After the last decision."""
    lowered_cap: int | None = None
    """The output cap that the budget had room for or that the model has, if it is lower than the caller's."""
    lowered_tool_calls: int | None = None
    """The limit that the budget set to the calls of hosted tools."""
    failover: Failover | None = None
    """The caller has named several targets, even if this one alone is left of them."""
    further: "tuple[RequestContext, ...]" = ()
    """The same request at each target that it goes to after this one, in their order."""
    left_out: tuple[TargetFate, ...] = ()
    """The targets that the plan does without, and why."""

    def at(self, target: int) -> "RequestContext":
        """The request at a target, by its number: 0 is this one."""
        at = self if target == 0 else self.further[target - 1]
        return replace(at, limit_status=self.limit_status) if target else self

    def answered_by(self, receipt: Receipt) -> "RequestContext":
        """The request at the target that a receipt names; this one if it names none of them."""
        if self.further and not self.is_origin_of(receipt):
            for number, one in enumerate(self.further, start=1):
                if one.is_origin_of(receipt):
                    return self.at(number)
        return self

    def is_origin_of(self, receipt: Receipt) -> bool:
        """Return True if the receipt is of the request at this target."""
        target = self.target
        return receipt.provider == target.provider and receipt.upstream_model == target.upstream_model

    def settled(self, cost_nano_usd: NanoUsd | None) -> "RequestContext":
        """The context after the response: what it was admitted with, at its first target, has become its cost."""
        left = self.limit_status.budget_left_nano_usd
        if left is None or cost_nano_usd is None:
            return self
        left = NanoUsd(left + (self.cost.hold_nano_usd or ZERO) - cost_nano_usd)
        return replace(self, limit_status=replace(self.limit_status, budget_left_nano_usd=left))

    def remaining_s(self, now: datetime) -> float:
        """Seconds until the deadline; negative after it."""
        return (self.deadline - now).total_seconds()

    def latency_ms(self, now: datetime) -> int:
        """Whole milliseconds since the request came."""
        return max(0, round((now - self.inference_request.received_at).total_seconds() * 1000))

    def recorded_latency_ms(self, answered_at: datetime) -> int:
        """The latency that the log has of an answer: a retry states it too."""
        return max(
            0, round(answered_at.timestamp() * 1000) - round(self.inference_request.received_at.timestamp() * 1000)
        )

    def timed_out(self) -> ProviderTimeout:
        """The error of a request that has reached its deadline."""
        allowed_s = self.remaining_s(self.inference_request.received_at)
        provider = self.target.provider
        return ProviderTimeout(f"{provider} did not answer within {allowed_s:g} s", provider=provider)
