"""Anthropic's messages API, as the vendor serves it."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from msgspec import UNSET

from tests.provider.bill import Usage
from tests.provider.openai_wire import sse
from tests.provider.request_model import Answer, Call, Frame, ModelRequest, Tool, argument_deltas, text_of


def parse_request(body: dict[str, Any]) -> ModelRequest:
    """Parse a messages request."""
    choice = body.get("tool_choice") or {"type": "auto"}
    thinking = body.get("thinking") or {"type": "disabled"}
    wanted = body.get("output_format") or (body.get("output_config") or {}).get("format")
    tools = [Tool(name=tool["name"], schema=tool.get("input_schema")) for tool in body.get("tools") or ()]
    return ModelRequest(
        model=body["model"],
        prompt="\n".join(text_of(message.get("content")) for message in body["messages"]),
        user=(body.get("metadata") or {}).get("user_id") or "",
        stream=bool(body.get("stream")),
        tools=() if choice["type"] == "none" else tuple(tools),
        is_forced=choice["type"] in {"any", "tool"},
        forced_tool=choice.get("name"),
        is_parallel=not choice.get("disable_parallel_tool_use"),
        schema=wanted["schema"] if wanted else UNSET,
        results=_results(body["messages"]),
        all_results=sum(len(_results([message])) for message in body["messages"]),
        talks_while_calling=choice["type"] not in {"any", "tool"},  # a call that is forced is all that is said
        thinks=thinking["type"] != "disabled",
        shows_thinking=thinking.get("display") != "omitted",
    )


def _results(messages: list[dict[str, Any]]) -> tuple[str, ...]:
    content = messages[-1]["content"]
    parts = [] if isinstance(content, str) else content
    return tuple(text_of(part.get("content")) for part in parts if part["type"] == "tool_result")


def usage_json(usage: Usage, thinking: int) -> dict[str, Any]:
    """Return the usage as the vendor reports it: input tokens without cache reads and writes."""
    found: dict[str, Any] = {
        "input_tokens": usage.tokens_in - usage.cached - usage.written,
        "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.tokens_out,
    }
    if usage.searches:
        found["server_tool_use"] = {"web_search_requests": usage.searches, "web_fetch_requests": 0}
    return found | ({"output_tokens_details": {"thinking_tokens": thinking}} if thinking else {})


def whole(answer: Answer) -> dict[str, Any]:
    """Return the response in one piece."""
    content: list[dict[str, Any]] = []
    if answer.request.thinks:
        content.append({"type": "thinking", "thinking": answer.plan.thinking, "signature": _signature(answer)})
    if answer.plan.text or not answer.plan.calls:  # Claude says no empty text before it calls
        content.append({"type": "text", "text": answer.plan.text})
    content.extend(_call(call) | {"input": json.loads(call.arguments)} for call in answer.plan.calls)
    return _message(answer) | {
        "content": content,
        "stop_reason": _stop_reason(answer),
        "usage": usage_json(answer.usage, _thinking_tokens(answer)) | _input_details(answer),
    }


def frames(answer: Answer) -> Iterator[Frame]:
    """Yield the response as a stream: the blocks, each with a start and a stop, then the stop reason and the usage."""
    opening = usage_json(answer.usage, 0) | {"output_tokens": 1} | _input_details(answer)
    yield _event("message_start", message=_message(answer) | {"content": [], "stop_reason": None, "usage": opening})
    for index, block in enumerate(_blocks(answer)):
        start, deltas = block
        yield _event("content_block_start", index=index, content_block=start)
        if index == 0:
            yield _event("ping")
        for delta, counts in deltas:
            yield _event("content_block_delta", index=index, delta=delta, counts=counts)
        yield _event("content_block_stop", index=index)
    counted: dict[str, Any] = {"usage": usage_json(answer.usage, _thinking_tokens(answer))}
    delta = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    yield _event("message_delta", delta=delta, **({} if answer.plan.words.nousage else counted))
    yield _event("message_stop")


def stream_error(answer: Answer, _sent: int) -> bytes:
    """Return the vendor's error inside a stream."""
    message = unquote(answer.plan.words.message) or "Overloaded"
    return sse({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")


def count_tokens(answer: Answer) -> dict[str, Any]:
    """Return the number of tokens that the request would be charged for."""
    return {"input_tokens": answer.usage.tokens_in}


def _blocks(answer: Answer) -> Iterator[tuple[dict[str, Any], list[tuple[dict[str, Any], bool]]]]:
    """Yield each block's start, with its deltas; True if a delta counts as a token."""
    plan = answer.plan
    if answer.request.thinks:
        deltas = [({"type": "thinking_delta", "thinking": piece}, True) for piece in plan.thinking_deltas()]
        signed = ({"type": "signature_delta", "signature": _signature(answer)}, False)
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]
    if plan.text or not plan.calls:
        pieces = [({"type": "text_delta", "text": piece}, True) for piece in plan.text_deltas()]
        yield {"type": "text", "text": ""}, pieces
    for call in plan.calls:
        opening = ({"type": "input_json_delta", "partial_json": ""}, False)
        rest = [({"type": "input_json_delta", "partial_json": piece}, True) for piece in argument_deltas(call)]
        yield _call(call) | {"input": {}}, [opening, *rest]


def _event(kind: str, *, counts: bool = False, **fields: Any) -> Frame:
    return Frame(data=sse({"type": kind} | fields, kind), is_delta=counts)


def _message(answer: Answer) -> dict[str, Any]:
    return {
        "id": unquote(answer.plan.words.id) or f"msg_{answer.plan.digest[:24]}",
        "type": "message",
        "role": "assistant",
        "model": answer.request.model,
        "stop_sequence": None,
    }


def _call(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{call.number}", "name": call.name}


def _stop_reason(answer: Answer) -> str:
    words = answer.plan.words
    return words.finish or ("refusal" if words.refuse else "tool_use" if answer.plan.calls else "end_turn")


def _input_details(answer: Answer) -> dict[str, Any]:
    """Return the part of the usage that is known when the response begins."""
    usage, words = answer.usage, answer.plan.words
    split = {"ephemeral_5m_input_tokens": usage.written_5m, "ephemeral_1h_input_tokens": usage.written_1h}
    terms = {"service_tier": words.tier or "standard"}
    terms |= {"speed": words.speed} if words.speed else {}
    return {"cache_creation": split} | terms | ({"inference_geo": words.geo} if words.geo else {})


def _thinking_tokens(answer: Answer) -> int:
    return min(answer.usage.reasoning + len(answer.plan.thinking_deltas()), answer.usage.tokens_out)


def _signature(answer: Answer) -> str:
    return base64.b64encode(bytes.fromhex(answer.plan.digest)).decode()
