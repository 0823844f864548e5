"""The built-in provider: deterministic, in this process, for trying and testing. It sells the words that it repeats.

A token is a run of characters between white space. Embeddings are eight numbers made from the text's SHA-256, of
length one.
"""

import hashlib
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from domain.chat import AnswerMessage, ChatAnswer, ChatRequest, Choice, FinishReason, UserMessage
from domain.dialects.answered import Answered, answer_usage
from domain.dialects.openai_writer import OpenAiChatWriter
from domain.embeddings import Embedding, EmbeddingsAnswer, EmbeddingsRequest
from domain.sse import SseEvent, SseParser
from domain.stream import ChatChunk, ChunkChoice, Delta
from domain.tokens import TokenUsage
from workers.providers.provider import ProviderCall, Question

DEFAULT_DIMENSIONS = 8


class EchoProvider:
    """Repeats what it is told."""

    async def ask(self, request: Question, call: ProviderCall) -> Answered:
        """Repeat the last user message, or turn texts into vectors."""
        assert not isinstance(request, bytes), "it has no dialect of its own"
        if isinstance(request, EmbeddingsRequest):
            return _embed(request, call)
        return _chat(request, call)

    @asynccontextmanager
    async def stream(self, request: Question, call: ProviderCall) -> AsyncIterator[AsyncIterator[list[SseEvent]]]:
        """Repeat the last user message, word by word, as OpenAI streams."""
        answered = await self.ask(request, call)
        assert isinstance(answered.answer, ChatAnswer), "embeddings are not streamed"
        yield _spoken(answered.answer, answered.usage)


def _chat(request: ChatRequest, call: ProviderCall) -> Answered:
    texts = [_text(message.content) for message in request.messages]
    said = [_text(message.content) for message in request.messages if isinstance(message, UserMessage)]
    words = ["echo:", *(said[-1] if said else "").split()]
    cap = request.max_tokens or len(words)
    finish: FinishReason = "length" if cap < len(words) else "stop"
    content = " ".join(words[:cap])
    usage = TokenUsage(input=sum(len(text.split()) for text in texts), output=min(cap, len(words)))
    identity = f"echo-{hashlib.sha256(content.encode()).hexdigest()[:24]}"
    return Answered(
        answer=ChatAnswer(
            id=identity,
            model=request.model,
            provider=call.provider,
            choices=[Choice(index=0, message=AnswerMessage(content=content), finish_reason=finish)],
            usage=answer_usage(usage),
        ),
        usage=usage,
        answered_by=call.upstream_model,
        response_id=identity,
        finish_reason=finish,
    )


def _embed(request: EmbeddingsRequest, call: ProviderCall) -> Answered:
    texts = [request.input] if isinstance(request.input, str) else request.input
    usage = TokenUsage(input=sum(len(text.split()) for text in texts))
    size = request.dimensions or DEFAULT_DIMENSIONS
    return Answered(
        answer=EmbeddingsAnswer(
            model=request.model,
            provider=call.provider,
            embeddings=[Embedding(index=index, embedding=_vector(text, size)) for index, text in enumerate(texts)],
            usage=answer_usage(usage),
        ),
        usage=usage,
        answered_by=call.upstream_model,
        response_id=f"echo-{hashlib.sha256(chr(0).join(texts).encode()).hexdigest()[:24]}",
    )


async def _spoken(answer: ChatAnswer, usage: TokenUsage) -> AsyncIterator[list[SseEvent]]:
    writer = OpenAiChatWriter(created_s=0, include_usage=True)
    parser = SseParser()
    for chunk in _words(answer):
        yield parser.feed(writer.write(chunk))
    yield parser.feed(writer.end(usage, None))


def _words(answer: ChatAnswer) -> Iterator[ChatChunk]:
    (choice,) = answer.choices
    first, *rest = (choice.message.content or "").split(" ")
    deltas = [Delta(role="assistant", content=first), *(Delta(content=f" {word}") for word in rest)]
    for delta in deltas:
        yield ChatChunk(id=answer.id, model=answer.model, choices=[ChunkChoice(index=0, delta=delta)])
    last = ChunkChoice(index=0, delta=Delta(), finish_reason=choice.finish_reason)
    yield ChatChunk(id=answer.id, model=answer.model, choices=[last])


def _text(content: object) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    assert isinstance(content, list), "content is text, parts or nothing"
    return " ".join(getattr(part, "text", "[image]") for part in content)


def _vector(text: str, size: int) -> list[float]:
    numbers = [
        int.from_bytes(hashlib.sha256(f"{index} {text}".encode()).digest()[:4], "big") / 2**31 - 1
        for index in range(size)
    ]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [round(number / length, 8) for number in numbers]
