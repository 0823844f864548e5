"""Plans requests: may this key make it, the body for the provider, its cache key, and the most that it can cost.

Needs nothing but what is in memory.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from api.authentication import Caller
from api.client_disconnect import ClientDisconnect
from api.request_context import CostBound, InferenceRequest, RequestBody, RequestContext
from domain.cache_key import cache_key, canonical_body
from domain.canonical.chat import ChatRequest
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects.passthrough.inspect import PassthroughRequest
from domain.dialects.passthrough.json_edit import rewrite
from domain.dialects.registry import DialectRegistry
from domain.errors import Forbidden, InvalidRequest
from domain.estimate import MAX_HOLD, bound, cap_within, input_bound, output_bound
from domain.models import DEFAULT_CONTEXT_WINDOW, longest_answer
from domain.money import NANO_PER_USD, ZERO, NanoUsd
from domain.request_identity import RequestIdentity
from domain.routing import Route, resolve_route, settled_temperature
from domain.tokens import MAX_TOKENS
from infra.price_book import PriceBook

CAP_FLOOR_TOKENS = 256
"""A cap that the caller did not set is lowered to no less than this."""


class Bounds(Struct, frozen=True, kw_only=True):
    """The most tokens that a request can be counted as."""

    input_tokens: int
    output_tokens: int
    """Over all choices."""
    may_lower: bool
    """The caller set no output cap, so it may be lowered to what the budget has room for."""


class RequestPlanner:
    """Plans for one API process."""

    def __init__(
        self,
        *,
        prices: PriceBook,
        dialects: DialectRegistry,
        upstream_models: Mapping[str, str],
        request_timeout_s: float,
    ) -> None:
        self._prices = prices
        self._dialects = dialects
        self._upstream_models = upstream_models
        self._request_timeout_s = request_timeout_s

    def route(self, caller: Caller, model: str) -> Route:
        """Route a model's name.

        Raises:
            UnknownModel: no rule matches.

        """
        return resolve_route(model, self._upstream_models, caller.providers)

    def plan(
        self, caller: Caller, inference_request: InferenceRequest, disconnect: ClientDisconnect, *, is_counted: bool
    ) -> RequestContext:
        """Plan a request, up to its cache key.

        Raises:
            Forbidden, InvalidRequest: the key may not use the model, or the provider cannot serve the request.

        """
        body, route, cache = inference_request.body, inference_request.route, inference_request.cache
        allowed = caller.settings.models
        if allowed is not None and body.model not in allowed:
            raise Forbidden(f"this key may not use model {body.model!r}; it may use: {', '.join(allowed)}")
        self._dialects.check(body, route, inference_request.operation)
        if isinstance(body, ChatRequest) and inference_request.has_native_defaults:
            body = settled_temperature(body, route.upstream_model)
        payload = _payload(body, inference_request, route)
        received_at = inference_request.received_at
        return RequestContext(
            identity=RequestIdentity(
                request_id=inference_request.request_id,
                project_id=caller.project_id,
                key_id=caller.key_id,
                operation=inference_request.operation,
                model=route.model,
                provider=route.provider,
                upstream_model=route.upstream_model,
                metadata=inference_request.metadata,
            ),
            caller=caller,
            inference_request=inference_request,
            disconnect=disconnect,
            route=route,
            body=body,
            payload=payload,
            cache_key=_cache_key(caller, inference_request, route, payload),
            min_created_at=received_at - timedelta(seconds=cache.ttl_s) if cache.mode == "on" else None,
            deadline=received_at + timedelta(seconds=self._request_timeout_s),
            needs_own_credential=route.provider in caller.own_credentials,
            is_counted=is_counted,
        )

    def bound_cost(self, ctx: RequestContext) -> RequestContext:
        """Bound what a request can cost: what it has to hold.

        Raises:
            InvalidRequest: it may be counted, or charged, as more than is allowed.

        """
        price = self._prices.price(ctx.route, ctx.inference_request.received_at)
        bounds = self._bounds(ctx.body, ctx.route)
        if bounds.input_tokens > MAX_TOKENS:
            raise InvalidRequest(
                f"this request may be counted as {bounds.input_tokens} tokens, of which {MAX_TOKENS} are allowed: "
                "every image counts as its largest size"
            )
        output_tokens = min(bounds.output_tokens, MAX_TOKENS)  # no usage figure that is counted or charged is larger
        unbounded_field = _unbounded_field(ctx.body, ctx.route)
        hold, min_hold = None, ZERO
        if price is not None and unbounded_field is None:
            hold = min_hold = bound(bounds.input_tokens, output_tokens, price)
            if hold > MAX_HOLD:
                raise InvalidRequest(
                    f"this request may cost ${hold // NANO_PER_USD}; the most that one may hold is "
                    f"${MAX_HOLD // NANO_PER_USD}"
                )
            if bounds.may_lower and ctx.caller.settings.output_cap == "lower":
                min_hold = bound(bounds.input_tokens, min(output_tokens, CAP_FLOOR_TOKENS), price)
        cost = CostBound(
            price=price,
            unbounded_field=unbounded_field,
            input_tokens=bounds.input_tokens,
            output_tokens=output_tokens,
            hold_nano_usd=hold,
            min_hold_nano_usd=min_hold,
        )
        return replace(ctx, cost=cost)

    def _bounds(self, body: RequestBody, route: Route) -> Bounds:
        window = self._prices.context_window(route)
        if not isinstance(body, PassthroughRequest):
            return Bounds(
                input_tokens=input_bound(body),
                output_tokens=output_bound(body, route.upstream_model, window),
                may_lower=isinstance(body, ChatRequest) and body.max_tokens is None,
            )
        if body.operation == "count_tokens":
            return Bounds(input_tokens=0, output_tokens=0, may_lower=False)
        input_tokens = body.input_tokens
        if body.has_external_content:
            input_tokens += window or DEFAULT_CONTEXT_WINDOW
        if body.operation == "embeddings":
            return Bounds(input_tokens=input_tokens, output_tokens=0, may_lower=False)
        cap = _cap(body, route)
        output_tokens = body.choices * (cap or longest_answer(route.upstream_model, window))
        return Bounds(input_tokens=input_tokens, output_tokens=output_tokens, may_lower=cap is None)


def lower_cap(ctx: RequestContext, hold_nano_usd: NanoUsd) -> RequestContext:
    """Lower the output cap to what a hold covers that is less than asked for. Such a response is not shared."""
    cost = ctx.cost
    if cost.hold_nano_usd is None or hold_nano_usd >= cost.hold_nano_usd:
        return ctx
    assert cost.price is not None, "what is held has a price"
    assert not isinstance(ctx.body, EmbeddingsRequest), "embeddings have no output cap"
    cap = cap_within(hold_nano_usd, cost.input_tokens, cost.price)
    lowered_cap, body, payload, choices = cap, ctx.body, ctx.payload, 1
    if isinstance(body, ChatRequest):
        body = replace(body, max_tokens=cap)
        payload = canonical_body(body)
    else:
        choices = body.choices
        lowered_cap = cap // choices
        payload = rewrite(payload, {body.codec.cap_field(ctx.route.upstream_model): lowered_cap})
    return replace(
        ctx,
        body=body,
        payload=payload,
        cache_key=None,
        lowered_cap=lowered_cap,
        cost=replace(cost, hold_nano_usd=hold_nano_usd, output_tokens=lowered_cap * choices),
    )


def _unbounded_field(body: RequestBody, route: Route) -> str | None:
    """The field whose cost has no bound. A provider by configuration may charge for any field of its own."""
    if not isinstance(body, PassthroughRequest):
        return None
    return body.unbounded or (body.unknown if route.base_url is not None else None)


def _cap(body: PassthroughRequest, route: Route) -> int | None:
    """The caller's output cap, if its provider reads the field that it stands in."""
    is_vendor = route.base_url is None
    reads_cap = body.codec.reads_cap(body.cap_fields, route.upstream_model, is_vendor=is_vendor)
    return body.output_cap if reads_cap else None


