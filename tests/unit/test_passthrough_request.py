"""The inspection of a passed-through request finds everything that costs money or refers to stored objects."""

import base64
from typing import Any

import msgspec
import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.beta import message_count_tokens_params as beta_count_tokens_params
from anthropic.types.beta import message_create_params as beta_message_create_params
from openai.types import embedding_create_params
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

from domain.canonical.chat import ChatRequest, UserMessage
from domain.dialects.openai.codec import OpenAiChat
from domain.dialects.passthrough.inspect import PassthroughRequest, read_passthrough
from domain.dialects.registry import DIALECTS
from domain.dialects.request_body import CanonicalRequest
from domain.errors import InvalidRequest
from domain.estimate import TOKENS_WITH_TOOLS
from domain.events import Operation
from domain.hosted_tools import DEFAULT_CALLS
from domain.image_size import TOKENS_PER_IMAGE
from domain.routing import Target

LONG = "x" * 1_000_000
DRAWS = {"type": "image_generation", "model": "gpt-image-1.5"}
SEARCH = {"type": "web_search"}
ASKS = {"type": "custom", "name": "f", "input_schema": {}}
HOSTED = {"type": "code_execution_20260521", "name": "code_execution"}


def read(fields: dict[str, Any], dialect: str = "openai", operation: Operation = "chat") -> PassthroughRequest:
    return read_passthrough(msgspec.json.encode({"model": "m"} | fields), DIALECTS.codec(dialect, operation))


def response(**fields: Any) -> PassthroughRequest:
    return read(fields, operation="responses")


def message(*parts: Any, **fields: Any) -> PassthroughRequest:
    return read({"messages": [{"role": "user", "content": list(parts)}]} | fields, "anthropic")


def chat(*parts: Any, **fields: Any) -> PassthroughRequest:
    return read({"messages": [{"role": "user", "content": list(parts)}]} | fields)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "item_1"},
        {"id": "item_1"},
        {"id": "item_1", "type": None},
        {"type": "image_generation_call", "id": "item_1"},
        {"type": "image_generation_call", "id": "item_1", "result": None},
    ],
)
def test_items_of_earlier_responses_are_found(item: dict[str, Any]) -> None:
    found = response(input=[item])
    assert (found.item_ids, found.provider_object_ref, found.has_external_content) == (("item_1",), None, True)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (response(input=[{"type": "item_reference", "id": 7}]), "input[0].id"),
        (response(input=[{"type": "code_interpreter_call", "container_id": "c"}]), "input[0].container_id"),
        (response(tools=[{"type": "file_search", "vector_store_ids": ["v"]}]), "tools[0].vector_store_ids"),
        (response(tools=[{"type": "code_interpreter", "container": "cntr_1"}]), "tools[0].container"),
        (
            response(tools=[{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}}]),
            "tools[0].container.file_ids",
        ),
        (response(tools=[{"type": "x", "container": {"id": "c"}}]), "tools[0].container.id"),
        (
            response(tools=[{"type": "image_generation", "input_image_mask": {"file_id": "f"}}]),
            "tools[0].input_image_mask.file_id",
        ),
        (
            response(tools=[{"type": "shell", "environment": {"type": "container_reference", "container_id": "c"}}]),
            "tools[0].environment.container_id",
        ),
        (
            response(
                input=[{"type": "additional_tools", "tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}]
            ),
            "input[0].tools[0].vector_store_ids",
        ),
        (response(tools=[{"type": "mcp", "tunnel_id": "t"}]), "tools[0].tunnel_id"),
        (read({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}), "messages[0].audio.id"),
        (read({"messages": [], "audio": {"voice": {"id": "voice_1"}, "format": "mp3"}}), "audio.voice.id"),
        (chat({"type": "file", "file": {"file_id": "f"}}), "messages[0].content[0].file.file_id"),
        (
            message({"type": "image", "source": {"type": "file", "file_id": "f"}}),
            "messages[0].content[0].source.file_id",
        ),
        (message({"type": "container_upload", "file_id": "f"}), "messages[0].content[0].file_id"),
        (
            message({"type": "tool_addition", "tool": {"definition": {"type": "x", "file_ids": ["f"]}}}),
            "messages[0].content[0].tool.definition.file_ids",
        ),
    ],
)
def test_provider_object_is_found_at_any_depth(request_: PassthroughRequest, field: str) -> None:
    assert (request_.provider_object_ref, request_.has_external_content) == (field, True)


