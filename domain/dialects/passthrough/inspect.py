"""Reads a request in its provider's own dialect, which is passed through.

Reads the few fields that money depends on and bounds the rest by its size. No other field is read, so that a field that
a vendor adds tomorrow is not lost. Field names are the vendors' own.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from domain.cache_key import canonical_body
from domain.canonical.chat import MAX_CHOICES
from domain.decoding import check_values
from domain.dialects.codec import Codec
from domain.dialects.passthrough.compaction import (
    PREDICTION,
    SUMMARY_PROMPT_TOKENS,
    Compaction,
)
from domain.dialects.passthrough.fields import (
    BETA_HEADER,
    CONTENT_FIELDS,
    SCHEMA_FIELDS,
    SHAPING_FIELDS,
    TOOL_FIELDS,
    check_names,
)
from domain.dialects.passthrough.hosted import (
    TOOL_CALLS_FIELD,
    hosted_tools_of,
    limit_changes,
    unlimited_tool,
)
from domain.dialects.passthrough.json_edit import rewrite, without_member
from domain.dialects.passthrough.json_members import EditableObject, decode_members, member_spans
from domain.dialects.passthrough.named_models import NamedModel, named_models
from domain.dialects.passthrough.seldom import NOTHING_SELDOM, SELDOM_FIELDS, Seldom
from domain.dialects.passthrough.token_bound import CACHE_MARK, NO_ITEM, TokenBoundVisitor
from domain.dialects.request_body import LoweredRequest, TokenBound
from domain.errors import InvalidRequest
from domain.estimate import (
    REWRITTEN,
    TOKENS_PER_MESSAGE,
    TOKENS_PER_REQUEST,
    TOKENS_WITH_TOOLS,
    least_cap,
)
from domain.hosted_tools import NO_TOOLS, HostedTools
from domain.image_size import TOKENS_PER_IMAGE, Image, largest
from domain.models import longest_answer, model_traits
from domain.names import is_name
from domain.pdf_size import UNKNOWN, Pdf, pdf_tokens

MAX_OUTPUT_TOKENS = 10_000_000


class PassthroughRequest(Struct, frozen=True, kw_only=True):
    """A request in a vendor's dialect: its body, and the values that money depends on."""

    codec: Codec
    """Of its dialect and operation."""
    editable: EditableObject
    """The body, of which the model, the output cap and the stream options may be changed."""
    content_digest: bytes | None
    """SHA-256 of the members that the cache key depends on besides the model. None: the request is not cached."""
    model: str
    is_stream: bool
    stream_options: dict[str, Any]
    output_cap: int | None
    """None: the caller sets none."""
    cap_fields: tuple[str, ...]
    """The fields by which the caller sets it. A provider may know only some of the fields that its dialect has."""
    fields_within_cap: dict[str, Any]
    """The fields that change with the output cap: those of the codec's that the request has."""
    choices: int
    input_tokens: int
    """The most tokens that its input is counted as, without external content."""
    images: tuple[tuple[int, Image], ...]
    """Each with the number of its item of the conversation. `input_tokens` has the largest size of each."""
    item_tokens: tuple[int, ...] | None
    """The part of `input_tokens` that each item of the conversation is. None: the provider may count more than the
    request has, or less."""
    marks_cache: bool
    marks_cache_longer: bool
    """It has a `cache_control`; it has one for longer than five minutes."""
    files: tuple[tuple[int, Pdf], ...]
    """Each with the number of its item of the conversation."""
    has_stored_content: bool
    """Context that is stored at the provider belongs to it."""
    has_external_content: bool
    """It has files, or context that is stored at the provider: as long as the model's window allows."""
    unbounded: str | None
    """The field, if any, whose cost has no bound."""
    compaction: Compaction | None = None
    """When it has its context compacted."""
    predicted_tokens: int = 0
    """Those of an answer that it predicts: what the model does not write of it is charged as output, beside the cap."""
    unknown: str | None
    """The first field, if any, that the vendor's own API does not have. To another provider it may mean anything."""
    response_id: str | None
    """The earlier response that it continues."""
    provider_object_ref: str | None
    """The field, if any, that names an object at the provider, such as a file."""
    session: str | None
    """The session that it belongs to, if it says so."""
    tools: HostedTools = NO_TOOLS
    """Those that the provider runs."""
    tool_calls: int | None = None
    """The limit that the provider is given for them, if the budget set one."""
    terms: dict[str, str] = {}
    """The terms that it asks for, other than the standard ones."""
    audio_tokens: int = 0
    """Those of `input_tokens` that are audio."""
    has_external_audio: bool = False
    """Of the external content, some may be audio."""
    writes_audio: bool = False
    betas: tuple[str, ...] = ()
    """What it has in its body of Anthropic's beta header."""
    item_ids: tuple[str, ...] = ()
    """The items of earlier responses that it names."""
    named_models: tuple[NamedModel, ...] = ()
    """Where it names models beside `model`, or may; empty if nobody asked."""

    is_passthrough: ClassVar[bool] = True
    calls: ClassVar[int] = 1
    asked_operation: ClassVar[None] = None

    @property
    def body(self) -> bytes:
        """The request as it came."""
        return self.editable.body

    def with_native_defaults(self, upstream_model: str) -> "PassthroughRequest":
        """See `RequestBody`: as it came."""
        return self

    def payload(self, upstream_model: str) -> bytes:
        """See `RequestBody`: the bytes that came, but for the provider's name of the model and a stream's usage."""
        changes = self._changes(upstream_model)
        return self.editable.with_members(changes) if changes else self.editable.body

    def with_tool_calls(self, calls: int) -> "PassthroughRequest":
        """See `RequestBody`."""
        return replace(self, tool_calls=calls)

    def token_bound(
        self,
        upstream_model: str,
        context_window: int | None,
        *,
        is_builtin: bool,
        headers: Mapping[str, str] | None = None,
        image_tokens: Callable[[Image], int] = largest,
    ) -> TokenBound:
        """See `RequestBody`."""
        if not self.codec.is_charged:
            return TokenBound(input_tokens=0, output_tokens=0, least_output_tokens=0, unbounded_field=None)
        unbounded_field = self.unbounded or (None if is_builtin else self.unknown)
        asked = dict(headers or {})
        if self.betas:
            asked[BETA_HEADER] = ",".join((asked.get(BETA_HEADER, ""), *self.betas))
        window = self.codec.context_window(upstream_model, context_window, asked)
        media_tokens, item_tokens = self._with_media(upstream_model, window, is_builtin=is_builtin)
        input_tokens = self.input_tokens - TOKENS_PER_IMAGE * len(self.images) + media_tokens
        if not self.codec.has_output:
            return TokenBound(
                input_tokens=input_tokens, output_tokens=0, least_output_tokens=0, unbounded_field=unbounded_field
            )
        reads_cap = self.codec.reads_cap(self.cap_fields, upstream_model, is_builtin=is_builtin)
        cap = self.output_cap if reads_cap else None
        has_marks = is_builtin and self.codec.has_cache_marks
        longest = least = cap or longest_answer(upstream_model, context_window)
        if self.codec.output_caps:
            least = min(longest, least_cap(cap, self.codec.thinking_budget(self.fields_within_cap)))
        compacts = self.compaction is not None and self.compaction.is_within_reach(
            input_tokens, self.choices * longest, runs_tools=bool(self.tools.tools)
        )
        if compacts and self.compaction is not None and not self.compaction.has_price:
            unbounded_field = unbounded_field or self.compaction.field
        return TokenBound(
            input_tokens=input_tokens,
            output_tokens=self.choices * longest,
            least_output_tokens=self.choices * least,
            choices=self.choices,
            media_tokens=media_tokens,
            item_tokens=item_tokens,
            writes_5m=self.marks_cache or not has_marks,
            writes_1h=self.marks_cache_longer or not has_marks,
            unbounded_field=unbounded_field,
            predicted_tokens=self.choices * self.predicted_tokens,
            summary_reading_tokens=min(window, input_tokens + SUMMARY_PROMPT_TOKENS) if compacts else 0,
            summary_tokens=longest_answer(upstream_model, context_window) if compacts else 0,
            audio_tokens=self.audio_tokens + (window if self.has_external_audio else 0),
            writes_audio=self.writes_audio,
            tools=self.tools,
            terms=self.terms,
            context_window=window,
        )

    def _with_media(
        self, upstream_model: str, context_window: int, *, is_builtin: bool
    ) -> tuple[int, tuple[int, ...] | None]:
        """The tokens of all images and files for a model, and those of each item of the conversation with them."""
        if not self.images and not self.has_external_content:
            return 0, self.item_tokens
        tokens_of = partial(self.codec.image_tokens, upstream_model=upstream_model) if is_builtin else largest
        images = [(number, tokens_of(image)) for number, image in self.images]
        page = tokens_of(Image(width=0, height=0))
        known = self.files if is_builtin else tuple((number, UNKNOWN) for number, _ in self.files)
        files = [(number, pdf_tokens(pdf, page, context_window)) for number, pdf in known]
        outside = sum(tokens for _, tokens in files) + (context_window if self.has_stored_content else 0)
        total = sum(tokens for _, tokens in images) + min(outside, context_window)
        if self.item_tokens is None:
            return total, None
        items = list(self.item_tokens)
        for number, tokens in (*files, *((number, tokens - TOKENS_PER_IMAGE) for number, tokens in images)):
            if number != NO_ITEM:
                items[number] += tokens
        return total, tuple(items)

    def cap_name(self, upstream_model: str) -> str:
        """See `RequestBody`."""
        return self.cap_fields[0] if self.cap_fields else self.codec.cap_field(upstream_model)

    def with_output_cap(self, cap: int, upstream_model: str, *, is_builtin: bool = True) -> LoweredRequest:
        """See `RequestBody`: the caller's own cap is lowered; where its provider does not read that, one is added."""
        cap //= self.choices
        names = self.cap_fields
        if not names or not self.codec.reads_cap(names, upstream_model, is_builtin=is_builtin):
            names = (self.codec.cap_field(upstream_model),)
        changes = self._changes(upstream_model) | dict.fromkeys(names, cap)
        changes |= self.codec.within_cap(self.fields_within_cap, cap)
        return LoweredRequest(
            body=self, payload=self.editable.with_members(changes), cap=cap, output_tokens=cap * self.choices
        )

    def cache_body(self, payload: bytes, *, headers: Mapping[str, str] | None, query: str | None) -> bytes:
        """See `RequestBody`: a stream is kept and replayed as it came, so that it has an entry of its own."""
        assert self.content_digest is not None, "it was read to be cached"
        kept_as = "events" if self.is_stream else "json"
        return canonical_body((self.codec.dialect, kept_as, headers, query)) + self.content_digest

    def within_limits(self, upstream_model: str) -> "PassthroughRequest":
        """The request with an output cap that the dialect's own vendor takes: no higher than the model's longest
        answer, and in the field that the model knows. The same one if it has such a cap, or none.
        """
        if self.output_cap is None or not self.cap_fields:
            return self
        traits, newest = model_traits(upstream_model), self.codec.output_caps[0]
        longest = traits.max_output if traits.is_listed else None
        cap = self.output_cap if longest is None else min(self.output_cap, longest)
        refuses_older = self.codec.cap_field(upstream_model) == newest
        older = [name for name in self.cap_fields if refuses_older and name != newest]
        if cap == self.output_cap and not older:
            return self
        body = self.body
        for name in older:
            body = without_member(body, name)
        kept = [name for name in self.cap_fields if name not in older] or [newest]
        body = rewrite(body, dict.fromkeys(kept, cap) | self.codec.within_cap(self.fields_within_cap, cap))
        read = read_passthrough(body, self.codec, is_cached=self.content_digest is not None)
        return replace(read, named_models=self.named_models)

    def _changes(self, upstream_model: str) -> dict[str, Any]:
        changes: dict[str, Any] = {} if self.model == upstream_model else {"model": upstream_model}
        if self.is_stream:
            changes |= self.editable.differing(self.codec.stream_changes(self.stream_options))
        if self.tool_calls is not None:
            changes |= limit_changes(
                self.editable.value("tools"), self.tool_calls, in_request=TOOL_CALLS_FIELD in self.codec.known_fields
            )
        return changes


