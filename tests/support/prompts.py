"""The requests of the golden streams: for each vendor's call, one request for each kind of response."""

from typing import Any

from tests.support.surfaces import CHAT, MESSAGES, RESPONSES, chat, message, response

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "celsius": {"type": "number"}},
    "required": ["city", "celsius"],
    "additionalProperties": False,
}
_FUNCTIONS: list[dict[str, Any]] = [
    {"name": "weather", "description": "Tells the weather", "parameters": SCHEMA},
    {"name": "now", "parameters": {"type": "object", "properties": {}}},
]
CHAT_TOOLS = [{"type": "function", "function": function} for function in _FUNCTIONS]
RESPONSE_TOOLS = [{"type": "function", **function} for function in _FUNCTIONS]
MESSAGE_TOOLS = [{"name": one["name"], "input_schema": one["parameters"]} for one in _FUNCTIONS]

_PROMPTS = {
    "plain": "What is the capital of France?",
    "many-chunks": "[[chunks=200]] Tell me a story.",
    "one-byte-at-a-time": "[[split=utf8]] [[chunks=40]] In every script.",
    "odd-text": r"[[say=%22a%22%5C%0A%0A%20data%3A%20%5BDONE%5D%20%22usage%22%3Anull%2C%E2%80%A8%00%F0%9F%98%80]]",
    "empty-text": "[[say=]]",
    "tokens": "[[tokens=90/40]] [[cached=16]] [[reasoning=7]]",
    "cache-writes": "[[tokens=90/40]] [[cached=16]] [[cachewrite=9/4]]",
    "wrong-usage": "[[usage=wrong]]",
    "no-usage": "[[nousage]]",
    "refusal": "[[refuse]] Something forbidden.",
    "tomorrow": "[[tomorrow]] What is new?",
    "long": "[[big=70000]]",
}

CHATS: dict[str, dict[str, Any]] = {name: chat(prompt) for name, prompt in _PROMPTS.items()} | {
    "late-usage": chat("[[lateusage]]"),
    "length": chat("[[finish=length]]", max_completion_tokens=50),
    "content-filter": chat("[[finish=content_filter]]"),
    "parallel-calls": chat("[[calls=3]]", tools=CHAT_TOOLS),
    "forced-call": chat("weather", tools=CHAT_TOOLS, tool_choice={"type": "function", "function": {"name": "weather"}}),
    "results": {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "user", "content": "weather?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        ],
        "tools": CHAT_TOOLS,
    },
    "structured": chat(
        "As JSON", response_format={"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}
    ),
    "no-obfuscation": chat("Plainly", stream_options={"include_obfuscation": False}),
    "unknown-fields": chat("hello", x_tomorrow={"a": [1.50]}, logprobs=True, prediction=None),
}

RESPONSE_CALLS: dict[str, dict[str, Any]] = {name: response(prompt) for name, prompt in _PROMPTS.items()} | {
    "incomplete": response("[[finish=max_output_tokens]]", max_output_tokens=50),
    "parallel-calls": response("[[calls=3]]", tools=RESPONSE_TOOLS),
    "structured": response(
        "As JSON", text={"format": {"type": "json_schema", "name": "weather", "schema": SCHEMA, "strict": True}}
    ),
    "instructed": response("hello", instructions="Be brief.", temperature=0.25, metadata={"a": "b"}),
}

MESSAGE_CALLS: dict[str, dict[str, Any]] = {name: message(prompt) for name, prompt in _PROMPTS.items()} | {
    "max-tokens": message("[[finish=max_tokens]]"),
    "stop-sequence": message("[[finish=stop_sequence]]", stop_sequences=["x"]),
    "pause": message("[[finish=pause_turn]]"),
    "parallel-calls": message("[[calls=3]]", tools=MESSAGE_TOOLS),
    "thinking": message("Think.", thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2048),
    "hidden-thinking": message(
        "Think.", thinking={"type": "enabled", "budget_tokens": 1024, "display": "omitted"}, max_tokens=2048
    ),
    "thinking-and-calls": message(
        "[[calls=2]]", thinking={"type": "enabled", "budget_tokens": 1024}, tools=MESSAGE_TOOLS, max_tokens=2048
    ),
    "structured": message("As JSON", output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
    "cached-prompt": message(
        "hello", system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    ),
}

EVERY: dict[str, tuple[str, dict[str, Any]]] = {
    f"{call}-{name}": (path, body)
    for call, path, bodies in (
        ("chat", CHAT, CHATS),
        ("responses", RESPONSES, RESPONSE_CALLS),
        ("messages", MESSAGES, MESSAGE_CALLS),
    )
    for name, body in bodies.items()
}
"""The requests of all three calls: the path, and the body without `stream`."""

STREAMS_WITHOUT_COST = {"responses-no-usage", "messages-no-usage"}
"""Streams without usage at the end, so they have no cost."""
