"""Walks through the members of a request in a vendor's dialect: how long they are at most, and what they name.

A text has no more tokens than bytes; images and files count as what they are. On its way the walk finds what lies at
the provider, and tools and steps that the provider charges for: wherever in the body they stand, but not in what is the
caller's own data (a schema, the arguments of a call).
"""

from typing import Any

import msgspec

from domain.estimate import SCHEMA_FACTOR, TOKENS_PER_IMAGE, TOKENS_PER_TOOL, TOKENS_WITH_TOOLS
from domain.utf8 import utf8_length

MANY_NUMBERS = 32
"""So many are counted together: one by one, the numbers of a large embeddings request take a quarter of a second."""
TOKENS_PER_MEMBER = 4
"""Around the name of a member, where a provider shows JSON to its model."""

_IMAGES = frozenset({"image_url", "input_image", "image", "computer_screenshot"})
_FILES = frozenset(
    {"file", "input_file", "document", "document_url", "video", "video_url", "input_video", "audio_url", "input_audio"}
)
_FILE_MEMBERS = frozenset(
    {"file", "file_url", "file_data", "document_url", "video_url", "input_video", "audio_url", "input_audio"}
)
"""Members that are a file whatever the type of the part says, or where it says nothing."""
_DATA = frozenset({"data", "file_data"})
"""Members of an image or a file that are its content."""
_ADDRESSES = frozenset({"url", "image_url", "image", "file_url", "source"}) | _FILE_MEMBERS - {"file_data"}
"""Members of an image or a file that are its address, or a data: URL of its content."""
_ADDRESS_STARTS = ("data:", "http://", "https://")
_INNER = frozenset({"source", "image_url", "image"}) | _FILE_MEMBERS
"""Members of an image or a file that are an object which has its content."""
_INLINE_AUDIO = frozenset({"data", "format"})

_CALLS = ("_call", "tool_use", "function")
"""How the types of those parts end whose JSON the provider may write anew for its model."""
_CLIENT_TOOLS = frozenset({"function", "custom", "namespace", "local_shell", "apply_patch", "computer"})
_DATED_CLIENT_TOOLS = (
    "bash_2",
    "text_editor_2",
    "memory_2",
    "computer_2",
    "computer_toolset_2",
    "computer_use_preview",
    "browser_toolset_2",
)
"""How the types of those tools begin that the caller runs, like those above; every other is run, and charged for, by
the provider."""
_NOTED_TYPES = frozenset({"item_reference", "image_generation_call", "reasoning", "compaction_trigger"})
_REFERENCES = frozenset({"file_id", "file_ids", "vector_store_ids", "container_id", "skill_id", "tunnel_id"})
_PROVIDER_OBJECT_FIELDS = frozenset({"audio", "voice", "container"})
"""Members that may be an object with the `id` of something at the provider."""
_SCHEMAS = frozenset({"parameters", "input_schema", "schema"})
_SPECIAL = _REFERENCES | _PROVIDER_OBJECT_FIELDS | _SCHEMAS | {"tools", "definition", "metadata", "input", "arguments"}