@pytest.mark.parametrize(
    "request_",
    [
        response(input=[{"type": "message", "id": "msg_1", "role": "assistant", "content": "hi"}]),
        response(input=[{"id": "msg_1", "role": "assistant", "content": "hi"}]),
        response(input=[{"type": "image_generation_call", "id": "ig_1", "result": "aGk="}]),
        response(input=[{"type": "function_call", "name": "f", "arguments": '{"file_id": "f"}'}]),
        response(metadata={"file_id": "f", "container": "c"}),
        chat(tools=[{"type": "function", "function": {"parameters": {"properties": {"file_id": {"default": "f"}}}}}]),
        chat(tools=[{"type": "function", "function": {"parameters": {"default": {"file_id": "f"}}}}]),
        chat(audio={"voice": "alloy", "format": "mp3"}),
        message({"type": "tool_use", "id": "t", "name": "f", "input": {"file_id": "f", "tools": [SEARCH]}}),
    ],
)
def test_the_callers_own_data_names_nothing_at_the_provider(request_: PassthroughRequest) -> None:
    assert (request_.provider_object_ref, request_.has_external_content, request_.unbounded) == (None, False, None)


def test_thoughts_that_the_provider_keeps_are_read_there() -> None:
    kept = {"type": "reasoning", "id": "rs_1", "summary": []}
    assert response(input=[kept]).has_external_content
    assert not response(input=[kept | {"encrypted_content": "e"}]).has_external_content


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (chat(tools=[{"type": "function_hosted"}]), "tools[0] (function_hosted)"),
        (message(tools=[{"type": "bash_code_execution_20260521"}]), "tools[0] (bash_code_execution_20260521)"),
        (response(tools=[{"type": "image_generation"}]), "tools[0] (image_generation)"),
        (response(tools=[{"type": "code_interpreter", "container": "cntr_1"}]), "tools[0] (code_interpreter)"),
        (chat(tools=[SEARCH]), "tools[0] (web_search)"),
        (message(tools=[{"type": "advisor_20260301"}]), "tools[0] (advisor_20260301)"),
        (message(tools=[{"type": "advisor_20260301", "model": "of-tomorrow"}]), "tools[0] (advisor_20260301)"),
        (response(tools=[DRAWS | {"quality": "max"}]), "tools[0] (image_generation)"),
        (response(tools=[DRAWS | {"output_format": "gif"}]), "tools[0] (image_generation)"),
        (response(tools=[DRAWS | {"complexity": "high"}]), "tools[0] (image_generation)"),
        (response(tools=[DRAWS | {"model": "gpt-image-2.6-sunburst"}]), "tools[0] (image_generation)"),
        (message(fallbacks=[{"model": "other"}]), "fallbacks"),
        (response(background=True), "background"),
        (response(tools=[{"type": "programmatic_tool_calling"}]), "tools[0] (programmatic_tool_calling)"),
        (message(context_management={"edits": [{"type": "clear_x"}, {"type": "y"}]}), "context_management"),
        (message(context_management={"edits": {"type": "compact_20260112"}}), "context_management"),
        (message(context_management={"type": "compaction"}), "context_management"),
        (message(compaction={"type": "of_tomorrow"}), "compaction"),
        (message(context_management={"edits": [{"type": "compact_20260112"}, {"type": "y"}]}), "context_management"),
        (response(context_management=[{"type": "compaction"}]), "context_management"),
        (response(input=[{"type": "compaction_trigger"}]), "input[0] (compaction_trigger)"),
        (chat(search_parameters={"mode": "auto"}), "search_parameters"),
        (chat(enable_search=True), "enable_search"),
        (chat(provider={"order": ["dear"]}), "provider"),
        (chat(route="fallback"), "route"),
        (chat(prediction={"type": "of_tomorrow", "content": "x"}), "prediction"),
        (chat(prediction={"type": "content", "content": "x", "more": 1}), "prediction"),
        (chat(modalities=["text", "image"]), "modalities"),
    ],
)
def test_extra_cost_field_has_no_bound_at_any_depth(request_: PassthroughRequest, field: str) -> None:
    assert request_.token_bound("m", 200_000, is_builtin=True).unbounded_field == field


