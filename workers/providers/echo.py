"""The built-in provider: deterministic, in this process, for trying and testing. It speaks OpenAI's dialect.

It sells the words that it repeats: a token is a run of characters between white space. Embeddings are made from the
text's SHAKE-256 digest and have length one. It works in the worker's event loop, beside other requests, so all that it
takes and gives is bounded.
"""

import asyncio
import hashlib
import math
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from domain.canonical.chat import MAX_MESSAGES, AnswerMessage, ChatResponse, Choice, FinishReason, OutputTokens
from domain.canonical.embeddings import MAX_INPUTS, Dimensions, Embedding, EmbeddingsResponse
from domain.canonical.stream import ChatChunk, ChunkChoice, Delta
from domain.dialects.codec import StreamSummary
from domain.dialects.openai.embeddings import render_embeddings_response
from domain.dialects.openai.response import render_chat_response
from domain.dialects.openai.stream_writer import OpenAiChatWriter
from domain.dialects.sse import SseEvent, SseParser
from domain.dialects.token_count import encode_count
from domain.errors import ProviderRejected
from domain.models import model_traits
from domain.routing import ECHO
from domain.tokens import TokenUsage, answer_usage
from infra.offload import offload
from workers.providers.provider import ProviderCall

DEFAULT_DIMENSIONS = 8
MAX_DIMENSIONS = 4_096
MAX_EMBEDDING_NUMBERS = 65_536
"""Over all inputs of a request: about 20 ms."""
MAX_INPUT_CHARS = 1024 * 1024
"""Over all texts of a request; beside it stands the model's context window in words."""
MAX_DELTAS = 1_024
"""A longer answer is streamed several words at a time."""

T = TypeVar("T")


class _Part(Struct, frozen=True):
    text: str = "[image]"


class _Message(Struct, frozen=True):
    role: str
    content: str | list[_Part] | None = None


class _ChatBody(Struct, frozen=True, kw_only=True):
    """The fields of `POST /chat/completions` that an answer depends on. Others are ignored, whatever they are."""

    model: str
    messages: Annotated[list[_Message], Meta(max_length=MAX_MESSAGES)]
    max_tokens: OutputTokens | None = None
    max_completion_tokens: OutputTokens | None = None


class _CountItem(Struct, frozen=True):
    content: str | list[_Part] | None = None
    output: str | list[_Part] | None = None


class _CountBody(Struct, frozen=True, kw_only=True):
    """The fields of `POST /responses/input_tokens` that the count depends on."""

    input: Annotated[list[_CountItem], Meta(max_length=MAX_MESSAGES)]


class _EmbeddingsBody(Struct, frozen=True, kw_only=True):
    """The fields of `POST /embeddings` that the vectors depend on."""

    model: str
    input: str | Annotated[list[str], Meta(max_length=MAX_INPUTS)]
    dimensions: Dimensions | None = None


_chat_body = msgspec.json.Decoder(_ChatBody)
_count_body = msgspec.json.Decoder(_CountBody)
_embeddings_body = msgspec.json.Decoder(_EmbeddingsBody)


class EchoProvider:
    """Repeats the last user message, or makes vectors."""

    async def send(self, content: bytes, call: ProviderCall) -> bytes:
        """Repeat the last user message, or turn texts into vectors.

        Raises:
            ProviderRejected: the request is larger than the limits above, or cannot be read.

        """
        if call.identity.operation == "count_tokens":
            return await offload(len(content), _count, content, call)
        if call.identity.operation == "embeddings":
            embeddings, usage = await offload(len(content), _embed, content, call)
            return render_embeddings_response(embeddings, usage, "float")
        response, usage = await offload(len(content), _chat, content, call)
        return render_chat_response(response, usage, created_s=0)

    @asynccontextmanager
    async def stream(self, content: bytes, call: ProviderCall) -> AsyncIterator[AsyncIterator[list[SseEvent]]]:
        """Repeat the last user message, word by word. Raises as `send`."""
        response, usage = await offload(len(content), _chat, content, call)
        yield _spoken(response, usage)


def _decode(decoder: "msgspec.json.Decoder[T]", content: bytes, call: ProviderCall) -> T:
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _rejected(f"the body cannot be read: {error}", call) from error


