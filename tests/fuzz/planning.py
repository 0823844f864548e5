"""Plans a request as an API process does, without servers: read, routed, translated, adapted, bounded."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from api.authentication import Caller
from api.client_disconnect import ClientDisconnect
from api.prompt_memory import PromptMemory
from api.request_context import CachePolicy, InferenceRequest, RequestContext
from api.request_planner import RequestPlanner
from domain.dialects.codec import Codec
from domain.dialects.passthrough.inspect import read_passthrough
from domain.dialects.registry import DIALECTS
from domain.events import KeySettings, Operation
from domain.routing import NamedProvider
from infra.byte_budget import ByteBudget, BytesInHand
from infra.jobs import StreamFormat
from infra.price_book import PriceBook

CALLER = Caller(
    key_id="key",
    key_version=1,
    secret_hash=b"",
    project_id="prj",
    project_name="p",
    is_limited=True,
    cancel_on_disconnect=False,
    settings=KeySettings(name="fuzz"),
    providers=(NamedProvider(name="named", kind="openai", base_url="https://models.example.com/v1"),),
    own_credentials=frozenset(),
)


async def _tell_nobody(_count: bytes) -> None:
    """There is no other process."""


class PlannedSurface(Struct, frozen=True):
    """A call of a surface."""

    codec: Codec
    planner: RequestPlanner


def surface(dialect: str, operation: Operation) -> PlannedSurface:
    """Return a call, with a planner that has all prices and remembers prompts."""
    planner = RequestPlanner(
        prices=PriceBook(),
        dialects=DIALECTS,
        upstream_models={},
        request_timeout_s=60,
        prompts=PromptMemory(_tell_nobody),
    )
    return PlannedSurface(DIALECTS.codec(dialect, operation), planner)


def plan_request(called: PlannedSurface, body: bytes, *, at: datetime) -> RequestContext:
    """Plan a request, and write what its provider would be sent. Raises what a caller would get."""
    codec, planner = called.codec, called.planner
    passthrough = read_passthrough(body, codec, is_cached=True, finds_models=True)
    target = planner.target(CALLER, passthrough.model)
    fits = DIALECTS.passes_through(passthrough, target, has_fuller=codec.fuller_operation is not None)
    translation = DIALECTS.choose(codec, target.kind, fits=fits)
    parsed = translation.parse_request(passthrough, is_builtin=target.base_url is None)
    disconnect: Any = ClientDisconnect
    is_stream = passthrough.is_stream
    request = InferenceRequest(
        request_id="req",
        operation=codec.operation,
        body=parsed.body,
        target=target,
        size_bytes=len(body),
        cache=CachePolicy(mode="on", ttl_s=60),
        metadata=None,
        received_at=at,
        in_hand=BytesInHand(ByteBudget(1 << 30), "prj"),
        dropped=parsed.dropped,
        field_names=codec.client_names,
        stream=StreamFormat(surface=codec.dialect, with_usage=True) if is_stream else None,
    )
    planned = planner.bound_cost(planner.plan(CALLER, request, disconnect, is_counted=False))
    translation.render_request(planned.payload, target.upstream_model, is_stream=is_stream)
    return planned
