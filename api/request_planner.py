"""Plans requests: may this key make it, the body for the provider, its cache key, and the most that it can cost.

Needs nothing but what is in memory.
"""

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec.structs import replace

from api.authentication import Caller
from api.client_disconnect import ClientDisconnect
from api.planned_targets import with_further
from api.prompt_memory import PromptMemory
from api.request_context import CostBound, InferenceRequest, Prompt, RequestContext
from api.target_planner import FindRoute, Share, TargetPlanner, check_allowed, is_allowed, no_route
from domain.cache_key import cache_key
from domain.canonical.chat import ChatRequest
from domain.dialects.field_rules import in_camel_case
from domain.dialects.registry import DialectRegistry
from domain.dialects.request_body import CanonicalRequest, RequestBody, TokenBound
from domain.errors import Forbidden, InvalidRequest, UnknownModel
from domain.estimate import MAX_HOLD
from domain.holds import Hold, on_asked_terms
from domain.hosted_tools import HostedTools
from domain.models import model_traits
from domain.money import NANO_PER_USD, NanoUsd
from domain.pricing import TEXT_CLASSES, Price, dearest_class, reachable
from domain.prompt_prefix import LEAST_TOKENS, prompt_chain
from domain.request_identity import RequestIdentity
from domain.routing import Target
from domain.tokens import MAX_TOKENS
from infra.price_book import PriceBook

_CACHE_MARK, _LONG_CACHE_MARK = b'"cacheControl"', b'"1h"'
"""In a canonical body. In its texts every quotation mark has a backslash before it."""


