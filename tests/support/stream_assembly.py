"""Assembles the response of a stream: by the vendors' SDKs, and for the native API by hand."""

import json
import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from domain.dialects.sse import SseParser
from tests.support.sdk_streams import anthropic_final, openai_final, present, responses_final
from tests.support.surfaces import CHAT, MESSAGES, RESPONSES

NATIVE = "/api/v1/completions/chat"


class AssembledResponse(Struct, frozen=True):
    """A response without the fields of its delivery, which are separate. Only the native API has `is_cached`."""

    answer: Any
    cost: float
    is_cached: bool | None = None


def from_json(path: str, body: bytes) -> AssembledResponse:
    """Read a response in one piece."""
    whole = present(json.loads(body))
    return _without_delivery(whole["data"] if path == NATIVE else whole, path, body)


def from_stream(path: str, body: bytes) -> AssembledResponse:
    """Assemble the response of a stream."""
    return _without_delivery(_ASSEMBLERS[path](body), path, body)


def _without_delivery(whole: dict[str, Any], path: str, body: bytes) -> AssembledResponse:
    *_, cost = _COST.findall(body)
    if path == NATIVE:
        return AssembledResponse({name: whole[name] for name in _NATIVE}, float(cost), is_cached=whole["cached"])
    whole["usage"].pop("cost", None)
    whole.pop("created", None)  # the time at which it was rendered in OpenAI's dialect
    return AssembledResponse(whole, float(cost))


_COST = re.compile(rb'"cost":([0-9.E-]+)[,}]')
_NATIVE = ("id", "model", "choices", "usage")


def _message(body: bytes) -> dict[str, Any]:
    """Assemble a message, with its whole usage: Anthropic's SDK drops unknown usage members of `message_delta`."""
    final: dict[str, Any] = present(anthropic_final(body))
    events = [json.loads(event.data) for event in SseParser().feed(body)]
    (start,) = [event["message"]["usage"] for event in events if event["type"] == "message_start"]
    (end,) = [event["usage"] for event in events if event["type"] == "message_delta"]
    return final | {"usage": start | end}


def _response(body: bytes) -> dict[str, Any]:
    """Return the last event's response: OpenAI's SDK has no final response if it is incomplete."""
    *_, last = SseParser().feed(body)
    final: dict[str, Any] = present(json.loads(last.data)["response"])
    if final["status"] == "completed":
        assert present(responses_final(body)) == final
    return final


def _native(body: bytes) -> dict[str, Any]:
    *chunks, last, resolved = [event.removeprefix(b"data: ") for event in body.split(b"\n\n")[:-1]]
    assert resolved == b"[DONE]", body
    end = json.loads(last)
    message: dict[str, Any] = {"role": "assistant"}
    finish = None
    for chunk in map(json.loads, chunks):
        (choice,) = chunk["choices"]
        _add(message, choice["delta"])
        finish = choice["finishReason"] or finish
        assert (chunk["id"], chunk["model"]) == (end["id"], end["model"])
    return end | {"choices": [{"index": 0, "message": message, "finishReason": finish}]}


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    if "content" in delta:
        message["content"] = message.get("content", "") + delta["content"]
    for piece in delta.get("toolCalls", ()):
        calls = message.setdefault("toolCalls", [])
        if "id" in piece:
            calls.append({"id": piece["id"], "type": piece["type"], "function": piece["function"]})
        else:
            function = calls[piece["index"]]["function"]
            function["arguments"] = function.get("arguments", "") + piece["function"]["arguments"]


_ASSEMBLERS: dict[str, Callable[[bytes], Any]] = {
    CHAT: openai_final,
    RESPONSES: _response,
    MESSAGES: _message,
    NATIVE: _native,
}
