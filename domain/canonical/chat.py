"""The canonical chat request and response: the one shape between every surface and every provider.

It is spelled as the native API spells it (camelCase, OpenAI's structure), so that a native request needs no
translation of its own. Delivery (cache, metadata, streaming) is not part of it: requests that differ only in
delivery have the same canonical form.

It has what one vendor's means can carry to another's: files, cache marks, thinking with its signatures. The members of
a caller's schema keep their order: models answer in it.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from domain.names import END, MAX_NAME_CHARS
from domain.names import Name as ModelName
from domain.tokens import AnswerUsage

MAX_MESSAGES = 10_000
MAX_TOOLS = 512
MAX_STOP_SEQUENCES = 16
MAX_OUTPUT_TOKENS = 10_000_000
MAX_USER_CHARS = 1_024
MAX_CHOICES = 128

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=rf"^[^\x00]*{END}")]
"""Of tools, calls and speakers, which only the model reads."""
Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
OutputTokens = Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
User = Annotated[str, Meta(max_length=MAX_USER_CHARS)]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

DEFAULT_TEMPERATURE = 0.7

UNKNOWN = "unknown"
"""Stands for a name that a provider left out."""
TOOL_ERROR_MARK = "Error: the tool call failed.\n"
"""Opens the result of a tool that failed, for a provider that has no flag for it."""


class _Shape(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A part of a request: an unknown field is refused by name, an absent one stays absent."""


class ImageUrl(_Shape, frozen=True, kw_only=True):
    """An image: its https URL, or its content as a `data:` URL (base64)."""

    url: Annotated[str, Meta(min_length=1)]
    detail: Literal["auto", "low", "high"] | None = None


class CacheControl(_Shape, frozen=True, kw_only=True, omit_defaults=False):
    """Asks the provider to keep everything up to this place in its prompt cache. Anthropic's word."""

    type: Literal["ephemeral"] = "ephemeral"
    ttl: Literal["5m", "1h"] | UnsetType = UNSET