@pytest.mark.parametrize("more", [{}, {"quality": "high", "size": "1536x1024", "output_format": "png"}])
def test_images_of_a_published_size_are_bounded_for_each_call(more: dict[str, Any]) -> None:
    bound = response(tools=[DRAWS | more]).token_bound("gpt-5", 400_000, is_builtin=True)
    (tool,) = bound.tools.tools
    assert (bound.unbounded_field, tool.model, tool.most_tokens["output_image"]) == (None, "gpt-image-1.5", 6_540)


@pytest.mark.parametrize(("cap", "output"), [(None, 128_000), (2_048, 2_048), (10**9, 128_000), (True, 128_000)])
def test_an_advisor_reads_its_window_and_writes_its_cap_at_each_use(cap: Any, output: int) -> None:
    advisor = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8", "max_tokens": cap}
    bound = message(tools=[advisor]).token_bound("claude-haiku-4-5", 200_000, is_builtin=True)
    (tool,) = bound.tools.tools
    assert (bound.unbounded_field, tool.most_tokens) == (None, {"input": 1_000_000, "output": output})
    assert bound.tools.most_calls == DEFAULT_CALLS


def test_a_predicted_answer_is_bounded_as_output_beside_the_answer() -> None:
    asked = chat(prediction={"type": "content", "content": "x" * 1_000}, max_tokens=10, n=2)
    bound = asked.token_bound("gpt-4o", 128_000, is_builtin=True)
    assert (bound.unbounded_field, bound.output_tokens) == (None, 20)
    assert 2_000 < bound.predicted_tokens < 2_200


COMPACTS = {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "compact_20260112"}]}
AT_50_000 = {"edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}]}


@pytest.mark.parametrize(
    ("asked", "summaries"),
    [
        (message("x" * 60_000, context_management=COMPACTS), False),
        (message("x" * 160_000, context_management=COMPACTS), True),
        (message("x" * 60_000, context_management=AT_50_000), True),
        (message("x", context_management=COMPACTS, tools=[HOSTED]), True),
        (message("x", compaction={"type": "summarize"}), True),
        (message("x" * 160_000), False),
    ],
)
def test_a_context_is_summarized_only_if_its_prompt_may_be_long_enough(
    asked: PassthroughRequest, summaries: bool
) -> None:
    bound = asked.token_bound("claude-opus-4-8", 1_000_000, is_builtin=True)
    assert bound.unbounded_field is None
    assert bound.summary_tokens == (128_000 if summaries else 0)
    assert (bound.summary_reading_tokens > bound.input_tokens) is summaries


def test_a_summary_whose_cost_openai_does_not_say_has_no_bound_where_it_may_be_written() -> None:
    entries = [{"type": "compaction", "compact_threshold": 50_000}]
    for text, field in (("x" * 1_000, None), ("x" * 60_000, "context_management")):
        asked = response(input=text, context_management=entries, max_output_tokens=1_000)
        assert asked.token_bound("gpt-5", 400_000, is_builtin=True).unbounded_field == field


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (response(input=[{"type": "additional_tools", "tools": [SEARCH]}]), "input[0].tools[0] (web_search)"),
        (response(input=[{"type": "tool_search_output", "tools": [SEARCH]}]), "input[0].tools[0] (web_search)"),
        (response(tools=[{"type": "namespace", "name": "n", "tools": [SEARCH]}]), "tools[0].tools[0] (web_search)"),
        (
            message({"type": "tool_addition", "tool": {"type": "tool_definition", "definition": HOSTED}}),
            "messages[0].content[0].tool.definition (code_execution_20260521)",
        ),
        (
            message({"type": "compaction", "tool_changes": [{"type": "tool_definition", "definition": HOSTED}]}),
            "messages[0].content[0].tool_changes[0].definition (code_execution_20260521)",
        ),
        (response(tools=[{"type": "shell", "environment": {"type": "container_auto"}}]), "tools[0] (shell)"),
        (response(tools=[{"type": "shell"}]), "tools[0] (shell)"),
        (response(tools=[{"type": "tool_search"}]), "tools[0] (tool_search)"),
        (response(tools=[{"type": "mcp", "server_url": "https://x"}]), "tools[0] (mcp)"),
        (chat(web_search_options={}), "web_search_options"),
        (message(mcp_servers=[{"type": "url", "url": "https://x"}]), "mcp_servers"),
    ],
)
def test_hosted_tool_of_which_the_fee_is_known_has_a_bound_at_any_depth(
    request_: PassthroughRequest, field: str
) -> None:
    assert ([tool.field for tool in request_.tools.tools], request_.unbounded) == ([field], None)


