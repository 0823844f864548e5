"""Parts of messages as clients write them: in the words of the API that is asked, or in another vendor's.

Frameworks keep a conversation in one vendor's words, and send it to whatever address they are given: a call as a
`tool_use` in a chat completion, an `image_url` in one of Anthropic's messages. What a part means is plain all the same.
A part of a type that is not here is for its dialect to refuse.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.chat import (
    FunctionCall,
    Name,
    Part,
    ReasoningBlock,
    TextPart,
    ToolCall,
    ToolMessage,
)
from domain.decoding import Shape, converted
from domain.dialects.cache_marks import parse_cache_control
from domain.dialects.field_rules import DroppedFields, drop_unknown, not_translatable
from domain.dialects.media_parts import DETAILS, file_url, media_part, source_url
from domain.dialects.server_tools import is_server_tools, server_tool_text, with_sources
from domain.errors import InvalidRequest

MAX_NESTED = 4
"""Parts inside of parts: a document of content in a tool's result."""

RESULT_TYPES = frozenset({"tool_result", "function_call_output"})
CALL_TYPES = frozenset({"tool_use", "tool_call", "function_call"})
THOUGHT_TYPES = frozenset({"thinking", "redacted_thinking", "reasoning"})

_PLAIN_TEXT = ("type", "text")
_NO_DIGITS = re.compile(r"[^0-9]+")
_encode = msgspec.json.encode


def part_type(raw: Any) -> str:
    """The type that a part says; empty if it says none."""
    kind = raw.get("type") if isinstance(raw, dict) else None
    return kind if isinstance(kind, str) else ""


class _Marked(Struct, frozen=True, kw_only=True):
    type: str
    cache_control: Any = None


class _Text(_Marked, frozen=True, kw_only=True):
    text: str
    citations: Any = None
    annotations: Any = None
    logprobs: Any = None


class _Refusal(_Marked, frozen=True, kw_only=True):
    refusal: str


class _Image(_Marked, frozen=True, kw_only=True):
    image_url: str | dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    image: str | None = None
    file_id: str | None = None
    detail: str | None = None


class _File(_Marked, frozen=True, kw_only=True):
    file: dict[str, Any] | None = None
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    detail: Any = None


class _Document(_Marked, frozen=True, kw_only=True):
    source: dict[str, Any]
    title: str | None = None
    context: str | None = None
    citations: Any = None


class _SearchResult(_Marked, frozen=True, kw_only=True):
    content: list[dict[str, Any]]
    source: str = ""
    title: str = ""
    citations: Any = None


class _Call(_Marked, frozen=True, kw_only=True):
    """A call, as Anthropic writes it, LangChain, and OpenAI's Responses API."""

    name: Name
    id: str | None = None
    call_id: str | None = None
    input: Any = None
    args: Any = None
    arguments: Any = None
    status: Any = None
    caller: Any = None
    index: Any = None


class _Result(_Marked, frozen=True, kw_only=True):
    """A result, as Anthropic writes it, and OpenAI's Responses API."""

    tool_use_id: str | None = None
    call_id: str | None = None
    content: Any = None
    output: Any = None
    is_error: bool | None = None
    id: Any = None
    status: Any = None


class _Thought(_Marked, frozen=True, kw_only=True):
    thinking: Any = None
    text: str | None = None
    reasoning: str | None = None
    summary: list[dict[str, Any]] | None = None
    signature: str | None = None
    data: str | None = None