def read_passthrough(
    body: bytes, codec: Codec, *, is_cached: bool = False, finds_models: bool = False
) -> PassthroughRequest:
    """Read what money depends on in a request of the codec's dialect and operation, and what its cache key needs.

    `finds_models`: find what other models it names, for a key that may not use all.

    Raises:
        InvalidRequest: it is no JSON object, or a field has a value that is not allowed; names the field.
        BodyTooLarge: it has too many values.

    """
    fields = _object(body)
    model, response_id = _names(fields, codec)
    options = fields.get("stream_options")
    spans = member_spans(body, decode_members(body))
    check_names(body, fields, has_duplicates=spans is None)
    visitor = _visited(fields)
    has_seldom = not SELDOM_FIELDS.isdisjoint(fields)
    seldom = Seldom.of(fields) if has_seldom else NOTHING_SELDOM
    hosted = visitor.hosted_tools
    context = [name for name in codec.context_fields if fields.get(name)] if has_seldom else []
    named = [name for name in context if name != codec.context_fields[0]] if context else []
    unknown = [name for name in fields if name not in codec.known_fields and name not in SHAPING_FIELDS]
    # The provider counts what the request has, once: it adds nothing, and takes nothing away.
    counts_alone = visitor.is_self_contained and not (context or hosted or seldom.changes_content)
    caps = _caps(fields, codec.output_caps)
    choices = [_integer(fields, name, MAX_CHOICES) or 1 for name in codec.choice_fields if name in fields]
    is_stream = codec.has_streams and fields.get("stream") is True
    stream_options = options if isinstance(options, dict) else {}
    return PassthroughRequest(
        codec=codec,
        editable=EditableObject.of(
            body,
            spans,
            (
                *("model", "stream_options", "tools", TOOL_CALLS_FIELD),
                *codec.output_caps,
                *codec.fields_within_cap,
                *codec.deciding_fields,
            ),
        ),
        content_digest=_content_digest(fields, codec.stream_changes(stream_options) if is_stream else None)
        if is_cached
        else None,
        model=model,
        is_stream=is_stream,
        stream_options=stream_options,
        output_cap=max(caps.values(), default=codec.default_cap),
        cap_fields=tuple(caps),
        choices=max(choices, default=1) * codec.prompts(fields),
        fields_within_cap={name: fields[name] for name in codec.fields_within_cap if name in fields},
        input_tokens=visitor.tokens,
        images=tuple(visitor.images),
        item_tokens=tuple(visitor.item_tokens) if counts_alone else None,
        marks_cache=visitor.marks_cache,
        marks_cache_longer=visitor.marks_cache_longer,
        files=tuple(visitor.files),
        has_external_content=visitor.has_external_content or bool(context),
        has_stored_content=visitor.has_stored_content or bool(context),
        unbounded=seldom.extra_cost_field
        or visitor.extra_cost_field
        or (unlimited_tool(hosted, codec) if hosted else None),
        compaction=seldom.compaction,
        predicted_tokens=visitor.predicted_tokens,
        tools=hosted_tools_of(fields, hosted, codec) if hosted or has_seldom else NO_TOOLS,
        terms=seldom.terms,
        audio_tokens=visitor.audio_tokens,
        has_external_audio=visitor.has_external_audio,
        writes_audio=seldom.writes_audio,
        unknown=unknown[0] if unknown else None,
        betas=seldom.betas,
        response_id=response_id,
        provider_object_ref=named[0] if named else visitor.provider_object_ref,
        session=seldom.session,
        item_ids=tuple(dict.fromkeys(visitor.item_ids)) if visitor.item_ids else (),
        named_models=tuple(named_models(fields, codec.known_fields)) if finds_models else (),
    )