class RequestPlanner(TargetPlanner):
    """Plans for one API process."""

    def __init__(
        self,
        *,
        prices: PriceBook,
        dialects: DialectRegistry,
        upstream_models: Mapping[str, str],
        request_timeout_s: float,
        prompts: PromptMemory | None = None,
        find_route: FindRoute = no_route,
        share: Share | None = None,
        installation_keys: Container[str] | None = None,
    ) -> None:
        """`find_route`, `share`, `installation_keys`: see `TargetPlanner`."""
        super().__init__(
            kinds=dialects.kinds,
            upstream_models=upstream_models,
            find_route=find_route,
            share=share,
            installation_keys=installation_keys,
        )
        self._prices = prices
        self._dialects = dialects
        self._request_timeout_s = request_timeout_s
        self._prompts = prompts
        """None: every prompt is bounded by its bytes."""

    def plan(
        self, caller: Caller, inference_request: InferenceRequest, disconnect: ClientDisconnect, *, is_counted: bool
    ) -> RequestContext:
        """Plan a request, up to its cache key, at each of its targets. Those that cannot serve it are left out.

        Raises:
            Forbidden, InvalidRequest: the key may not use the model, or the provider cannot serve the request. If it
                has several targets: the first was named by the caller itself, or none can serve it.

        """
        failover = inference_request.failover
        if failover is None:
            return self._plan(caller, inference_request, disconnect, is_counted=is_counted)
        first = with_further(
            (inference_request, *failover.further),
            lambda one: self._plan(caller, one, disconnect, is_counted=is_counted),
            left_out=failover.dropped,
        )
        return replace(first, failover=failover)

    def _plan(
        self, caller: Caller, inference_request: InferenceRequest, disconnect: ClientDisconnect, *, is_counted: bool
    ) -> RequestContext:
        """Plan a request at one target. Raises as `plan`."""
        body, target, cache = inference_request.body, inference_request.target, inference_request.cache
        operation = inference_request.operation
        if caller.settings.models is not None:
            self._check_models(caller, caller.settings.models, inference_request)
        asked_cap = body.output_cap
        body, adapted = self._adapt(inference_request)
        dropped = _dropped(caller, inference_request, adapted)
        if body.calls > 1 and inference_request.stream is not None:
            raise InvalidRequest(
                f"`n` must be 1 in a stream of model {target.model!r}: leave `stream` out, or send several requests",
                field="n",
            )
        if inference_request.has_native_defaults:
            body = body.with_native_defaults(target.upstream_model)
        payload = body.payload(target.upstream_model)
        key = None
        if cache.is_used:
            keyed = body.cache_body(payload, headers=inference_request.headers, query=inference_request.query)
            key = cache_key(project_id=caller.project_id, operation=operation, target=target, body=keyed)
        received_at = inference_request.received_at
        return RequestContext(
            identity=RequestIdentity(
                request_id=inference_request.request_id,
                project_id=caller.project_id,
                key_id=caller.key_id,
                operation=operation,
                model=target.model,
                provider=target.provider,
                upstream_model=target.upstream_model,
                metadata=inference_request.metadata,
                origin=inference_request.origin,
                dropped=dropped,
                asked_as=inference_request.asked_as,
                idempotency=inference_request.idempotency,
            ),
            caller=caller,
            inference_request=inference_request,
            disconnect=disconnect,
            target=target,
            body=body,
            payload=payload,
            cache_key=key,
            min_created_at=received_at - timedelta(seconds=cache.ttl_s) if cache.mode == "on" else None,
            deadline=self._deadline(inference_request),
            needs_own_credential=target.provider in caller.own_credentials,
            is_counted=is_counted,
            lowered_cap=body.output_cap if asked_cap is not None and body.output_cap != asked_cap else None,
        )

    def _deadline(self, inference_request: InferenceRequest) -> datetime:
        if inference_request.background is not None:
            return inference_request.background.deadline
        return inference_request.received_at + timedelta(seconds=self._request_timeout_s)

    def _check_models(self, caller: Caller, allowed: Sequence[str], asked: InferenceRequest) -> None:
        """Refuse a request if any of its fields names a model that the key may not use.

        Raises:
            Forbidden: names the field.

        """
        choice = f"the key may use: {', '.join(allowed)}"
        if asked.route is None or not is_allowed(caller, asked.route):
            check_allowed(caller, asked.body.model, "model")
        named = asked.body.named_models
        permitted = self._names_at(caller, allowed, asked.target) if named else frozenset()
        for place in named:
            if place.name not in permitted:
                what = f"names model {place.name!r}" if place.name is not None else "may have another model answer"
                raise Forbidden(
                    f"`{place.field}` {what}, which this key may not use: leave it out; {choice}",
                    details={"field": place.field},
                )

    def _names_at(self, caller: Caller, models: Sequence[str], target: Target) -> frozenset[str]:
        """The names by which the provider of a target knows these models, as far as it serves them.

        A route's name stands for the route's targets, and not for the model of that name.
        """
        names: set[str] = set()
        for model in models:
            if self.is_route(caller, model):
                continue
            with suppress(UnknownModel):
                one = self.target(caller, model)
                if (one.provider, one.base_url) == (target.provider, target.base_url):
                    names.add(one.upstream_model)
        return frozenset(names)

    def _adapt(self, inference_request: InferenceRequest) -> tuple[RequestBody, tuple[str, ...]]:
        """As `DialectRegistry.adapt`, with refusals as the native API spells its fields, if that is the surface."""
        asked = inference_request
        if asked.has_native_defaults:
            _check_temperature(asked.body, asked.target)
        try:
            return self._dialects.adapt(asked.body, asked.target, asked.operation)
        except InvalidRequest as error:
            if not asked.has_native_defaults or error.field is None:
                raise
            (field,) = in_camel_case([error.field])
            raise InvalidRequest(error.message.replace(f"`{error.field}`", f"`{field}`"), field=field) from None

    def bound_cost(self, ctx: RequestContext) -> RequestContext:
        """Bound what a request can cost at each of its targets: what it has to hold.

        Raises:
            InvalidRequest: it may be counted, or charged, as more than is allowed; with several targets: as `plan`.

        """
        if ctx.failover is None:
            return self._bound_cost(ctx)
        bounded = with_further((ctx, *ctx.further), self._bound_cost, left_out=ctx.left_out)
        return replace(bounded, failover=ctx.failover)

    def _bound_cost(self, ctx: RequestContext) -> RequestContext:
        target, inference_request = ctx.target, ctx.inference_request
        price, window = self._prices.look_up(target, inference_request.received_at)
        bounds, prompt = self._with_known_prefix(ctx, self._token_bound(ctx, window))
        if bounds.input_tokens > MAX_TOKENS:
            raise InvalidRequest(
                f"this request may be counted as {bounds.input_tokens} tokens, of which {MAX_TOKENS} are allowed: "
                "every image counts as its largest size"
            )
        output_tokens = min(bounds.output_tokens, MAX_TOKENS)  # no usage figure that is counted or charged is larger
        cost = CostBound(
            price=self._with_tools(ctx, bounds.tools, price) if price is not None else None,
            unbounded_field=bounds.unbounded_field,
            unpriced=(bounds.unbounded_field,) if bounds.unbounded_field is not None else (),
            input_tokens=bounds.input_tokens,
            output_tokens=output_tokens,
            unseen_input_tokens=bounds.summary_reading_tokens,
            unseen_output_tokens=bounds.summary_tokens + bounds.predicted_tokens,
            audio_tokens=min(bounds.audio_tokens, bounds.input_tokens),
            writes_audio=bounds.writes_audio,
            choices=bounds.choices,
            terms=bounds.terms or None,
            context_window=bounds.context_window if bounds.tools.tools else 0,
            media_tokens=bounds.media_tokens,
        )
        if cost.price is not None and cost.unbounded_field is None:
            cost = _held(cost, bounds, lowers=ctx.caller.settings.output_cap == "lower")
        return replace(ctx, cost=cost, prompt=prompt)

    def _with_tools(self, ctx: RequestContext, tools: HostedTools, price: Price) -> Price:
        """Add what hosted tools cost: their fees, and the prices of the other models that they ask."""
        if not tools.tools or not any(tool.model for tool in tools.tools):
            return tools.priced(price)
        at = ctx.inference_request.received_at
        others = (
            self._prices.other_model(tool.use, replace(ctx.target, model=tool.model, upstream_model=tool.model), at)
            for tool in tools.tools
            if tool.use is not None and tool.model is not None
        )
        return replace(tools.priced(price), others=tuple(other for other in others if other is not None))

    def _token_bound(self, ctx: RequestContext, context_window: int | None) -> TokenBound:
        target, operation, headers = ctx.target, ctx.inference_request.operation, ctx.inference_request.headers
        is_builtin = target.base_url is None
        if ctx.body.is_passthrough:  # its codec is its provider's
            return ctx.body.token_bound(target.upstream_model, context_window, is_builtin=is_builtin, headers=headers)
        bounds = ctx.body.token_bound(
            target.upstream_model,
            context_window,
            is_builtin=is_builtin,
            headers=headers,
            image_tokens=self._dialects.image_tokens(target, operation),
        )
        if self._dialects.has_cache_marks(target, operation):
            is_marked = _CACHE_MARK in ctx.payload
            bounds = replace(bounds, writes_5m=is_marked, writes_1h=is_marked and _LONG_CACHE_MARK in ctx.payload)
        return bounds

    def _with_known_prefix(self, ctx: RequestContext, bounds: TokenBound) -> tuple[TokenBound, Prompt | None]:
        """Lower the bound of a long input that begins as one that its provider has counted."""
        if self._prompts is None or bounds.item_tokens is None or bounds.input_tokens < LEAST_TOKENS:
            return bounds, None
        identity, request = ctx.identity, ctx.inference_request
        scope = (
            identity.project_id,
            identity.operation,
            ctx.body.asked_operation,
            identity.provider,
            ctx.target.base_url,
            identity.upstream_model,
            ctx.body.is_passthrough,
            sorted((request.headers or {}).items()),
            request.query,
        )
        chain = prompt_chain(scope, ctx.payload)
        if chain is None:
            return bounds, None
        is_vendor = ctx.target.base_url is None
        known = self._prompts.bound(chain, bounds.item_tokens, is_same_tokenizer=is_vendor)
        prompt = Prompt(chain=chain, text_bound=bounds.input_tokens - bounds.media_tokens)
        if known is not None and known < bounds.input_tokens:
            bounds = replace(bounds, input_tokens=known, media_tokens=min(bounds.media_tokens, known))
        return bounds, prompt


