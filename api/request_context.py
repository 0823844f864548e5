"""A question on its way: what the caller asks, as every surface hands it over, and what was worked out about it."""

from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct, field

from api.authentication import Caller
from api.client_disconnect import ClientDisconnect
from domain.canonical.chat import ChatRequest
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects.passthrough.inspect import PassthroughRequest
from domain.events import Operation
from domain.limits import LimitStatus
from domain.money import NanoUsd
from domain.pricing import Price
from domain.request_identity import RequestIdentity
from domain.routing import ECHO, Route
from infra.byte_budget import BytesInHand
from infra.jobs import StreamFormat


class CachePolicy(Struct, frozen=True, kw_only=True):
    """What the caller wants of the cache."""

    mode: Literal["on", "off", "refresh"]
    """`refresh`: a fresh answer, kept for others."""
    ttl_s: int


class InferenceRequest(Struct, frozen=True, kw_only=True):
    """What a caller asks."""

    request_id: str
    operation: Operation
    request: ChatRequest | EmbeddingsRequest | PassthroughRequest
    size_bytes: int
    """Of the body as it came."""
    cache: CachePolicy
    metadata: dict[str, Any] | None
    received_at: datetime
    in_hand: BytesInHand
    """What it and its answer take of the process's budget."""
    has_native_defaults: bool = False
    """Whether what the caller left out is as the native API says, not as its vendor does."""
    stream: StreamFormat | None = None
    """None: the answer is wanted in one piece."""
    headers: dict[str, str] | None = None
    query: str | None = None
    """What goes on to the provider with a request in its own dialect."""


class RequestContext(Struct, kw_only=True):
    """A question with its route, its bound, and where its key stands since it was last decided about."""

    identity: RequestIdentity
    caller: Caller
    inference_request: InferenceRequest
    route: Route
    request: ChatRequest | EmbeddingsRequest | PassthroughRequest
    """As the provider will be asked it."""
    body: bytes
    """Its JSON, canonical or in the provider's own dialect."""
    key: bytes | None
    """Of the cache; None: the answer is neither looked up nor kept."""
    price: Price | None
    """None: nobody can price the model."""
    unbounded: str | None
    """The field, if any, whose cost nobody can bound."""
    needs_own_credential: bool = False
    """It names what lies at the provider under the project's own credential, or was admitted as a call under it: it may
    be made under no other.
    """
    input_tokens: int
    output_tokens: int
    """The most that the answer may be counted as; lower once its cap is."""
    hold_nano_usd: NanoUsd | None
    min_hold_nano_usd: NanoUsd
    deadline: datetime
    is_counted: bool = False
    """Whether it has been counted toward the rate limit."""
    disconnect: ClientDisconnect = field(default_factory=ClientDisconnect)
    """Noted only if the answer is to be streamed, or if the project says `cancel_on_disconnect`."""
    limit_status: LimitStatus = LimitStatus()
    lowered_cap: int | None = None
    """The output cap that fitted into the budget, where that is lower than the model's own."""

    @property
    def min_created_at(self) -> datetime | None:
        """How old a cached answer may be; None where a fresh one is wanted."""
        cache = self.inference_request.cache
        return self.inference_request.received_at - timedelta(seconds=cache.ttl_s) if cache.mode == "on" else None

    @property
    def uses_installation_credential(self) -> bool:
        """Whether its provider is called under a credential of the installation's."""
        return self.route.kind != ECHO and self.route.provider not in self.caller.own_credentials

    def latency_ms(self, now: datetime) -> int:
        """Whole milliseconds since the question came."""
        return max(0, round((now - self.inference_request.received_at).total_seconds() * 1000))
