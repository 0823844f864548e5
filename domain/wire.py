"""A request in its provider's own dialect, which is passed on as it came: what the gateway has to know of it.

Reads the few fields that money depends on and bounds the rest by its size; nothing else is looked at, so that nothing
is lost which a vendor adds tomorrow. Field names are the vendors' own.
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from domain.chat import MAX_NAME_CHARS
from domain.errors import InvalidRequest
from domain.estimate import (
    SCHEMA_FACTOR,
    TOKENS_PER_IMAGE,
    TOKENS_PER_MESSAGE,
    TOKENS_PER_REQUEST,
    TOKENS_PER_TOOL,
    TOKENS_WITH_TOOLS,
)

WireOperation = Literal["chat", "embeddings", "responses", "count_tokens"]
WireDialect = Literal["openai", "anthropic"]

MAX_CHOICES = 128
MAX_OUTPUT_TOKENS = 10_000_000
TOKENS_PER_MEMBER = 4
"""Around the name of a member, where a provider shows JSON to its model."""

_CAPS: dict[tuple[WireDialect, WireOperation], tuple[str, ...]] = {
    ("openai", "chat"): ("max_completion_tokens", "max_tokens"),
    ("openai", "responses"): ("max_output_tokens",),
    ("anthropic", "chat"): ("max_tokens",),
}
"""Where a caller says how long the answer may be; the first is where the gateway says it."""

_IMAGES = frozenset({"image_url", "input_image", "image"})
_FILES = frozenset({"file", "input_file", "document"})
_SCHEMAS = ("response_format", "text", "output_config", "output_format")
_CLIENT_TOOLS = ("function", "custom", "bash_", "text_editor_", "computer_", "memory_")
"""How the types of those tools begin that the caller runs; every other is run, and charged for, by the provider."""
_ELSEWHERE = ("previous_response_id", "conversation", "prompt", "container")
"""Fields that name context which lies with the provider."""
_CALLS = ("_call", "tool_use", "function")
"""How the types of those parts end whose JSON the provider may write anew for its model."""
_CHARGED = ("web_search_options", "mcp_servers", "plugins", "models")
"""Fields by which something is run, or asked, that has a price of its own; the last two are OpenRouter's."""
_STANDARD: dict[str, tuple[object, ...]] = {
    "service_tier": (None, "auto", "default", "standard", "standard_only"),
    "speed": (None, "standard"),
    "inference_geo": (None, "global"),
    "background": (None, False),
    "fallbacks": (None, []),
}
"""Fields whose other values multiply the price, have another model answer at its own, or answer later: the price book
knows the standard only.
"""


class WireRequest(Struct, frozen=True, kw_only=True):
    """What a request in a vendor's dialect says of itself."""

    dialect: WireDialect
    operation: WireOperation
    model: str
    body: bytes
    is_stream: bool
    stream_options: dict[str, Any]
    output_cap: int | None
    """None: the caller sets none."""
    choices: int
    input_tokens: int
    """The most tokens that it will be counted as reading, but for what lies elsewhere."""
    reads_elsewhere: bool
    """It has files, or context that lies with the provider: as long as the model's window allows."""
    unbounded: str | None
    """The field, if any, whose cost nobody can bound."""
    response_id: str | None
    """An earlier answer that it goes on from."""
    foreign: str | None
    """The field, if any, that names something which was made at the provider, not through the gateway."""


def read_wire(body: bytes, dialect: WireDialect, operation: WireOperation) -> WireRequest:
    """Read what a request says of itself.

    Raises:
        InvalidRequest: it is no JSON object, or a field that is looked at is wrong; names it.

    """
    fields = _object(body)
    for name, standard in _STANDARD.items():
        if fields.get(name) not in standard:
            allowed = ", ".join(repr(value) for value in standard if value is not None)
            raise InvalidRequest(f"`{name}` may be {allowed} here: nothing else has a known price", field=name)
    if (
        dialect == "anthropic" and fields.get("thread") is not None
    ):  # its size is money, its owner would be unknown here
        message = "`thread` is not served here: send the whole conversation with each request"
        raise InvalidRequest(message, field="thread")
    model, options = fields.get("model"), fields.get("stream_options")
    if not isinstance(model, str) or not _is_name(model):
        raise InvalidRequest("`model` must be the name of a model", field="model")
    response_id = fields.get("previous_response_id")
    if response_id is not None and (not isinstance(response_id, str) or not _is_name(response_id)):
        raise InvalidRequest("`previous_response_id` must be the id of a response", field="previous_response_id")
    size = _Size()
    for name, value in fields.items():
        if name not in ("tools", "model", "stream_options"):
            size.add(value, name)
    tools = _list(fields, "tools")
    charged = next((name for name in _CHARGED if fields.get(name) not in (None, [])), None)  # {} asks for a search
    named = next((name for name in ("conversation", "prompt", "container") if fields.get(name)), None)
    return WireRequest(
        dialect=dialect,
        operation=operation,
        model=model,
        body=body,
        is_stream=fields.get("stream") is True,
        stream_options=options if isinstance(options, dict) else {},
        output_cap=_cap(fields, _CAPS.get((dialect, operation), ())),
        choices=_integer(fields, "n", MAX_CHOICES) or 1,
        input_tokens=size.tokens + _around(fields, tools),
        reads_elsewhere=size.has_files or any(fields.get(name) for name in _ELSEWHERE),
        unbounded=charged or _charged_tool(tools),
        response_id=response_id,
        foreign=named or size.foreign,
    )


