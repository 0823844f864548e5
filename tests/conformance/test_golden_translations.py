"""Streams that are translated to another dialect do not change: they match the golden files in `tests/golden/`."""

from typing import Any

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway
from tests.support.golden import frozen, names_of_files
from tests.support.prompts import CHAT_TOOLS, MESSAGE_TOOLS, SCHEMA
from tests.support.surfaces import CHAT, CLAUDE, GPT, MESSAGES, Comparison, chat, message, written

NATIVE = "/api/v1/completions/chat"

ODD_TEXT = "[[say=%22a%22%5C%0A%0A%20data%3A%20%5BDONE%5D%E2%80%A8%F0%9F%98%80]]"
TOKENS = "[[tokens=90/40]] [[cached=16]]"
WITH_USAGE = {"stream_options": {"include_usage": True}}
STRUCTURED = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}


def native(prompt: str, **fields: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": prompt}], "model": GPT, "maxTokens": 300, "cache": False}
    return body | fields


OF_CHAT: dict[str, dict[str, Any]] = {
    "text": chat("Hello"),
    "text-with-usage": chat("Hello", **WITH_USAGE),
    "odd-text": chat(ODD_TEXT),
    "characters-cut-apart": chat("[[split=utf8]]"),
    "cached-tokens": chat(f"{TOKENS} [[cachewrite=9/4]]", **WITH_USAGE),
    "no-usage": chat("[[nousage]]", **WITH_USAGE),
    "length": chat("[[finish=max_tokens]]"),
    "refusal": chat("[[refuse]]"),
    "parallel-calls": chat("[[calls=3]]", tools=CHAT_TOOLS, **WITH_USAGE),
    "forced-call": chat("now", tools=CHAT_TOOLS, tool_choice="required", parallel_tool_calls=False),
    "structured": chat("As JSON", response_format=STRUCTURED),
    "tomorrow": chat("[[tomorrow]]"),
    "failure": chat("[[streamerror=7]]"),
    "cut": chat("[[pace=20]] [[cut=5]]"),
}
OF_MESSAGES: dict[str, dict[str, Any]] = {
    "text": message("Hello"),
    "odd-text": message(ODD_TEXT),
    "characters-cut-apart": message("[[split=utf8]]"),
    "cached-tokens": message(f"{TOKENS} [[reasoning=7]]"),
    "no-usage": message("[[nousage]]"),
    "late-usage": message("[[lateusage]]"),
    "length": message("[[finish=length]]"),
    "content-filter": message("[[finish=content_filter]]"),
    "refusal": message("[[refuse]]"),
    "parallel-calls": message("[[calls=3]]", tools=MESSAGE_TOOLS),
    "forced-call": message("now", tools=MESSAGE_TOOLS, tool_choice={"type": "tool", "name": "now"}),
    "structured": message("As JSON", output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
    "tomorrow": message("[[tomorrow]]"),
    "failure": message("[[streamerror=7]]"),
    "cut": message("[[pace=20]] [[cut=5]]"),
}
OF_NATIVE: dict[str, dict[str, Any]] = {
    "text": native("Hello"),
    "odd-text": native(ODD_TEXT),
    "cached-tokens": native(TOKENS),
    "no-usage": native("[[nousage]]"),
    "refusal": native("[[refuse]]"),
    "parallel-calls": native("[[calls=3]]", tools=CHAT_TOOLS),
    "structured": native("As JSON", responseFormat={"type": "json_schema", "jsonSchema": STRUCTURED["json_schema"]}),
    "failure": native("[[streamerror=7]]"),
    "cut": native("[[pace=20]] [[cut=5]]"),
}
PRO = "gpt-5-pro"
"""It is asked on the Responses API, whatever its client speaks. Without usage, its thinking is estimated by the time."""
_SAME = ("text", "refusal", "parallel-calls", "structured", "tomorrow", "failure", "cut")
PRO_OF_CHAT = {name: OF_CHAT[name] for name in _SAME} | {"length": chat("[[finish=max_output_tokens]]")}
PRO_OF_MESSAGES = {name: OF_MESSAGES[name] for name in _SAME} | {
    "shown-thinking": message("[[calls=2]]", tools=MESSAGE_TOOLS, thinking={"type": "enabled", "budget_tokens": 1024})
}
TOLD: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"openai-client-of-claude-{name}": (CHAT, body | {"model": CLAUDE}) for name, body in OF_CHAT.items()},
    **{f"anthropic-client-of-gpt-{name}": (MESSAGES, body | {"model": GPT}) for name, body in OF_MESSAGES.items()},
    **{f"native-client-of-gpt-{name}": (NATIVE, body) for name, body in OF_NATIVE.items()},
    **{f"native-client-of-claude-{name}": (NATIVE, body | {"model": CLAUDE}) for name, body in OF_NATIVE.items()},
    **{f"openai-client-of-pro-{name}": (CHAT, body | {"model": PRO}) for name, body in PRO_OF_CHAT.items()},
    **{f"anthropic-client-of-pro-{name}": (MESSAGES, body | {"model": PRO}) for name, body in PRO_OF_MESSAGES.items()},
    **{
        f"native-client-of-pro-{name}": (NATIVE, OF_NATIVE[name] | {"model": PRO})
        for name in ("text", "parallel-calls")
    },
    "openai-client-of-echo-text": (CHAT, chat("Hello echo", model="echo", **WITH_USAGE)),
    "anthropic-client-of-echo-text": (MESSAGES, message("Hello echo", model="echo")),
    "native-client-of-echo-text": (NATIVE, native("Hello echo", model="echo")),
}


@pytest.fixture
def comparison(
    session: aiohttp.ClientSession, gateway: Gateway, upstream: RunningProvider, client: Client
) -> Comparison:
    return Comparison(session, gateway, upstream, client)


@pytest.mark.parametrize("name", TOLD)
async def test_translated_stream_matches_its_golden_file(comparison: Comparison, name: str) -> None:
    path, body = TOLD[name]
    seen = await comparison.through(path, written(body | {"stream": True}))
    assert (seen.status, seen.content_type, seen.is_whole) == (200, "text/event-stream", True), seen
    stream, kept = frozen(name, seen.body)
    assert stream == kept


def test_every_golden_file_has_a_request() -> None:
    assert names_of_files() == set(TOLD)
