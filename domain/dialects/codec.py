"""A codec: how one dialect spells one operation, in every direction. Pure; `registry.py` lists them all.

`parse_…` reads what comes from a client or a provider, `render_…` writes what goes to one. `meter_…` reads no more of a
response than its costs and its record depend on: its caller gets it as it came.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Literal, Protocol

from msgspec import Struct

from domain.canonical.chat import ChatRequest, FinishReason
from domain.canonical.embeddings import EmbeddingsRequest
from domain.canonical.stream import ChatChunk
from domain.dialects.errors import UnreadableResponse
from domain.dialects.field_rules import FieldRule
from domain.dialects.passthrough.fields import EXTERNAL_CONTEXT_FIELDS
from domain.dialects.sse import SseEvent
from domain.events import Operation
from domain.extras import NO_EXTRAS, Extras
from domain.image_size import Image, largest
from domain.models import usual_window
from domain.names import MAX_NAME_CHARS
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenUsage

Dialect = str
"""The name of a dialect: `openai`, `anthropic`, `native`."""
EncodingFormat = Literal["float", "base64"]

FAILED = "failed"
"""The finish reason of a response that came with status 200 and is charged, but reports a failure."""


class ProviderResponse(Struct, frozen=True, kw_only=True):
    """A response, and everything that its costs and its record depend on."""

    body: bytes
    """JSON: as the provider wrote it if the request was passed through, else the canonical response."""
    usage: TokenUsage | None
    """None: the provider did not say, or not so that it can be read. Then it is estimated."""
    input_usage: TokenUsage | None = None
    """The input's tokens, if the provider sent those alone; `output` is 0."""
    received_output_bytes: int = 0
    """As a `StreamReader` has them. Counted for an estimate only: 0 if there is usage."""
    answered_by: str
    """The model that the provider says it used; empty if it does not."""
    response_id: str
    finish_reason: str | None = None
    extras: Extras = NO_EXTRAS
    is_empty: bool = False
    """It has neither text nor a call nor anything else that a client could use."""
    item_ids: tuple[str, ...] = ()
    """The ids by which later requests may name parts of it, if it is passed through."""
    is_under_way: bool = False
    """It is made in the background: what it costs will be known when it is done."""


UNSHARED_FINISHES = frozenset({FAILED, "length", "content_filter"})
"""Finish reasons of responses that are not cached: asked again, the model might give a whole answer."""


def passed_through(
    body: bytes,
    *,
    usage: TokenUsage | None,
    model: str,
    response_id: str,
    finish_reason: str | None = None,
    input_usage: TokenUsage | None = None,
    received_output_bytes: int = 0,
    is_empty: bool = False,
    extras: Extras = NO_EXTRAS,
    item_ids: tuple[str, ...] = (),
    is_under_way: bool = False,
) -> ProviderResponse:
    """A response that its caller gets as the provider wrote it."""
    return ProviderResponse(
        body=body,
        usage=usage,
        answered_by=sanitize_identifier(model),
        response_id=sanitize_identifier(response_id),
        finish_reason=finish_reason,
        input_usage=input_usage,
        received_output_bytes=received_output_bytes,
        is_empty=is_empty,
        extras=extras,
        item_ids=item_ids,
        is_under_way=is_under_way,
    )


