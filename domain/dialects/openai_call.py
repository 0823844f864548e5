"""A client's call of OpenAI's chat completions or embeddings, as it spells it, and which fields are carried nowhere.

Read by `domain.dialects.openai_served`, which says why.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta

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
from domain.canonical.embeddings import MAX_INPUTS, Dimensions, InputText
from domain.dialects.served import DroppableField, EncodingFormat, Wire


class TextPiece(Wire, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A piece of text."""

    text: str
    prompt_cache_breakpoint: Any = None


class RefusalPiece(Wire, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """What the model said instead of an answer."""

    refusal: str


class ImagePiece(Wire, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    """An image."""

    image_url: ImageUrl
    prompt_cache_breakpoint: Any = None


TextPieces = str | Annotated[list[TextPiece], Meta(min_length=1)]


class SystemTurn(Wire, frozen=True, kw_only=True, tag_field="role", tag="system"):
    """What the model is to be."""

    content: TextPieces
    name: Name | None = None


class DeveloperTurn(Wire, frozen=True, kw_only=True, tag_field="role", tag="developer"):
    """OpenAI's newer word for a system message."""

    content: TextPieces
    name: Name | None = None


class UserTurn(Wire, frozen=True, kw_only=True, tag_field="role", tag="user"):
    """What the user says or shows."""

    content: str | Annotated[list[TextPiece | ImagePiece], Meta(min_length=1)]
    name: Name | None = None


class AskedFunction(Wire, frozen=True, kw_only=True):
    """Which function the model wanted called."""

    name: Name
    arguments: str
    parsed_arguments: Any = None


class AskedCall(Wire, frozen=True, kw_only=True):
    """One call that the model asked for."""

    id: Name
    function: AskedFunction
    type: Literal["function"] = "function"
    index: int | None = None


class AssistantTurn(Wire, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """What the model said earlier. SDKs send an answer back with every field that it had."""

    content: str | Annotated[list[TextPiece | RefusalPiece], Meta(min_length=1)] | None = None
    refusal: str | None = None
    tool_calls: list[AskedCall] | None = None
    name: Name | None = None
    parsed: Any = None
    audio: Any = None
    annotations: Any = None
    function_call: Any = None


class ToolTurn(Wire, frozen=True, kw_only=True, tag_field="role", tag="tool"):
    """What a tool call gave."""

    content: TextPieces
    tool_call_id: Name
    name: str | None = None


class FreeText(Wire, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """An answer in free text."""


class JsonObject(Wire, frozen=True, kw_only=True, tag_field="type", tag="json_object"):
    """An answer that is some JSON object."""


class JsonOfSchema(Wire, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """An answer that is JSON of a schema."""

    json_schema: JsonSchema


class StreamOptions(Wire, frozen=True, kw_only=True):
    """What a stream shows besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatCall(Wire, frozen=True, kw_only=True):
    """The body of `POST /chat/completions`."""

    model: Name
    messages: Annotated[
        list[SystemTurn | DeveloperTurn | UserTurn | AssistantTurn | ToolTurn],
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
    response_format: FreeText | JsonObject | JsonOfSchema | None = None
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


DROPPABLE: dict[str, DroppableField] = {
    "n": DroppableField((1,), "ask again for another answer"),
    "logprobs": DroppableField((False,), "only OpenAI's models tell them"),
    "top_logprobs": DroppableField((0,), "only OpenAI's models tell them"),
    "presence_penalty": DroppableField((0,), "only OpenAI's models take it"),
    "frequency_penalty": DroppableField((0,), "only OpenAI's models take it"),
    "logit_bias": DroppableField(({},), "its tokens are those of OpenAI's models"),
    "modalities": DroppableField((["text"],), "text is what can be answered"),
    "store": DroppableField((False,), "nothing is kept for OpenAI's dashboard"),
    "metadata": DroppableField(({},), "send the header `x-gateway-metadata`, by which usage can be grouped"),
    "service_tier": DroppableField(("auto", "default"), "only OpenAI sells its tiers"),
    "verbosity": DroppableField(("medium",), "say in a message how long the answer may be"),
    "functions": DroppableField((), "it is deprecated, send `tools`"),
    "function_call": DroppableField((), "it is deprecated, send `tool_choice`"),
    "audio": DroppableField((), "text is what can be answered"),
    "prediction": DroppableField((), "only OpenAI's models take one"),
    "moderation": DroppableField((), "only OpenAI moderates on the way"),
    "web_search_options": DroppableField((), "only OpenAI's models search"),
}
DROPPABLE_IN_STREAM_OPTIONS: dict[str, DroppableField] = {
    "include_obfuscation": DroppableField((False,), "chunks are not padded here"),
}
DROPPABLE_IN_ASSISTANT: dict[str, DroppableField] = {
    "audio": DroppableField((), "send what was said as `content`"),
    "annotations": DroppableField(([],), "leave them out"),
    "function_call": DroppableField((), "it is deprecated, send `tool_calls`"),
}


class EmbeddingsCall(Wire, frozen=True, kw_only=True):
    """The body of `POST /embeddings`; OpenAI takes tokens for texts."""

    model: Name
    input: InputText | Annotated[list[InputText | int | list[int]], Meta(min_length=1, max_length=MAX_INPUTS)]
    dimensions: Dimensions | None = None
    encoding_format: EncodingFormat | None = None
    user: User | None = None