@pytest.mark.parametrize(
    "request_",
    [
        response(tools=[{"type": "local_shell"}, {"type": "apply_patch"}, {"type": "computer"}]),
        response(tools=[{"type": "shell", "environment": {"type": "local"}}]),
        response(tools=[{"type": "tool_search", "execution": "client"}]),
        response(tools=[{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}]),
        response(tools=[{"type": "function", "name": "f", "parameters": {"tools": [SEARCH]}}]),
        response(
            tools=[{"type": "shell", "environment": {"type": "local"}}], tool_choice={"tools": [{"type": "shell"}]}
        ),
        message(tools=[ASKS, {"name": "g"}, {"type": "bash_20250124"}, {"type": "memory_20250818"}]),
        message(tools=[{"type": "computer_toolset_20260801"}, {"type": "browser_toolset_20260801"}]),
        message(tools=[{"type": "text_editor_20250728"}, {"type": "computer_20251124"}]),
        message({"type": "tool_addition", "tool": {"type": "tool_definition", "definition": ASKS}}),
        message(context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}),
        message(context_management={}),
        chat(enable_search=False),
    ],
)
def test_client_tool_has_a_bound(request_: PassthroughRequest) -> None:
    assert request_.unbounded is None


@pytest.mark.parametrize(
    "request_",
    [
        read({"messages": [{"role": "user", "type": "image", "content": LONG}]}),
        read({"messages": [{"role": "user", "type": "file", "content": LONG}]}),
        read({"messages": [{"role": "user", "image_url": "data:,", "content": LONG}]}),
        chat({"type": "image_url", "image_url": {"url": "data:,", "text": LONG}}),
        chat({"type": "image_url", "image_url": LONG}),
        chat({"type": "image_url", "image_url": {"url": "data:,"}, "parameters": LONG}),
        message({"type": "image", "source": {"type": "text", "data": LONG}}),
        message({"type": "document", "source": {"type": "url", "url": "https://x"}, "title": LONG}),
        message({"type": "document", "source": {"type": "text", "data": LONG}}),
        message({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": LONG}]}}),
        message({"type": "tool_use", "input": {"type": "image", "source": {"type": "base64", "data": LONG}}}),
        response(input=[{"type": "tool_search_call", "arguments": {"type": "image", "data": LONG}}]),
        response(input=[{"type": "additional_tools", "tools": [{"type": "function", "description": LONG}]}]),
        read({"functions": [{"name": "f", "description": LONG}]}),
    ],
)
def test_all_that_is_no_image_counts_by_its_bytes(request_: PassthroughRequest) -> None:
    assert request_.input_tokens > len(LONG)


@pytest.mark.parametrize(
    ("request_", "images"),
    [
        (chat({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{LONG}", "detail": "high"}}), 1),
        (chat({"image_url": {"url": "https://example.com/a.png"}}), 1),
        (message({"type": "image", "source": {"type": "base64", "data": LONG}}), 1),
        (response(input=[{"content": [{"type": "input_image", "image_url": f"data:image/png;base64,{LONG}"}]}]), 1),
        (response(input=[{"type": "computer_call_output", "output": {"image_url": f"data:,{LONG}"}}]), 1),
        (response(input=[{"type": "image_generation_call", "id": "i", "result": LONG}]), 1),
        (message({"type": "tool_result", "content": [{"type": "image", "source": {"data": LONG}}] * 2}), 2),
    ],
)
def test_an_image_counts_as_one(request_: PassthroughRequest, images: int) -> None:
    assert images * TOKENS_PER_IMAGE < request_.input_tokens < (images + 1) * TOKENS_PER_IMAGE
    assert not request_.has_external_content


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{LONG}"}},
        {"type": "input_file", "file_url": "https://x"},
        {"type": "document", "source": {"type": "base64", "data": LONG}},
        {"type": "document", "source": {"type": "text", "data": ""}, "file": {"file_data": LONG}},
        {"type": "image", "file": {"file_data": LONG}},
        {"type": "video_url", "video_url": {"url": "https://x"}},
        {"type": "input_video", "input_video": {"url": "https://x"}},
        {"type": "document_url", "document_url": "https://x"},
        {"video_url": {"url": "https://x"}},
        {"type": "input_audio", "input_audio": "https://x"},
        {"type": "input_audio", "input_audio": {"data": "https://x"}},
        {"type": "input_audio", "input_audio": {"data": "", "url": "https://x"}},
    ],
)
def test_a_file_is_as_long_as_the_model_reads(part: dict[str, Any]) -> None:
    found = chat(part)
    assert found.has_external_content
    assert found.input_tokens < 2 * TOKENS_PER_IMAGE


@pytest.mark.parametrize("format_", ["mp3", "wav"])
def test_audio_that_stands_in_the_request_counts_by_its_longest_duration(format_: str) -> None:
    data = base64.b64encode(b"\xff\xe3\x18").decode() + LONG
    found = chat({"type": "input_audio", "input_audio": {"data": data, "format": format_}})
    longest_s = len(data) * 3 / 4 / 1_000
    assert found.audio_tokens >= longest_s * 32
    assert found.input_tokens < found.audio_tokens + 1_000
    assert not found.has_external_content


@pytest.mark.parametrize("format_", ["flac", "opus", None])
def test_audio_whose_bytes_do_not_bound_it_is_as_long_as_the_model_hears(format_: str | None) -> None:
    found = chat({"type": "input_audio", "input_audio": {"data": LONG, "format": format_}})
    assert (found.has_external_content, found.has_external_audio) == (True, True)
    assert found.input_tokens < 1_000


@pytest.mark.parametrize("name", ["tools", "functions"])
def test_functions_count_like_tools(name: str) -> None:
    found = read({name: [{"name": "f", "parameters": {"description": "x" * 1_000}}]})
    assert TOKENS_WITH_TOOLS + 1_000 < found.input_tokens < TOKENS_WITH_TOOLS + 1_300


@pytest.mark.parametrize("name", ["response_format", "text"])
def test_schema_counts_by_its_bytes(name: str) -> None:
    found = read({name: {"schema": {"description": "x" * 1_000}}})
    assert TOKENS_WITH_TOOLS + 1_000 < found.input_tokens < TOKENS_WITH_TOOLS + 1_300


def test_a_body_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="deeply"):
        read_passthrough(b'{"model":"m","messages":' + b'{"a":' * 600 + b"1" + b"}" * 601, OpenAiChat())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"model":"m","max_tokens":1,"Max_Tokens":100000}', "Max_Tokens"),
        (b'{"model":"m","MODEL":"n"}', "MODEL"),
        ('{"model":"m","me\u017f\u017fages":[]}'.encode(), "me\u017f\u017fages"),
        (b'{"model":"m","max_tokens":100000,"max_tokens":1}', "max_tokens"),
        (b'{"model":"m", "max_tokens" : 1, "z":{}, "max\\u005ftokens":1 }', "max_tokens"),
        (b'{"max_tokens":1,"model":"dear","model":"cheap"}', "model"),
        (b'{"tools":[],"model":"m","messages":[],"tools":[]}', "tools"),
        (b'{"z":1,"z":1,"model":"m","model":"m"}', "model"),
    ],
)
def test_ambiguous_member_is_refused_by_name(body: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_passthrough(body, OpenAiChat())
    assert refusal.value.field == field


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","z":1,"z":2}',
        b' \n{ "model" : "m" ,\n\t"Z": {"model": 1, "MODEL": 2, "max_tokens": 1}, "messages":[{"max_tokens":"\\"}"}] }',
        b'{"model":"m","a\\"b\\\\":[],"metadata":{"n":1}}',
    ],
)
def test_other_members_may_be_named_as_they_like(body: bytes) -> None:
    assert read_passthrough(body, OpenAiChat()).model == "m"


