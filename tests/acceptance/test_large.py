"""Requests and responses of twenty megabytes pass, at the right cost. Larger ones are refused in time."""

import base64
import random
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway
from tests.support.streams import (
    CHAT_CLAUDE,
    CHAT_GPT,
    MESSAGES_CLAUDE,
    NATIVE_GPT,
    RESPONSES_GPT,
    StreamCall,
    Streamer,
    answer_to,
    cost_in,
    cost_of,
    digest_of,
    text_in,
    text_of,
)

NANO = 10**9
IMAGE = base64.b64encode(random.Random(20).randbytes(15_000_000)).decode()
"""Twenty megabytes that do not compress."""
INPUTS, DIMENSIONS = 2_048, 1_536
MAX_BODY_BYTES = 32 * 1024 * 1024
EMBEDDINGS = StreamCall(name="embeddings", path="/v1/embeddings", model="text-embedding-3-small")
NATIVE_EMBEDDINGS = StreamCall(name="native", path="/api/v1/completions/embeddings", model="text-embedding-3-small")


@pytest.fixture
async def streamer(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> Streamer:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "large", "dailyBudget": 5})
    return Streamer(session, gateway.address, issued["data"]["apiKey"])


def with_image(call: StreamCall, prompt: str, *, stream: bool) -> dict[str, Any]:
    """Return a request with an image of twenty megabytes."""
    address = {"url": f"data:image/png;base64,{IMAGE}"}
    text = {"type": "text", "text": prompt}
    match call.path:
        case "/v1/messages":
            source = {"type": "base64", "media_type": "image/png", "data": IMAGE}
            content: Any = [text, {"type": "image", "source": source}]
        case "/v1/chat/completions":
            content = [text, {"type": "image_url", "image_url": address}]
        case _:
            content = [text, {"type": "image_url", "imageUrl": address}]
    return call.body(prompt, stream=stream) | {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("call", [NATIVE_GPT, CHAT_GPT, CHAT_CLAUDE, MESSAGES_CLAUDE], ids=lambda call: call.name)
async def test_an_image_of_twenty_megabytes_passes_whole_and_streamed(
    call: StreamCall, streamer: Streamer, upstream: RunningProvider
) -> None:
    prompts = [f"large {call.name} {kind}" for kind in ("whole", "streamed")]
    status, whole = await streamer.read(call, with_image(call, prompts[0], stream=False))
    assert status == 200, whole[:500]
    status, stream = await streamer.read(call, with_image(call, prompts[1], stream=True))
    assert status == 200, stream[:500]
    assert IMAGE.encode() in upstream.requests(last=1)[0].body
    sent_prompts = [f"{prompt}\n" for prompt in prompts]  # and no text in the image
    assert [text_of(call, whole), text_in(stream)] == [answer_to(prompt) for prompt in sent_prompts]
    assert [cost_of(whole) * NANO, cost_in(stream) * NANO] == [charge_for(upstream, prompt) for prompt in sent_prompts]


@pytest.mark.parametrize("call", [EMBEDDINGS, NATIVE_EMBEDDINGS], ids=lambda call: call.name)
async def test_two_thousand_embeddings_pass(call: StreamCall, streamer: Streamer, upstream: RunningProvider) -> None:
    inputs = [f"{call.name} {n}" for n in range(INPUTS)]
    body = {"model": call.model, "input": inputs, "dimensions": DIMENSIONS}
    status, answer = await streamer.read(call, body)
    assert status == 200, answer[:500]
    assert len(answer) > 20_000_000
    found = msgspec.json.decode(answer)
    vectors = found["data"] if "object" in found else found["data"]["embeddings"]
    assert [(vector["index"], vector["embedding"]) for vector in vectors] == [
        (n, [0.125 * (n + 1)] * DIMENSIONS) for n in range(INPUTS)
    ]
    cost = found["usage"]["cost"] if "object" in found else found["data"]["cost"]
    assert Decimal(str(cost)) * NANO == charge_for(upstream, "\n".join(inputs))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (NATIVE_GPT, {"success": False, "error": {"code": "TOO_LARGE"}}),
        (CHAT_GPT, {"error": {"type": "invalid_request_error"}}),
        (RESPONSES_GPT, {"error": {"type": "invalid_request_error"}}),
        (EMBEDDINGS, {"error": {"type": "invalid_request_error"}}),
        (MESSAGES_CLAUDE, {"type": "error", "error": {"type": "request_too_large"}}),
    ],
    ids=lambda value: value.name if isinstance(value, StreamCall) else "",
)
async def test_oversized_body_is_refused_in_its_dialect(
    call: StreamCall, error: dict[str, Any], session: aiohttp.ClientSession, streamer: Streamer, gateway: Gateway
) -> None:
    headers = {"Authorization": f"Bearer {streamer.key}", "content-type": "application/json"}
    body = b'{"x": "' + b"x" * (MAX_BODY_BYTES + 1 - len(b'{"x": ""}')) + b'"}'
    async with session.post(gateway.address + call.path, data=body, headers=headers) as answer:
        found = await answer.json()
        assert (answer.status, len(body)) == (413, MAX_BODY_BYTES + 1), found
    assert error["error"].items() <= found["error"].items(), found
    async with session.post(gateway.address + call.path, data=body[1:], headers=headers) as answer:
        assert answer.status == 400, "the body is read, and is not JSON"


def charge_for(upstream: RunningProvider, prompt: str) -> Decimal:
    """Return the provider's only charge for a prompt, in nano-dollars."""
    (charged,) = [row for row in upstream.bill() if row["prompt"] == digest_of(prompt)]
    return Decimal(charged["nano_usd"])