def _names(fields: dict[str, Any], codec: Codec) -> tuple[str, str | None]:
    """The model, and the earlier response that the request continues."""
    for name, advice in codec.refused_fields.items():
        if name in fields and fields[name] is not None:
            raise InvalidRequest(f"`{name}` is not served here: {advice}", field=name)
    model = fields.get("model")
    if model is None:
        model = codec.default_model
    if not isinstance(model, str) or not is_name(model):
        raise InvalidRequest("`model` must be the name of a model", field="model")
    response_id = fields.get("previous_response_id")
    if response_id is not None and (not isinstance(response_id, str) or not is_name(response_id)):
        raise InvalidRequest("`previous_response_id` must be the id of a response", field="previous_response_id")
    return model, response_id


def _content_digest(fields: dict[str, Any], stream_changes: dict[str, Any] | None) -> bytes:
    """The digest of the members as the provider is sent them, in any order. `stream_changes` is None if the
    response is not streamed: then `stream` and `stream_options` change nothing.
    """
    ignored = ("model",) if stream_changes is not None else ("model", "stream", "stream_options")
    members = {name: value for name, value in fields.items() if name not in ignored} | (stream_changes or {})
    return hashlib.sha256(canonical_body(members)).digest()


def _object(body: bytes) -> dict[str, Any]:
    check_values(body)
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("the body must be a JSON object")
    return fields


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if value is not None and not isinstance(value, list):
        raise InvalidRequest(f"`{name}` must be a list", field=name)
    return value or []


