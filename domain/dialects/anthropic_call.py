"""A client's call of Anthropic's messages, as it spells it, and which of its fields are carried nowhere.

Read by `domain.dialects.anthropic_served`, which says why.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

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
from domain.dialects.served import DroppableField, Wire


class TextBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A piece of text."""

    text: str
    cache_control: Any = None
    citations: Any = None


class Base64Source(Wire, frozen=True, kw_only=True, tag_field="type", tag="base64"):
    """An image, itself."""

    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Annotated[str, Meta(min_length=1)]


class UrlSource(Wire, frozen=True, kw_only=True, tag_field="type", tag="url"):
    """Where an image is."""

    url: Annotated[str, Meta(min_length=1)]


class ImageBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="image"):
    """An image. A `file` source is refused: the file is at Anthropic."""

    source: Base64Source | UrlSource
    cache_control: Any = None
    transformations: Any = None


class ToolUseBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="tool_use"):
    """A call that the model asked for."""

    id: Name
    name: Name
    input: dict[str, Any]
    cache_control: Any = None
    caller: Any = None
    toolset_name: Any = None


class ToolResultBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="tool_result"):
    """What a call gave: text, since other vendors take nothing else from a tool."""

    tool_use_id: Name
    content: str | list[TextBlock] | None = None
    is_error: bool | None = None
    cache_control: Any = None
    toolset_name: Any = None


class ThinkingBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="thinking"):
    """What the model thought, with the proof that it did."""

    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="redacted_thinking"):
    """What the model thought, for Anthropic to read."""

    data: str


class UserTurn(Wire, frozen=True, kw_only=True, tag_field="role", tag="user"):
    """The user's turn: what it says and shows, and what its tools gave."""

    content: str | Annotated[list[TextBlock | ImageBlock | ToolResultBlock], Meta(min_length=1)]


class AssistantTurn(Wire, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """The model's turn; Anthropic allows an empty one."""

    content: str | list[TextBlock | ToolUseBlock | ThinkingBlock | RedactedThinkingBlock]


class SystemTurn(Wire, frozen=True, kw_only=True, tag_field="role", tag="system"):
    """Instructions in the middle of a conversation."""

    content: str | Annotated[list[TextBlock], Meta(min_length=1)]


class CustomTool(Wire, frozen=True, kw_only=True):
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


class ToolKind(msgspec.Struct, frozen=True):
    """What tells a tool of the client's from one that Anthropic runs, before the rest of it is looked at."""

    type: str | None = None


class AutoChoice(Wire, frozen=True, kw_only=True, tag_field="type", tag="auto"):
    """The model decides."""

    disable_parallel_tool_use: bool | None = None


class AnyChoice(Wire, frozen=True, kw_only=True, tag_field="type", tag="any"):
    """Some tool must be called."""

    disable_parallel_tool_use: bool | None = None


class NamedChoice(Wire, frozen=True, kw_only=True, tag_field="type", tag="tool"):
    """A certain tool must be called."""

    name: Name
    disable_parallel_tool_use: bool | None = None


class NoChoice(Wire, frozen=True, kw_only=True, tag_field="type", tag="none"):
    """No tool may be called."""


class ThinkingConfig(Wire, frozen=True, kw_only=True):
    """Whether and how much to think."""

    type: str
    display: str | None = None
    budget_tokens: int | None = None


class Metadata(Wire, frozen=True, kw_only=True):
    """Who is at the other end."""

    user_id: User | None = None


class Format(Wire, frozen=True, kw_only=True):
    """The schema that the answer keeps to."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Wire, frozen=True, kw_only=True):
    """How much effort to put into the answer, and its form."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class MessagesCall(Wire, frozen=True, kw_only=True):
    """The body of `POST /v1/messages`."""

    model: Name
    max_tokens: OutputTokens
    messages: Annotated[list[UserTurn | AssistantTurn | SystemTurn], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[TextBlock] | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=MAX_STOP_SEQUENCES)] | None = None
    tools: Annotated[list[msgspec.Raw], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedChoice | NoChoice | None = None
    metadata: Metadata | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    """Where `output_config.format` was in the beta."""
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


DROPPABLE: dict[str, DroppableField] = {
    "top_k": DroppableField((), "only Anthropic's models take it, send `top_p`"),
    "service_tier": DroppableField(("auto", "standard_only"), "only Anthropic sells its tiers"),
    "speed": DroppableField(("standard",), "only Anthropic sells it"),
    "container": DroppableField((), "only Anthropic has them"),
    "inference_geo": DroppableField((), "only Anthropic can promise it"),
    "diagnostics": DroppableField(({}, {"previous_message_id": None}), "only Anthropic gives them"),
    "user_profile_id": DroppableField((), "only Anthropic knows it"),
    "workspace_id": DroppableField((), "only Anthropic knows it"),
    "mcp_servers": DroppableField(([],), "only Anthropic calls them, send the servers' tools as `tools`"),
    "context_management": DroppableField(
        ({}, {"edits": []}), "only Anthropic edits the context, send what is to be read"
    ),
}
DROPPABLE_IN_TEXT = {"citations": DroppableField(([],), "only Anthropic's models cite, leave them out")}
DROPPABLE_IN_IMAGE = {
    "transformations": DroppableField(({}, {"oversized_image": "downsize"}), "other vendors scale as they see fit")
}
DROPPABLE_IN_TOOL_USE = {
    "caller": DroppableField(({"type": "direct"},), "only Anthropic's own tools call others"),
    "toolset_name": DroppableField((), "only Anthropic has toolsets"),
}
DROPPABLE_IN_TOOL_RESULT = {"toolset_name": DroppableField((), "only Anthropic has toolsets")}
DROPPABLE_IN_TOOL = {
    "allowed_callers": DroppableField((["direct"],), "only Anthropic's own tools call others"),
    "defer_loading": DroppableField((False,), "only Anthropic searches for tools"),
    "input_examples": DroppableField(([],), "put them into the `description`"),
}
DROPPABLE_IN_THINKING = {
    "type": DroppableField(("disabled", "adaptive"), "send `output_config.effort`"),
    "display": DroppableField(("omitted",), "other vendors show no thinking"),
    "budget_tokens": DroppableField((), "send `output_config.effort`"),
}