@pytest.mark.parametrize(
    ("caps", "named", "largest"),
    [
        ({}, (), None),
        ({"max_tokens": None}, (), None),
        ({"max_tokens": 3}, ("max_tokens",), 3),
        ({"max_completion_tokens": 4}, ("max_completion_tokens",), 4),
        ({"max_tokens": 5, "max_completion_tokens": 4}, ("max_completion_tokens", "max_tokens"), 5),
    ],
)
def test_cap_field_is_reported(caps: dict[str, Any], named: tuple[str, ...], largest: int | None) -> None:
    found = chat(**caps)
    assert (found.cap_fields, found.output_cap) == (named, largest)


@pytest.mark.parametrize(
    ("dialect", "operation", "shapes"),
    [
        ("openai", "chat", [completion_create_params.CompletionCreateParamsNonStreaming]),
        ("openai", "responses", [response_create_params.ResponseCreateParamsNonStreaming]),
        ("openai", "embeddings", [embedding_create_params.EmbeddingCreateParams]),
        (
            "anthropic",
            "chat",
            [
                message_create_params.MessageCreateParamsNonStreaming,
                beta_message_create_params.MessageCreateParamsNonStreaming,
            ],
        ),
        (
            "anthropic",
            "count_tokens",
            [
                message_count_tokens_params.MessageCountTokensParams,
                beta_count_tokens_params.MessageCountTokensParams,
            ],
        ),
    ],
)
def test_every_field_of_the_vendors_own_sdk_is_known(dialect: str, operation: Operation, shapes: list[Any]) -> None:
    names = {name for shape in shapes for name in shape.__annotations__}
    assert names
    assert names <= DIALECTS.codec(dialect, operation).known_fields


