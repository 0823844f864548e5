"""Hypothesis strategies for canonical requests of every form, and vendor SDK clients that open no socket."""

from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
from anthropic import Anthropic
from hypothesis import strategies as st
from msgspec.structs import replace
from openai import OpenAI

from domain.canonical.chat import (
    AssistantMessage,
    ChatRequest,
    DeveloperMessage,
    FunctionCall,
    FunctionTool,
    ImagePart,
    ImageUrl,
    JsonSchema,
    NamedFunction,
    NamedToolChoice,
    ResponseFormat,
    SystemMessage,
    TextPart,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)

Transport = Callable[[httpx2.Request], httpx2.Response]


def openai_client(answer: Transport, **options: Any) -> OpenAI:
    """Return OpenAI's SDK with a function as its transport."""
    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return OpenAI(api_key="k", base_url="http://gateway.test/v1", http_client=http_client, **options)


def anthropic_client(answer: Transport, **options: Any) -> Anthropic:
    """Return Anthropic's SDK with a function as its transport."""
    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return Anthropic(api_key="k", base_url="http://gateway.test", http_client=http_client, **options)


def is_valid(request: ChatRequest) -> bool:
    """Return whether the native API would accept this request, too."""
    return msgspec.json.decode(msgspec.json.encode(request), type=ChatRequest) == request


texts = st.text(max_size=20)
said = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
names = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(texts, json_values, max_size=3)
extensions = objects.map(lambda members: {f"x-{name}": value for name, value in members.items()})
"""Members of a schema that mean nothing: Hypothesis also tries words that the code knows."""
schemas = extensions.map(lambda members: {"type": "object"} | members)
text_parts = st.builds(TextPart, text=texts)
image_parts = st.builds(
    ImagePart,
    image_url=st.builds(
        ImageUrl,
        url=st.sampled_from(["https://x/y.png", "data:image/png;base64,AAAA"]),
        detail=st.sampled_from([None, "auto", "low", "high"]),
    ),
)
text_contents = texts | st.lists(text_parts, min_size=1, max_size=3)
contents = texts | st.lists(text_parts | image_parts, min_size=1, max_size=3)
tool_calls = st.builds(ToolCall, id=names, function=st.builds(FunctionCall, name=names, arguments=texts))
maybe_name = st.none() | names
messages = st.one_of(
    st.builds(SystemMessage, content=text_contents, name=maybe_name),
    st.builds(DeveloperMessage, content=text_contents, name=maybe_name),
    st.builds(UserMessage, content=contents, name=maybe_name),
    st.builds(
        AssistantMessage,
        content=st.none() | text_contents,
        tool_calls=st.none() | st.lists(tool_calls, min_size=1, max_size=2),
        name=maybe_name,
    ),
    st.builds(ToolMessage, content=text_contents, tool_call_id=names),
)
functions = st.builds(
    FunctionTool,
    name=names,
    description=st.none() | texts,
    parameters=st.none() | schemas,
    strict=st.none() | st.booleans(),
)
tool_choices = st.sampled_from(["none", "auto", "required"]) | st.builds(
    NamedToolChoice, function=st.builds(NamedFunction, name=names)
)
json_schemas = st.builds(
    JsonSchema, name=names, schema=schemas, description=st.none() | texts, strict=st.none() | st.booleans()
)
response_formats = st.one_of(
    st.builds(ResponseFormat, type=st.sampled_from(["text", "json_object"])),
    st.builds(ResponseFormat, type=st.just("json_schema"), json_schema=json_schemas),
)
requests = st.builds(
    ChatRequest,
    model=st.just("gpt-4o"),
    messages=st.lists(messages, min_size=1, max_size=5),
    temperature=st.none() | st.floats(0, 2),
    max_tokens=st.none() | st.integers(1, 10_000_000),
    top_p=st.none() | st.floats(0, 1),
    stop=st.none() | said | st.lists(texts, min_size=1, max_size=4),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    user=st.none() | texts,
    tools=st.none() | st.lists(st.builds(Tool, function=functions), min_size=1, max_size=2),
    tool_choice=st.none() | tool_choices,
    parallel_tool_calls=st.none() | st.booleans(),
    response_format=st.none() | response_formats,
    reasoning_effort=st.sampled_from([None, "none", "minimal", "low", "medium", "high", "xhigh", "max"]),
)

