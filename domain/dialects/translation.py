"""The two ways of a request to its provider and back: passed through as it came, or translated.

`registry.py` chooses one of the two for each request, from the dialects of its client and its provider. Nothing else
depends on which it was: what differs stands in one of these two classes.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import ClassVar, Protocol

import msgspec
from msgspec import Struct

from domain.canonical.chat import ChatRequest, ChatResponse
from domain.canonical.embeddings import EmbeddingsRequest
from domain.canonical.stream import ChatAssembler, replay_chat
from domain.dialects.codec import (
    Codec,
    EncodingFormat,
    ProviderResponse,
    RenderOptions,
    StreamSummary,
    StreamWriter,
)
from domain.dialects.passthrough.inspect import PassthroughRequest, read_passthrough
from domain.dialects.passthrough.json_edit import with_cost
from domain.dialects.passthrough.stream import replay_stream
from domain.dialects.relay import PassthroughRelay, Relay, TranslatingRelay
from domain.dialects.request_body import CanonicalRequest, RequestBody
from domain.dialects.tool_names import NamingWriter, with_client_names, with_tool_names
from domain.errors import InvalidRequest
from domain.tokens import TokenUsage

_encode = msgspec.json.Encoder().encode
_decode_chat_request = msgspec.json.Decoder(ChatRequest).decode
_decode_embeddings_request = msgspec.json.Decoder(EmbeddingsRequest).decode
_decode_chat_response = msgspec.json.Decoder(ChatResponse).decode


class ParsedRequest(Struct, frozen=True, kw_only=True):
    """A client's request in the form for its provider, with the format that it wants for its response."""

    body: RequestBody
    encoding_format: EncodingFormat = "float"
    dropped: tuple[str, ...] = ()
    """The names of the fields that were left out, as the client spells them."""
    echo: bytes | None = None
    """See `TranslatedRequest`."""
    tool_names: dict[str, str] = {}
    """The client's names of tools, by those that the provider is told."""


class Translation(Protocol):
    """Converts one request, its response and its stream between client and provider."""

    keeps_provider_errors: ClassVar[bool]
    """The client gets a provider's refusal as the provider wrote it."""

    @property
    def provider(self) -> Codec | None:
        """The codec of the provider's side; None if its dialect lacks the operation."""
        ...

    def parse_request(self, request: PassthroughRequest, *, is_builtin: bool = False) -> ParsedRequest:
        """Read a client's request; `request` is as it would be passed through. `is_builtin`: to the dialect's vendor.

        Raises:
            InvalidRequest: it cannot be translated; names the field.

        """
        ...

    def render_request(self, body: bytes, upstream_model: str, *, is_stream: bool) -> bytes:
        """The body that the provider is sent; `body` is the job's."""
        ...

    def parse_response(self, body: bytes, *, model: str, provider: str) -> ProviderResponse:
        """Read the provider's response; `model` is the caller's name for the model.

        Raises:
            UnreadableResponse: it is no response.
            StreamFailed: it is the provider's report of a failure.

        """
        ...

    def render_response(
        self, body: bytes, usage: TokenUsage, cost_usd: Decimal | None, options: RenderOptions
    ) -> bytes:
        """The body that the client is sent; `body` is that of a `ProviderResponse`."""
        ...

    def relay(self, *, model: str, provider: str, options: RenderOptions, is_cached: bool) -> Relay:
        """The relay of one stream. `is_cached`: it also gives the body for the cache."""
        ...

    def replay(self, body: bytes, summary: StreamSummary, options: RenderOptions) -> Iterable[bytes]:
        """The stream of a response that the cache has."""
        ...