def _payload(body: RequestBody, inference_request: InferenceRequest, route: Route) -> bytes:
    if not isinstance(body, PassthroughRequest):
        return canonical_body(body)
    changes: dict[str, Any] = {}
    if body.model != route.upstream_model:
        changes["model"] = route.upstream_model
    if inference_request.stream is not None:
        changes |= body.codec.stream_changes(body.stream_options)
    return rewrite(body.body, changes) if changes else body.body


def _cache_key(caller: Caller, inference_request: InferenceRequest, route: Route, payload: bytes) -> bytes | None:
    """The cache key. Of a passthrough request it includes the forwarded headers and query, and whether the response is
    streamed: a stream is stored and replayed as it came. Translated requests share one entry with their streams.
    """
    body = inference_request.body
    if inference_request.cache.mode == "off":
        return None
    if isinstance(body, PassthroughRequest):
        members = msgspec.json.decode(payload)
        is_streamed = inference_request.stream is not None
        if not is_streamed:  # then these members change nothing
            members = {name: members[name] for name in members if name not in ("stream", "stream_options")}
        stored_as = "events" if is_streamed else "json"
        forwarded = (body.dialect, stored_as, inference_request.headers, inference_request.query)
        payload = canonical_body(forwarded) + canonical_body(members)
    return cache_key(
        project_id=caller.project_id,
        operation=inference_request.operation,
        provider=route.provider if route.base_url is None else f"{route.provider} {route.base_url}",
        upstream_model=route.upstream_model,
        body=payload,
    )
