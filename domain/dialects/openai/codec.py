"""OpenAI's codecs."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from domain.canonical.chat import ChatRequest, ChatResponse
from domain.canonical.embeddings import EmbeddingsRequest, EmbeddingsResponse
from domain.dialects.codec import (
    AdaptedRequest,
    Codec,
    ProviderResponse,
    RenderOptions,
    StreamReader,
    StreamWriter,
    TranslatedRequest,
)
from domain.dialects.openai.adapt import adapt_chat_request
from domain.dialects.openai.embeddings import (
    meter_embeddings_response,
    parse_embeddings_request,
    parse_embeddings_response,
    render_embeddings_request,
    render_embeddings_response,
)
from domain.dialects.openai.fields import CHAT_FIELDS, EMBEDDINGS_FIELDS, RESPONSES_FIELDS
from domain.dialects.openai.images import image_tokens
from domain.dialects.openai.kept import is_stored
from domain.dialects.openai.reasoning import without_thinking
from domain.dialects.openai.render import cap_field, render_chat_request
from domain.dialects.openai.request import parse_chat_request
from domain.dialects.openai.response import NO_ECHO, meter_chat_response, parse_chat_response, render_chat_response
from domain.dialects.openai.responses.adapt import adapt_responses_request
from domain.dialects.openai.responses.choice import fits_chat_completions, needs_responses
from domain.dialects.openai.responses.output import render_responses_response
from domain.dialects.openai.responses.reader import ResponsesChatReader, parse_responses_response, terminal_event
from domain.dialects.openai.responses.reasoning import without_kept_reasoning
from domain.dialects.openai.responses.render import render_responses_request, without_refused
from domain.dialects.openai.responses.request import parse_responses_request
from domain.dialects.openai.responses.rules import RESPONSES_PROVIDER_RULES, RESPONSES_RULES
from domain.dialects.openai.responses.writer import ResponsesWriter
from domain.dialects.openai.responses_api import ResponsesReader, meter_response
from domain.dialects.openai.rules import CHAT_CLIENT_RULES, CHAT_PROVIDER_RULES, EMBEDDINGS_CLIENT_RULES
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.openai.stream_writer import OpenAiChatWriter
from domain.dialects.openai.tools import ToolEcho
from domain.dialects.openai.whole_answers import is_stream, read_stream_as_response, response_as_events
from domain.tokens import TokenUsage

_encode = msgspec.json.Encoder().encode
_decode_chat = msgspec.json.Decoder(ChatResponse).decode
_decode_echo = msgspec.json.Decoder(ToolEcho).decode
_decode_embeddings = msgspec.json.Decoder(EmbeddingsResponse).decode


class OpenAiChat(Codec):
    """`POST /chat/completions`."""

    dialect = "openai"
    operation = "chat"
    path = "/chat/completions"
    fuller_operation = "responses"
    deciding_fields = ("tools", "reasoning_effort")
    output_caps = ("max_completion_tokens", "max_tokens")
    known_fields = CHAT_FIELDS
    client_rules = CHAT_CLIENT_RULES
    provider_rules = CHAT_PROVIDER_RULES
    max_tool_name_chars = 64
    parse_request = staticmethod(parse_chat_request)
    events_of_response = staticmethod(response_as_events)
    stream_reader = staticmethod(OpenAiChatReader)
    cap_field = staticmethod(cap_field)
    image_tokens = staticmethod(image_tokens)
    fits = staticmethod(fits_chat_completions)
    for_vendor = staticmethod(without_thinking)

    def keeps_response(self, content: bytes) -> bool:
        """See `Codec`: only if it is asked to."""
        return is_stored(content, by_default=False)

    def needs_fuller(self, request: ChatRequest | EmbeddingsRequest, upstream_model: str, *, is_builtin: bool) -> bool:
        """See `Codec`."""
        assert isinstance(request, ChatRequest), "the operation is chat"
        return needs_responses(request, upstream_model, is_builtin=is_builtin)

    def reads_cap(self, fields: tuple[str, ...], upstream_model: str, *, is_builtin: bool) -> bool:
        """See `Codec`: many other providers ignore the newer field."""
        return is_builtin or fields != ("max_completion_tokens",) or cap_field(upstream_model) in fields

    def wants_usage(self, stream_options: Mapping[str, Any]) -> bool:
        """See `Codec`."""
        return stream_options.get("include_usage") is True

    def stream_changes(self, stream_options: Mapping[str, Any]) -> dict[str, Any]:
        """See `Codec`."""
        return {"stream_options": {**stream_options, "include_usage": True}}

    def adapt_request(self, request: ChatRequest | EmbeddingsRequest, upstream_model: str) -> AdaptedRequest:
        """See `Codec`."""
        assert isinstance(request, ChatRequest), "the operation is chat"
        return adapt_chat_request(request, upstream_model)

    def render_request(
        self, request: ChatRequest | EmbeddingsRequest, upstream_model: str, *, is_stream: bool
    ) -> bytes:
        """See `Codec`."""
        assert isinstance(request, ChatRequest), "the operation is chat"
        rendered = render_chat_request(request, upstream_model)
        if is_stream:
            rendered |= {"stream": True, "stream_options": {"include_usage": True}}
        return _encode(rendered)

    def parse_response(self, body: bytes, *, model: str, provider: str) -> ProviderResponse:
        """See `Codec`: some providers stream, asked or not."""
        if is_stream(body):
            return read_stream_as_response(body, model=model, provider=provider)
        return parse_chat_response(body, model=model, provider=provider)

    def meter_response(self, body: bytes) -> ProviderResponse:
        """See `Codec`. A stream that nobody asked for is put together, for a client that waits for one piece."""
        if not is_stream(body):
            return meter_chat_response(body)
        read = read_stream_as_response(body, model=None, provider="")
        response = _decode_chat(read.body)
        return replace(read, body=render_chat_response(response, read.usage or TokenUsage(), created_s=0))

    def render_response(self, body: bytes, usage: TokenUsage, options: RenderOptions) -> bytes:
        """See `Codec`."""
        return render_chat_response(_decode_chat(body), usage, created_s=options.created_s, echo=_echo(options))

    def stream_writer(self, options: RenderOptions) -> StreamWriter:
        """See `Codec`."""
        return OpenAiChatWriter(created_s=options.created_s, include_usage=options.with_usage, echo=_echo(options))


def _echo(options: RenderOptions) -> ToolEcho:
    return _decode_echo(options.echo) if options.echo is not None else NO_ECHO


class OpenAiEmbeddings(Codec):
    """`POST /embeddings`."""

    dialect = "openai"
    operation = "embeddings"
    path = "/embeddings"
    has_streams = False
    has_output = False
    known_fields = EMBEDDINGS_FIELDS
    client_rules = EMBEDDINGS_CLIENT_RULES
    parse_request = staticmethod(parse_embeddings_request)
    parse_response = staticmethod(parse_embeddings_response)
    meter_response = staticmethod(meter_embeddings_response)

    def render_request(
        self,
        request: ChatRequest | EmbeddingsRequest,
        upstream_model: str,
        *,
        is_stream: bool,
    ) -> bytes:
        """See `Codec`."""
        assert isinstance(request, EmbeddingsRequest), "the operation is embeddings"
        return _encode(render_embeddings_request(request, upstream_model))

    def render_response(self, body: bytes, usage: TokenUsage, options: RenderOptions) -> bytes:
        """See `Codec`."""
        return render_embeddings_response(_decode_embeddings(body), usage, options.encoding_format)


class OpenAiResponses(Codec):
    """`POST /responses`."""

    dialect = "openai"
    operation = "responses"
    path = "/responses"
    translated_operation = "chat"
    client_rules = RESPONSES_RULES
    provider_rules = RESPONSES_PROVIDER_RULES
    max_tool_name_chars = 64
    output_caps = ("max_output_tokens",)
    image_tokens = staticmethod(image_tokens)
    known_fields = RESPONSES_FIELDS
    meter_response = staticmethod(meter_response)
    without_foreign_thinking = staticmethod(without_kept_reasoning)
    thinking_name = "reasoning"

    without_refused = staticmethod(without_refused)
    parse_response = staticmethod(parse_responses_response)
    events_of_response = staticmethod(terminal_event)

    def keeps_response(self, content: bytes) -> bool:
        """See `Codec`: unless it is asked not to."""
        return is_stored(content, by_default=True)

    def stream_reader(self, *, model: str | None = None) -> StreamReader:
        """See `Codec`."""
        return ResponsesReader() if model is None else ResponsesChatReader(model=model)

    def adapt_request(self, request: ChatRequest | EmbeddingsRequest, upstream_model: str) -> AdaptedRequest:
        """See `Codec`."""
        assert isinstance(request, ChatRequest), "it is a chat request that is asked as a response"
        return adapt_responses_request(request, upstream_model)

    def render_request(
        self, request: ChatRequest | EmbeddingsRequest, upstream_model: str, *, is_stream: bool
    ) -> bytes:
        """See `Codec`."""
        assert isinstance(request, ChatRequest), "it is a chat request that is asked as a response"
        rendered = render_responses_request(request, upstream_model)
        return _encode(rendered | {"stream": True} if is_stream else rendered)

    def parse_request(self, body: bytes) -> TranslatedRequest:
        """See `Codec`."""
        return parse_responses_request(body)

    def render_response(self, body: bytes, usage: TokenUsage, options: RenderOptions) -> bytes:
        """See `Codec`."""
        return render_responses_response(_decode_chat(body), usage, created_s=options.created_s, echo=options.echo)

    def stream_writer(self, options: RenderOptions) -> StreamWriter:
        """See `Codec`."""
        return ResponsesWriter(created_s=options.created_s, echo=options.echo)