class PartReader:
    """Reads parts of one request. `dropped` collects the names of what is left out; a `path` names a part in a refusal.

    What it raises is `InvalidRequest`, which names the member that is wrong, or that the model cannot be shown.
    """

    def __init__(self, dropped: DroppedFields) -> None:
        self._dropped = dropped

    def _text(self, raw: dict[str, Any], path: str, _depth: int) -> list[Part]:
        read = self._read(raw, _Text, path)
        return [
            TextPart(
                text=with_sources(read.text, read.citations), cache_control=parse_cache_control(read.cache_control)
            )
        ]

    def _refusal(self, raw: dict[str, Any], path: str, _depth: int) -> list[Part]:
        return [TextPart(text=self._read(raw, _Refusal, path).refusal)]

    def _image(self, raw: dict[str, Any], path: str, _depth: int) -> list[Part]:
        read = self._read(raw, _Image, path)
        mark = parse_cache_control(read.cache_control)
        if read.source is not None:
            return [media_part(source_url(read.source, f"{path}.source", "image/png"), detail=read.detail, mark=mark)]
        given = read.image_url if read.image_url is not None else read.image
        detail = given.get("detail") if isinstance(given, dict) else read.detail
        url = given.get("url") if isinstance(given, dict) else given
        if not isinstance(url, str) or not url:
            raise without_content(read.file_id, path, "image_url")
        if detail is not None and detail not in DETAILS:
            self._dropped.add("detail")
        return [media_part(url, detail=detail, mark=mark)]

    def _file(self, raw: dict[str, Any], path: str, _depth: int) -> list[Part]:
        read = self._read(raw, _File, path)
        if read.file is not None:
            path = f"{path}.file"
            read = self._read(raw | read.file, _File, path)
        url = file_url(read.file_data, read.filename, read.file_url, read.file_id)
        if url is None:
            raise without_content(read.file_id, path, "file_data")
        mark = parse_cache_control(read.cache_control)
        return [media_part(url, filename=read.filename, mark=mark, is_file=True)]

    def _document(self, raw: dict[str, Any], path: str, depth: int) -> list[Part]:
        document = self._read(raw, _Document, path)
        mark = parse_cache_control(document.cache_control)
        source = document.source
        if isinstance(document.citations, dict) and document.citations.get("enabled"):
            self._dropped.add("citations")
        if source.get("type") == "text" and isinstance(source.get("data"), str):
            return document_text(document.title, document.context, [TextPart(text=source["data"])], mark)
        if source.get("type") == "content":
            inner = self.contents(source.get("content"), f"{path}.source.content", depth + 1)
            return document_text(document.title, document.context, inner, mark)
        url = source_url(source, f"{path}.source", "application/pdf")
        shown = media_part(url, filename=document.title, mark=mark, is_file=True)
        return [TextPart(text=document.context), shown] if document.context else [shown]

    def _search_result(self, raw: dict[str, Any], path: str, depth: int) -> list[Part]:
        found = self._read(raw, _SearchResult, path)
        said = "\n".join(
            part.text
            for part in self.contents(found.content, f"{path}.content", depth + 1)
            if isinstance(part, TextPart)
        )
        return [TextPart(text=search_result_text(found.title, found.source, said))]

    def contents(self, content: Any, path: str, depth: int = 0) -> list[Part]:
        """The parts of a content: a text, a list of parts, or of anything else its JSON."""
        if content is None or content == "":
            return []
        if isinstance(content, str):
            return [TextPart(text=content)]
        if not isinstance(content, list):
            return [TextPart(text=_encode(content).decode())]
        parts: list[Part] = []
        for index, raw in enumerate(content):
            where = f"{path}[{index}]"
            found = [TextPart(text=raw)] if isinstance(raw, str) else self.part(raw, where, depth)
            if found is None:
                raise not_translatable(f"{where}.type", _ADVICE)
            parts += found
        return parts

    def part(self, raw: Any, path: str, depth: int = 0) -> list[Part] | None:
        """What the model is shown of a part: mostly one, of a document several; None: its type is not known here."""
        kind = part_type(raw)
        if not kind or depth > MAX_NESTED:
            return None
        if kind == "text" and len(raw) == len(_PLAIN_TEXT) and isinstance(raw.get("text"), str):  # nearly every part
            return [TextPart(text=raw["text"])]
        read = _READERS.get(kind)
        if read is not None:
            return read(self, raw, path, depth)
        return [TextPart(text=server_tool_text(raw))] if is_server_tools(kind) else None

    def call(self, raw: dict[str, Any], path: str) -> ToolCall:
        """Read a part of `CALL_TYPES`. One without an id is given one by its place."""
        read = self._read(raw, _Call, path)
        given = next((one for one in (read.input, read.args, read.arguments) if one is not None), None)
        arguments = given if isinstance(given, str) else _encode(given if given is not None else {}).decode()
        call_id = read.call_id or read.id or f"call_{_NO_DIGITS.sub('_', path).strip('_')}"
        return ToolCall(
            id=converted(call_id, Name, inside=f"{path}.id"),
            function=FunctionCall(name=read.name, arguments=arguments or "{}"),
        )

    def function_call(self, raw: dict[str, Any], path: str) -> ToolCall:
        """Read one of the `tool_calls` of OpenAI's messages. One without an id is given one by its place."""
        function = raw.get("function")
        if not isinstance(function, dict):
            raise InvalidRequest(f"`{path}` calls no function", field=path)
        members = {name: value for name, value in raw.items() if name not in ("function", "type")}
        return self.call({"type": "function_call", **members, **function}, path)

    def result(self, raw: dict[str, Any], path: str) -> ToolMessage:
        """Read a part of `RESULT_TYPES`."""
        read = self._read(raw, _Result, path)
        call_id = read.tool_use_id or read.call_id
        if not call_id:
            raise InvalidRequest(f"`{path}` names no call", field=path)
        member = "content" if read.content is not None else "output"
        parts = self.contents(getattr(read, member), f"{path}.{member}", 1)
        mark = parse_cache_control(read.cache_control)
        if mark is not None and parts:
            parts[-1] = msgspec.structs.replace(parts[-1], cache_control=mark)
        is_text = len(parts) == 1 and isinstance(parts[0], TextPart) and parts[0].cache_control is None
        return ToolMessage(
            content=(parts[0].text if is_text else parts) if parts else "",  # type: ignore[union-attr]
            tool_call_id=converted(call_id, Name, inside=path),
            is_error=bool(read.is_error),
        )

    def thought(self, raw: dict[str, Any], path: str) -> ReasoningBlock | None:
        """Read a part of `THOUGHT_TYPES`; None if it has no thinking."""
        read = self._read(raw, _Thought, path)
        text = read.text or read.reasoning or _joined(read.thinking) or _joined(read.summary)
        found = ReasoningBlock(text=text or None, signature=read.signature or None, data=read.data or None)
        return found if found != ReasoningBlock() else None

    def _read(self, raw: dict[str, Any], shape: type[Shape], path: str) -> Shape:
        known = converted(raw, shape, inside=path)
        drop_unknown(known, raw, self._dropped)
        return known


