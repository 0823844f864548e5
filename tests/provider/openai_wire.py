"""OpenAI's chat completions and embeddings, as the vendor serves them."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from msgspec import UNSET

from tests.provider.bill import Usage
from tests.provider.request_model import Answer, Call, Frame, ModelRequest, Tool, argument_deltas, text_of

CREATED_S = 1_700_000_000
DONE = b"data: [DONE]\n\n"
JSON_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def parse_request(body: dict[str, Any]) -> ModelRequest:
    """Parse a chat completion request."""
    choice = body.get("tool_choice")
    messages = body["messages"]
    return ModelRequest(
        model=body["model"],
        prompt="\n".join(text_of(message.get("content")) for message in messages),
        user=body.get("user") or "",
        stream=bool(body.get("stream")),
        tools=() if choice == "none" else tuple(_tool(tool) for tool in body.get("tools") or ()),
        is_forced=is_forcing(choice),
        forced_tool=choice[choice["type"]].get("name") if isinstance(choice, dict) else None,
        is_parallel=body.get("parallel_tool_calls") is not False,
        schema=schema_of(body.get("response_format"), "json_schema"),
        results=_results(messages),
        all_results=sum(message["role"] == "tool" for message in messages),
    )


def is_forcing(choice: Any) -> bool:
    """Return whether a tool_choice forces the model to call a tool."""
    if isinstance(choice, dict):
        return bool(choice.get("allowed_tools", choice).get("mode") != "auto")
    return bool(choice == "required")


def schema_of(wanted: Any, within: str | None) -> Any:
    """Return the JSON schema of a response format; UNSET if it is plain text.

    The schema is in the member `within`, or in the format itself if `within` is None.
    """
    match wanted:
        case {"type": "json_schema"}:
            return (wanted[within] if within else wanted).get("schema", JSON_OBJECT)
        case {"type": "json_object"}:
            return JSON_OBJECT
        case _:
            return UNSET


def _tool(tool: dict[str, Any]) -> Tool:
    defined = tool[tool["type"]]
    return Tool(name=defined["name"], schema=defined.get("parameters"))


def _results(messages: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the tool results after the assistant's last message."""
    found: list[str] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        found.append(text_of(message["content"]))
    return tuple(reversed(found))


def usage_json(usage: Usage) -> dict[str, Any]:
    """Return the usage as the vendor reports it."""
    prompt = {"cached_tokens": usage.cached, "audio_tokens": 0}
    return {
        "prompt_tokens": usage.tokens_in,
        "completion_tokens": usage.tokens_out,
        "total_tokens": usage.tokens_in + usage.tokens_out,
        "prompt_tokens_details": prompt | ({"cache_write_tokens": usage.written} if usage.written else {}),
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }


def whole(answer: Answer) -> dict[str, Any]:
    """Return the response in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.plan.text, "refusal": None}
    if answer.plan.words.refuse:
        message |= {"content": None, "refusal": answer.plan.text}
    if answer.plan.calls:
        message |= {"content": None, "tool_calls": [_call(call, call.arguments) for call in answer.plan.calls]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
    if answer.plan.words.searches:
        message["annotations"] = [
            {"type": "url_citation", "url_citation": {"url": "https://example.com", "title": "x"}}
        ]
    return _head(answer, "chat.completion") | {"choices": [choice], "usage": _usage(answer)}


def kept(answer: Answer, status: str) -> dict[str, Any] | None:
    """Return a chat completion that is kept: it is not there before its end."""
    return whole(answer) if status == "completed" else None


def _usage(answer: Answer) -> dict[str, Any]:
    cost = answer.plan.words.cost
    return usage_json(answer.usage) | ({"cost": cost} if cost is not None else {})


def frames(answer: Answer) -> Iterator[Frame]:
    """Yield the response as a stream: role, deltas, finish reason, usage if requested, and `[DONE]`."""
    words = answer.plan.words
    options = answer.body.get("stream_options") or {}
    asks_usage = options.get("include_usage") is True
    shared = _head(answer, "chat.completion.chunk")
    if options.get("include_obfuscation") is not False:
        shared |= {"obfuscation": answer.plan.digest[:8]}

    def chunk(choices: list[Any], usage: dict[str, Any] | None = None) -> bytes:
        return sse(shared | {"choices": choices} | ({"usage": usage} if asks_usage else {}))

    def delta_chunk(delta: dict[str, Any], finish: str | None = None, usage: dict[str, Any] | None = None) -> bytes:
        return chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], usage)

    yield Frame(data=delta_chunk({"role": "assistant", "content": None if answer.plan.calls else "", "refusal": None}))
    for text in answer.plan.text_deltas():
        yield Frame(data=delta_chunk({"refusal" if words.refuse else "content": text}), is_delta=True)
    for position, call in enumerate(answer.plan.calls):
        index = {"index": position}
        yield Frame(data=delta_chunk({"tool_calls": [index | _call(call, "")]}))
        for piece in argument_deltas(call):
            yield Frame(data=delta_chunk({"tool_calls": [index | {"function": {"arguments": piece}}]}), is_delta=True)
    counted = None if words.nousage or not asks_usage else _usage(answer)
    yield Frame(data=delta_chunk({}, _finish(answer), counted if words.lateusage else None))
    if counted and not words.lateusage:
        yield Frame(data=chunk([], counted))
    yield Frame(data=DONE)


def stream_error(answer: Answer, _sent: int) -> bytes:
    """Return the vendor's error inside a stream."""
    message = (
        unquote(answer.plan.words.message) or "The server had an error while processing your request. Sorry about that!"
    )
    return sse({"error": {"message": message, "type": "server_error", "param": None, "code": None}})


def sse(event: dict[str, Any], name: str | None = None) -> bytes:
    """Return a Server-Sent Event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _head(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": unquote(answer.plan.words.id) or f"chatcmpl-{answer.plan.digest[:24]}",
        "object": kind,
        "created": CREATED_S,
        "model": f"{answer.request.model}-2024-07-18",
        "system_fingerprint": "fp_test",
        "service_tier": answer.plan.words.tier or "default",
    }


def _call(call: Call, arguments: str) -> dict[str, Any]:
    return {
        "id": f"call_{call.number}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _finish(answer: Answer) -> str:
    return answer.plan.words.finish or ("tool_calls" if answer.plan.calls else "stop")


def parse_embeddings_request(body: dict[str, Any]) -> ModelRequest:
    """Parse an embeddings request."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return ModelRequest(model=body["model"], prompt="\n".join(map(str, texts)))


def embeddings(answer: Answer) -> dict[str, Any]:
    """Return a vector for each text or list of tokens."""
    given = answer.body["input"]
    is_one = isinstance(given, str) or isinstance(given[0], int)
    size = answer.body.get("dimensions") or 8
    vectors: list[Any] = [[0.125 * (i + 1)] * size for i in range(1 if is_one else len(given))]
    if answer.body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() for vector in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
        "model": answer.request.model,
        "usage": {"prompt_tokens": answer.usage.tokens_in, "total_tokens": answer.usage.tokens_in},
    }
