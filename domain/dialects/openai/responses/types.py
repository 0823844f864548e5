"""The Responses API's requests, as far as they are read.

Members that are not declared here are unknown: `request.py` drops them by name. Input items and tools are read one by
one, by their type (`items.py`, `tools.py`).
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from domain.canonical.chat import (
    MAX_MESSAGES,
    MAX_TOOLS,
    Name,
    OutputTokens,
    Probability,
    ReasoningEffort,
    Temperature,
)

MAX_PARTS = 10_000


class _Member(Struct, frozen=True, kw_only=True):
    """A part of a request. What it does not declare is ignored."""


class TextFormat(_Member, frozen=True, kw_only=True):
    """The format of the answer's text."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Name = "answer"
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextConfig(_Member, frozen=True, kw_only=True):
    """How the answer's text is to be."""

    format: TextFormat | None = None
    verbosity: Any = None


class ReasoningConfig(_Member, frozen=True, kw_only=True):
    """How the model is to think, and what the answer is to have of it."""

    effort: ReasoningEffort | None = None
    summary: str | None = None
    generate_summary: str | None = None
    """The older word for `summary`."""


class StreamOptions(_Member, frozen=True, kw_only=True):
    """Options of a stream."""

    include_obfuscation: bool | None = None


class ResponsesBody(_Member, frozen=True, kw_only=True):
    """The body of `POST /responses`."""

    model: Name
    input: str | Annotated[list[Raw], Meta(max_length=MAX_MESSAGES)] | None = None
    instructions: str | None = None
    tools: Annotated[list[Raw], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    max_output_tokens: OutputTokens | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    user: str | None = None
    safety_identifier: str | None = None
    include: list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, Any] | None = None
    cache_control: Any = None
    # Dropped or refused: see `rules.py`.
    store: bool | None = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None
    background_options: Any = None
    max_tool_calls: Any = None
    top_logprobs: Any = None
    truncation: Any = None
    service_tier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    context_management: Any = None
    moderation: Any = None
    access_programs: Any = None
    image: Any = None


class Typed(_Member, frozen=True, kw_only=True):
    """An item's or a tool's type, by which it is read."""

    type: str | None = None
    role: str | None = None
    id: Any = None

    @property
    def kind(self) -> str:
        """The type. What has none is a message, or with nothing but an id a reference to an earlier item."""
        return self.type or ("item_reference" if self.role is None and self.id else "message")


Content = str | Annotated[list[Any], Meta(max_length=MAX_PARTS)]
"""A text, or parts, which `domain/dialects/message_parts.py` reads."""


class MessageItem(_Member, frozen=True, kw_only=True):
    """A message of anyone's. Some frameworks write those of chat completions: with `tool_calls`, and their results in
    messages of the role `tool`.
    """

    role: Literal["user", "assistant", "system", "developer", "tool"]
    content: Content | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class ReasoningText(_Member, frozen=True, kw_only=True):
    """A piece of a model's thinking, or of its summary."""

    text: str = ""


class ReasoningItem(_Member, frozen=True, kw_only=True):
    """A model's earlier thinking."""

    id: str | None = None
    summary: list[ReasoningText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None


class FunctionCallItem(_Member, frozen=True, kw_only=True):
    """An earlier call of a function."""

    call_id: Name
    name: Name
    arguments: str | dict[str, Any] | None = None
    namespace: str | None = None


class CustomToolCallItem(_Member, frozen=True, kw_only=True):
    """An earlier call of a custom tool, whose input is free text."""

    call_id: Name
    name: Name
    input: str = ""
    namespace: str | None = None


class ActionCallItem(_Member, frozen=True, kw_only=True):
    """An earlier call of one of the vendor's own tools that the caller runs."""

    call_id: Name
    action: dict[str, Any] | None = None
    operation: dict[str, Any] | None = None


class CallOutputItem(_Member, frozen=True, kw_only=True):
    """What a tool gave: text, parts, or (the shell's) a list of outcomes."""

    call_id: Name | None = None
    id: Name | None = None
    """Of a local shell's output: the id of the call."""
    output: Any = None
    status: str | None = None


class FunctionToolParam(_Member, frozen=True, kw_only=True):
    """A function."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CustomFormat(_Member, frozen=True, kw_only=True):
    """The format of a custom tool's input."""

    type: str = "text"
    syntax: str | None = None
    definition: str | None = None


class CustomToolParam(_Member, frozen=True, kw_only=True):
    """A tool whose input is free text, or text of a grammar."""

    name: Name
    description: str | None = None
    format: CustomFormat | None = None


class NamespaceToolParam(_Member, frozen=True, kw_only=True):
    """Functions and custom tools of one name space."""

    name: Name
    description: str | None = None
    tools: list[Raw] = []


class ShellToolParam(_Member, frozen=True, kw_only=True):
    """A shell; a local one is run by the caller."""

    environment: dict[str, Any] | None = None