class TextPart(_Shape, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A piece of text in a message of several parts."""

    text: str
    cache_control: CacheControl | None = None


class ImagePart(_Shape, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    """An image in a message of several parts."""

    image_url: ImageUrl
    cache_control: CacheControl | None = None


class File(_Shape, frozen=True, kw_only=True):
    """A PDF or a plain text: its https URL, or its content as a `data:` URL (base64)."""

    url: Annotated[str, Meta(min_length=1)]
    filename: str | None = None


class FilePart(_Shape, frozen=True, kw_only=True, tag_field="type", tag="file"):
    """A file in a message of several parts."""

    file: File
    cache_control: CacheControl | None = None


Part = TextPart | ImagePart | FilePart
Content = str | Annotated[list[Part], Meta(min_length=1)]
TextContent = str | Annotated[list[TextPart], Meta(min_length=1)]


class FunctionCall(_Shape, frozen=True, kw_only=True):
    """The function that the model calls. `arguments` is JSON as the model wrote it, valid or not."""

    name: Name
    arguments: str


class ToolCall(_Shape, frozen=True, kw_only=True, omit_defaults=False):
    """One call that the model asks its caller to make."""

    id: Name
    function: FunctionCall
    type: Literal["function"] = "function"
    extra_content: dict[str, Any] | UnsetType = UNSET
    """What the provider wants back with the call, unread (Gemini: `{"google": {"thought_signature": …}}`)."""


def answered_call(
    call_id: str, name: str, arguments: str, extra_content: dict[str, Any] | UnsetType = UNSET
) -> ToolCall:
    """A call of an answer, its id and its name within what can be stored. One without a name calls `unknown`."""
    function = FunctionCall(name=_within_name(name), arguments=arguments)
    return ToolCall(id=_within_name(call_id), function=function, extra_content=extra_content)


def _within_name(text: str) -> str:
    return text[:MAX_NAME_CHARS].replace("\x00", "") or UNKNOWN


class ReasoningBlock(_Shape, frozen=True, kw_only=True):
    """A piece of the model's thinking. Its provider wants it back, unchanged, while a turn's tools run."""

    text: str | None = None
    """None: the model does not show it."""
    signature: str | None = None
    """By which Anthropic knows its own thinking. None: thinking of a model that does not sign."""
    data: str | None = None
    """Thinking that is encrypted (Anthropic's `redacted_thinking`, OpenAI's `encrypted_content`)."""
    id: str | None = None
    """The id of OpenAI's reasoning item."""
    detail: dict[str, Any] | None = None
    """What an entry of a seller's `reasoning_details` has beside these (OpenRouter: its `format`), which it wants back.
    None: it did not come as one.
    """
    after_calls: int = 0
    """How many of the message's calls came before it. A model that thinks between its calls wants them back so."""


def thoughts_by_place(thoughts: Iterable[ReasoningBlock], calls: int) -> list[list[tuple[int, ReasoningBlock]]]:
    """The blocks, each with its index, by the call that they stand before; those of the first before the content, too.

    A list for each call, and one if there are none. Vendors refuse a turn that ends with thinking, so none does.
    """
    places: list[list[tuple[int, ReasoningBlock]]] = [[] for _ in range(max(1, calls))]
    for index, thought in enumerate(thoughts):
        places[max(0, min(thought.after_calls, len(places) - 1))].append((index, thought))
    return places


class SystemMessage(_Shape, frozen=True, kw_only=True, tag_field="role", tag="system"):
    """Instructions to the model."""

    content: TextContent
    name: Name | None = None


class DeveloperMessage(_Shape, frozen=True, kw_only=True, tag_field="role", tag="developer"):
    """OpenAI's newer word for a system message."""

    content: TextContent
    name: Name | None = None


class UserMessage(_Shape, frozen=True, kw_only=True, tag_field="role", tag="user"):
    """A message of the user: text, images, or both."""

    content: Content
    name: Name | None = None


class AssistantMessage(_Shape, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """An earlier message of the model: content, tool calls, or both."""

    content: TextContent | None = None
    tool_calls: Annotated[list[ToolCall], Meta(min_length=1)] | None = None
    reasoning: Annotated[list[ReasoningBlock], Meta(min_length=1)] | None = None
    """It came before the content."""
    name: Name | None = None


class ToolMessage(_Shape, frozen=True, kw_only=True, tag_field="role", tag="tool"):
    """The result of a tool call: text, images and files."""

    content: Content
    tool_call_id: Name
    is_error: bool = False
    """The tool failed; the content says how."""


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class FunctionTool(_Shape, frozen=True, kw_only=True):
    """A function that the model may ask for; `parameters` is a JSON Schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Shape, frozen=True, kw_only=True):
    """A tool of the request. Functions only: a hosted tool has a price of its own."""

    function: FunctionTool
    type: Literal["function"] = "function"
    cache_control: CacheControl | None = None


class NamedFunction(_Shape, frozen=True, kw_only=True):
    """The name of a function."""

    name: Name


class NamedToolChoice(_Shape, frozen=True, kw_only=True):
    """Call exactly this function."""

    function: NamedFunction
    type: Literal["function"] = "function"


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice


class JsonSchema(_Shape, frozen=True, kw_only=True):
    """The schema that a structured answer keeps to; `schema` is JSON Schema."""

    name: Name
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(_Shape, frozen=True, kw_only=True):
    """The format of the answer's text: free text, a JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(_Shape, frozen=True, kw_only=True):
    """A chat request to a model. None means that the caller left the field out."""

    model: ModelName = "gpt-4o-mini"
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    temperature: Temperature | None = None
    """None: 0.7 for a model that takes one (`CanonicalRequest.with_native_defaults`), else not sent."""
    max_tokens: OutputTokens | None = None
    top_p: Probability | None = None
    stop: str | Annotated[list[str], Meta(min_length=1, max_length=MAX_STOP_SEQUENCES)] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    """The number of answers. A stream has one."""
    seed: Seed | None = None
    user: User | None = None
    tools: Annotated[list[Tool], Meta(min_length=1, max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: ReasoningEffort | None = None
    thinking_budget: OutputTokens | None = None
    """The most tokens of thinking, a part of `max_tokens`. For models that take an effort, it is turned into one."""
    cache_control: CacheControl | None = None
    """Asks for everything up to the end of the request to be kept in the provider's prompt cache. Anthropic's word."""
    shows_reasoning: bool | None = None
    """True: the answer is to have the model's thinking, or its summary, if the model can show it."""


class AnswerMessage(Struct, frozen=True, kw_only=True, rename="camel"):
    """The model's message. `tool_calls` and `reasoning` are left out if there are none."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    tool_calls: list[ToolCall] | UnsetType = UNSET
    reasoning: list[ReasoningBlock] | UnsetType = UNSET
    is_refusal: bool | UnsetType = UNSET
    """True: the content says that the model will not answer, as its provider told. Else it is left out."""


FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class Choice(Struct, frozen=True, kw_only=True, rename="camel"):
    """One of the answers; `finish_reason` is OpenAI's word for why it ended."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason | None


class ChatResponse(Struct, frozen=True, kw_only=True, rename="camel"):
    """A provider's response in the native shape, before its cost and delivery are added."""

    id: str
    """The provider's id of its answer."""
    model: str
    """The model as the caller named it."""
    provider: str
    choices: list[Choice]
    usage: AnswerUsage
