"""Every row of Anthropic's tables of fields is true: a sample is carried, dropped and told, or refused with advice."""

from typing import Any

import msgspec
import pytest

from domain.canonical.chat import ChatRequest
from domain.dialects.anthropic.parse_request import parse_chat_request
from domain.dialects.anthropic.render_request import adapt_chat_request, render_chat_request
from domain.dialects.anthropic.rules import CLIENT_RULES, PROVIDER_RULES
from domain.errors import InvalidRequest

HELLO = {"role": "user", "content": "hello"}
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {"z": {}, "a": {}}}}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
CITED = {"type": "text", "text": "so", "citations": [{"type": "web_search_result_location", "url": "https://s"}]}
FORMAT = {"type": "json_schema", "schema": {"type": "object"}}
BUDGET = {"type": "enabled", "budget_tokens": 2_000}


def tools(*extra: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"tools": [TOOL | fields, *extra]}


def shown(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def answered(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [HELLO, {"role": "assistant", "content": list(blocks)}, HELLO]}


def source(kind: str, **fields: Any) -> dict[str, Any]:
    return {"source": {"type": kind} | fields}


CARRIED_OF_CLIENTS: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({}, '"model":"m"'),
    "max_tokens": ({"max_tokens": 7}, '"maxTokens":7'),
    "messages": ({}, '"messages":[{"role":"user","content":"hello"}]'),
    "system": ({"system": "s"}, '{"role":"system","content":"s"}'),
    "temperature": ({"temperature": 0.5}, '"temperature":0.5'),
    "top_p": ({"top_p": 0.5}, '"topP":0.5'),
    "stop_sequences": ({"stop_sequences": ["E"]}, '"stop":["E"]'),
    "stream": ({"stream": True}, '"model"'),
    "metadata.user_id": ({"metadata": {"user_id": "u" * 1_024}}, '"user":"' + "u" * 1_024),
    "tools[].name": (tools(), '"name":"f"'),
    "tools[].description": (tools(description="d"), '"description":"d"'),
    "tools[].input_schema": (tools(), '"properties":{"z":{},"a":{}}'),
    "tools[].input_examples": (tools(input_examples=[{"z": 1}]), r"Examples of its input:\n{\"z\":1}"),
    "tools[].strict": (tools(strict=True), '"strict":true'),
    "tools[bash_*]": ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, '"command":{"type":"string"'),
    "tool_choice": (tools() | {"tool_choice": {"type": "any"}}, '"toolChoice":"required"'),
    "tool_choice.disable_parallel_tool_use": (
        tools() | {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        '"parallelToolCalls":false',
    ),
    "output_config.effort": ({"output_config": {"effort": "max"}}, '"reasoningEffort":"max"'),
    "output_config.format": ({"output_config": {"format": FORMAT}}, '"schema":{"type":"object"}'),
    "output_format": ({"output_format": FORMAT}, '"schema":{"type":"object"}'),
    "thinking.budget_tokens": ({"thinking": BUDGET}, '"thinkingBudget":2000'),
    "thinking.type": ({"thinking": {"type": "disabled"}}, '"reasoningEffort":"none"'),
    "thinking.display": ({"thinking": BUDGET | {"display": "summarized"}}, '"showsReasoning":true'),
    "messages[].content[text]": (shown({"type": "text", "text": "x"}), '"content":"x"'),
    "messages[].content[image]": (shown({"type": "image"} | source("url", url="https://i")), '"url":"https://i"'),
    "messages[].content[document]": (
        shown({"type": "document", "title": "T"} | source("text", data="x")),
        r"<document title=\"T\">\nx\n</document>",
    ),
    "messages[].content[search_result]": (
        shown({"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "x"}]}),
        r"<search_result title=\"T\" source=\"S\">\nx",
    ),
    "messages[].content[thinking]": (
        answered({"type": "thinking", "thinking": "hm", "signature": "gw1.e30="}, CALL),
        '"reasoning":[{"text":"hm"}]',
    ),
    "messages[].content[tool_use]": (answered(CALL, CITED), '"toolCalls":[{"id":"t1"'),
    "messages[].content[tool_result]": (
        shown({"type": "tool_result", "tool_use_id": "t1", "content": "r", "is_error": True}),
        '{"role":"tool","content":"r","toolCallId":"t1","isError":true}',
    ),
    "messages[].content[server_tool_use]": (
        answered({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}),
        r"[web_search: {\"query\":\"q\"}]",
    ),
    "messages[].content[] (of another API)": (
        shown({"type": "image_url", "image_url": {"url": "https://i"}}),
        '"url":"https://i"',
    ),
    "messages[].tool_calls": (
        {
            "messages": [
                HELLO,
                {"role": "assistant", "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "t", "content": "r"},
            ]
        },
        '{"role":"tool","content":"r","toolCallId":"t"}',
    ),
    "messages[].content[].citations": (answered(CITED), "so [https://s]"),
}
DROPPED_OF_CLIENTS: dict[str, tuple[dict[str, Any], str]] = {
    "cache_control": ({"cache_control": {"type": "ephemeral"}}, "cache_control"),
    "top_k": ({"top_k": 5}, "top_k"),
    "service_tier": ({"service_tier": "priority"}, "service_tier"),
    "speed": ({"speed": "fast"}, "speed"),
    "container": ({"container": "c"}, "container"),
    "context_management": ({"context_management": {"edits": [{}]}}, "context_management"),
    "compaction": ({"compaction": {"type": "auto"}}, "compaction"),
    "diagnostics": ({"diagnostics": {"previous_message_id": "m"}}, "diagnostics"),
    "user_profile_id": ({"user_profile_id": "u"}, "user_profile_id"),
    "workspace_id": ({"workspace_id": "w"}, "workspace_id"),
    "betas": ({"betas": ["x"]}, "betas"),
    "fallbacks": ({"fallbacks": "default"}, "fallbacks"),
    "tools[web_search_*]": (tools(SEARCH), "web_search_20250305"),
}
REFUSED_OF_CLIENTS: dict[str, dict[str, Any]] = {
    "mcp_servers": {"mcp_servers": [{"url": "https://x"}]},
    "inference_geo": {"inference_geo": "us"},
    "messages[].content[].source.file_id": shown({"type": "image"} | source("file", file_id="f")),
    "messages[].content[container_upload]": shown({"type": "container_upload", "file_id": "f"}),
}

PLAIN, THINKER, NEWEST = "claude-3-haiku-20240307", "claude-haiku-4-5", "claude-opus-4-8"
FUNCTION = {"function": {"name": "f", "parameters": {"type": "object"}}}
ASKED = {"id": "a.b", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "toolCallId": "a.b", "content": "r"}
THOUGHT = {"text": "hm", "signature": "sig"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
PICTURE = {"type": "image_url", "imageUrl": {"url": "https://i", "detail": "low"}}

CARRIED_TO_PROVIDERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "messages": (
        PLAIN,
        {"messages": [HELLO, {"role": "system", "content": "s"}]},
        r'{"type":"text","text":"<system>\ns\n</system>"}',
    ),
    "messages[].reasoning": (
        THINKER,
        {
            "messages": [HELLO, {"role": "assistant", "toolCalls": [ASKED], "reasoning": [THOUGHT]}, RESULT],
            "reasoningEffort": "low",
        },
        '{"type":"thinking","thinking":"hm","signature":"sig"}',
    ),
    "messages[].tool_calls": (
        PLAIN,
        {"messages": [HELLO, {"role": "assistant", "toolCalls": [ASKED]}, RESULT]},
        '{"type":"tool_use","id":"a_x2e_b","name":"f","input":{}}',
    ),
    "messages[].content[image_url]": (
        PLAIN,
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "imageUrl": {"url": "http://example.com/a.png"}}]}
            ]
        },
        '"source":{"type":"url","url":"https://example.com/a.png"}',
    ),
    "messages[].content[].cache_control": (
        PLAIN,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cacheControl": {}}]}]},
        '"cache_control":{"type":"ephemeral"}',
    ),
    "cache_control": (PLAIN, {"cacheControl": {"ttl": "1h"}}, '"cache_control":{"type":"ephemeral","ttl":"1h"}'),
    "max_tokens": (PLAIN, {"maxTokens": 100_000}, '"max_tokens":4096'),
    "temperature": (PLAIN, {"temperature": 2}, '"temperature":1.0'),
    "top_p": (PLAIN, {"topP": 0.5}, '"top_p":0.5'),
    "stop": (PLAIN, {"stop": ["E", " "]}, '"stop_sequences":["E"]'),
    "n": (PLAIN, {"n": 2}, '"model"'),
    "user": (PLAIN, {"user": "u"}, '"metadata":{"user_id":"u"}'),
    "tools": (PLAIN, {"tools": [FUNCTION]}, '"input_schema":{"type":"object","properties":{}}'),
    "tool_choice": (PLAIN, {"tools": [FUNCTION], "toolChoice": "required"}, '"tool_choice":{"type":"any"}'),
    "parallel_tool_calls": (
        PLAIN,
        {"tools": [FUNCTION], "parallelToolCalls": False},
        '"disable_parallel_tool_use":true',
    ),
    "response_format": (
        THINKER,
        {"responseFormat": {"type": "json_schema", "jsonSchema": {"name": "s", "schema": SCHEMA}}},
        '"output_config":{"format":{"type":"json_schema"',
    ),
    "reasoning_effort": (NEWEST, {"reasoningEffort": "high"}, '"output_config":{"effort":"high"}'),
    "thinking_budget": (THINKER, {"thinkingBudget": 2_000}, '"thinking":{"type":"enabled","budget_tokens":2000}'),
    "shows_reasoning": (NEWEST, {"showsReasoning": True}, '"display":"summarized"'),
}
DROPPED_TO_PROVIDERS: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "messages[].name": {"messages": [HELLO | {"name": "n"}]},
    "messages[].content[].image_url.detail": {"messages": [{"role": "user", "content": [PICTURE]}]},
}


