"""What a vendor would refuse in a request, by its documentation and its SDK's types: the test provider takes it all.

A translation that a real model's provider answers with 400 is as broken as one that loses a field. These are rules on
whole requests, not on how they came about.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from anthropic.types.beta.message_create_params import MessageCreateParamsStreaming as MessagesParams
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as ChatParams
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming as ResponsesParams

from tests.provider.running import RecordedRequest

OLDER = ("temperature", "top_p", "top_k")
"""Members for models that the SDK's types have forgotten."""
TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
MAX_CACHE_MARKS = 4
MAX_USER_CHARACTERS = 64
SCHEMA_WORDS_CLAUDE_LACKS = {
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "maxItems", "uniqueItems"),
}
OUTPUT_LIMITS = {"gpt-4o": 16_384, "claude-sonnet-4-5": 64_000, "claude-haiku-4-5": 64_000, "claude-3-haiku": 4_096}

Body = dict[str, Any]


def complaints(request: RecordedRequest) -> list[str]:
    """Return what the vendor would refuse in a request; empty if it would answer."""
    rules = _RULES.get(urlsplit(request.path).path)
    return [] if rules is None else [text for rule in rules for text in rule(json.loads(request.body))]


def _unknown(params: Any, *others: str) -> Callable[[Body], Iterator[str]]:
    known = set(get_type_hints(params)) - {"betas"} | set(others)

    def rule(body: Body) -> Iterator[str]:
        yield from (f"{name} is not known" for name in body if name not in known)

    return rule


def _output_limit(body: Body) -> Iterator[str]:
    asked = max(body.get(name) or 0 for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
    for model, limit in OUTPUT_LIMITS.items():
        if body["model"] == model and asked > limit:
            yield f"{model} writes {limit} tokens, asked are {asked}"


def _messages_content(body: Body) -> Iterator[str]:
    system = body.get("system") or []
    turns = body["messages"] + [{"content": system}]
    blocks = [block for turn in turns if isinstance(turn["content"], list) for block in turn["content"]]
    for block in blocks:
        if block["type"] == "text" and not block["text"].strip():
            yield "a text is blank"
        if None in block.values():
            yield f"a member of {block['type']} is null"
        name = block.get("id") if block["type"] == "tool_use" else block.get("tool_use_id", "x")
        if not TOOL_ID.fullmatch(name or ""):
            yield f"{name!r} is no id of a tool call"
    marks = sum("cache_control" in block for block in [*blocks, *(body.get("tools") or [])])
    if marks > MAX_CACHE_MARKS:
        yield f"{marks} marks for the cache, {MAX_CACHE_MARKS} are allowed"


def _messages_calls(body: Body) -> Iterator[str]:
    """Every tool call is answered in the next message, and nothing else is."""
    asked: set[str] = set()
    for turn in body["messages"]:
        blocks = turn["content"] if isinstance(turn["content"], list) else []
        answered = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if answered != asked:
            yield f"calls {sorted(asked)} have results {sorted(answered)}"
        asked = {block["id"] for block in blocks if block["type"] == "tool_use"}
    if asked:
        yield f"calls {sorted(asked)} have no results"


def _messages_sampling(body: Body) -> Iterator[str]:
    thinking = body.get("thinking") or {}
    if "temperature" in body and "top_p" in body:
        yield "temperature and top_p together"
    if thinking.get("type") == "enabled":
        if not 1024 <= thinking["budget_tokens"] < body["max_tokens"]:
            yield f"thinking {thinking['budget_tokens']} of {body['max_tokens']} tokens"
        if body.get("temperature", 1) != 1:
            yield "a temperature beside thinking"


def _claude_schema(body: Body) -> Iterator[str]:
    wanted = (body.get("output_config") or {}).get("format") or body.get("output_format")
    strict = [tool["input_schema"] for tool in body.get("tools") or [] if tool.get("strict")]
    for schema in [*strict, *([wanted["schema"]] if wanted else [])]:
        yield from (f"{word} in a schema" for word in _words(schema) if word in SCHEMA_WORDS_CLAUDE_LACKS)


def _words(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for name, inner in schema.items():
            yield name
            yield from _words({f"_{key}": value for key, value in inner.items()} if name == "properties" else inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _words(inner)


def _chat_calls(body: Body) -> Iterator[str]:
    open_calls: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                yield f"the result of {message['tool_call_id']} follows no call"
            else:
                open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            yield f"calls {open_calls} have no results"
        open_calls = [call["id"] for call in message.get("tool_calls") or []]
    if open_calls:
        yield f"calls {open_calls} have no results"


def _chat_members(body: Body) -> Iterator[str]:
    if "cache_control" in json.dumps([body["messages"], body.get("tools")]):
        yield "cache_control, which only Anthropic knows"
    if len(body.get("user") or "") > MAX_USER_CHARACTERS:
        yield "user is too long"
    for tool in body.get("tools") or []:
        schema = tool["function"].get("parameters") if tool["type"] == "function" else None
        if schema is not None and schema.get("type") == "object" and "properties" not in schema:
            yield f"{tool['function']['name']} has an object without properties"


def _reasoning_models(body: Body) -> Iterator[str]:
    reasons = body["model"].startswith(("gpt-5", "gpt-6", "o1", "o3", "o4"))
    refused = ("stop", "temperature", "top_p", "max_tokens") if reasons else ("reasoning_effort", "reasoning")
    for name in refused:
        value = body.get(name)
        if value is not None and value != 1 and not (name == "reasoning" and not value.get("effort")):
            yield f"{name} to {body['model']}"


def _responses_calls(body: Body) -> Iterator[str]:
    items = body["input"] if isinstance(body["input"], list) else []
    asked = [item["call_id"] for item in items if item.get("type") in {"function_call", "custom_tool_call"}]
    done = [item["call_id"] for item in items if str(item.get("type")).endswith("_call_output")]
    if sorted(asked) != sorted(done):
        yield f"calls {asked} have results {done}"


_RULES: dict[str, list[Callable[[Body], Iterator[str]]]] = {
    "/v1/messages": [
        *(_unknown(MessagesParams, *OLDER), _output_limit, _messages_content, _messages_calls, _messages_sampling),
        _claude_schema,
    ],
    "/v1/chat/completions": [_unknown(ChatParams), _output_limit, _chat_calls, _chat_members, _reasoning_models],
    "/v1/responses": [_unknown(ResponsesParams, "client_metadata"), _output_limit, _responses_calls, _reasoning_models],
}
