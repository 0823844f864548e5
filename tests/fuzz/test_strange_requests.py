"""Whatever a caller sends as a body is made ready for its provider, or refused with an error of the caller's."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.request_planner import within_budget
from domain.errors import BodyTooLarge, Forbidden, GatewayError, InvalidRequest, UnknownModel
from tests.fuzz.planning import PlannedSurface, plan_request, surface
from tests.fuzz.seeds import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from tests.fuzz.strange_json import strange_json

REFUSALS = (InvalidRequest, UnknownModel, BodyTooLarge, Forbidden)
"""The errors that are the caller's: 400, 403, 404 and 413."""
TEXT_MODELS = (
    "gpt-4o",
    "gpt-5",
    "gpt-5-pro",
    "claude-sonnet-4-5",
    "claude-opus-4-6",
    "claude-3-haiku",
    "echo",
    "named/any",
)
SURFACES: dict[str, tuple[PlannedSurface, tuple[Any, ...], tuple[str, ...]]] = {
    "chat": (surface("openai", "chat"), CHAT, TEXT_MODELS),
    "responses": (surface("openai", "responses"), RESPONSES, TEXT_MODELS),
    "messages": (surface("anthropic", "chat"), MESSAGES, TEXT_MODELS),
    "completions": (surface("openai", "completions"), COMPLETIONS, ("gpt-3.5-turbo-instruct", "named/any")),
    "embeddings": (surface("openai", "embeddings"), EMBEDDINGS, ("text-embedding-3-small", "echo", "named/any")),
}


@pytest.mark.parametrize("name", SURFACES)
@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_strange_request_is_planned_or_refused(name: str, data: st.DataObject) -> None:
    called, seeds, models = SURFACES[name]
    model = data.draw(st.sampled_from(models))
    body = data.draw(strange_json(tuple({**seed, "model": model} for seed in seeds)))
    try:
        planned = plan_request(called, body, at=datetime(2026, 11, 25, tzinfo=UTC))
    except REFUSALS as refusal:
        assert_clear(refusal)
        return
    msgspec.json.decode(planned.payload)
    cost = planned.cost
    assert cost.input_tokens >= 0
    assert cost.output_tokens >= 0
    if cost.basis is not None and cost.hold_nano_usd is not None:
        least = within_budget(planned, cost.min_hold_nano_usd)
        msgspec.json.decode(least.payload)
        assert least.cost.output_tokens <= cost.output_tokens


def assert_clear(refusal: GatewayError) -> None:
    """The error can be sent and stored, and is short."""
    message = refusal.message
    assert message
    assert len(message) < 4_000, message[:500]
    msgspec.json.encode(message)
    assert "Traceback" not in message