def body(fields: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"model": "m", "max_tokens": 9_000, "messages": [HELLO]} | fields)


def test_a_mark_of_the_whole_request_is_one_of_four() -> None:
    text = {"type": "text", "text": "x", "cacheControl": {}}
    fields = {"messages": [{"role": "user", "content": [text] * 5}], "cacheControl": {}}
    sent = render_chat_request(canonical(fields), PLAIN)
    assert msgspec.json.encode(sent).count(b'"cache_control"') == 4
    assert sent["cache_control"] == {"type": "ephemeral"}


def canonical(fields: dict[str, Any]) -> ChatRequest:
    return msgspec.convert({"messages": [HELLO]} | fields, ChatRequest)


def of(rules: Any, fate: str) -> set[str]:
    return {rule.field for rule in rules if rule.fate == fate}


def test_every_row_has_a_sample() -> None:
    assert of(CLIENT_RULES, "carried") == set(CARRIED_OF_CLIENTS)
    assert of(CLIENT_RULES, "dropped") == set(DROPPED_OF_CLIENTS)
    assert of(CLIENT_RULES, "refused") == set(REFUSED_OF_CLIENTS)
    assert of(PROVIDER_RULES, "carried") == set(CARRIED_TO_PROVIDERS)
    assert of(PROVIDER_RULES, "dropped") == set(DROPPED_TO_PROVIDERS)
    assert of(PROVIDER_RULES, "refused") == set()


