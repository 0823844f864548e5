"""Good requests and answers of every dialect, with every kind of part, from which strange ones are made."""

from typing import Any

from tests.support.samples import ANTHROPIC_TOOLS, OPENAI_TOOLS, PIXEL, RESPONSES_TOOLS, SCHEMA

_IMAGE_URL = f"data:image/png;base64,{PIXEL}"
_PDF = "JVBERi0xLjQKMSAwIG9iago8PC9UeXBlL1BhZ2VzL0NvdW50IDE+PgplbmRvYmoK"
_CALL = {"id": "call_1", "type": "function", "function": {"name": "Lookup", "arguments": '{"city":"Bern","days":2}'}}

CHAT: tuple[Any, ...] = (
    {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "You help.", "name": "boss"},
            {
                "role": "developer",
                "content": [{"type": "text", "text": "Shortly.", "cache_control": {"type": "ephemeral"}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": _IMAGE_URL, "detail": "low"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{_PDF}"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [_CALL], "reasoning_content": "Let me see."},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "Rain."}]},
            {"role": "assistant", "content": "Rain.", "refusal": None, "annotations": []},
            {"role": "user", "content": "And tomorrow?"},
        ],
        "tools": OPENAI_TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "Lookup"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "Lookup", "strict": True, "schema": SCHEMA}},
        "max_completion_tokens": 2_000,
        "temperature": 0.5,
        "stop": ["END"],
        "n": 1,
        "metadata": {"a": "b"},
        "reasoning_effort": "low",
        "user": "somebody",
    },
    {
        "model": "gpt-4o-audio-preview",
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
        "messages": [
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}]}
        ],
        "n": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
        "web_search_options": {"search_context_size": "low"},
    },
    {
        "model": "gpt-4",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "1"},
        ],
        "functions": [{"name": "f", "parameters": {"type": "object", "properties": {}}}],
        "function_call": "auto",
        "logit_bias": {"50256": -100},
        "prediction": {"type": "content", "content": "x"},
    },
)

MESSAGES: tuple[Any, ...] = (
    {
        "model": "claude-sonnet-4-5",
        "max_tokens": 3_000,
        "system": [{"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": _PDF},
                        "citations": {"enabled": True},
                    },
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A note."}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
                    {"type": "text", "text": "One moment.", "citations": None},
                    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
                    {
                        "type": "web_search_tool_result",
                        "tool_use_id": "srvtoolu_1",
                        "content": [
                            {
                                "type": "web_search_result",
                                "url": "https://example.com",
                                "title": "t",
                                "encrypted_content": "e",
                            }
                        ],
                    },
                    {"type": "tool_use", "id": "toolu_1", "name": "Lookup", "input": {"city": "Bern", "days": 2}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "is_error": False,
                        "content": [
                            {"type": "text", "text": "Rain."},
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                        ],
                    },
                    {"type": "text", "text": "Go on."},
                ],
            },
        ],
        "tools": [*ANTHROPIC_TOOLS, {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1_024},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "somebody"},
        "output_config": {"effort": "low"},
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    },
    {
        "model": "claude-haiku-4-5",
        "max_tokens": 10,
        "stream": True,
        "system": "Shortly.",
        "temperature": 0.2,
        "top_k": 3,
        "messages": [{"role": "user", "content": "Hi"}],
    },
)

RESPONSES: tuple[Any, ...] = (
    {
        "model": "gpt-5",
        "instructions": "You help.",
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "input": [
            {"role": "developer", "content": "Shortly."},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": _IMAGE_URL, "detail": "low"},
                    {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{_PDF}"},
                ],
            },
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "Let me see."}],
                "encrypted_content": "e",
            },
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call_1",
                "name": "Lookup",
                "arguments": '{"city":"Bern"}',
            },
            {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "Rain."}]},
            {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "*** x"},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Rain.", "annotations": []}],
            },
        ],
        "tools": [
            *RESPONSES_TOOLS,
            {
                "type": "custom",
                "name": "patch",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"},
            },
            {"type": "web_search"},
        ],
        "tool_choice": "auto",
        "text": {
            "format": {"type": "json_schema", "name": "Lookup", "schema": SCHEMA, "strict": True},
            "verbosity": "low",
        },
        "reasoning": {"effort": "low", "summary": "auto"},
        "max_output_tokens": 2_000,
        "max_tool_calls": 3,
        "truncation": "disabled",
    },
    {
        "model": "gpt-5-mini",
        "input": "Hi",
        "stream": True,
        "previous_response_id": None,
        "conversation": None,
        "prompt": None,
    },
)