@pytest.mark.parametrize("name", ["betas", "anthropic_beta"])
def test_a_long_window_that_is_asked_for_in_the_body_is_that_of_the_request(name: str) -> None:
    document = {"type": "document", "source": {"type": "url", "url": "https://x"}}
    asked = message(document, **{name: ["context-1m-2025-08-07"]})
    for headers in ({}, {"anthropic-beta": "another-2025-01-01"}):
        bound = asked.token_bound("claude-sonnet-4-5", 200_000, is_builtin=False, headers=headers)
        assert bound.input_tokens >= 1_000_000
    assert message(document).token_bound("claude-sonnet-4-5", 200_000, is_builtin=False).input_tokens < 210_000


def test_unknown_field_is_reported() -> None:
    assert chat(temperature=1, top_k=3, of_tomorrow=3).unknown == "of_tomorrow"
    assert chat(min_p=0.1, chat_template_kwargs={"enable_thinking": False}).unknown is None
    assert message(temperature=1, top_k=3).unknown is None
    assert read({"input": "x", "best_of": 3}, operation="embeddings").unknown == "best_of"


ODD = b'{ "z" :1.50, "model":"m",\n "stream" : true , "messages":[ ],"metadata":{"n":1e2}}\n'


def test_a_payload_that_need_not_change_is_the_body() -> None:
    body = ODD.replace(b"true", b"false")
    assert read_passthrough(body, OpenAiChat()).payload("m") is body


def test_only_the_models_name_changes_for_the_provider() -> None:
    body = ODD.replace(b"true", b"false")
    assert read_passthrough(body, OpenAiChat()).payload("mine") == body.replace(b'"m"', b'"mine"')