_ADVICE = "it is no part that the model can be shown: send text, an image or a file"
_READERS: dict[str, Callable[[PartReader, dict[str, Any], str, int], list[Part]]] = {
    "text": PartReader._text,  # noqa: SLF001 - the table of its own methods
    "input_text": PartReader._text,  # noqa: SLF001 - the table of its own methods
    "output_text": PartReader._text,  # noqa: SLF001 - the table of its own methods
    "refusal": PartReader._refusal,  # noqa: SLF001
    "image_url": PartReader._image,  # noqa: SLF001
    "input_image": PartReader._image,  # noqa: SLF001
    "image": PartReader._image,  # noqa: SLF001
    "file": PartReader._file,  # noqa: SLF001
    "input_file": PartReader._file,  # noqa: SLF001
    "document": PartReader._document,  # noqa: SLF001
    "search_result": PartReader._search_result,  # noqa: SLF001
}


def document_text(title: str | None, context: str | None, parts: list[Part], mark: Any = None) -> list[Part]:
    """The content of a document between tags, with its title."""
    named = f' title="{title}"' if title else ""
    opening = f"<document{named}>\n" + (f"{context}\n\n" if context else "")
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return [TextPart(text=f"{opening}{parts[0].text}\n</document>", cache_control=mark)]
    return [TextPart(text=opening), *parts, TextPart(text="</document>", cache_control=mark)]


def search_result_text(title: str, source: str, said: str) -> str:
    """What a client's own search found, between tags."""
    heading = " ".join(f'{name}="{value}"' for name, value in (("title", title), ("source", source)) if value)
    return f"<search_result {heading}>\n{said}\n</search_result>"


def without_content(file_id: str | None, path: str, instead: str) -> InvalidRequest:
    """The refusal of an image or a file whose content is not in the request."""
    if file_id:
        return not_translatable(f"{path}.file_id", f"the file is at its vendor: send its content as `{instead}`")
    return InvalidRequest(f"`{path}.{instead}` is missing", field=f"{path}.{instead}")


def _joined(texts: Any) -> str | None:
    """A text, or the texts of a list of parts."""
    if isinstance(texts, list):
        texts = "".join(one["text"] for one in texts if isinstance(one, dict) and isinstance(one.get("text"), str))
    return texts if isinstance(texts, str) and texts else None
