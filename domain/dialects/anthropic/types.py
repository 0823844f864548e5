"""An Anthropic client's request as JSON, as far as it is carried to other vendors.

https://docs.anthropic.com/en/api/messages. Members that these shapes do not have are dropped and told.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from domain.canonical.chat import MAX_MESSAGES, MAX_TOOLS, Name, OutputTokens, Probability, Temperature


class TextBlock(Struct, frozen=True, kw_only=True):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str
    cache_control: Any = None
    citations: Any = None


class ImageBlock(Struct, frozen=True, kw_only=True):
    """An image."""

    source: dict[str, Any]
    cache_control: Any = None


class DocumentBlock(Struct, frozen=True, kw_only=True):
    """A PDF, a text, or pieces of content."""

    source: dict[str, Any]
    title: str | None = None
    context: str | None = None
    citations: Any = None
    cache_control: Any = None


class SearchResultBlock(Struct, frozen=True, kw_only=True):
    """What a client's own search found."""

    content: list[TextBlock]
    source: str = ""
    title: str = ""
    citations: Any = None
    cache_control: Any = None


class ToolReferenceBlock(Struct, frozen=True, kw_only=True):
    """The name of a tool that a search among the tools found."""

    tool_name: str
    cache_control: Any = None


class Source(Struct, frozen=True, kw_only=True):
    """The source of an image or a document."""

    type: Literal["base64", "url", "text", "content"]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: str | list[dict[str, Any]] | None = None


class ToolUseBlock(Struct, frozen=True, kw_only=True):
    """A call that the model asked for."""

    id: Annotated[str, Meta(min_length=1)]
    name: Name
    input: dict[str, Any] | None = None
    cache_control: Any = None
    caller: Any = None
    toolset_name: Any = None


class ToolResultBlock(Struct, frozen=True, kw_only=True):
    """The result of a tool call."""

    tool_use_id: Annotated[str, Meta(min_length=1)]
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None
    cache_control: Any = None
    toolset_name: Any = None


class ThinkingBlock(Struct, frozen=True, kw_only=True):
    """The model's thinking, with its signature."""

    thinking: str = ""
    signature: str | None = None


class RedactedThinkingBlock(Struct, frozen=True, kw_only=True):
    """The model's thinking, encrypted."""

    data: str


class Turn(Struct, frozen=True, kw_only=True):
    """A turn of the conversation; of the system: instructions in the middle of it.

    Some frameworks write OpenAI's messages: with `tool_calls`, and their results in turns of the role `tool`.
    """

    role: Literal["user", "assistant", "system", "developer", "tool"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class CustomTool(Struct, frozen=True, kw_only=True):
    """A tool that the client runs."""

    name: Name
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None
    type: Literal["custom"] | None = None
    cache_control: Any = None
    eager_input_streaming: Any = None
    allowed_callers: Any = None
    defer_loading: Any = None
    input_examples: list[Any] | None = None


class ToolChoice(Struct, frozen=True, kw_only=True):
    """The choice among the tools."""

    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(Struct, frozen=True, kw_only=True):
    """The thinking mode and its budget."""

    type: str
    display: str | None = None
    budget_tokens: OutputTokens | None = None


class Metadata(Struct, frozen=True, kw_only=True):
    """The end user of a request."""

    user_id: str | None = None


class JsonOutputFormat(Struct, frozen=True, kw_only=True):
    """The schema that the answer keeps to."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct, frozen=True, kw_only=True):
    """The effort and the format of an answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonOutputFormat | None = None


class MessagesBody(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/messages`."""

    model: Name
    max_tokens: OutputTokens
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[dict[str, Any]] | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    stop_sequences: list[str] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    metadata: Metadata | None = None
    output_config: OutputConfig | None = None
    output_format: JsonOutputFormat | None = None
    """The beta's place of `output_config.format`."""
    thinking: ThinkingConfig | None = None
    stream: bool | None = None
    cache_control: Any = None
    # Carried nowhere: `rules.py` says why.
    top_k: Any = None
    service_tier: Any = None
    speed: Any = None
    container: Any = None
    inference_geo: Any = None
    diagnostics: Any = None
    user_profile_id: Any = None
    workspace_id: Any = None
    mcp_servers: Any = None
    context_management: Any = None
    compaction: Any = None
    betas: Any = None
    fallbacks: Any = None