def _integer(fields: dict[str, Any], name: str, largest: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise InvalidRequest(f"`{name}` must be a whole number from 1 to {largest}", field=name)
    return value


def _caps(fields: dict[str, Any], names: tuple[str, ...]) -> dict[str, int]:
    """The output caps that are set. Which of them counts depends on the provider."""
    return {
        name: value
        for name in names
        if name in fields and (value := _integer(fields, name, MAX_OUTPUT_TOKENS)) is not None
    }


def _visited(fields: dict[str, Any]) -> TokenBoundVisitor:
    """Visit everything that the model may be shown, and count what the provider adds."""
    visitor = TokenBoundVisitor()
    try:
        _visit(fields, visitor)
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    return visitor


def _visit(fields: dict[str, Any], visitor: TokenBoundVisitor) -> None:
    visitor.tokens = TOKENS_PER_REQUEST
    if CACHE_MARK in fields:
        visitor.visit_cache_mark(fields[CACHE_MARK])
    for name, value in fields.items():
        if name in CONTENT_FIELDS and isinstance(value, list) and set(map(type, value)) <= {dict}:
            visitor.visit_items(value, name)
        elif name in CONTENT_FIELDS and isinstance(value, list):
            visitor.tokens += TOKENS_PER_MESSAGE * len(value)
            visitor.visit(value, name)
        elif name in TOOL_FIELDS:
            visitor.visit_tools(_list(fields, name), name)
        elif name in SCHEMA_FIELDS and value:
            visitor.tokens += TOKENS_WITH_TOOLS
            visitor.count_json(value, REWRITTEN)
        elif name == PREDICTION:
            before = visitor.tokens
            visitor.visit(value, name)
            visitor.predicted_tokens = visitor.tokens - before
        elif name in ("metadata", "tool_choice"):  # a chosen tool is declared in `tools`
            visitor.count_json(value)
        elif name not in ("model", "stream_options"):
            visitor.visit(value, name)
