"""OpenAI's chat completions as JSON: requests of clients, responses and stream chunks of providers, chunks for clients.

https://platform.openai.com/docs/api-reference/chat/object. Requests are read strictly, so that nothing gets lost in a
translation. Responses are read leniently: providers that speak alike leave things out and add their own.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from domain.canonical.chat import (
    MAX_MESSAGES,
    MAX_STOP_SEQUENCES,
    MAX_TOOLS,
    ImageUrl,
    JsonSchema,
    Name,
    NamedToolChoice,
    OutputTokens,
    Probability,
    ReasoningEffort,
    Seed,
    Temperature,
    Tool,
    User,
)
from domain.canonical.stream import FunctionDelta
from domain.dialects.lossy import RequestStruct
from domain.dialects.openai.usage import CompletionUsage


class TextContentPart(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A piece of text."""

    text: str
    prompt_cache_breakpoint: Any = None


class RefusalContentPart(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """The model's refusal, in place of an answer."""

    refusal: str


class ImageContentPart(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    """An image."""

    image_url: ImageUrl
    prompt_cache_breakpoint: Any = None


TextContent = str | Annotated[list[TextContentPart], Meta(min_length=1)]


class SystemMessageParam(RequestStruct, frozen=True, kw_only=True, tag_field="role", tag="system"):
    """Instructions for the model."""

    content: TextContent
    name: Name | None = None


class DeveloperMessageParam(RequestStruct, frozen=True, kw_only=True, tag_field="role", tag="developer"):
    """OpenAI's newer word for a system message."""

    content: TextContent
    name: Name | None = None


class UserMessageParam(RequestStruct, frozen=True, kw_only=True, tag_field="role", tag="user"):
    """Text and images of the user."""

    content: str | Annotated[list[TextContentPart | ImageContentPart], Meta(min_length=1)]
    name: Name | None = None


class FunctionParam(RequestStruct, frozen=True, kw_only=True):
    """The function of an earlier call."""

    name: Name
    arguments: str
    parsed_arguments: Any = None


class ToolCallParam(RequestStruct, frozen=True, kw_only=True):
    """An earlier call of the model."""

    id: Name
    function: FunctionParam
    type: Literal["function"] = "function"
    index: int | None = None


class AssistantMessageParam(RequestStruct, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """An earlier answer of the model. SDKs send an answer back with every field that it had."""

    content: str | Annotated[list[TextContentPart | RefusalContentPart], Meta(min_length=1)] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallParam] | None = None
    name: Name | None = None
    parsed: Any = None
    audio: Any = None
    annotations: Any = None
    function_call: Any = None


class ToolMessageParam(RequestStruct, frozen=True, kw_only=True, tag_field="role", tag="tool"):
    """The result of a tool call."""

    content: TextContent
    tool_call_id: Name
    name: str | None = None


class ResponseFormatText(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """An answer in free text."""


class ResponseFormatJsonObject(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="json_object"):
    """An answer that is some JSON object."""


class ResponseFormatJsonSchema(RequestStruct, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """An answer that is JSON of a schema."""

    json_schema: JsonSchema


class StreamOptions(RequestStruct, frozen=True, kw_only=True):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatCompletionsBody(RequestStruct, frozen=True, kw_only=True):
    """The body of `POST /chat/completions`."""

    model: Name
    messages: Annotated[
        list[SystemMessageParam | DeveloperMessageParam | UserMessageParam | AssistantMessageParam | ToolMessageParam],
        Meta(min_length=1, max_length=MAX_MESSAGES),
    ]
    temperature: Temperature | None = None
    max_tokens: OutputTokens | None = None
    max_completion_tokens: OutputTokens | None = None
    top_p: Probability | None = None
    stop: str | Annotated[list[str], Meta(max_length=MAX_STOP_SEQUENCES)] | None = None
    seed: Seed | None = None
    user: User | None = None
    safety_identifier: User | None = None
    tools: Annotated[list[Tool], Meta(min_length=1, max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormatText | ResponseFormatJsonObject | ResponseFormatJsonSchema | None = None
    reasoning_effort: ReasoningEffort | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Carried nowhere: see the module's docstring.
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    # Carried nowhere, and refused unless `DROPPABLE` has the value.
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, Any] | None = None
    modalities: list[str] | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    functions: Any = None
    function_call: Any = None
    audio: Any = None
    prediction: Any = None
    moderation: Any = None
    web_search_options: Any = None


class CompletionFunction(Struct, frozen=True):
    """The function that a provider's model calls; `arguments` is JSON as the model wrote it."""

    name: str
    arguments: str


class CompletionToolCall(Struct, frozen=True):
    """One call in a provider's response."""

    id: str
    function: CompletionFunction


class CompletionMessage(Struct, frozen=True):
    """The message of a provider's response."""

    content: Any = None
    """See `text_of`."""
    refusal: str | None = None
    tool_calls: list[CompletionToolCall] | None = None


class CompletionChoice(Struct, frozen=True):
    """One of the choices of a provider's response."""

    message: CompletionMessage
    index: int = 0
    finish_reason: str | None = None


class ChatCompletion(Struct, frozen=True):
    """A provider's response."""

    id: str
    choices: list[CompletionChoice]
    usage: CompletionUsage
    model: str = ""


class ChoiceDeltaFunction(Struct, frozen=True, gc=False):
    """A piece of a function call."""

    name: str | None = None
    arguments: str | None = None


class ChoiceDeltaToolCall(Struct, frozen=True, gc=False):
    """A piece of a tool call in a provider's stream."""

    index: int | None = None
    id: str | None = None
    function: ChoiceDeltaFunction | None = None
    custom: Any = None

    @property
    def is_named(self) -> bool:
        """True if it names a function or a custom tool."""
        return bool(self.custom or (self.function is not None and self.function.name))


class ChoiceDeltaAudio(Struct, frozen=True, gc=False):
    """A piece of spoken output."""

    data: str | None = None
    transcript: str | None = None


class ChoiceDelta(Struct, frozen=True, gc=False):
    """The part of a message that a provider's chunk adds."""

    role: str | None = None
    content: Any = None
    """Text, or (Mistral's thinking models) a list of parts."""
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ChoiceDeltaToolCall] | None = None
    function_call: ChoiceDeltaFunction | None = None
    audio: ChoiceDeltaAudio | None = None


class ChunkChoice(Struct, frozen=True, gc=False):
    """A piece of one of the choices in a provider's stream."""

    index: int = 0
    delta: ChoiceDelta | None = None
    finish_reason: str | None = None


class ChatCompletionChunk(Struct, frozen=True, gc=False):
    """A chunk of a provider's stream, or an error in its place."""

    id: str | None = None
    model: str | None = None
    choices: list[ChunkChoice] | None = None
    usage: CompletionUsage | None = None
    error: Any = None


class WrittenToolCall(Struct, omit_defaults=True, gc=False):
    """A piece of a tool call in a stream to a client."""

    index: int
    function: FunctionDelta
    id: str | None = None
    type: str | None = None


class WrittenDelta(Struct, omit_defaults=True, gc=False):
    """The part of a message that a chunk to a client adds."""

    role: str | None = None
    content: str | None = None
    tool_calls: list[WrittenToolCall] | None = None


class WrittenChoice(Struct, gc=False):
    """A piece of one of the choices in a stream to a client."""

    index: int
    delta: WrittenDelta
    finish_reason: str | None
    logprobs: None = None


class WrittenChunk(Struct, gc=False):
    """A chunk of a stream to a client."""

    id: str
    created: int
    model: str
    choices: list[WrittenChoice]
    usage: dict[str, Any] | None | UnsetType = UNSET
    object: str = "chat.completion.chunk"


class MeteredChoice(Struct, frozen=True):
    """As much of a passed-through choice as is read."""

    finish_reason: str | None = None


class MeteredChatCompletion(Struct, frozen=True):
    """As much of a passed-through response as its costs and its record depend on."""

    id: str
    usage: CompletionUsage
    choices: Raw = Raw(b"[]")
    model: str = ""