class TokenBoundVisitor:
    """What has been found so far."""

    def __init__(self) -> None:
        self.tokens = 0
        self.has_external_content = False
        self.provider_object_ref: str | None = None
        """The first member that names something at the provider."""
        self.extra_cost_field: str | None = None
        """The first tool or step that has a price of its own."""

    def add(self, value: Any, path: str, factor: int = 1) -> None:
        """Count a value and all that is in it, `factor` times."""
        if isinstance(value, str):
            self.tokens += factor * utf8_length(value)
        elif isinstance(value, dict):
            self._add_object(value, path, factor)
        elif isinstance(value, list):
            if len(value) >= MANY_NUMBERS and set(map(type, value)) == {int}:  # a text as its tokens' numbers
                self.tokens += factor * (len(msgspec.json.encode(value)) - len(value) - 1)
                return
            for index, item in enumerate(value):
                self.add(item, f"{path}[{index}]", factor)
        else:
            self.tokens += factor * len(msgspec.json.encode(value))

    def add_items(self, items: list[Any], path: str) -> None:
        """Count the items that a response is asked for with: one may be no more than the id of an earlier one."""
        for index, item in enumerate(items):
            if isinstance(item, dict) and item.get("id") and not item.get("type") and not item.get("content"):
                self._refer(f"{path}[{index}].id")
        self.add(items, path)

    def add_json(self, value: Any, factor: int = 1) -> None:
        """Count what is the caller's own data: nothing in it means anything to the provider."""
        if factor:
            self.tokens += factor * len(msgspec.json.encode(value))

    def add_tools(self, tools: list[Any], path: str) -> None:
        """Count tools, and tell those that the provider charges for."""
        if not tools:
            return
        self.tokens += TOKENS_WITH_TOOLS + TOKENS_PER_TOOL * len(tools)
        self.add_json(tools, SCHEMA_FACTOR)
        for index, tool in enumerate(tools):
            self._look_at_tool(tool, f"{path}[{index}]")

    def _look_at_tool(self, tool: Any, path: str) -> None:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind is not None and not _is_run_by_caller(str(kind), tool):
            self._charge(f"{path} ({kind})")
        self.add(tool, path, 0)

    def _add_object(self, value: dict[str, Any], path: str, factor: int) -> None:
        kind = value.get("type")
        if not isinstance(kind, str):
            kind = ""
        elif kind.endswith(_CALLS):
            factor = max(factor, SCHEMA_FACTOR) if factor else 0
        if kind in _NOTED_TYPES:
            self._note_kind(kind, value, path)
        is_image = kind in _IMAGES or "image_url" in value or (kind == "image_generation_call" and value.get("result"))
        is_file = (kind in _FILES or not _FILE_MEMBERS.isdisjoint(value)) and _is_file(value)
        if is_image:
            self.tokens += TOKENS_PER_IMAGE
        if is_file:
            self.has_external_content = True
        if is_image or is_file:
            self._add_media(value, path, factor)
        else:
            for name, member in value.items():
                self._add_member(name, member, kind, path, factor)

    def _add_media(self, value: dict[str, Any], path: str, factor: int) -> None:
        """Count what is beside the content of an image or a file."""
        kind = value.get("type")
        for name, member in value.items():
            if isinstance(member, str) and _is_content(name, member, kind):
                continue
            if isinstance(member, dict) and name in _INNER and member.get("type") != "content":
                self._add_media(member, f"{path}.{name}", factor)
            else:
                self._add_member(name, member, "", path, factor)

    def _add_member(self, name: str, member: Any, kind: str, path: str, factor: int) -> None:
        self.tokens += factor * (utf8_length(name) + TOKENS_PER_MEMBER)
        if name in _SPECIAL:
            self._add_special(name, member, kind, f"{path}.{name}", factor)
        elif isinstance(member, str):
            self.tokens += factor * utf8_length(member)
        elif member is not None:
            self.add(member, f"{path}.{name}", factor)

    def _add_special(self, name: str, member: Any, kind: str, path: str, factor: int) -> None:
        if _is_data(name, kind):
            self.add_json(member, max(factor, SCHEMA_FACTOR) if factor and name in _SCHEMAS else factor)
        elif name == "tools" and isinstance(member, list):
            self.add_tools(member, path)
        elif name == "definition" and isinstance(member, dict):
            self.add_json(member, SCHEMA_FACTOR)
            self.tokens += TOKENS_WITH_TOOLS + TOKENS_PER_TOOL
            self._look_at_tool(member, path)
        else:
            if member and (name in _REFERENCES or name == "container") and isinstance(member, str | list):
                self._refer(path)
            elif name in _PROVIDER_OBJECT_FIELDS and isinstance(member, dict) and member.get("id"):
                self._refer(f"{path}.id")
            self.add(member, path, factor)

    def _note_kind(self, kind: str, value: dict[str, Any], path: str) -> None:
        match kind:
            case "item_reference":
                self._refer(f"{path}.id")
            case "image_generation_call" if not value.get("result"):
                self._refer(f"{path}.id")
            case "reasoning" if value.get("id") and not value.get("encrypted_content"):
                self.has_external_content = True
            case "compaction_trigger":
                self._charge(f"{path} ({kind})")
            case _:
                pass

    def _refer(self, path: str) -> None:
        self.has_external_content = True
        self.provider_object_ref = self.provider_object_ref or path

    def _charge(self, what: str) -> None:
        self.extra_cost_field = self.extra_cost_field or what


def _is_run_by_caller(kind: str, tool: dict[str, Any]) -> bool:
    if kind == "shell":
        environment = tool.get("environment")
        return isinstance(environment, dict) and environment.get("type") == "local"
    if kind == "tool_search":
        return tool.get("execution") == "client"
    return kind in _CLIENT_TOOLS or kind.startswith(_DATED_CLIENT_TOOLS)


def _is_file(value: dict[str, Any]) -> bool:
    """Whether what looks like a file is one whose length nobody knows here."""
    source, audio = value.get("source"), value.get("input_audio")
    if isinstance(source, dict) and source.get("type") in ("text", "content"):
        return not _FILE_MEMBERS.isdisjoint(value)
    if isinstance(audio, dict) and audio.keys() <= _INLINE_AUDIO:  # counted by its bytes
        return str(audio.get("data")).startswith(_ADDRESS_STARTS)
    return True


def _is_content(name: str, text: str, kind: Any) -> bool:
    if name in _DATA:
        return bool(kind != "text")
    if name == "result":
        return bool(kind == "image_generation_call")
    return name in _ADDRESSES and text.startswith(_ADDRESS_STARTS)


def _is_data(name: str, kind: str) -> bool:
    return (
        name in _SCHEMAS
        or name == "metadata"
        or (name == "input" and kind.endswith("tool_use"))
        or (name == "arguments" and kind.endswith("_call"))
    )