def cap_field(request: WireRequest, *, takes_completion_tokens: bool) -> str:
    """The field that carries a lowered cap; models of OpenAI's kind differ in which of two they take."""
    names = _CAPS[request.dialect, request.operation]
    return names[0] if takes_completion_tokens else names[-1]


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME_CHARS and "\x00" not in text


def _object(body: bytes) -> dict[str, Any]:
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


def _cap(fields: dict[str, Any], names: tuple[str, ...]) -> int | None:
    """The largest of the caps that are given: which of them counts is the provider's to say."""
    given = [value for name in names if (value := _integer(fields, name, MAX_OUTPUT_TOKENS)) is not None]
    return max(given, default=None)


def _around(fields: dict[str, Any], tools: list[Any]) -> int:
    """What the provider adds: around the request and each message, for tools, for a schema."""
    asked = next((value for name in ("messages", "input") if isinstance(value := fields.get(name), list)), [])
    tokens = TOKENS_PER_REQUEST + TOKENS_PER_MESSAGE * len(asked)
    if tools:
        tokens += TOKENS_WITH_TOOLS + TOKENS_PER_TOOL * len(tools) + SCHEMA_FACTOR * len(msgspec.json.encode(tools))
    if any(fields.get(name) for name in _SCHEMAS):
        tokens += TOKENS_WITH_TOOLS + (SCHEMA_FACTOR - 1) * sum(
            len(msgspec.json.encode(fields.get(name))) for name in _SCHEMAS
        )
    return tokens


def _charged_tool(tools: list[Any]) -> str | None:
    for index, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind is not None and not str(kind).startswith(_CLIENT_TOOLS):
            return f"tools[{index}] ({kind})"
    return None


class _Size:
    """Bounds the tokens of JSON: no text has more than it has bytes, images and files count as what they are."""

    def __init__(self) -> None:
        self.tokens = 0
        self.has_files = False
        self.foreign: str | None = None

    def add(self, value: Any, path: str, factor: int = 1) -> None:
        """Count a value and all that is in it."""
        if isinstance(value, str):
            self.tokens += factor * (len(value) if value.isascii() else len(value.encode()))
        elif isinstance(value, dict):
            self._add_object(value, path, factor)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.add(item, f"{path}[{index}]", factor)
        else:
            self.tokens += factor * len(msgspec.json.encode(value))

    def _add_object(self, value: dict[str, Any], path: str, factor: int) -> None:
        kind = value.get("type")
        kind = kind if isinstance(kind, str) else ""
        for name in ("file_id", "file_ids"):
            if value.get(name):
                self.foreign = f"{path}.{name}"
        if kind in _IMAGES:
            self.tokens += TOKENS_PER_IMAGE
            self._note_file_of(value, path)
            return
        if kind in _FILES and not self._is_text(value):
            self.has_files = True
            self._note_file_of(value, path)
            return
        if kind.endswith(_CALLS):
            factor = SCHEMA_FACTOR
        for name, member in value.items():
            self.tokens += factor * (len(name.encode()) + TOKENS_PER_MEMBER)
            self.add(member, f"{path}.{name}", factor)

    def _note_file_of(self, value: dict[str, Any], path: str) -> None:
        for name in ("source", "file"):
            inner = value.get(name)
            if isinstance(inner, dict) and inner.get("file_id"):
                self.foreign = f"{path}.{name}.file_id"

    def _is_text(self, value: dict[str, Any]) -> bool:
        source = value.get("source")
        return isinstance(source, dict) and source.get("type") in ("text", "content")
