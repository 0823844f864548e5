"""A stream that its client leaves is no answer: its figures and its access line say so."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from api.delivery import EventStream
from api.inference_response import StreamedResponse
from api.metrics import Metrics
from api.request_facts import RequestFacts
from domain.errors import GatewayError, ProviderTimeout


async def facts_after(
    parts: list[bytes | GatewayError | None], *, leaves: bool = False, bodies: list[tuple[bytes, bool]] | None = None
) -> RequestFacts:
    """Have a stream of these parts sent; None is its end. Its client leaves after the first, or stays to the end.

    `bodies` gets what is sent, and whether more follows. The end comes together with the last part.
    """
    left = list(parts)
    facts = RequestFacts(operation="chat", provider="openai", model="m", has_answer=True, is_stream=True)
    target, asked = SimpleNamespace(provider="openai", upstream_model="m"), SimpleNamespace(facts=facts)
    ctx: Any = SimpleNamespace(
        identity=SimpleNamespace(request_id="req_1", dropped=()),
        target=target,
        limit_status=None,
        lowered_cap=None,
        lowered_tool_calls=None,
        inference_request=asked,
        cache_key=None,
    )
    is_over = asyncio.Event()

    async def next_part() -> bytes | None:
        if not left:
            await asyncio.Event().wait()
        part = left.pop(0)
        if isinstance(part, GatewayError):
            raise part
        return part

    async def receive() -> Any:
        await is_over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        if bodies is not None and message["type"] == "http.response.body":
            bodies.append((message["body"], message["more_body"]))
        if message["type"] == "http.response.body" and (leaves or not message["more_body"]):
            is_over.set()

    response = StreamedResponse(
        ctx, attempts=1, first=b"data: 1\n\n", following=next_part, is_at_end=lambda: left == [None], close=lambda: None
    )
    surface: Any = SimpleNamespace(error=lambda _error, _sent: b"data: error\n\n")
    scope: Any = {"type": "http", "method": "POST"}
    await EventStream(response, surface, {}).to_asgi_response()(scope, receive, send)
    return facts


async def test_a_stream_that_its_client_leaves_has_no_time_and_its_own_outcome() -> None:
    facts = await facts_after([], leaves=True)
    assert facts.error_code == "CALLER_LEFT"
    metrics = Metrics()
    metrics.observe("chat", "200", 0.3, facts)
    labels = {"operation": "chat", "provider": "openai", "model": "m", "status": "200"}
    of = metrics.registry.get_sample_value
    assert of("gateway_inference_requests_total", {**labels, "outcome": "CALLER_LEFT"}) == 1
    assert of("gateway_inference_seconds_count", {"operation": "chat", "provider": "openai"}) is None


@pytest.mark.parametrize(
    ("parts", "code"),
    [([b"data: 2\n\n", None], None), ([ProviderTimeout("slow", provider="openai")], "PROVIDER_TIMEOUT")],
)
async def test_a_stream_that_comes_to_its_end_has_the_outcome_of_its_end(
    parts: list[bytes | GatewayError | None], code: str | None
) -> None:
    assert (await facts_after(parts)).error_code == code


async def test_the_last_part_goes_out_with_the_end_of_the_stream() -> None:
    bodies: list[tuple[bytes, bool]] = []
    await facts_after([b"data: 2\n\n", b"data: 3\n\n", None], bodies=bodies)
    assert bodies == [(b"data: 1\n\n", True), (b"data: 2\n\n", True), (b"data: 3\n\n", False)]
