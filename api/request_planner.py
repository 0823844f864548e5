"""Everything about a question that needs nobody else: may this key ask it, where it goes, what it can cost, its key."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from api.authentication import Caller
from api.request_context import InferenceRequest, RequestContext
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


RequestBody = ChatRequest | EmbeddingsRequest | PassthroughRequest


class Bounds(Struct, frozen=True, kw_only=True):
    """How much a request may come to be."""

    input_tokens: int
    output_tokens: int
    """Over all its choices."""
    may_lower: bool
    """The caller set no cap of its own."""


class RequestPlanner:
    """Works questions out for one API process."""

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
        """Where a caller's request for a model goes.

        Raises:
            UnknownModel: no rule matches.

        """
        return resolve_route(model, self._upstream_models, caller.providers)

    def plan(self, caller: Caller, inference_request: InferenceRequest) -> RequestContext:
        """Work a question out.

        Raises:
            UnknownModel, Forbidden, InvalidRequest: it may not be asked; nothing was held.

        """
        request = inference_request.request
        route = self.route(caller, request.model)
        _check_allowed(caller, request.model)
        self._dialects.check(request, route, inference_request.operation)
        if isinstance(request, ChatRequest) and inference_request.has_native_defaults:
            request = settled_temperature(request, route.upstream_model)
        price = self._prices.price(route, inference_request.received_at)
        bounds = _within_limits(self._bounds(request, route))
        unbounded = _unbounded(request, route)
        hold, min_hold = None, ZERO
        if price is not None and unbounded is None:
            hold = min_hold = _within_hold(bound(bounds.input_tokens, bounds.output_tokens, price))
            if bounds.may_lower and caller.settings.output_cap == "lower":
                min_hold = bound(bounds.input_tokens, min(bounds.output_tokens, CAP_FLOOR_TOKENS), price)
        body = _body(request, inference_request, route)
        return RequestContext(
            identity=_identity(caller, inference_request, route),
            caller=caller,
            inference_request=inference_request,
            route=route,
            request=request,
            body=body,
            key=_key(caller, inference_request, route, body),
            price=price,
            unbounded=unbounded,
            input_tokens=bounds.input_tokens,
            output_tokens=bounds.output_tokens,
            hold_nano_usd=hold,
            min_hold_nano_usd=min_hold,
            deadline=inference_request.received_at + timedelta(seconds=self._request_timeout_s),
        )

    def _bounds(self, request: RequestBody, route: Route) -> Bounds:
        window = self._prices.context_window(route)
        if not isinstance(request, PassthroughRequest):
            return Bounds(
                input_tokens=input_bound(request),
                output_tokens=output_bound(request, route.upstream_model, window),
                may_lower=isinstance(request, ChatRequest) and request.max_tokens is None,
            )
        if request.operation == "count_tokens":
            return Bounds(input_tokens=0, output_tokens=0, may_lower=False)
        input_tokens = request.input_tokens
        if request.has_external_content:
            input_tokens += window or DEFAULT_CONTEXT_WINDOW
        if request.operation == "embeddings":
            return Bounds(input_tokens=input_tokens, output_tokens=0, may_lower=False)
        cap = _cap(request, route)
        output_tokens = request.choices * (cap or longest_answer(route.upstream_model, window))
        return Bounds(input_tokens=input_tokens, output_tokens=output_tokens, may_lower=cap is None)


def lower_cap(ctx: RequestContext, granted_nano_usd: NanoUsd) -> None:
    """Lower the output cap to what a smaller hold than asked for covers; such an answer is nobody else's."""
    if ctx.hold_nano_usd is None or granted_nano_usd >= ctx.hold_nano_usd:
        return
    assert ctx.price is not None, "what was held has a price"
    request = ctx.request
    assert not isinstance(request, EmbeddingsRequest), "only an answer's length has a cap"
    cap = cap_within(granted_nano_usd, ctx.input_tokens, ctx.price)
    if isinstance(request, ChatRequest):
        ctx.request = replace(request, max_tokens=cap)
        ctx.body = canonical_body(ctx.request)
    else:
        cap //= request.choices
        ctx.body = rewrite(ctx.body, {request.codec.cap_field(ctx.route.upstream_model): cap})
    ctx.lowered_cap = cap
    ctx.output_tokens = cap * (request.choices if isinstance(request, PassthroughRequest) else 1)
    ctx.key = None