class Passthrough(Struct, frozen=True):
    """Client and provider speak the same dialect: bodies and events go on as they came."""

    keeps_provider_errors: ClassVar[bool] = True
    provider: Codec

    def parse_request(self, request: PassthroughRequest, *, is_builtin: bool = False) -> ParsedRequest:
        """See `Translation`: as it came, but for what a model of another vendor thought in an earlier turn."""
        came = request.body
        body = self.provider.without_foreign_thinking(came)
        dropped = (self.provider.thinking_name,) if body is not came else ()
        body = self.provider.for_vendor(body) if is_builtin else body
        if body is not came:
            request = read_passthrough(body, request.codec, is_cached=request.content_digest is not None)
        return ParsedRequest(body=request, dropped=dropped)

    def render_request(self, body: bytes, upstream_model: str, *, is_stream: bool) -> bytes:
        """See `Translation`: as it came."""
        return body

    def parse_response(self, body: bytes, *, model: str, provider: str) -> ProviderResponse:
        """See `Translation`: it is only metered."""
        return self.provider.meter_response(body)

    def render_response(
        self,
        body: bytes,
        usage: TokenUsage,
        cost_usd: Decimal | None,
        options: RenderOptions,
    ) -> bytes:
        """See `Translation`: as it came, with its cost. The usage in what is free is another response's."""
        return with_cost(body, cost_usd) if self.provider.is_charged else body

    def relay(
        self,
        *,
        model: str,
        provider: str,
        options: RenderOptions,
        is_cached: bool,
    ) -> PassthroughRelay:
        """See `Translation`."""
        return PassthroughRelay(self.provider.stream_reader(), hides_usage=not options.with_usage, is_cached=is_cached)

    def replay(self, body: bytes, summary: StreamSummary, options: RenderOptions) -> Iterable[bytes]:
        """See `Translation`: the events that the cache kept."""
        reader = self.provider.stream_reader()
        return replay_stream(body, reader, hides_usage=not options.with_usage, cost_usd=summary.cost_usd)


class Translated(Struct, frozen=True):
    """Client and provider speak different dialects: everything goes through the canonical form."""

    keeps_provider_errors: ClassVar[bool] = False
    client: Codec
    provider: Codec | None
    """None: its dialect lacks the operation; `DialectRegistry.adapt` refuses such a request."""

    def parse_request(self, request: PassthroughRequest, *, is_builtin: bool = False) -> ParsedRequest:
        """See `Translation`."""
        if not self.client.translates:
            raise InvalidRequest(
                f"`model` {request.model!r} is no model of a provider that serves this call", field="model"
            )
        translated = self.client.parse_request(request.body)
        canonical = translated.request
        tool_names: dict[str, str] = {}
        if isinstance(canonical, ChatRequest) and self.provider is not None:
            canonical, tool_names = with_tool_names(canonical, self.provider.max_tool_name_chars)
        return ParsedRequest(
            body=CanonicalRequest(canonical, is_charged=self.client.is_charged),
            encoding_format=translated.encoding_format,
            dropped=translated.dropped,
            echo=translated.echo,
            tool_names=tool_names,
        )

    def render_request(self, body: bytes, upstream_model: str, *, is_stream: bool) -> bytes:
        """See `Translation`: `body` is the canonical request."""
        assert self.provider is not None, "the request was checked"
        decode = _decode_embeddings_request if self.provider.operation == "embeddings" else _decode_chat_request
        return self.provider.render_request(decode(body), upstream_model, is_stream=is_stream)

    def parse_response(self, body: bytes, *, model: str, provider: str) -> ProviderResponse:
        """See `Translation`."""
        assert self.provider is not None, "the request was checked"
        return self.provider.parse_response(body, model=model, provider=provider)

    def render_response(
        self, body: bytes, usage: TokenUsage, cost_usd: Decimal | None, options: RenderOptions
    ) -> bytes:
        """See `Translation`: `body` is the canonical response."""
        if options.tool_names and self.client.has_output:
            body = _encode(with_client_names(_decode_chat_response(body), options.tool_names))
        return with_cost(self.client.render_response(body, usage, options), cost_usd)

    def relay(self, *, model: str, provider: str, options: RenderOptions, is_cached: bool) -> TranslatingRelay:
        """See `Translation`."""
        assert self.provider is not None, "the request was checked"
        assembler = ChatAssembler(provider=provider, model=model) if is_cached else None
        reader = self.provider.stream_reader(model=model)
        return TranslatingRelay(reader, self._writer(options), assembler)

    def replay(self, body: bytes, summary: StreamSummary, options: RenderOptions) -> Iterable[bytes]:
        """See `Translation`: the canonical response in pieces."""
        writer = self._writer(options)
        for chunk in replay_chat(_decode_chat_response(body)):
            yield writer.write(chunk)
        yield writer.end(summary)

    def _writer(self, options: RenderOptions) -> StreamWriter:
        writer = self.client.stream_writer(options)
        return NamingWriter(writer, options.tool_names) if options.tool_names else writer
