"""Answers of providers that come in another form than was asked for: in one piece for a stream, or the other way."""

from typing import Any

import msgspec

from domain.canonical.stream import ChatAssembler
from domain.dialects.codec import ProviderResponse
from domain.dialects.decode import decode_provider_json
from domain.dialects.errors import UnreadableResponse
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.sse import BYTE_ORDER_MARK, DONE_EVENT, SseEvent, SseParser, sse
from domain.tokens import TokenUsage, answer_usage

_LINES = (b"data:", b"event:", b": ", b":\n", b"id:")

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def is_stream(body: bytes) -> bool:
    """Return True if a body is events, not JSON."""
    return body[:64].removeprefix(BYTE_ORDER_MARK).lstrip().startswith(_LINES)


def read_stream_as_response(body: bytes, *, model: str | None, provider: str) -> ProviderResponse:
    """Put the events of a body together: a canonical response. `model` None: under the provider's name of the model.

    Raises:
        UnreadableResponse: it has no answer.
        StreamFailed: it has the provider's report of a failure.

    """
    reader = OpenAiChatReader(model=model or "")
    chunks = [chunk for event in _events(body) for chunk in reader.take(event)]
    if not chunks:
        raise UnreadableResponse("these events have no answer")
    assembler = ChatAssembler(provider=provider, model=model or reader.answered_by)
    for chunk in chunks:
        assembler.add(chunk)
    response = assembler.answer(answer_usage(reader.usage or TokenUsage()))
    return ProviderResponse(
        body=_encode(response),
        usage=reader.usage,
        input_usage=reader.input_usage,
        received_output_bytes=reader.received_output_bytes,
        answered_by=reader.answered_by,
        response_id=reader.response_id,
        finish_reason=reader.finish_reason,
        is_empty=not any(choice.message.content or choice.message.tool_calls for choice in response.choices),
    )


def _events(body: bytes) -> list[SseEvent]:
    parser = SseParser()
    events = parser.feed(body)
    return events + parser.feed(b"\n\n") if parser.rest() else events


def response_as_events(body: bytes) -> list[SseEvent]:
    """The events of a chat completion: all of it in a chunk, then its usage, then `[DONE]`. Members that are not known
    are kept.

    Raises:
        UnreadableResponse: it is no JSON object.

    """
    completion = decode_provider_json(_decode_object, body.removeprefix(BYTE_ORDER_MARK))
    if not isinstance(completion.get("choices"), list):
        return SseParser().feed(sse(_encode(completion)))
    usage = completion.pop("usage", None)
    completion["object"] = "chat.completion.chunk"
    choices = [choice for choice in completion["choices"] if isinstance(choice, dict)]
    chunk = {**completion, "choices": [_as_chunk(choice) for choice in choices]}
    events = sse(_encode(chunk))
    if usage is not None:
        events += sse(_encode({**completion, "choices": [], "usage": usage}))
    return SseParser().feed(events + DONE_EVENT)


def _as_chunk(choice: dict[str, Any]) -> dict[str, Any]:
    delta = choice.get("message") or choice.get("delta") or {}
    calls = delta.get("tool_calls") if isinstance(delta, dict) else None
    if isinstance(calls, list):
        numbered = [{"index": index} | call for index, call in enumerate(calls) if isinstance(call, dict)]
        delta = {**delta, "tool_calls": numbered}
    rest = {name: value for name, value in choice.items() if name != "message"}
    return rest | {"delta": delta, "finish_reason": choice.get("finish_reason") or "stop"}