def test_a_stream_is_requested_with_its_usage() -> None:
    payload = read_passthrough(ODD, OpenAiChat()).payload("m")
    assert payload == ODD.replace(b"1e2}}", b'1e2},"stream_options":{"include_usage":true}}')


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (b'{ "include_usage" : true,"x":1 }', b'{ "include_usage" : true,"x":1 }'),
        (b'{"x":1}', b'{"x":1,"include_usage":true}'),
        (b'{ "include_usage":1}', b'{"include_usage":true}'),
        (b"null", b'{"include_usage":true}'),
    ],
)
def test_stream_options_change_no_more_than_they_must(options: bytes, sent: bytes) -> None:
    body = b'{"stream":true,"stream_options": %b, "model":"m"}'
    assert read_passthrough(body % options, OpenAiChat()).payload("m") == body % sent


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m", "n":2 }', b'{"model":"m", "n":2,"max_tokens":7 }'),
        (b'{"max_tokens" : null,"model":"m"}', b'{"max_tokens" : 7,"model":"m"}'),
        (b'{"z":1,"model":"m","z":2}', b'{"z":2,"model":"m","max_tokens":7}'),
    ],
)
def test_a_lowered_cap_joins_the_payload(body: bytes, expected: bytes) -> None:
    request = read_passthrough(body, OpenAiChat())
    lowered = request.with_output_cap(7 * request.choices, "m")
    assert (lowered.payload, lowered.cap, lowered.output_tokens) == (expected, 7, 7 * request.choices)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m", "max_tokens" : 64000, "z":1}', b'{"model":"m", "max_tokens" : 7, "z":1}'),
        (b'{"model":"m","max_completion_tokens":64000}', b'{"model":"m","max_completion_tokens":7}'),
    ],
)
def test_a_cap_that_the_caller_set_is_lowered_where_it_stands(body: bytes, expected: bytes) -> None:
    assert read_passthrough(body, OpenAiChat()).with_output_cap(7, "m").payload == expected


def test_a_provider_that_reads_no_newer_cap_is_sent_the_older_one_too() -> None:
    request = read_passthrough(b'{"model":"m","max_completion_tokens":64000}', OpenAiChat())
    lowered = request.with_output_cap(7, "m", is_builtin=False)
    assert lowered.payload == b'{"model":"m","max_completion_tokens":64000,"max_tokens":7}'


@pytest.mark.parametrize(
    ("cap", "budget", "lowered_to", "thinks"),
    [(64_000, 30_000, 8_000, 6_976), (64_000, 30_000, 2_048, 1_024), (64_000, 2_000, 8_000, 2_000)],
)
def test_a_thinking_budget_is_lowered_with_its_cap(cap: int, budget: int, lowered_to: int, thinks: int) -> None:
    thinking = {"type": "enabled", "budget_tokens": budget}
    request = message(max_tokens=cap, thinking=thinking)
    sent = msgspec.json.decode(request.with_output_cap(lowered_to, "m").payload)
    assert (sent["max_tokens"], sent["thinking"]) == (lowered_to, thinking | {"budget_tokens": thinks})
    assert request.token_bound("m", None, is_builtin=True).least_output_tokens == 2_048


@pytest.mark.parametrize(
    ("fields", "least"),
    [
        ({}, 256),
        ({"max_tokens": 64_000}, 1_024),
        ({"max_tokens": 64_000, "n": 3}, 3 * 1_024),
        ({"max_tokens": 50}, 50),
        ({"max_completion_tokens": 2_000}, 1_024),
    ],
)
def test_a_cap_is_lowered_to_no_less_than_is_of_use(fields: dict[str, Any], least: int) -> None:
    assert chat(**fields).token_bound("gpt-4o", None, is_builtin=True).least_output_tokens == least


def test_a_thinking_budget_of_a_translated_request_is_lowered_with_its_cap() -> None:
    request = ChatRequest(messages=[UserMessage(content="x")], max_tokens=64_000, thinking_budget=30_000)
    body = CanonicalRequest(request)
    assert body.token_bound("m", None, is_builtin=True).least_output_tokens == 2_048
    sent = msgspec.json.decode(body.with_output_cap(2_500, "m").payload)
    assert (sent["maxTokens"], sent["thinkingBudget"]) == (2_500, 1_476)


