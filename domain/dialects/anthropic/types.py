"""Anthropic's messages as JSON: requests of clients, responses and stream events of providers.

https://docs.anthropic.com/en/api/messages. Requests are read strictly, so that nothing gets lost in a translation.
Responses are read leniently: what Anthropic adds to them does not matter here.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from domain.canonical.chat import (
    MAX_MESSAGES,
    MAX_STOP_SEQUENCES,
    MAX_TOOLS,
    Name,
    OutputTokens,
    Probability,
    Temperature,
    User,
)
from domain.dialects.anthropic.usage import MessageUsage, PartialUsage
from domain.dialects.lossy import RequestStruct
from domain.tokens import TokenCount


class TextBlock(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A piece of text."""

    text: str
    cache_control: Any = None
    citations: Any = None


class Base64Source(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="base64"):
    """An image, itself."""

    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Annotated[str, Meta(min_length=1)]


class UrlSource(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="url"):
    """The source of an image."""

    url: Annotated[str, Meta(min_length=1)]


class ImageBlock(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="image"):
    """An image. A `file` source is refused: the file is at Anthropic."""

    source: Base64Source | UrlSource
    cache_control: Any = None
    transformations: Any = None


class ToolUseBlock(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="tool_use"):
    """A call that the model asked for."""

    id: Name
    name: Name
    input: dict[str, Any]
    cache_control: Any = None
    caller: Any = None
    toolset_name: Any = None


class ToolResultBlock(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="tool_result"):
    """The result of a tool call: text, because other vendors take nothing else from a tool."""

    tool_use_id: Name
    content: str | list[TextBlock] | None = None
    is_error: bool | None = None
    cache_control: Any = None
    toolset_name: Any = None


class ThinkingBlock(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="thinking"):
    """The model's thinking, with its signature."""

    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="redacted_thinking"):
    """The model's thinking, encrypted by Anthropic."""

    data: str


class UserTurn(RequestStruct, frozen=True, kw_only=True, tag_field="role", tag="user"):
    """The user's turn: what it says and shows, and what its tools gave."""

    content: str | Annotated[list[TextBlock | ImageBlock | ToolResultBlock], Meta(min_length=1)]


class AssistantTurn(RequestStruct, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """The model's turn; Anthropic allows an empty one."""

    content: str | list[TextBlock | ToolUseBlock | ThinkingBlock | RedactedThinkingBlock]


class SystemTurn(RequestStruct, frozen=True, kw_only=True, tag_field="role", tag="system"):
    """Instructions in the middle of a conversation."""

    content: str | Annotated[list[TextBlock], Meta(min_length=1)]


class CustomTool(RequestStruct, frozen=True, kw_only=True):
    """A tool that the client runs."""

    name: Name
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None
    type: Literal["custom"] | None = None
    cache_control: Any = None
    eager_input_streaming: Any = None
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    input_examples: list[Any] | None = None


class ToolType(msgspec.Struct, frozen=True):
    """The type of a tool: it tells a client's tool from one that Anthropic runs."""

    type: str | None = None


class ToolChoiceAuto(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="auto"):
    """The model decides."""

    disable_parallel_tool_use: bool | None = None


class ToolChoiceAny(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="any"):
    """Some tool must be called."""

    disable_parallel_tool_use: bool | None = None


class ToolChoiceTool(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="tool"):
    """A certain tool must be called."""

    name: Name
    disable_parallel_tool_use: bool | None = None


class ToolChoiceNone(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="none"):
    """No tool may be called."""


class ThinkingConfig(RequestStruct, frozen=True, kw_only=True):
    """The thinking mode and its budget."""

    type: str
    display: str | None = None
    budget_tokens: int | None = None


class Metadata(RequestStruct, frozen=True, kw_only=True):
    """The end user of a request."""

    user_id: User | None = None


class JsonOutputFormat(RequestStruct, frozen=True, kw_only=True):
    """The schema that the answer keeps to."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(RequestStruct, frozen=True, kw_only=True):
    """The effort and the format of an answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonOutputFormat | None = None


class MessagesBody(RequestStruct, frozen=True, kw_only=True):
    """The body of `POST /v1/messages`."""

    model: Name
    max_tokens: OutputTokens
    messages: Annotated[list[UserTurn | AssistantTurn | SystemTurn], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[TextBlock] | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=MAX_STOP_SEQUENCES)] | None = None
    tools: Annotated[list[msgspec.Raw], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoiceAuto | ToolChoiceAny | ToolChoiceTool | ToolChoiceNone | None = None
    metadata: Metadata | None = None
    output_config: OutputConfig | None = None
    output_format: JsonOutputFormat | None = None
    """The beta's place of `output_config.format`."""
    thinking: ThinkingConfig | None = None
    stream: bool | None = None
    cache_control: Any = None
    # Carried nowhere, and refused unless `DROPPABLE` has the value.
    top_k: int | None = None
    service_tier: str | None = None
    speed: str | None = None
    container: Any = None
    inference_geo: str | None = None
    diagnostics: Any = None
    user_profile_id: str | None = None
    workspace_id: str | None = None
    mcp_servers: list[Any] | None = None
    context_management: Any = None


class ContentBlock(Struct, frozen=True):
    """A block of a provider's response."""

    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    input: Any = None


class Message(Struct, frozen=True):
    """A provider's response."""

    id: str
    content: list[ContentBlock]
    usage: MessageUsage
    model: str = ""
    stop_reason: str | None = None
    container: Any = None


class EventDelta(Struct, frozen=True, gc=False):
    """Of a block, or (`stop_reason`) of the message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    container: Any = None


class EventBlock(Struct, frozen=True, gc=False):
    """The beginning of a block in a provider's stream."""

    type: str
    id: str = ""
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    input: Any = None


class EventMessage(Struct, frozen=True, gc=False):
    """The message that a stream begins with."""

    id: str = ""
    model: str = ""
    usage: PartialUsage | None = None


class StreamEvent(Struct, frozen=True, gc=False):
    """An event of a provider's stream."""

    type: str
    index: int = 0
    delta: EventDelta | None = None
    content_block: EventBlock | None = None
    message: EventMessage | None = None
    usage: PartialUsage | None = None
    error: Any = None


class MeteredMessage(Struct, frozen=True):
    """As much of a passed-through response as its costs and its record depend on."""

    id: str
    usage: MessageUsage
    model: str = ""
    stop_reason: str | None = None
    container: Any = None


class MessageTokensCount(Struct, frozen=True):
    """The response of `POST /v1/messages/count_tokens`."""

    input_tokens: TokenCount
