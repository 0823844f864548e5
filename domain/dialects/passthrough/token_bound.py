"""Bounds the tokens of a passed-through request, and finds what it refers to at the provider.

A text has no more tokens than bytes; images and files are counted by what they are. The visitor also finds references
to objects at the provider, and tools and steps that the provider charges for. They may stand anywhere in the body, but
not in the caller's own data (a schema, the arguments of a call).
"""

from typing import Any

import msgspec

from domain.dialects.passthrough.audio import audio_tokens
from domain.dialects.passthrough.hosted import hosted_tool, is_run_by_caller
from domain.estimate import (
    HIDDEN,
    PLAIN,
    REWRITTEN,
    TOKENS_PER_MESSAGE,
    TOKENS_PER_TOOL,
    TOKENS_WITH_TOOLS,
    json_tokens,
    text_tokens,
    utf8_length,
)
from domain.hosted_tools import HostedTool
from domain.image_size import TOKENS_PER_IMAGE, Image, image_of
from domain.pdf_size import UNKNOWN, Pdf, pdf_of

MANY_NUMBERS = 32
"""A list of so many numbers is counted at once: one by one, a large embeddings request takes a quarter of a second."""
NO_ITEM = -1
CACHE_MARK = "cache_control"
TOKENS_PER_MEMBER = 4
"""The punctuation around a member's name, if a provider shows JSON to its model."""

_IMAGE_TYPES = frozenset({"image_url", "input_image", "image", "computer_screenshot"})
_FILE_TYPES = frozenset(
    {"file", "input_file", "document", "document_url", "video", "video_url", "input_video", "audio_url", "input_audio"}
)
_FILE_FIELDS = frozenset(
    {"file", "file_url", "file_data", "document_url", "video_url", "input_video", "audio_url", "input_audio"}
)
"""Members that make a part a file; its `type` does not matter."""
_CONTENT_FIELDS = frozenset({"data", "file_data"})
"""Members of an image or a file that are its content."""
_URL_FIELDS = frozenset({"url", "image_url", "image", "file_url", "source"}) | _FILE_FIELDS - {"file_data"}
"""Members of an image or a file that are its address, or a data: URL of its content."""
_ADDRESS_PREFIXES = ("http://", "https://")
_URL_PREFIXES = ("data:", *_ADDRESS_PREFIXES)
_NESTED_FIELDS = frozenset({"source", "image_url", "image"}) | _FILE_FIELDS
"""Members of an image or a file that are an object which has its content."""
_INLINE_AUDIO_FIELDS = frozenset({"data", "format"})
_AUDIBLE = frozenset({"audio_url", "input_audio", "video", "video_url", "input_video"})
"""Types and members of parts that may be heard."""

_CALL_TYPE_SUFFIXES = ("_call", "tool_use", "function")
"""Suffixes of the types of calls, whose JSON the provider may write anew for its model."""
_CHECKED_TYPES = frozenset({"item_reference", "image_generation_call", "reasoning", "compaction_trigger"})
_REFERENCE_FIELDS = frozenset({"file_id", "file_ids", "vector_store_ids", "container_id", "skill_id", "tunnel_id"})
_OBJECT_FIELDS = frozenset({"audio", "voice", "container"})
"""Members that may be an object with the `id` of something at the provider."""
_SCHEMA_FIELDS = frozenset({"parameters", "input_schema", "schema"})
_SPECIAL_FIELDS = (
    _REFERENCE_FIELDS
    | _OBJECT_FIELDS
    | _SCHEMA_FIELDS
    | {CACHE_MARK, "tools", "definition", "metadata", "input", "arguments"}
)


