"""OpenAI's chat completions as JSON: responses and stream chunks of providers, and chunks for clients.

https://platform.openai.com/docs/api-reference/chat/object. They are read leniently: providers that speak alike leave
things out, send null or numbers of other kinds, and add their own. What comes in several shapes is `Any`. The requests
of clients are in `request_types.py`.
"""

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType

from domain.canonical.stream import FunctionDelta


class CompletionFunction(Struct, frozen=True, gc=False):
    """The function that a provider's model calls. `arguments` is JSON, as text or (some) not, whole or a piece."""

    name: str | None = None
    arguments: Any = None
    thought_signature: Any = None


class CompletionToolCall(Struct, frozen=True, gc=False):
    """A call in a provider's response, or a piece of one in its stream."""

    index: int | None = None
    id: Any = None
    function: CompletionFunction | None = None
    custom: Any = None
    extra_content: Any = None

    @property
    def call_id(self) -> str | None:
        """Its id, if it has one."""
        return str(self.id) if self.id is not None and self.id != "" else None

    @property
    def is_named(self) -> bool:
        """True if it names a function or a custom tool."""
        return bool(self.custom or (self.function is not None and self.function.name))


class SpokenAnswer(Struct, frozen=True, gc=False):
    """Spoken output, or a piece of it."""

    data: str | None = None
    transcript: str | None = None


class CompletionMessage(Struct, frozen=True, gc=False):
    """The message of a provider's response, or the part of one that a chunk of its stream adds."""

    role: str | None = None
    content: Any = None
    """Text, or (Mistral's thinking models) a list of parts."""
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    tool_calls: list[CompletionToolCall] | None = None
    function_call: CompletionFunction | None = None
    audio: SpokenAnswer | None = None


class CompletionChoice(Struct, frozen=True, gc=False):
    """One of the choices of a provider's response, or a piece of one in its stream."""

    index: int | None = 0
    message: CompletionMessage | None = None
    delta: CompletionMessage | None = None
    finish_reason: Any = None


class ChatCompletion(Struct, frozen=True, gc=False):
    """A provider's response, a chunk of its stream, or an error in the place of either."""

    id: Any = None
    model: Any = None
    choices: list[CompletionChoice] | None = None
    usage: Any = None
    error: Any = None
    service_tier: Any = None


class WrittenCustom(Struct, omit_defaults=True, gc=False):
    """A call of a custom tool in a stream to a client."""

    name: str | None = None
    input: str | None = None


class WrittenToolCall(Struct, omit_defaults=True, gc=False):
    """A piece of a tool call in a stream to a client."""

    index: int
    function: FunctionDelta | None = None
    id: str | None = None
    type: str | None = None
    extra_content: dict[str, Any] | None = None
    custom: WrittenCustom | None = None


class WrittenDelta(Struct, omit_defaults=True, gc=False):
    """The part of a message that a chunk to a client adds."""

    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[WrittenToolCall] | None = None
    function_call: FunctionDelta | None = None


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


class MeteredMessage(Struct, frozen=True):
    """As much of a passed-through message as is read, undecoded."""

    content: Raw | UnsetType = UNSET
    refusal: Raw | UnsetType = UNSET
    tool_calls: Raw | UnsetType = UNSET
    function_call: Raw | UnsetType = UNSET
    audio: Raw | UnsetType = UNSET


class MeteredChoice(Struct, frozen=True):
    """As much of a passed-through choice as is read."""

    finish_reason: Any = None
    message: MeteredMessage | None = None
    text: Raw | UnsetType = UNSET
    """Of a text completion."""


class MeteredChatCompletion(Struct, frozen=True):
    """As much of a passed-through response as its costs and its record depend on."""

    id: Any = None
    usage: Any = None
    choices: Raw = Raw(b"[]")
    model: Any = None
    error: Any = None
    service_tier: Any = None