COMPLETIONS: tuple[Any, ...] = (
    {
        "model": "gpt-3.5-turbo-instruct",
        "prompt": ["Say", "this"],
        "max_tokens": 5,
        "n": 2,
        "best_of": 3,
        "echo": True,
        "logprobs": 1,
        "suffix": ".",
    },
)
EMBEDDINGS: tuple[Any, ...] = (
    {"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 8, "encoding_format": "base64", "user": "x"},
    {"model": "text-embedding-3-small", "input": [[1, 2], [3]]},
)

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
CHAT_ANSWERS: tuple[Any, ...] = (
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "service_tier": "default",
        "usage": USAGE,
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "logprobs": None,
                "message": {
                    "role": "assistant",
                    "content": "Hm.",
                    "refusal": None,
                    "annotations": [],
                    "reasoning_content": "So.",
                    "reasoning_details": [{"type": "reasoning.text", "text": "So.", "signature": "c2ln"}],
                    "tool_calls": [_CALL],
                },
            }
        ],
    },
    {"error": {"message": "no", "type": "server_error", "code": None, "param": None}},
)
MESSAGE_ANSWERS: tuple[Any, ...] = (
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "content": [
            {"type": "thinking", "thinking": "So.", "signature": "c2ln"},
            {
                "type": "text",
                "text": "Hm.",
                "citations": [
                    {
                        "type": "char_location",
                        "cited_text": "x",
                        "document_index": 0,
                        "document_title": None,
                        "start_char_index": 0,
                        "end_char_index": 1,
                    }
                ],
            },
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "tool_use", "id": "t", "name": "Lookup", "input": {"city": "Bern"}},
        ],
        "usage": {
            "input_tokens": 9,
            "output_tokens": 3,
            "cache_read_input_tokens": 1,
            "cache_creation_input_tokens": 2,
            "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1},
            "server_tool_use": {"web_search_requests": 1},
            "service_tier": "standard",
        },
    },
    {"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
)
_RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-5",
    "error": None,
    "incomplete_details": None,
    "output": [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "So."}],
            "encrypted_content": "e",
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "c",
            "name": "Lookup",
            "arguments": "{}",
            "status": "completed",
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "Hm.", "annotations": []},
                {"type": "refusal", "refusal": "no"},
            ],
        },
    ],
    "usage": {
        "input_tokens": 9,
        "output_tokens": 3,
        "total_tokens": 12,
        "input_tokens_details": {"cached_tokens": 1},
        "output_tokens_details": {"reasoning_tokens": 1},
    },
}
RESPONSE_ANSWERS: tuple[Any, ...] = (
    _RESPONSE,
    {**_RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "no"}, "output": []},
)
EMBEDDINGS_ANSWERS: tuple[Any, ...] = (
    {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}, {"index": 1, "embedding": "AAAAPw=="}],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    },
)


def _chunk(delta: Any, finish: str | None = None, **fields: Any) -> Any:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    } | fields


CHAT_STREAMS: tuple[Any, ...] = (
    [
        _chunk({"role": "assistant", "content": ""}),
        _chunk(
            {"reasoning_content": "So.", "reasoning_details": [{"type": "reasoning.text", "text": "So.", "index": 0}]}
        ),
        _chunk({"content": "Hm."}),
        _chunk(
            {
                "tool_calls": [
                    {"index": 0, "id": "c", "type": "function", "function": {"name": "Lookup", "arguments": '{"ci'}}
                ]
            }
        ),
        _chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'ty":"Bern"}'}}]}),
        _chunk({}, "tool_calls"),
        {"id": "chatcmpl-1", "choices": [], "usage": USAGE},
    ],
)
MESSAGE_STREAMS: tuple[Any, ...] = (
    [
        {"type": "message_start", "message": {**MESSAGE_ANSWERS[0], "content": [], "stop_reason": None}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "So."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "ping"},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hm."}},
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "x"}},
        },
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "t", "name": "Lookup", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": '{"city":"Bern"}'},
        },
        {"type": "content_block_stop", "index": 2},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 3},
        },
        {"type": "message_stop"},
    ],
)
_ITEM = _RESPONSE["output"][1]
_TEXT = _RESPONSE["output"][2]
RESPONSE_STREAMS: tuple[Any, ...] = (
    [
        {
            "type": "response.created",
            "sequence_number": 0,
            "response": {**_RESPONSE, "status": "in_progress", "output": [], "usage": None},
        },
        {
            "type": "response.output_item.added",
            "sequence_number": 1,
            "output_index": 0,
            "item": {**_RESPONSE["output"][0], "summary": []},
        },
        {
            "type": "response.reasoning_summary_text.delta",
            "sequence_number": 2,
            "item_id": "rs_1",
            "output_index": 0,
            "summary_index": 0,
            "delta": "So.",
        },
        {"type": "response.output_item.done", "sequence_number": 3, "output_index": 0, "item": _RESPONSE["output"][0]},
        {
            "type": "response.output_item.added",
            "sequence_number": 4,
            "output_index": 1,
            "item": {**_ITEM, "arguments": ""},
        },
        {
            "type": "response.function_call_arguments.delta",
            "sequence_number": 5,
            "item_id": "fc_1",
            "output_index": 1,
            "delta": "{}",
        },
        {
            "type": "response.function_call_arguments.done",
            "sequence_number": 6,
            "item_id": "fc_1",
            "output_index": 1,
            "arguments": "{}",
        },
        {"type": "response.output_item.done", "sequence_number": 7, "output_index": 1, "item": _ITEM},
        {
            "type": "response.output_item.added",
            "sequence_number": 8,
            "output_index": 2,
            "item": {**_TEXT, "content": []},
        },
        {
            "type": "response.content_part.added",
            "sequence_number": 9,
            "item_id": "msg_1",
            "output_index": 2,
            "content_index": 0,
            "part": {"type": "output_text", "text": "", "annotations": []},
        },
        {
            "type": "response.output_text.delta",
            "sequence_number": 10,
            "item_id": "msg_1",
            "output_index": 2,
            "content_index": 0,
            "delta": "Hm.",
        },
        {
            "type": "response.output_text.done",
            "sequence_number": 11,
            "item_id": "msg_1",
            "output_index": 2,
            "content_index": 0,
            "text": "Hm.",
        },
        {"type": "response.output_item.done", "sequence_number": 12, "output_index": 2, "item": _TEXT},
        {"type": "response.completed", "sequence_number": 13, "response": _RESPONSE},
    ],
)