class TokenBoundVisitor:
    """Visits the values of a request, adds up their tokens, and remembers what it finds."""

    def __init__(self) -> None:
        self.tokens = 0
        self._item = NO_ITEM
        self._contents: list[str] = []
        """Of the image or file that is being visited."""
        self.images: list[tuple[int, Image]] = []
        """Each with the number of its item of the conversation; -1: it is in none. `tokens` has their largest size."""
        self.marks_cache = False
        self.marks_cache_longer = False
        """It has a `cache_control`; it has one for longer than five minutes."""
        self.item_tokens: list[int] = []
        """The part of `tokens` that each item of the conversation is."""
        self.files: list[tuple[int, Pdf]] = []
        """Each with the number of its item."""
        self.has_stored_content = False
        """Something that is kept at the provider belongs to the request."""
        self.is_self_contained = True
        """What the model is shown is in the request: nothing has an address, and the provider runs no tool."""
        self.has_external_content = False
        """Something of unknown length belongs to the request: a file, or context that is stored at the provider."""
        self.provider_object_ref: str | None = None
        """The first member that names an object at the provider."""
        self.item_ids: list[str] = []
        """The items of earlier responses that it names."""
        self.extra_cost_field: str | None = None
        """The first tool or step whose cost has no known bound."""
        self.hosted_tools: list[HostedTool] = []
        """The tools that the provider runs and whose cost has one."""
        self.predicted_tokens = 0
        """Those of `tokens` that are a predicted answer."""
        self.audio_tokens = 0
        """Those of `tokens` that are audio."""
        self.has_external_audio = False
        """Of the external content, some may be audio."""

    def visit(self, value: Any, path: str, form: int = PLAIN) -> None:
        """Count a value and all values in it, in a form of `domain/estimate.py`. `path` names it in a refusal."""
        if isinstance(value, str):
            self.tokens += text_tokens(value, form)
        elif isinstance(value, dict):
            self._visit_object(value, path, form)
        elif isinstance(value, list):
            if len(value) >= MANY_NUMBERS and set(map(type, value)) == {int}:  # a text as its tokens' numbers
                self.tokens += len(msgspec.json.encode(value)) - len(value) - 1 if form else 0
                return
            for index, item in enumerate(value):
                self.visit(item, f"{path}[{index}]", form)
        else:
            self.tokens += json_tokens(value, form)

    def visit_cache_mark(self, mark: Any) -> None:
        """Record a `cache_control`."""
        self.marks_cache |= mark is not None
        self.marks_cache_longer |= isinstance(mark, dict) and mark.get("ttl") not in (None, "5m")

    def visit_items(self, items: list[dict[str, Any]], path: str) -> None:
        """Count the items of a conversation. An item with nothing but an id refers to an earlier one."""
        for index, item in enumerate(items):
            if "id" in item and item["id"] and not item.get("type") and not item.get("content"):
                self._record_item(item["id"], f"{path}[{index}].id")
            before = self.tokens
            self.tokens += TOKENS_PER_MESSAGE
            self._item = index
            self._visit_object(item, f"{path}[{index}]", PLAIN)
            self.item_tokens.append(self.tokens - before)
        self._item = NO_ITEM

    def count_json(self, value: Any, form: int = PLAIN) -> None:
        """Count the caller's own data as JSON. It has no meaning to the provider."""
        self.tokens += json_tokens(value, form)

    def visit_tools(self, tools: list[Any], path: str) -> None:
        """Count tools, and record those that the provider charges for."""
        if not tools:
            return
        self.tokens += TOKENS_WITH_TOOLS + TOKENS_PER_TOOL * len(tools)
        self.count_json(tools, REWRITTEN)
        for index, tool in enumerate(tools):
            self._visit_tool(tool, f"{path}[{index}]")

    def _visit_tool(self, tool: Any, path: str) -> None:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind is not None and not is_run_by_caller(str(kind), tool):
            hosted = hosted_tool(str(kind), tool, path)
            if hosted is not None:
                self.hosted_tools.append(hosted)
            else:
                self._record_extra_cost(f"{path} ({kind})")
        self.visit(tool, path, HIDDEN)

    def _visit_object(self, value: dict[str, Any], path: str, form: int) -> None:
        kind = value.get("type")
        if not isinstance(kind, str):
            kind = ""
        elif kind.endswith(_CALL_TYPE_SUFFIXES):
            form = REWRITTEN if form else HIDDEN
        if kind in _CHECKED_TYPES:
            self._check_type(kind, value, path)
        is_image = (
            kind in _IMAGE_TYPES or "image_url" in value or (kind == "image_generation_call" and value.get("result"))
        )
        is_file = (kind in _FILE_TYPES or not _FILE_FIELDS.isdisjoint(value)) and _is_file(value)
        if is_file:
            self.has_external_content = True
            self.has_external_audio |= kind in _AUDIBLE or not _AUDIBLE.isdisjoint(value)
        if is_image or is_file:
            outer, self._contents = self._contents, []
            self._visit_media(value, path, form)
            contents, self._contents = self._contents, outer
            if is_image:
                self._record_image(value, contents)
            if is_file:
                self.files += [(self._item, pdf_of(content)) for content in contents] or [(self._item, UNKNOWN)]
            if not contents or self._item == NO_ITEM:
                self.is_self_contained = False
        elif "input_audio" in value and isinstance(value["input_audio"], dict):
            self._visit_audio(value, path, form)
        else:
            for name, member in value.items():
                self._visit_member(name, member, kind, path, form)

    def _visit_audio(self, value: dict[str, Any], path: str, form: int) -> None:
        """Count audio that stands in the request by its duration, or as long as the window allows."""
        audio = value["input_audio"]
        self.is_self_contained = False
        tokens = audio_tokens(audio.get("format"), audio.get("data"))
        if tokens is None:
            self.has_external_content = self.has_stored_content = self.has_external_audio = True
        else:
            self.tokens += tokens
            self.audio_tokens += tokens
        for name, member in value.items():
            if name != "input_audio":
                self._visit_member(name, member, "", path, form)

    def _record_image(self, value: dict[str, Any], contents: list[str]) -> None:
        """Count an image; more than one, if its part has more than one content."""
        nested = value.get("image_url")
        detail = value.get("detail") or (nested.get("detail") if isinstance(nested, dict) else None)
        self.tokens += TOKENS_PER_IMAGE * max(1, len(contents))
        self.images += [(self._item, image_of(content, detail)) for content in contents or (None,)]

    def _visit_media(self, value: dict[str, Any], path: str, form: int) -> None:
        """Count the members of an image or a file but for its content, which counts as a whole."""
        kind = value.get("type")
        for name, member in value.items():
            if isinstance(member, str) and _is_content(name, member, kind):
                self._contents.append(member)
                if member.startswith(_ADDRESS_PREFIXES):
                    self.is_self_contained = False
                continue
            if isinstance(member, dict) and name in _NESTED_FIELDS and member.get("type") != "content":
                self._visit_media(member, f"{path}.{name}", form)
            else:
                self._visit_member(name, member, "", path, form)

    def _visit_member(self, name: str, member: Any, kind: str, path: str, form: int) -> None:
        if form:
            self.tokens += (utf8_length(name) if form == PLAIN else text_tokens(name, form)) + TOKENS_PER_MEMBER
        if name in _SPECIAL_FIELDS:
            self._visit_special_field(name, member, kind, f"{path}.{name}", form)
        elif isinstance(member, str):
            self.tokens += utf8_length(member) if form == PLAIN else text_tokens(member, form)
        elif member is not None:
            self.visit(member, f"{path}.{name}", form)

    def _visit_special_field(self, name: str, member: Any, kind: str, path: str, form: int) -> None:
        if _is_data(name, kind):
            self.count_json(member, REWRITTEN if form and name in _SCHEMA_FIELDS else form)
        elif name == "tools" and isinstance(member, list):
            self.visit_tools(member, path)
        elif name == "definition" and isinstance(member, dict):
            self.count_json(member, REWRITTEN)
            self.tokens += TOKENS_WITH_TOOLS + TOKENS_PER_TOOL
            self._visit_tool(member, path)
        elif name == CACHE_MARK:
            self.visit_cache_mark(member)
            self.visit(member, path, form)
        else:
            if member and (name in _REFERENCE_FIELDS or name == "container") and isinstance(member, str | list):
                self._record_reference(path)
            elif name in _OBJECT_FIELDS and isinstance(member, dict) and member.get("id"):
                self._record_reference(f"{path}.id")
                self.has_external_audio |= name == "audio"
            self.visit(member, path, form)

    def _check_type(self, kind: str, value: dict[str, Any], path: str) -> None:
        match kind:
            case "item_reference":
                self._record_item(value.get("id"), f"{path}.id")
            case "image_generation_call" if not value.get("result"):
                self._record_item(value.get("id"), f"{path}.id")
            case "reasoning" if value.get("id") and not value.get("encrypted_content"):
                self._record_stored_content()
            case "compaction_trigger":
                self._record_extra_cost(f"{path} ({kind})")
            case _:
                pass

    def _record_item(self, item_id: Any, path: str) -> None:
        if not isinstance(item_id, str) or "\x00" in item_id:
            self._record_reference(path)
            return
        self.has_external_content = True
        self.item_ids.append(item_id)

    def _record_reference(self, path: str) -> None:
        self._record_stored_content()
        self.provider_object_ref = self.provider_object_ref or path

    def _record_stored_content(self) -> None:
        self.has_external_content = self.has_stored_content = True
        self.is_self_contained = False

    def _record_extra_cost(self, what: str) -> None:
        self.is_self_contained = False
        self.extra_cost_field = self.extra_cost_field or what


def _is_file(value: dict[str, Any]) -> bool:
    """Return True if the length of a part that looks like a file cannot be computed from the request."""
    source, audio = value.get("source"), value.get("input_audio")
    if isinstance(source, dict) and source.get("type") in ("text", "content"):
        return not _FILE_FIELDS.isdisjoint(value)
    if isinstance(audio, dict) and audio.keys() <= _INLINE_AUDIO_FIELDS:  # counted by its duration
        return str(audio.get("data")).startswith(_URL_PREFIXES)
    return True


def _is_content(name: str, text: str, kind: Any) -> bool:
    if name in _CONTENT_FIELDS:
        return bool(kind != "text")
    if name == "result":
        return bool(kind == "image_generation_call")
    return name in _URL_FIELDS and text.startswith(_URL_PREFIXES)


def _is_data(name: str, kind: str) -> bool:
    return (
        name in _SCHEMA_FIELDS
        or name == "metadata"
        or (name == "input" and kind.endswith("tool_use"))
        or (name == "arguments" and kind.endswith("_call"))
    )