class StreamReader(Protocol):
    """Reads one stream of a provider, event by event, and keeps what its costs depend on.

    A reader that is made with the name of a model also gives canonical chunks, under that name. That takes time, so a
    stream that is passed through does without.
    """

    usage: TokenUsage | None
    """None until the provider has sent it. Before the end it may still grow."""
    input_usage: TokenUsage | None
    """The input's tokens, if the provider sends them early (Anthropic's `message_start`); `output` is 0."""
    extras: Extras
    """What the answer has said so far beside its tokens."""
    answered_by: str
    """The model that the provider says it used; empty until it does."""
    response_id: str
    finish_reason: FinishReason | None
    is_ended: bool
    """The stream has ended as its vendor's streams do. One that stops before was cut."""
    is_tail: bool
    """Hold back the event that was taken last, and those after it, until the log has committed: only the end seems to
    follow. False again if more did (another choice of a provider that sends usage in every chunk); then send them.
    """
    writing_run: int | None
    """The number of the run of answer text, or of calls' arguments, that came last without anything between; None: the
    last that came was something else. Between the pieces of one run no model thinks.
    """
    received_output_bytes: int
    """UTF-8 bytes of text, tool calls and thinking so far: no fewer than the tokens that were shown."""
    item_ids: tuple[str, ...]
    """See `ProviderResponse`."""

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """Read the next event; returns its canonical chunks, if the reader gives them.

        Raises:
            StreamFailed: the provider reports a failure. What was read before is kept.
            UnreadableResponse: this is no event of the dialect.

        """
        ...


class StreamWriter(Protocol):
    """Writes one stream to a client: canonical chunks as the events of its dialect."""

    def write(self, chunk: ChatChunk) -> bytes:
        """The events of a chunk; empty if the dialect has none for it.

        Raises:
            UnreadableResponse: the chunk cannot be expressed in the dialect.

        """
        ...

    def end(self, summary: "StreamSummary") -> bytes:
        """The last events, with usage and cost if the dialect's clients expect them."""
        ...


class StreamSummary(Struct, frozen=True, kw_only=True):
    """The facts about a streamed response, once it stands in the log."""

    usage: TokenUsage
    cost_usd: Decimal | None
    """None: the model has no known price."""
    latency_ms: int
    is_cached: bool = False
    is_lower_bound: bool = False
    """The cost is without something that has no known price."""


class TranslatedRequest(Struct, frozen=True, kw_only=True):
    """A client's request in the canonical form, with the format that it wants for its response."""

    request: ChatRequest | EmbeddingsRequest
    encoding_format: EncodingFormat = "float"
    """The format of vectors."""
    dropped: tuple[str, ...] = ()
    """The names of the fields that the canonical form has no place for, and that change nothing."""
    echo: bytes | None = None
    """What its response repeats of it, as JSON that only the client's codec reads."""


class AdaptedRequest(Struct, frozen=True, kw_only=True):
    """A canonical request as a certain model can be asked."""

    request: ChatRequest | EmbeddingsRequest
    dropped: tuple[str, ...] = ()
    """The names of the fields that the model does not take, in snake case, and that change nothing."""
    calls: int = 1
    """How often the provider is called, each time for one of the answers that the request asks for."""


class RenderOptions(Struct, frozen=True, kw_only=True):
    """Options of a response to a client."""

    created_s: int
    """A Unix time."""
    with_usage: bool = True
    """The stream shows usage."""
    encoding_format: EncodingFormat = "float"
    echo: bytes | None = None
    """See `TranslatedRequest`."""
    tool_names: dict[str, str] = {}
    """The client's names of tools, by those that the provider is told."""


