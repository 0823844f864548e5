"""What a coding agent's session would hold and cost, request by request, as the gateway's API bounds it. No servers."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from api.prompt_memory import PromptMemory
from domain.dialects.passthrough.inspect import read_passthrough
from domain.dialects.registry import DIALECTS
from domain.holds import Hold
from domain.pricing import cost, reachable
from domain.prompt_prefix import prompt_chain
from domain.routing import resolve_target
from domain.tokens import TokenUsage
from infra.price_book import PriceBook
from tests.provider.counting import input_tokens

ANSWER_TOKENS = 400
NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Step(Struct, frozen=True, kw_only=True):
    """One request."""

    body_bytes: int
    counted_tokens: int
    """By the provider."""
    bound_by_bytes: int
    bound_tokens: int
    """The least of what is known: by its bytes, or by the request before."""
    input_hold_nano_usd: int
    hold_nano_usd: int
    """With the whole output cap."""
    input_cost_nano_usd: int
    cost_nano_usd: int
    cached_cost_nano_usd: int
    """If the provider's cache has what the request before had."""


async def steps(bodies: Iterable[dict[str, Any]], *, bytes_per_token: int = 4) -> list[Step]:
    """Bound requests to Anthropic one after the other, each with what the provider has counted before it."""
    memory = PromptMemory(_nobody)
    found: list[Step] = []
    for body in bodies:
        step, remembering = _step(memory, body, bytes_per_token, found[-1].counted_tokens if found else 0)
        await remembering
        found.append(step)
    return found


def _step(memory: PromptMemory, body: dict[str, Any], bytes_per_token: int, read_from_cache: int) -> Any:
    target = resolve_target(body["model"], {})
    price, window = PRICES.look_up(target, NOW)
    assert price is not None
    written = json.dumps(body).encode()
    request = read_passthrough(written, DIALECTS.codec("anthropic", "chat"))
    bounds = request.token_bound(target.upstream_model, window, is_builtin=True)
    chain = prompt_chain((target.upstream_model,), written)
    assert chain is not None
    assert bounds.item_tokens is not None
    known = memory.bound(chain, bounds.item_tokens)
    tokens = bounds.input_tokens if known is None else min(known, bounds.input_tokens)
    counted = input_tokens(body, bytes_per_token)
    prices = reachable(price, tokens, writes_5m=bounds.writes_5m, writes_1h=bounds.writes_1h)
    cached = TokenUsage(
        cache_read=min(counted, read_from_cache), cache_write=max(0, counted - read_from_cache), output=ANSWER_TOKENS
    )
    step = Step(
        body_bytes=len(written),
        counted_tokens=counted,
        bound_by_bytes=bounds.input_tokens,
        bound_tokens=tokens,
        input_hold_nano_usd=Hold(price=prices, input_tokens=tokens, context_window=0).nano_usd(0, 0),
        hold_nano_usd=Hold(price=prices, input_tokens=tokens, context_window=0).nano_usd(bounds.output_tokens, 0),
        input_cost_nano_usd=cost(TokenUsage(input=counted), price).total_nano_usd,
        cost_nano_usd=cost(TokenUsage(input=counted, output=ANSWER_TOKENS), price).total_nano_usd,
        cached_cost_nano_usd=cost(cached, price).total_nano_usd,
    )
    return step, memory.remember(chain, counted, text_bound=bounds.input_tokens)


PRICES = PriceBook()


async def _nobody(_counted: bytes) -> None:
    """No other process is told."""


def ratios(found: Iterable[Step], over: str, under: str) -> Iterator[float]:
    """Yield the ratio of two figures of each step."""
    return (getattr(step, over) / getattr(step, under) for step in found)
