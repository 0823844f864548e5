"""OpenAI's chat completions: requests as clients write them.

https://platform.openai.com/docs/api-reference/chat/create. They are read leniently, as frameworks and agents write
them: members that the API does not have are dropped and told (`drop_unknown`), null is the same as absent, and a member
that comes in several shapes is `Any`, to be read by `messages.py` or `tools.py`.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from domain.canonical.chat import (
    MAX_CHOICES,
    MAX_MESSAGES,
    MAX_STOP_SEQUENCES,
    MAX_TOOLS,
    Name,
    OutputTokens,
    Probability,
    Seed,
    Temperature,
)


class RequestPart(Struct, frozen=True, kw_only=True):
    """A part of a request."""


Content = str | list[Any]
"""A text, or parts, which `domain/dialects/message_parts.py` reads."""


class SystemMessageParam(RequestPart, frozen=True, kw_only=True, tag_field="role", tag="system"):
    """Instructions for the model."""

    content: Content | None = None
    name: str | None = None
    cache_control: Any = None


class DeveloperMessageParam(RequestPart, frozen=True, kw_only=True, tag_field="role", tag="developer"):
    """OpenAI's newer word for a system message."""

    content: Content | None = None
    name: str | None = None
    cache_control: Any = None


class UserMessageParam(RequestPart, frozen=True, kw_only=True, tag_field="role", tag="user"):
    """Text, images and files of the user."""

    content: Content | None = None
    name: str | None = None
    cache_control: Any = None


class FunctionParam(RequestPart, frozen=True, kw_only=True):
    """The function of an earlier call. `arguments` is JSON, as text or not, or null."""

    name: Name
    arguments: Any = None
    thought_signature: Any = None
    parsed_arguments: Any = None


class CustomParam(RequestPart, frozen=True, kw_only=True):
    """The custom tool of an earlier call."""

    name: Name
    input: str | None = None


class ToolCallParam(RequestPart, frozen=True, kw_only=True):
    """An earlier call of the model."""

    id: str | None = None
    function: FunctionParam | None = None
    custom: CustomParam | None = None
    type: str | None = None
    index: int | None = None
    extra_content: dict[str, Any] | None = None
    thought_signature: Any = None
    provider_specific_fields: Any = None
    cache_control: Any = None


class AssistantMessageParam(RequestPart, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """An earlier answer of the model. SDKs send an answer back with every member that it had."""

    content: Content | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallParam] | None = None
    function_call: FunctionParam | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    thinking_blocks: Any = None
    name: str | None = None
    audio: Any = None
    annotations: Any = None
    cache_control: Any = None
    parsed: Any = None
    provider_specific_fields: Any = None


class ToolMessageParam(RequestPart, frozen=True, kw_only=True, tag_field="role", tag="tool"):
    """The result of a tool call. Its `name` says what its id says already."""

    content: Content | None = None
    tool_call_id: str | None = None
    name: str | None = None
    cache_control: Any = None


class FunctionMessageParam(RequestPart, frozen=True, kw_only=True, tag_field="role", tag="function"):
    """The result of a function call, as it was written before there were tools."""

    content: Content | None = None
    name: str | None = None
    cache_control: Any = None


MessageParam = (
    SystemMessageParam
    | DeveloperMessageParam
    | UserMessageParam
    | AssistantMessageParam
    | ToolMessageParam
    | FunctionMessageParam
)


class StreamOptions(RequestPart, frozen=True, kw_only=True):
    """Options of a stream."""

    include_usage: Any = None
    include_obfuscation: Any = None


class ReasoningParam(RequestPart, frozen=True, kw_only=True):
    """OpenRouter's settings of thinking."""

    effort: str | None = None
    max_tokens: OutputTokens | None = None
    enabled: bool | None = None
    exclude: bool | None = None


class ThinkingParam(RequestPart, frozen=True, kw_only=True):
    """Anthropic's settings of thinking, which others took over."""

    type: str | None = None
    budget_tokens: OutputTokens | None = None
    display: str | None = None


class JsonSchemaParam(RequestPart, frozen=True, kw_only=True):
    """The schema of an answer."""

    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormatParam(RequestPart, frozen=True, kw_only=True):
    """The format of an answer. `schema`: beside `json_object`, as some providers have it."""

    type: str
    json_schema: JsonSchemaParam | None = None
    schema: dict[str, Any] | None = None


class FunctionDefinition(RequestPart, frozen=True, kw_only=True):
    """One of the deprecated `functions`."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ChatCompletionsBody(RequestPart, frozen=True, kw_only=True):
    """The body of `POST /chat/completions`."""

    model: Name
    messages: Annotated[list[MessageParam], Meta(min_length=1, max_length=MAX_MESSAGES)]
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    temperature: Temperature | None = None
    max_tokens: OutputTokens | None = None
    max_completion_tokens: OutputTokens | None = None
    top_p: Probability | None = None
    stop: str | Annotated[list[str], Meta(max_length=MAX_STOP_SEQUENCES)] | None = None
    seed: Seed | None = None
    user: str | None = None
    safety_identifier: str | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Any = None
    functions: Annotated[list[FunctionDefinition], Meta(max_length=MAX_TOOLS)] | None = None
    function_call: Any = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormatParam | None = None
    reasoning_effort: str | None = None
    reasoning: ReasoningParam | None = None
    thinking: ThinkingParam | None = None
    include_reasoning: bool | None = None
    cache_control: Any = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Dropped or refused: see `CHAT_CLIENT_RULES`.
    logprobs: Any = None
    top_logprobs: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    logit_bias: Any = None
    modalities: Any = None
    store: Any = None
    metadata: Any = None
    service_tier: Any = None
    verbosity: Any = None
    audio: Any = None
    prediction: Any = None
    moderation: Any = None
    web_search_options: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