class Codec:
    """Reads and writes one operation of one dialect.

    A codec derives from this class and defines the directions that its dialect has: a dialect that is never translated
    has no `parse_request`, one that no provider speaks has no `parse_response`.
    """

    dialect: ClassVar[Dialect]
    operation: ClassVar[Operation]
    path: ClassVar[str] = ""
    """The path at a provider, behind its base address."""
    translates: ClassVar[bool] = True
    """False: requests are passed through to providers of this dialect, and no other provider is asked."""
    translated_operation: ClassVar[Operation | None] = None
    """The operation that a provider is asked for if the request is translated; None: the same one."""
    fuller_operation: ClassVar[Operation | None] = None
    """The operation of the same dialect that takes what this one does not; None: there is none."""
    deciding_fields: ClassVar[tuple[str, ...]] = ()
    """The fields by which `fits` decides."""
    has_streams: ClassVar[bool] = True
    has_output: ClassVar[bool] = True
    """False: providers charge for the input alone."""
    is_charged: ClassVar[bool] = True
    """False: providers charge nothing for it."""
    is_estimable: ClassVar[bool] = False
    """True: `estimate_response` answers where a provider does not have the call."""
    output_caps: ClassVar[tuple[str, ...]] = ()
    """The fields by which a client limits the output."""
    default_cap: ClassVar[int | None] = None
    """The output cap of a request that sets none, if the vendor documents one; None: the model's own limit."""
    choice_fields: ClassVar[tuple[str, ...]] = ("n",)
    """The fields by which a client asks for several answers. Those of the largest are charged."""
    default_model: ClassVar[str | None] = None
    """The model of a request that names none; None: it must name one."""
    context_fields: ClassVar[tuple[str, ...]] = EXTERNAL_CONTEXT_FIELDS
    """The fields that name context which is stored at the provider."""
    has_cache_marks: ClassVar[bool] = False
    """The vendor writes a prompt to its cache only where the request has a `cache_control`, and for as long as it says.
    """
    fields_within_cap: ClassVar[tuple[str, ...]] = ()
    """The fields that the output cap has to leave room for, and so change with it."""
    known_fields: ClassVar[frozenset[str]] = frozenset()
    """The fields that the vendor documents. At a provider by configuration, any other may have a price of its own."""
    refused_fields: ClassVar[Mapping[str, str]] = {}
    """Fields that are not passed through, each with advice on what to send instead."""
    client_names: ClassVar[Mapping[str, str]] = {}
    """Canonical fields (in snake case) that its clients know by another name, by which they are told of them."""
    client_rules: ClassVar[tuple[FieldRule, ...]] = ()
    """What becomes of the fields of its clients' requests in the canonical form."""
    provider_rules: ClassVar[tuple[FieldRule, ...]] = ()
    """What becomes of the canonical fields (in snake case) on their way to its providers."""
    thinking_name: ClassVar[str] = "thinking"
    """What its clients call the thinking in their history, by which they are told that some was left out."""
    max_tool_name_chars: ClassVar[int] = MAX_NAME_CHARS
    """The longest name of a tool that its providers take."""

    def cap_field(self, upstream_model: str) -> str:
        """The field that limits the output of this model."""
        return self.output_caps[0]

    def thinking_budget(self, fields: Mapping[str, Any]) -> int | None:
        """The part of the output cap that is for thinking, by these `fields_within_cap`; None: no part is."""
        return None

    def within_cap(self, fields: Mapping[str, Any], cap: int) -> dict[str, Any]:
        """Those of `fields_within_cap` that have to change for an output cap, with their new values."""
        return {}

    def image_tokens(self, image: Image, upstream_model: str) -> int:
        """The most tokens that the dialect's own vendor counts an image as."""
        return largest(image)

    def reads_cap(self, fields: tuple[str, ...], upstream_model: str, *, is_builtin: bool) -> bool:
        """True if a provider limits the output by these fields; `is_builtin`: it is the dialect's own vendor."""
        return True

    def context_window(self, upstream_model: str, context_window: int | None, headers: Mapping[str, str]) -> int:
        """The most tokens that the model reads of a request with these headers; `context_window`: as is known of it."""
        return usual_window(upstream_model, context_window)

    def prompts(self, fields: Mapping[str, Any]) -> int:
        """The prompts in a request, each of which gets its answers."""
        return 1

    def wants_usage(self, stream_options: Mapping[str, Any]) -> bool:
        """True if a client with these options expects usage in its stream."""
        return True

    def stream_changes(self, stream_options: Mapping[str, Any]) -> dict[str, Any]:
        """The fields to set in a passed-through request so that the provider's stream has usage."""
        return {}

    def without_foreign_thinking(self, body: bytes) -> bytes:
        """A request that is passed through, without what this gateway gave its client to keep for other vendors'
        models; the same bytes if there is none.
        """
        return body

    def for_vendor(self, body: bytes) -> bytes:
        """A request that is passed through to the dialect's own vendor, without what only other providers of the
        dialect know and the vendor would refuse; the same bytes if there is none.
        """
        return body

    def fits(self, value: Callable[[str], Any], upstream_model: str, *, is_builtin: bool) -> bool:
        """False if a provider would refuse a client's request for this operation, and takes it by the fuller one.

        `value` gives one of the `deciding_fields`. `is_builtin`: the provider is the dialect's own vendor.
        """
        return True

    def needs_fuller(self, request: ChatRequest | EmbeddingsRequest, upstream_model: str, *, is_builtin: bool) -> bool:
        """True if a canonical request can be asked as it is by the fuller operation alone."""
        return False

    def adapt_request(self, request: ChatRequest | EmbeddingsRequest, upstream_model: str) -> AdaptedRequest:
        """Make a request one that this model can be asked, before anything is held: drop what it does not take, lower
        what is above its limits. What is returned is what the job has; `render_request` only spells it.

        Raises:
            InvalidRequest: names a field, in snake case, that the answer depends on and that cannot be sent, and what
                is allowed.

        """
        return AdaptedRequest(request=request)

    def parse_request(self, body: bytes) -> TranslatedRequest:
        """Read a client's request.

        Raises:
            InvalidRequest: names the field, as the client spelled it.

        """
        raise AssertionError(f"{self.dialect} {self.operation} is not translated")

    def render_request(
        self, request: ChatRequest | EmbeddingsRequest, upstream_model: str, *, is_stream: bool
    ) -> bytes:
        """Write a request to a provider, whose model has this name."""
        raise AssertionError(f"{self.dialect} {self.operation} is not translated")

    def keeps_response(self, content: bytes) -> bool:
        """True if a provider keeps the response to this request, and can be asked for it by `kept_path`.

        Such a response is read by `meter_response`. What the gateway itself writes asks for none to be kept.
        """
        return False

    def kept_path(self, response_id: str) -> str:
        """The path, behind the base address, at which a provider tells of a response that it keeps."""
        return f"{self.path}/{response_id}"

    def without_refused(self, content: bytes, said: bytes) -> bytes | None:
        """A request that `render_request` wrote, without a wish of its own that its provider has just refused in these
        words; None if the refusal is about something else.
        """
        return None

    def parse_response(self, body: bytes, *, model: str, provider: str) -> ProviderResponse:
        """Read a provider's response into the canonical one; `model` is the caller's name for the model.

        Raises:
            UnreadableResponse: it is no response.
            StreamFailed: it is the provider's report of a failure.

        """
        raise AssertionError(f"{self.dialect} {self.operation} is not translated")

    def meter_response(self, body: bytes) -> ProviderResponse:
        """Read the usage of a response that is passed through. Raises as `parse_response`."""
        raise AssertionError(f"no provider speaks {self.dialect}")

    def events_of_response(self, body: bytes) -> list[SseEvent]:
        """The stream that a response in one piece amounts to: some providers answer so although a stream was asked
        for. Raises as `parse_response`.
        """
        raise UnreadableResponse("this is no stream of events")

    def estimate_response(self, body: bytes) -> bytes:
        """Answer a client's request without a provider. Raises as `parse_request`."""
        raise AssertionError(f"{self.dialect} {self.operation} needs a provider")

    def render_response(self, body: bytes, usage: TokenUsage, options: RenderOptions) -> bytes:
        """Write a canonical response, which comes as JSON, to a client."""
        raise AssertionError(f"{self.dialect} {self.operation} is not translated")

    def stream_reader(self, *, model: str | None = None) -> StreamReader:
        """A reader of a provider's stream. `model`: it gives canonical chunks that name the model so."""
        raise AssertionError(f"{self.dialect} {self.operation} has no streams")

    def stream_writer(self, options: RenderOptions) -> StreamWriter:
        """A writer of a stream to a client."""
        raise AssertionError(f"{self.dialect} {self.operation} is not translated")