def _chat(content: bytes, call: ProviderCall) -> tuple[ChatResponse, TokenUsage]:
    request = _decode(_chat_body, content, call)
    texts = [_text(message.content) for message in request.messages]
    input_words = _count_words(texts, "messages", call)
    last_user = next((m for m in reversed(request.messages) if m.role == "user"), None)
    words = ["echo:", *(_text(last_user.content).split() if last_user is not None else ())]
    cap = request.max_completion_tokens or request.max_tokens or len(words)
    finish: FinishReason = "length" if cap < len(words) else "stop"
    answer = " ".join(words[:cap])
    usage = TokenUsage(input=input_words, output=min(cap, len(words)))
    response = ChatResponse(
        id=f"echo-{hashlib.sha256(answer.encode()).hexdigest()[:24]}",
        model=request.model,
        provider=call.identity.provider,
        choices=[Choice(index=0, message=AnswerMessage(content=answer), finish_reason=finish)],
        usage=answer_usage(usage),
    )
    return response, usage


def _count(content: bytes, call: ProviderCall) -> bytes:
    request = _decode(_count_body, content, call)
    texts = [_text(item.content if item.content is not None else item.output) for item in request.input]
    return encode_count(_count_words(texts, "input", call))


def _embed(content: bytes, call: ProviderCall) -> tuple[EmbeddingsResponse, TokenUsage]:
    request = _decode(_embeddings_body, content, call)
    texts = [request.input] if isinstance(request.input, str) else request.input
    size = request.dimensions or DEFAULT_DIMENSIONS
    if size > MAX_DIMENSIONS:
        raise _rejected(f"`dimensions` may be {MAX_DIMENSIONS} at most", call)
    if size * len(texts) > MAX_EMBEDDING_NUMBERS:
        raise _rejected(
            f"`dimensions` × the number of inputs is {size * len(texts)}; {MAX_EMBEDDING_NUMBERS} is the most", call
        )
    usage = TokenUsage(input=_count_words(texts, "input", call))
    response = EmbeddingsResponse(
        model=request.model,
        provider=call.identity.provider,
        embeddings=[Embedding(index=index, embedding=_vector(text, size)) for index, text in enumerate(texts)],
        usage=answer_usage(usage),
    )
    return response, usage


def _count_words(texts: Sequence[str], field: str, call: ProviderCall) -> int:
    """The input's tokens.

    Raises:
        ProviderRejected: they are too many, or too long.

    """
    if sum(map(len, texts)) > MAX_INPUT_CHARS:
        raise _rejected(f"`{field}` may have {MAX_INPUT_CHARS} characters at most", call)
    words = sum(len(text.split()) for text in texts)
    window = model_traits(call.identity.upstream_model, ECHO).context_window
    if window is not None and words > window:
        raise _rejected(f"`{field}` has {words} words; {window} is the most", call)
    return words


def _rejected(message: str, call: ProviderCall) -> ProviderRejected:
    return ProviderRejected(message, provider=call.identity.provider, status=400)


async def _spoken(answer: ChatResponse, usage: TokenUsage) -> AsyncIterator[list[SseEvent]]:
    writer = OpenAiChatWriter(created_s=0, include_usage=True)
    parser = SseParser()
    for chunk in _chunks(answer):
        yield parser.feed(writer.write(chunk))
        await asyncio.sleep(0)
    yield parser.feed(writer.end(StreamSummary(usage=usage, cost_usd=None, latency_ms=0)))


def _chunks(answer: ChatResponse) -> Iterator[ChatChunk]:
    (choice,) = answer.choices
    first, *rest = (choice.message.content or "").split(" ")
    size = math.ceil(len(rest) / MAX_DELTAS) or 1
    pieces = (rest[start : start + size] for start in range(0, len(rest), size))
    deltas = [Delta(role="assistant", content=first), *(Delta(content=f" {' '.join(piece)}") for piece in pieces)]
    for delta in deltas:
        yield ChatChunk(id=answer.id, model=answer.model, choices=[ChunkChoice(index=0, delta=delta)])
    last = ChunkChoice(index=0, delta=Delta(), finish_reason=choice.finish_reason)
    yield ChatChunk(id=answer.id, model=answer.model, choices=[last])


def _text(content: str | list[_Part] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return " ".join(part.text for part in content)


def _vector(text: str, size: int) -> list[float]:
    digest = hashlib.shake_256(text.encode()).digest(4 * size)
    numbers = [number / 2**31 for number in struct.unpack(f">{size}i", digest)]
    length = math.hypot(*numbers) or 1.0
    return [round(number / length, 8) for number in numbers]
