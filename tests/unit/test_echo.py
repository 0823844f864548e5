"""The built-in provider runs in the worker's event loop, so the time of one request is bounded."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from domain.canonical.chat import ChatRequest, ChatResponse, JsonSchema, ResponseFormat, UserMessage
from domain.canonical.embeddings import EmbeddingsRequest, EmbeddingsResponse
from domain.dialects.codec import Codec, ProviderResponse
from domain.dialects.openai.codec import OpenAiChat, OpenAiEmbeddings
from domain.dialects.sse import SseEvent
from domain.errors import ProviderRejected
from tests.support.jobs import make_identity
from workers.providers.echo import MAX_DELTAS, MAX_EMBEDDING_NUMBERS, MAX_INPUT_CHARS, EchoProvider
from workers.providers.provider import ProviderCall

MAX_BLOCKED_S = 1.0
"""A generous limit: the largest requests take about 20 ms."""


def call(operation: str) -> ProviderCall:
    return ProviderCall(
        identity=make_identity(operation=operation),
        path="",
        credential=None,
        timeout_s=10,
    )


async def ask(request: ChatRequest | EmbeddingsRequest) -> ProviderResponse:
    is_chat = isinstance(request, ChatRequest)
    codec: Codec = OpenAiChat() if is_chat else OpenAiEmbeddings()
    content = codec.render_request(request, "echo", is_stream=False)
    body = await EchoProvider().send(content, call("chat" if is_chat else "embeddings"))
    return codec.parse_response(body, model="echo", provider="echo")


def stream(request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[list[SseEvent]]]:
    return EchoProvider().stream(OpenAiChat().render_request(request, "echo", is_stream=True), call("chat"))


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
async def test_a_request_beyond_its_limits_is_rejected(request_: ChatRequest | EmbeddingsRequest, field: str) -> None:
    before = time.process_time()
    with pytest.raises(ProviderRejected, match=f"`{field}`"):
        await ask(request_)
    assert time.process_time() - before < MAX_BLOCKED_S


async def test_the_largest_embeddings_are_cheap() -> None:
    before = time.process_time()
    response = await ask(embeddings(2_048, MAX_EMBEDDING_NUMBERS // 2_048))
    assert time.process_time() - before < MAX_BLOCKED_S
    assert len(msgspec.json.decode(response.body, type=EmbeddingsResponse).embeddings) == 2_048


async def test_vectors_have_length_one_and_depend_on_the_text_alone() -> None:
    response = await ask(EmbeddingsRequest(model="echo", input=["one", "two", "one"], dimensions=1_536))
    first, second, third = (
        each.embedding for each in msgspec.json.decode(response.body, type=EmbeddingsResponse).embeddings
    )
    assert first == third != second
    assert math.hypot(*first) == pytest.approx(1, abs=1e-5)
    assert len(first) == 1_536


@pytest.mark.parametrize("words", [0, 1, 5, MAX_DELTAS + 1, 127_999])
async def test_a_streamed_answer_is_the_whole_one_in_bounded_pieces(words: int) -> None:
    request = chat(" ".join(f"w{n}" for n in range(words)))
    response = await ask(request)
    answer = msgspec.json.decode(response.body, type=ChatResponse)
    batches = 0
    async with stream(request) as streamed:
        async for _ in streamed:
            batches += 1
    assert answer.choices[0].message.content == " ".join(["echo:", *(f"w{n}" for n in range(words))])
    assert batches <= MAX_DELTAS + 3


@pytest.mark.parametrize(
    "wanted",
    [
        ResponseFormat(type="json_schema"),
        ResponseFormat(type="text", json_schema=JsonSchema(name="x", schema={"type": "object"})),
    ],
    ids=["a schema that is missing", "a schema beside text"],
)
async def test_fields_that_the_answer_does_not_depend_on_are_ignored(wanted: ResponseFormat) -> None:
    request = msgspec.structs.replace(chat("hello there"), response_format=wanted)
    answer = msgspec.json.decode((await ask(request)).body, type=ChatResponse)
    async with stream(request) as streamed:
        events = [event.data async for batch in streamed for event in batch]
    assert answer.choices[0].message.content == "echo: hello there"
    assert [word in b"".join(events) for word in (b"echo:", b"hello", b"there")] == [True] * 3


@pytest.mark.parametrize("model", ["echo", "gpt-5"])
async def test_the_cap_is_kept_to_under_either_name(model: str) -> None:
    request = msgspec.structs.replace(chat("one two three"), max_tokens=2)
    content = OpenAiChat().render_request(request, model, is_stream=False)
    body = await EchoProvider().send(content, call("chat"))
    answer = msgspec.json.decode(
        OpenAiChat().parse_response(body, model=model, provider="echo").body, type=ChatResponse
    )
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("echo: one", "length")


UNREADABLE = [b"", b"[]", b"{", b'{"model":"echo"}', b"\xff", b'{"model":"echo","x":' + b"[" * 100_000]


@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_a_body_that_cannot_be_read_is_rejected(body: bytes) -> None:
    for operation in ("chat", "embeddings"):
        with pytest.raises(ProviderRejected, match="cannot be read"):
            await EchoProvider().send(body, call(operation))
    with pytest.raises(ProviderRejected, match="cannot be read"):
        async with EchoProvider().stream(body, call("chat")):
            pass


async def test_others_have_their_turn_while_a_long_answer_is_streamed() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    bystander = asyncio.create_task(other())
    async with stream(chat("x " * 100_000)) as streamed:
        async for _ in streamed:
            pass
    bystander.cancel()
    assert turns > MAX_DELTAS / 2