def _held(cost: CostBound, bounds: TokenBound, *, lowers: bool) -> CostBound:
    """Add what the request has to hold, unless a part of it has no known price.

    Raises:
        InvalidRequest: it may cost more than is allowed.

    """
    assert cost.price is not None, "what is held has a price"
    price, unpriced = on_asked_terms(cost.price, bounds.terms)
    calls = bounds.tools.most_calls
    is_read_once = bounds.item_tokens is not None  # else the provider may count more than one reading
    longest = bounds.input_tokens if is_read_once else bounds.reading_tokens or MAX_TOKENS
    basis = Hold(
        price=reachable(price, longest, writes_5m=bounds.writes_5m, writes_1h=bounds.writes_1h),
        input_tokens=bounds.input_tokens,
        audio_tokens=cost.audio_tokens,
        writes_audio=cost.writes_audio,
        predicted_tokens=bounds.predicted_tokens,
        summary_reading_tokens=bounds.summary_reading_tokens,
        summary_tokens=bounds.summary_tokens,
        context_window=bounds.context_window,
        tools=bounds.tools,
    )
    if unpriced is not None:  # a term: the answer says whether it was served on that
        return replace(cost, unbounded_field=unpriced)
    if basis.unpriced is not None:
        return replace(cost, unbounded_field=basis.unpriced, unpriced=(basis.unpriced,))
    hold = min_hold = basis.nano_usd(cost.output_tokens, calls)
    if hold > MAX_HOLD:
        raise InvalidRequest(
            f"this request may cost ${hold // NANO_PER_USD}; the most that one may hold is ${MAX_HOLD // NANO_PER_USD}"
        )
    if lowers:
        least = min(cost.output_tokens, bounds.least_output_tokens), min(1, calls)
        min_hold = hold if least == (cost.output_tokens, calls) else basis.nano_usd(*least)
    return replace(
        cost,
        input_class=dearest_class(basis.price.prices, TEXT_CLASSES),
        basis=basis,
        hold_nano_usd=hold,
        min_hold_nano_usd=min_hold,
    )


