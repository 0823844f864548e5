"""Reads the bytes of a stream with the vendors' SDKs. Opens no socket: the transport responds with the bytes."""

from collections.abc import Iterable
from typing import Any

import anthropic
import httpx2
import openai
from openai.lib.streaming.chat import ChatCompletionStreamState

from domain.dialects.sse import SseEvent, SseParser

CONTENT_FIELDS: list[Any] = [{"role": "user", "content": "x"}]


def events_of(stream: bytes) -> list[SseEvent]:
    return SseParser().feed(stream)


def read_all(reader: Any, stream: bytes) -> list[Any]:
    return [chunk for event in events_of(stream) for chunk in reader.take(event)]


def _client(stream: Iterable[bytes]) -> httpx2.Client:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=b"".join(stream))

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def openai_client(*stream: bytes) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url="http://gateway/v1", http_client=_client(stream), max_retries=0)


def anthropic_client(*stream: bytes) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", base_url="http://gateway", http_client=_client(stream), max_retries=0)


def present(value: Any) -> Any:
    """Remove null members. The SDKs add some for members that a response leaves out."""
    if isinstance(value, dict):
        return {name: present(member) for name, member in value.items() if member is not None}
    return [present(entry) for entry in value] if isinstance(value, list) else value


def openai_final(*stream: bytes) -> dict[str, Any]:
    """Return the completion that OpenAI's SDK accumulates, without the SDK's own additions and without nulls."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for chunk in openai_client(*stream).chat.completions.create(model="m", messages=CONTENT_FIELDS, stream=True):
        state.handle_chunk(chunk)
    final = present(state.current_completion_snapshot.to_dict())
    for choice in final["choices"]:
        for call in choice["message"].get("tool_calls", ()):
            del call["index"]
    return final


def anthropic_final(*stream: bytes) -> dict[str, Any]:
    """Return the message that Anthropic's SDK accumulates."""
    with anthropic_client(*stream).messages.stream(model="m", max_tokens=1, messages=CONTENT_FIELDS) as events:
        return events.get_final_message().to_dict(mode="json")


def responses_final(*stream: bytes) -> dict[str, Any]:
    """Return the response that OpenAI's SDK accumulates."""
    with openai_client(*stream).responses.stream(model="m", input="x") as events:
        return events.get_final_response().to_dict()
