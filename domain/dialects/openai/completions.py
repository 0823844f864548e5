"""OpenAI's text completions and moderations, which are passed on to providers of its dialect and never translated.

https://platform.openai.com/docs/api-reference/completions, https://platform.openai.com/docs/api-reference/moderations
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from domain.canonical.stream import ChatChunk
from domain.dialects.codec import Codec, ProviderResponse, StreamReader, passed_through
from domain.dialects.decode import decode_provider_json
from domain.dialects.openai.fields import COMPLETIONS_FIELDS, MODERATIONS_FIELDS
from domain.dialects.openai.response import meter_chat_response
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.openai.usage import parse_embeddings_usage
from domain.dialects.sse import DONE, SseEvent
from domain.estimate import utf8_length
from domain.tokens import TokenUsage

DEFAULT_MAX_TOKENS = 16
"""Documented for text completions, unlike chat completions, which go on to the model's limit."""


class _TextChoice(Struct, frozen=True, gc=False):
    text: str | None = None


class _TextChunk(Struct, frozen=True, gc=False):
    choices: list[_TextChoice] | None = None


class _Moderation(Struct, frozen=True):
    id: str = "moderation"
    model: str = ""
    usage: Any = None
    """OpenAI charges nothing and counts nothing; others (Mistral) do."""


_decode_text = msgspec.json.Decoder(_TextChunk).decode
_decode_moderation = msgspec.json.Decoder(_Moderation).decode


class OpenAiCompletionsReader(OpenAiChatReader):
    """A `StreamReader` of text completions: as chat completion chunks are, but for the text of a choice."""

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        chunks = super().take(event)
        if event.data and event.data != DONE:
            chunk = decode_provider_json(_decode_text, event.data)
            self.received_output_bytes += sum(utf8_length(choice.text) for choice in chunk.choices or ())
        return chunks


class OpenAiCompletions(Codec):
    """`POST /completions`."""

    dialect = "openai"
    operation = "completions"
    path = "/completions"
    translates = False
    output_caps = ("max_tokens",)
    default_cap = DEFAULT_MAX_TOKENS
    choice_fields = ("n", "best_of")
    context_fields = ("previous_response_id",)
    known_fields = COMPLETIONS_FIELDS

    def meter_response(self, body: bytes) -> ProviderResponse:
        """See `Codec`: as a chat completion, but for the place of a choice's text."""
        return replace(meter_chat_response(body), is_empty=False)

    def prompts(self, fields: Mapping[str, Any]) -> int:
        """See `Codec`: `prompt` is a text or its tokens' numbers, or a list of either."""
        prompt = fields.get("prompt")
        if isinstance(prompt, list) and any(isinstance(one, str | list) for one in prompt):
            return len(prompt)
        return 1

    def reads_cap(self, fields: tuple[str, ...], upstream_model: str, *, is_builtin: bool) -> bool:
        """See `Codec`: what others do without a cap is not known."""
        return is_builtin or bool(fields)

    def wants_usage(self, stream_options: Mapping[str, Any]) -> bool:
        """See `Codec`."""
        return stream_options.get("include_usage") is True

    def stream_changes(self, stream_options: Mapping[str, Any]) -> dict[str, Any]:
        """See `Codec`."""
        return {"stream_options": {**stream_options, "include_usage": True}}

    def stream_reader(self, *, model: str | None = None) -> StreamReader:
        """See `Codec`."""
        assert model is None, "it is not translated"
        return OpenAiCompletionsReader()


class OpenAiModerations(Codec):
    """`POST /moderations`."""

    dialect = "openai"
    operation = "moderations"
    path = "/moderations"
    translates = False
    has_streams = False
    has_output = False
    default_model = "omni-moderation-latest"
    known_fields = MODERATIONS_FIELDS

    def meter_response(self, body: bytes) -> ProviderResponse:
        """See `Codec`."""
        moderation = decode_provider_json(_decode_moderation, body)
        usage = parse_embeddings_usage(moderation.usage).usage or TokenUsage()
        return passed_through(body, usage=usage, model=moderation.model, response_id=moderation.id)