def _dropped(caller: Caller, inference_request: InferenceRequest, adapted: tuple[str, ...]) -> tuple[str, ...]:
    """The names of all fields that the request loses, as its client spells them.

    Raises:
        InvalidRequest: there is one, and the translation is to be strict.

    """
    if not adapted and not inference_request.dropped:
        return ()
    names = inference_request.field_names
    adapted = tuple(names.get(name, name) for name in adapted)
    if inference_request.has_native_defaults:
        adapted = tuple(in_camel_case(adapted))
    dropped = tuple(dict.fromkeys((*inference_request.dropped, *adapted)))
    is_strict = inference_request.is_strict
    if dropped and (caller.settings.translation == "strict" if is_strict is None else is_strict):
        model, names_told = inference_request.target.model, ", ".join(f"`{name}`" for name in dropped)
        raise InvalidRequest(
            f"{names_told} cannot be sent as asked to model {model!r}: leave it out, or ask for a lenient "
            "translation (the header `x-gateway-translation`, the key's `translation`)",
            field=dropped[0],
        )
    return dropped


def _check_temperature(body: RequestBody, target: Target) -> None:
    """The native API promises to refuse a temperature outside the provider's range. Vendors' clients know no such
    promise: for them it is lowered.

    Raises:
        InvalidRequest: it is above the model's highest.

    """
    if not isinstance(body, CanonicalRequest) or not isinstance(body.request, ChatRequest):
        return
    traits, temperature = model_traits(target.upstream_model, target.kind), body.request.temperature
    if temperature is not None and traits.takes_temperature and temperature > traits.max_temperature:
        raise InvalidRequest(
            f"`temperature` of model {target.model!r} may be {traits.max_temperature:g} at most", field="temperature"
        )


def within_budget(ctx: RequestContext, hold_nano_usd: NanoUsd) -> RequestContext:
    """Have a request cost no more than the hold that a budget gave it.

    Its hosted tools are called no more often than was held for: the calls are lowered first, then the output cap. A
    response under a hold that is less than asked for is not shared.
    """
    cost = ctx.cost
    if cost.basis is None or cost.hold_nano_usd is None:
        return ctx
    calls = cost.basis.calls_within(hold_nano_usd, cost.output_tokens)
    if calls:
        body = ctx.body.with_tool_calls(calls)
        payload = body.payload(ctx.target.upstream_model)
        told = calls if payload != ctx.payload else None
        ctx = replace(ctx, body=body, payload=payload, lowered_tool_calls=told)
    if hold_nano_usd >= cost.hold_nano_usd:
        return ctx
    ctx = replace(ctx, cache_key=None, cost=replace(cost, hold_nano_usd=hold_nano_usd))
    cap = cost.basis.output_within(hold_nano_usd, calls)
    if cap >= cost.output_tokens:
        return ctx
    lowered = ctx.body.with_output_cap(cap, ctx.target.upstream_model, is_builtin=ctx.target.base_url is None)
    return replace(
        ctx,
        body=lowered.body,
        payload=lowered.payload,
        lowered_cap=lowered.cap,
        cost=replace(ctx.cost, output_tokens=lowered.output_tokens),
    )
