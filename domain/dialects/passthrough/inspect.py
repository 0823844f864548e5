"""A request in its provider's own dialect, which is passed on as it came: what the gateway has to know of it.

Reads the few fields that money depends on and bounds the rest by its size; nothing else is looked at, so that nothing
is lost which a vendor adds tomorrow. Field names are the vendors' own.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from domain.cache_key import canonical_body
from domain.canonical.chat import MAX_NAME_CHARS
from domain.decoding import check_values
from domain.dialects.codec import Codec
from domain.dialects.passthrough.fields import (
    ALLOWED_VALUES,
    CONTENT_FIELDS,
    EXTERNAL_CONTEXT_FIELDS,
    EXTRA_COST_FIELDS,
    SCHEMAS,
    TOOLS,
    check_names,
)
from domain.dialects.passthrough.json_edit import rewrite
from domain.dialects.passthrough.token_bound import TokenBoundVisitor
from domain.dialects.request_body import LoweredRequest, TokenBound
from domain.errors import InvalidRequest
from domain.estimate import SCHEMA_FACTOR, TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, TOKENS_WITH_TOOLS
from domain.models import DEFAULT_CONTEXT_WINDOW, longest_answer

MAX_CHOICES = 128
MAX_OUTPUT_TOKENS = 10_000_000


class PassthroughRequest(Struct, frozen=True, kw_only=True):
    """What a request in a vendor's dialect says of itself."""

    codec: Codec
    """Of its dialect and operation."""
    model: str
    body: bytes
    is_stream: bool
    stream_options: dict[str, Any]
    output_cap: int | None
    """None: the caller sets none."""
    cap_fields: tuple[str, ...]
    """The fields by which the caller sets it: a provider may know only some of those that its dialect has."""
    choices: int
    input_tokens: int
    """The most tokens that it will be counted as reading, but for what lies elsewhere."""
    has_external_content: bool
    """It has files, or context that lies with the provider: as long as the model's window allows."""
    unbounded: str | None
    """The field, if any, whose cost nobody can bound."""
    unknown: str | None
    """The first field, if any, that the vendor's own API does not have: what another provider makes of it is open."""
    response_id: str | None
    """An earlier answer that it goes on from."""
    provider_object_ref: str | None
    """The field, if any, that names something which was made at the provider, not through the gateway."""

    is_passthrough: ClassVar[bool] = True

    def check(self, codec: Codec, upstream_model: str) -> None:
        """See `RequestBody`: what it asks is between its client and its provider."""

    def with_native_defaults(self, upstream_model: str) -> "PassthroughRequest":
        """See `RequestBody`: as it came."""
        return self

    def payload(self, upstream_model: str, *, is_stream: bool) -> bytes:
        """See `RequestBody`: the bytes that came, but for the provider's name of the model and a stream's usage."""
        changes: dict[str, Any] = {}
        if self.model != upstream_model:
            changes["model"] = upstream_model
        if is_stream:
            changes |= self.codec.stream_changes(self.stream_options)
        return rewrite(self.body, changes) if changes else self.body

    def token_bound(self, upstream_model: str, context_window: int | None, *, is_builtin: bool) -> TokenBound:
        """See `RequestBody`."""
        if not self.codec.is_charged:
            return TokenBound(input_tokens=0, output_tokens=0, may_lower=False)
        input_tokens = self.input_tokens
        if self.has_external_content:
            input_tokens += context_window or DEFAULT_CONTEXT_WINDOW
        if not self.codec.has_output:
            return TokenBound(input_tokens=input_tokens, output_tokens=0, may_lower=False)
        reads_cap = self.codec.reads_cap(self.cap_fields, upstream_model, is_builtin=is_builtin)
        cap = self.output_cap if reads_cap else None
        output_tokens = self.choices * (cap or longest_answer(upstream_model, context_window))
        return TokenBound(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            may_lower=cap is None and bool(self.codec.output_caps),
        )

    def unbounded_field(self, *, is_builtin: bool) -> str | None:
        """See `RequestBody`."""
        return self.unbounded or (None if is_builtin else self.unknown)

    def with_output_cap(self, cap: int, payload: bytes, upstream_model: str) -> LoweredRequest:
        """See `RequestBody`."""
        cap //= self.choices
        lowered = rewrite(payload, {self.codec.cap_field(upstream_model): cap})
        return LoweredRequest(body=self, payload=lowered, cap=cap, output_tokens=cap * self.choices)

    def cache_body(
        self, payload: bytes, *, is_stream: bool, headers: Mapping[str, str] | None, query: str | None
    ) -> bytes:
        """See `RequestBody`: a stream is kept and replayed as it came, so that it has an entry of its own."""
        members = msgspec.json.decode(payload)
        if not is_stream:  # then these members change nothing
            members = {name: members[name] for name in members if name not in ("stream", "stream_options")}
        kept_as = "events" if is_stream else "json"
        return canonical_body((self.codec.dialect, kept_as, headers, query)) + canonical_body(members)