# Requests that Anthropic's dialect can express: turns alternate, and the arguments of calls are objects.
_calls_of_objects = st.builds(
    ToolCall,
    id=names,
    function=st.builds(
        FunctionCall, name=names, arguments=objects.map(lambda members: msgspec.json.encode(members).decode())
    ),
)
_images_of_no_detail = st.builds(
    ImagePart,
    image_url=st.builds(ImageUrl, url=st.sampled_from(["https://x/y.png", "data:image/png;base64,AAAA"])),
)
_shown = st.builds(
    UserMessage,
    content=said | st.lists(st.builds(TextPart, text=said) | _images_of_no_detail, min_size=2, max_size=3),
)
_result_texts = said | st.just("")


def _answered(calls: list[ToolCall], texts: list[str], content: str | None) -> list[Any]:
    """Return a turn of calls, and a result of each."""
    results = [ToolMessage(content=text, tool_call_id=call.id) for call, text in zip(calls, texts, strict=True)]
    return [AssistantMessage(content=content, tool_calls=calls), *results]


def _with_own_ids(messages: list[Any]) -> list[Any]:
    """Return the conversation with an id of its own for each call. The results of a turn stand in its calls' order."""
    numbered: list[Any] = []
    ids: list[str] = []
    for number, message in enumerate(messages):
        if isinstance(message, AssistantMessage) and message.tool_calls:
            ids = [f"call-{number}-{n}" for n in range(len(message.tool_calls))]
            calls = [replace(call, id=own) for call, own in zip(message.tool_calls, ids, strict=True)]
            numbered.append(replace(message, tool_calls=calls))
        elif isinstance(message, ToolMessage):
            numbered.append(replace(message, tool_call_id=ids.pop(0)))
        else:
            numbered.append(message)
    return numbered


_calling_turns = st.integers(1, 2).flatmap(
    lambda count: st.tuples(
        st.lists(_calls_of_objects, min_size=count, max_size=count),
        st.lists(_result_texts, min_size=count, max_size=count),
        st.none() | said,
        st.none() | _shown,
    ).map(lambda turn: [*_answered(turn[0], turn[1], turn[2]), *([turn[3]] if turn[3] is not None else [])])
)
_talking_turns = st.tuples(
    st.builds(AssistantMessage, content=said | st.lists(st.builds(TextPart, text=said), min_size=2, max_size=3)),
    _shown,
).map(list)
_turns = _calling_turns | _talking_turns
_conversations = st.tuples(
    st.lists(st.builds(SystemMessage, content=said), max_size=1), _shown, st.lists(_turns, max_size=3)
).map(lambda told: _with_own_ids([*told[0], told[1], *(message for turn in told[2] for message in turn)]))
requests_in_anthropics_words = st.builds(
    ChatRequest,
    model=st.just("claude-3-haiku-20240307"),
    messages=_conversations,
    temperature=st.none() | st.floats(0, 1),
    max_tokens=st.integers(1, 10_000_000),
    top_p=st.none() | st.floats(0, 1),
    stop=st.none() | st.lists(said, min_size=1, max_size=4, unique=True),
    user=st.sampled_from([None, "u-1"]),
    tools=st.lists(
        st.builds(
            Tool,
            function=st.builds(
                FunctionTool,
                name=names,
                description=st.none() | said,
                parameters=extensions.map(lambda members: {"type": "object", "properties": {}} | members),
            ),
        ),
        min_size=1,
        max_size=2,
        unique_by=lambda tool: tool.function.name,
    ),
    tool_choice=st.none() | tool_choices,
)