def test_a_lowered_stream_still_asks_for_usage() -> None:
    request = read_passthrough(b'{"model":"x","stream":true}', OpenAiChat())
    payload = request.payload("m")
    assert payload == b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
    assert request.with_output_cap(7, "m").payload == payload.removesuffix(b"}") + b',"max_tokens":7}'


def digest_of(body: bytes) -> bytes:
    digest = read_passthrough(body, OpenAiChat(), is_cached=True).content_digest
    assert digest is not None
    return digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"model":"m","n":1,"user":"u"}', b'{ "user" : "u","n":1, "model":"another" }'),
        (b'{"model":"m","stream":false}', b'{"model":"m"}'),
        (b'{"model":"m","stream_options":{"x":1}}', b'{"model":"m"}'),
        (b'{"model":"m","stream":true}', b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'),
    ],
)
def test_requests_that_ask_for_the_same_have_one_digest(one: bytes, other: bytes) -> None:
    assert digest_of(one) == digest_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"model":"m","user":"u"}', b'{"model":"m","user":"v"}'),
        (b'{"model":"m","stream":true}', b'{"model":"m"}'),
        (b'{"model":"m","stream":true}', b'{"model":"m","stream":true,"stream_options":{"include_obfuscation":false}}'),
    ],
)
def test_requests_that_ask_for_something_else_have_another_digest(one: bytes, other: bytes) -> None:
    assert digest_of(one) != digest_of(other)


def test_a_request_that_is_not_cached_has_no_digest() -> None:
    assert read_passthrough(b'{"model":"m"}', OpenAiChat()).content_digest is None


@pytest.mark.parametrize("stream", [True, False])
def test_an_operation_without_streams_is_never_streamed(stream: bool) -> None:
    assert not read({"input": "x", "stream": stream}, operation="embeddings").is_stream


@pytest.mark.parametrize(
    ("model", "caps", "sent"),
    [
        ("gpt-4o", {"max_tokens": 32_000}, {"max_tokens": 16_384}),
        ("gpt-4o", {"max_completion_tokens": 32_000}, {"max_completion_tokens": 16_384}),
        ("gpt-4o", {"max_tokens": 16_384}, {"max_tokens": 16_384}),
        ("gpt-5", {"max_tokens": 32_000}, {"max_completion_tokens": 32_000}),
        ("gpt-5", {"max_tokens": 9, "max_completion_tokens": 200_000}, {"max_completion_tokens": 128_000}),
        ("gpt-5", {"max_completion_tokens": 32_000}, {"max_completion_tokens": 32_000}),
        ("gpt-5", {}, {}),
    ],
)
def test_a_vendor_gets_an_output_cap_that_it_takes(model: str, caps: dict[str, int], sent: dict[str, int]) -> None:
    asked = read({"model": model, "messages": [], "seed": 1} | caps)
    target = Target(model=model, provider="openai", kind="openai", upstream_model=model)
    adapted, _ = DIALECTS.adapt(asked, target, "chat")
    body = msgspec.json.decode(adapted.payload(model))
    assert body == {"model": model, "messages": [], "seed": 1} | sent
    assert adapted.output_cap == max(sent.values(), default=None)
    assert (adapted is asked) == (caps == sent)


def test_a_provider_by_configuration_gets_the_cap_that_was_asked_for() -> None:
    asked = read({"model": "mine/gpt-4o", "messages": [], "max_tokens": 32_000})
    address = "https://models.example.com/v1"
    target = Target(model="mine/gpt-4o", provider="mine", kind="openai", upstream_model="gpt-4o", base_url=address)
    assert DIALECTS.adapt(asked, target, "chat") == (asked, ())


def test_a_lowered_cap_leaves_room_for_thinking() -> None:
    asked = read(
        {
            "model": "claude-3-haiku-20240307",
            "messages": [],
            "max_tokens": 64_000,
            "thinking": {"type": "enabled", "budget_tokens": 32_000},
        },
        "anthropic",
    )
    lowered = asked.within_limits("claude-3-haiku-20240307")
    body = msgspec.json.decode(lowered.body)
    assert body["max_tokens"] == 4_096
    assert body["thinking"]["budget_tokens"] < 4_096
