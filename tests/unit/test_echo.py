"""The built-in provider works in the worker's event loop: what one request may cost it is bounded."""

import asyncio
import math
import time

import pytest

from domain.canonical.chat import ChatRequest, ChatResponse, UserMessage
from domain.canonical.embeddings import EmbeddingsRequest, EmbeddingsResponse
from domain.errors import ProviderRejected
from tests.jobs import make_identity
from workers.providers.echo import MAX_DELTAS, MAX_EMBEDDING_NUMBERS, MAX_INPUT_CHARS, EchoProvider
from workers.providers.provider import ProviderCall, ProviderPayload

MAX_BLOCKED_S = 1.0
"""Generous: the largest requests take some 20 ms."""


def call(operation: str) -> ProviderCall:
    return ProviderCall(
        identity=make_identity(operation=operation),
        credential=None,
        timeout_s=10,
    )


def chat(content: str) -> ChatRequest:
    return ChatRequest(model="echo", messages=[UserMessage(content=content)])


def embeddings(inputs: int, dimensions: int | None = None) -> EmbeddingsRequest:
    return EmbeddingsRequest(model="echo", input=[f"text {n}" for n in range(inputs)], dimensions=dimensions)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (embeddings(2_000, 3_072), "dimensions"),
        (embeddings(1, 5_000), "dimensions"),
        (EmbeddingsRequest(model="echo", input="x" * (MAX_INPUT_CHARS + 1)), "input"),
        (chat("x" * (MAX_INPUT_CHARS + 1)), "messages"),
        (chat("x " * 128_001), "messages"),
    ],
)
async def test_a_request_beyond_its_limits_is_rejected(request_: ProviderPayload, field: str) -> None:
    operation = "embeddings" if isinstance(request_, EmbeddingsRequest) else "chat"
    before = time.process_time()
    with pytest.raises(ProviderRejected, match=f"`{field}`"):
        await EchoProvider().ask(request_, call(operation))
    assert time.process_time() - before < MAX_BLOCKED_S


async def test_the_largest_embeddings_are_cheap() -> None:
    before = time.process_time()
    response = await EchoProvider().ask(embeddings(2_048, MAX_EMBEDDING_NUMBERS // 2_048), call("embeddings"))
    assert time.process_time() - before < MAX_BLOCKED_S
    assert isinstance(response.answer, EmbeddingsResponse)
    assert len(response.answer.embeddings) == 2_048


async def test_vectors_have_length_one_and_depend_on_the_text_alone() -> None:
    response = await EchoProvider().ask(
        EmbeddingsRequest(model="echo", input=["one", "two", "one"], dimensions=1_536), call("embeddings")
    )
    assert isinstance(response.answer, EmbeddingsResponse)
    first, second, third = (each.embedding for each in response.answer.embeddings)
    assert first == third != second
    assert math.hypot(*first) == pytest.approx(1, abs=1e-5)
    assert len(first) == 1_536


@pytest.mark.parametrize("words", [0, 1, 5, MAX_DELTAS + 1, 127_999])
async def test_a_streamed_answer_is_the_whole_one_in_bounded_pieces(words: int) -> None:
    request = chat(" ".join(f"w{n}" for n in range(words)))
    response = await EchoProvider().ask(request, call("chat"))
    assert isinstance(response.answer, ChatResponse)
    batches = 0
    async with EchoProvider().stream(request, call("chat")) as stream:
        async for _ in stream:
            batches += 1
    assert response.answer.choices[0].message.content == " ".join(["echo:", *(f"w{n}" for n in range(words))])
    assert batches <= MAX_DELTAS + 3


async def test_others_have_their_turn_while_a_long_answer_is_streamed() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    bystander = asyncio.create_task(other())
    async with EchoProvider().stream(chat("x " * 100_000), call("chat")) as stream:
        async for _ in stream:
            pass
    bystander.cancel()
    assert turns > MAX_DELTAS / 2
