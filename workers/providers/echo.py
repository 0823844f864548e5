"""The built-in provider: deterministic, in this process, for trying and testing. It sells the words that it repeats.

A token is a run of characters between white space. Embeddings are eight numbers made from the text's SHA-256, of
length one.
"""

import hashlib
import math

from domain.chat import AnswerMessage, ChatAnswer, ChatRequest, Choice, FinishReason, UserMessage
from domain.dialects.answered import Answered, answer_usage
from domain.embeddings import Embedding, EmbeddingsAnswer, EmbeddingsRequest
from domain.tokens import TokenUsage
from workers.providers.provider import ProviderCall

DEFAULT_DIMENSIONS = 8


class EchoProvider:
    """Repeats what it is told."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def ask(self, request: ChatRequest | EmbeddingsRequest, call: ProviderCall) -> Answered:
        """Repeat the last user message, or turn texts into vectors."""
        if isinstance(request, EmbeddingsRequest):
            return self._embed(request, call.upstream_model)
        return self._chat(request, call.upstream_model)

    async def close(self) -> None:
        """Nothing is open."""

    def _chat(self, request: ChatRequest, upstream_model: str) -> Answered:
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
                provider=self._name,
                choices=[Choice(index=0, message=AnswerMessage(content=content), finish_reason=finish)],
                usage=answer_usage(usage),
            ),
            usage=usage,
            answered_by=upstream_model,
            response_id=identity,
            finish_reason=finish,
        )

    def _embed(self, request: EmbeddingsRequest, upstream_model: str) -> Answered:
        texts = [request.input] if isinstance(request.input, str) else request.input
        usage = TokenUsage(input=sum(len(text.split()) for text in texts))
        size = request.dimensions or DEFAULT_DIMENSIONS
        return Answered(
            answer=EmbeddingsAnswer(
                model=request.model,
                provider=self._name,
                embeddings=[Embedding(index=index, embedding=_vector(text, size)) for index, text in enumerate(texts)],
                usage=answer_usage(usage),
            ),
            usage=usage,
            answered_by=upstream_model,
            response_id=f"echo-{hashlib.sha256(chr(0).join(texts).encode()).hexdigest()[:24]}",
        )


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
