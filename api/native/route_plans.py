"""`POST /routes/{name}/plan`: what a request for a route would do."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody
from litestar.params import FromPath
from msgspec import Struct

from api.authentication import Caller
from api.delivery import JSON
from api.guards import requires_key
from api.native.completions import ChatBody, EmbeddingsBody
from api.native.envelope import Success
from api.native.openapi import one_of
from api.native.routes import Causes, TargetOut, target_out
from api.request_context import CachePolicy, InferenceRequest
from api.requests import (
    HttpRequest,
    asks_strict_translation,
    bytes_in_hand,
    id_in_path,
    request_id_of,
)
from api.route_plan import LeftOut, PlannedCall, plan_route
from api.services import Services
from domain.canonical.chat import ChatRequest
from domain.canonical.embeddings import EmbeddingsRequest
from domain.decoding import decoded
from domain.dialects.passthrough.json_edit import rewrite
from domain.dialects.request_body import CanonicalRequest
from domain.errors import InvalidRequest, NotFound
from domain.money import to_usd
from domain.routing import Target
from infra.jobs import StreamFormat


class PlannedTargetOut(TargetOut, kw_only=True, rename="camel"):
    """A target that would be tried, in its turn."""

    turn: int
    """From 1."""
    provider: str
    upstream_model: str
    """The model's name there."""
    share: float
    """The part of its weight that counts now: less than 1 if its provider's rate limits are nearly used up."""
    most_cost: Decimal | None
    """US dollars: the most that an attempt may cost. Null: no request was given, or its cost has no bound."""
    dropped: tuple[str, ...]
    """The fields that the request loses in its translation for this target."""


class RoutePlanOut(Struct, kw_only=True, rename="camel"):
    """What a request for a route would do. Where weights decide, the next request may have another order."""

    name: str
    targets: list[PlannedTargetOut]
    left_out: list[LeftOut]
    fail_over_on: Causes
    attempts: int


class _Asked(Struct, frozen=True):
    """What is read of a request before its operation is known."""

    model: str | None = None
    input: msgspec.Raw = msgspec.Raw()


_asked_decoder = msgspec.json.Decoder(_Asked)
_chat_decoder = msgspec.json.Decoder(ChatBody)
_embeddings_decoder = msgspec.json.Decoder(EmbeddingsBody)


@dataclass
class _PlanOperation(Operation):
    """The body is the request of another call, or nothing."""

    def __post_init__(self) -> None:
        content = {JSON: OpenAPIMediaType(schema=one_of(ChatBody, EmbeddingsBody))}
        self.request_body = RequestBody(content=content, required=False)


@post(
    "/routes/{name:str}/plan",
    summary="What a request for a route would do",
    operation_id="ApiV1RoutesNamePlan",
    guards=[requires_key],
    operation_class=_PlanOperation,
    status_code=200,
)
async def plan(
    request: HttpRequest, name: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[RoutePlanOut]:
    """Say which models a request for the route would go to, in which order, and which are left out and why. The body
    may be a request as `POST /completions/chat` and `POST /completions/embeddings` take it; its `model` is the route's
    name, or is left out. No provider is called.
    """
    name, body = id_in_path(name), await request.body()
    settings = caller.route(name)
    if settings is None:
        raise NotFound(f"there is no route {name!r} here")
    asked = None
    if body:
        asked = await services.large_requests.run(caller.project_id, len(body), _read, request, name, body)
    made = await plan_route(services, caller, name, settings, asked)
    return Success(
        data=RoutePlanOut(
            name=name,
            targets=[_call_out(turn, call) for turn, call in enumerate(made.calls, start=1)],
            left_out=list(made.left_out),
            fail_over_on=settings.fail_over_on,
            attempts=settings.attempts,
        )
    )


HANDLERS = (plan,)


def _read(request: HttpRequest, name: str, body: bytes) -> InferenceRequest:
    """Read a request of the native surface. `target` is set for each target later.

    Raises:
        InvalidRequest: it is none, or one for another model.

    """
    probe = decoded(body, _asked_decoder)
    is_embeddings = bool(bytes(probe.input))
    if probe.model not in (None, name):
        raise InvalidRequest(f"`model` is {probe.model!r}: leave it out, or name the route {name!r}", field="model")
    body = rewrite(body, {"model": name})
    decoder: Any = _embeddings_decoder if is_embeddings else _chat_decoder
    call = decoded(body, decoder)
    shape = EmbeddingsRequest if is_embeddings else ChatRequest
    asked = shape(**{field: getattr(call, field) for field in shape.__struct_fields__})
    return InferenceRequest(
        request_id=request_id_of(request.scope),
        operation="embeddings" if is_embeddings else "chat",
        body=CanonicalRequest(asked),
        target=Target(model=name, provider="", kind="", upstream_model=name),
        size_bytes=len(body),
        cache=CachePolicy(mode="off", ttl_s=0),
        metadata=None,
        received_at=datetime.now(UTC),
        in_hand=bytes_in_hand(request),
        is_strict=asks_strict_translation(request),
        has_native_defaults=True,
        stream=StreamFormat(surface="native") if getattr(call, "stream", None) else None,
    )


def _call_out(turn: int, call: PlannedCall) -> PlannedTargetOut:
    target = call.planned.target
    shown = target_out(call.planned.asked)
    return PlannedTargetOut(
        **{field: getattr(shown, field) for field in TargetOut.__struct_fields__},
        turn=turn,
        provider=target.provider,
        upstream_model=target.upstream_model,
        share=call.share,
        most_cost=to_usd(call.hold_nano_usd) if call.hold_nano_usd is not None else None,
        dropped=call.dropped_fields,
    )