def _within_limits(bounds: Bounds) -> Bounds:
    """Bound the tokens by what an answer's usage may say: no more is ever counted, or charged.

    Raises:
        InvalidRequest: the input alone may be counted as more.

    """
    if bounds.input_tokens > MAX_TOKENS:
        raise InvalidRequest(
            f"this request may be counted as {bounds.input_tokens} tokens, of which {MAX_TOKENS} are allowed: "
            "every image counts as its largest size"
        )
    return replace(bounds, output_tokens=min(bounds.output_tokens, MAX_TOKENS))


def _within_hold(hold_nano_usd: NanoUsd) -> NanoUsd:
    if hold_nano_usd > MAX_HOLD:
        raise InvalidRequest(
            f"this request may cost ${hold_nano_usd // NANO_PER_USD}; the most that one may hold is "
            f"${MAX_HOLD // NANO_PER_USD}"
        )
    return hold_nano_usd


def _check_allowed(caller: Caller, model: str) -> None:
    allowed = caller.settings.models
    if allowed is not None and model not in allowed:
        raise Forbidden(f"this key may not use model {model!r}; it may use: {', '.join(allowed)}")


def _identity(caller: Caller, inference_request: InferenceRequest, route: Route) -> RequestIdentity:
    return RequestIdentity(
        request_id=inference_request.request_id,
        project_id=caller.project_id,
        key_id=caller.key_id,
        operation=inference_request.operation,
        model=route.model,
        provider=route.provider,
        upstream_model=route.upstream_model,
        metadata=inference_request.metadata,
    )


def _unbounded(request: RequestBody, route: Route) -> str | None:
    """The field whose cost nobody can bound. A provider by configuration may sell anything by a field of its own."""
    if not isinstance(request, PassthroughRequest):
        return None
    return request.unbounded or (request.unknown if route.base_url is not None else None)


def _cap(request: PassthroughRequest, route: Route) -> int | None:
    """The caller's output cap, if its provider reads the field that it stands in."""
    is_vendor = route.base_url is None
    reads_cap = request.codec.reads_cap(request.cap_fields, route.upstream_model, is_vendor=is_vendor)
    return request.output_cap if reads_cap else None


def _body(request: RequestBody, inference_request: InferenceRequest, route: Route) -> bytes:
    if not isinstance(request, PassthroughRequest):
        return canonical_body(request)
    changes: dict[str, Any] = {}
    if request.model != route.upstream_model:
        changes["model"] = route.upstream_model
    if inference_request.stream is not None:
        changes |= request.codec.stream_changes(request.stream_options)
    return rewrite(request.body, changes) if changes else request.body


def _key(caller: Caller, inference_request: InferenceRequest, route: Route, body: bytes) -> bytes | None:
    """The cache key. Of a passed-through request it includes the forwarded headers and query, and whether the answer is
    streamed: a stream is kept and replayed as it came. Translated requests share one entry with their streams.
    """
    request = inference_request.request
    if inference_request.cache.mode == "off":
        return None
    if isinstance(request, PassthroughRequest):
        members = msgspec.json.decode(body)
        is_streamed = inference_request.stream is not None
        if not is_streamed:  # then these members change nothing
            members = {name: members[name] for name in members if name not in ("stream", "stream_options")}
        kept_as = "events" if is_streamed else "json"
        told = (request.dialect, kept_as, inference_request.headers, inference_request.query)
        body = canonical_body(told) + canonical_body(members)
    return cache_key(
        project_id=caller.project_id,
        operation=inference_request.operation,
        provider=route.provider if route.base_url is None else f"{route.provider} {route.base_url}",
        upstream_model=route.upstream_model,
        body=body,
    )