@pytest.mark.parametrize("sample", CARRIED_OF_CLIENTS.values(), ids=CARRIED_OF_CLIENTS)
def test_what_a_client_is_told_is_carried_is_carried(sample: tuple[dict[str, Any], str]) -> None:
    found = parse_chat_request(body(sample[0]))
    assert sample[1] in msgspec.json.encode(found.request).decode()
    assert found.dropped == ()


@pytest.mark.parametrize("sample", DROPPED_OF_CLIENTS.values(), ids=DROPPED_OF_CLIENTS)
def test_what_a_client_loses_is_told(sample: tuple[dict[str, Any], str]) -> None:
    assert parse_chat_request(body(sample[0])).dropped == (sample[1],)


@pytest.mark.parametrize(("field", "fields"), REFUSED_OF_CLIENTS.items())
def test_what_a_client_is_refused_says_the_way_out(field: str, fields: dict[str, Any]) -> None:
    (rule,) = (rule for rule in CLIENT_RULES if rule.field == field)
    with pytest.raises(InvalidRequest) as refused:
        parse_chat_request(body(fields))
    assert rule.how.partition(":")[2].split(" as ")[0].split()[0] in refused.value.message
    assert refused.value.field is not None


@pytest.mark.parametrize("sample", CARRIED_TO_PROVIDERS.values(), ids=CARRIED_TO_PROVIDERS)
def test_what_is_carried_to_a_model_is_sent(sample: tuple[str, dict[str, Any], str]) -> None:
    model, fields, needle = sample
    adapted = adapt_chat_request(canonical(fields), model).request
    assert isinstance(adapted, ChatRequest)
    assert needle in msgspec.json.encode(render_chat_request(adapted, model)).decode()


@pytest.mark.parametrize(("field", "fields"), DROPPED_TO_PROVIDERS.items())
def test_what_a_model_is_not_sent_is_told(field: str, fields: dict[str, Any]) -> None:
    assert adapt_chat_request(canonical(fields), PLAIN).dropped == (field.rpartition(".")[2],)