def read_passthrough(body: bytes, codec: Codec) -> PassthroughRequest:
    """Read what money depends on in a request of the codec's dialect and operation.

    Raises:
        InvalidRequest: it is no JSON object, or a field that is looked at is wrong; names it.
        BodyTooLarge: it has too many values.

    """
    fields = _object(body)
    for name, standard in ALLOWED_VALUES.items():
        if fields.get(name) not in standard:
            allowed = ", ".join(repr(value) for value in standard if value is not None)
            raise InvalidRequest(f"`{name}` may be {allowed} here: nothing else has a known price", field=name)
    for name, advice in codec.refused_fields.items():
        if fields.get(name) is not None:
            raise InvalidRequest(f"`{name}` is not served here: {advice}", field=name)
    model, options = fields.get("model"), fields.get("stream_options")
    if not isinstance(model, str) or not _is_name(model):
        raise InvalidRequest("`model` must be the name of a model", field="model")
    response_id = fields.get("previous_response_id")
    if response_id is not None and (not isinstance(response_id, str) or not _is_name(response_id)):
        raise InvalidRequest("`previous_response_id` must be the id of a response", field="previous_response_id")
    check_names(body, fields)
    walk = _walked(fields)
    extra_cost_field = next(
        (name for name in EXTRA_COST_FIELDS if fields.get(name) not in (None, [], False)), None
    )  # {} asks, too
    if extra_cost_field is None and not _only_clears(fields.get("context_management")):
        extra_cost_field = "context_management"
    named = next((name for name in EXTERNAL_CONTEXT_FIELDS[1:] if fields.get(name)), None)
    caps = _caps(fields, codec.output_caps)
    return PassthroughRequest(
        codec=codec,
        model=model,
        body=body,
        is_stream=fields.get("stream") is True,
        stream_options=options if isinstance(options, dict) else {},
        output_cap=max(caps.values(), default=None),
        cap_fields=tuple(caps),
        choices=_integer(fields, "n", MAX_CHOICES) or 1,
        input_tokens=walk.tokens,
        has_external_content=walk.has_external_content or any(fields.get(name) for name in EXTERNAL_CONTEXT_FIELDS),
        unbounded=extra_cost_field or walk.extra_cost_field,
        unknown=next((name for name in fields if name not in codec.known_fields), None),
        response_id=response_id,
        provider_object_ref=named or walk.provider_object_ref,
    )


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME_CHARS and "\x00" not in text


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
    """The caps that are given; which of them counts is the provider's to say."""
    return {name: value for name in names if (value := _integer(fields, name, MAX_OUTPUT_TOKENS)) is not None}


def _only_clears(management: Any) -> bool:
    """Whether it does no more than to leave context out: another model would be asked for a summary."""
    edits = management.get("edits") if isinstance(management, dict) else management
    if not edits:
        return not management or (isinstance(management, dict) and management.keys() <= {"edits"})
    return isinstance(edits, list) and all(
        isinstance(edit, dict) and str(edit.get("type")).startswith("clear_") for edit in edits
    )


def _walked(fields: dict[str, Any]) -> TokenBoundVisitor:
    """All that a model may be shown, and what the provider adds around it."""
    walk = TokenBoundVisitor()
    try:
        _walk(fields, walk)
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    return walk


def _walk(fields: dict[str, Any], walk: TokenBoundVisitor) -> None:
    walk.tokens = TOKENS_PER_REQUEST
    for name, value in fields.items():
        if name in CONTENT_FIELDS and isinstance(value, list):
            walk.tokens += TOKENS_PER_MESSAGE * len(value)
        if name in TOOLS:
            walk.add_tools(_list(fields, name), name)
        elif name in SCHEMAS and value:
            walk.tokens += TOKENS_WITH_TOOLS
            walk.add_json(value, SCHEMA_FACTOR)
        elif name in ("metadata", "tool_choice"):  # what is chosen is declared elsewhere
            walk.add_json(value)
        elif name == "input" and isinstance(value, list):
            walk.add_items(value, name)
        elif name not in ("model", "stream_options"):
            walk.add(value, name)
