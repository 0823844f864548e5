"""The turns of an Anthropic client's request as canonical messages.

Each result of a tool is a message of its own, before what else its turn says: other vendors want it right behind the
calls. An assistant's texts are joined before its calls. Blocks of Anthropic's own tools become text, and parts in other
vendors' words are read as what they mean.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from domain.canonical.chat import (
    AssistantMessage,
    File,
    FilePart,
    FunctionCall,
    ImagePart,
    ImageUrl,
    Message,
    Part,
    ReasoningBlock,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from domain.decoding import Shape, converted
from domain.dialects.anthropic import types
from domain.dialects.anthropic.kept_thinking import KeptThinking, read_kept
from domain.dialects.anthropic.tool_ids import read_id
from domain.dialects.anthropic.tools import written_arguments
from domain.dialects.field_rules import DroppedFields, drop_unknown, not_translatable
from domain.dialects.message_parts import (
    CALL_TYPES,
    MAX_NESTED,
    RESULT_TYPES,
    THOUGHT_TYPES,
    PartReader,
    document_text,
    part_type,
    search_result_text,
)
from domain.dialects.server_tools import with_sources
from domain.errors import InvalidRequest

_TEXTS = frozenset({"text", "input_text", "output_text"})


class TurnReader:
    """Reads the turns of one request; `dropped` collects the names of what is left out."""

    def __init__(self, dropped: DroppedFields) -> None:
        self._dropped = dropped
        self._others = PartReader(dropped)
        """Reads parts in other vendors' words."""
        self._parts: dict[str, Callable[[dict[str, Any], str, int], list[Part]]] = {
            "text": self._text,
            "image": self._image,
            "document": self._document,
            "search_result": self._search_result,
            "tool_reference": self._tool_reference,
        }

    def messages(self, turn: types.Turn, path: str) -> list[Message]:
        """The messages that a turn amounts to; none for one that has nothing for another vendor's model.

        Raises:
            InvalidRequest: the model cannot be shown a block; names it.

        """
        if turn.content is None and turn.role not in ("assistant", "tool"):
            raise InvalidRequest(f"`{path}`: Object missing required field `content`", field=path)
        content = turn.content if turn.content is not None else ""
        match turn.role:
            case "system" | "developer":
                return [SystemMessage(content=self.texts(content, path))]
            case "assistant":
                return self._assistant(content, turn.tool_calls or (), path)
            case "user":
                return self._user(content, path)
            case "tool":
                result = {"tool_use_id": turn.tool_call_id, "content": content}
                return [self._result(result, path.removesuffix(".content"))]

    def texts(self, content: str | list[dict[str, Any]], path: str) -> str | list[TextPart]:
        """The texts of instructions."""
        if isinstance(content, str):
            return content
        texts: list[TextPart] = []
        for index, block in enumerate(content):
            where = f"{path}[{index}]"
            parts = self._shown(block, where) if part_type(block) in _TEXTS else []
            if not parts:
                raise not_translatable(f"{where}.type", "instructions are text")
            texts += (TextPart(text=part.text) for part in parts if isinstance(part, TextPart))
        return texts[0].text if len(texts) == 1 else texts or ""

    def _user(self, content: str | list[dict[str, Any]], path: str) -> list[Message]:
        if isinstance(content, str):
            return [UserMessage(content=content)]
        results: list[Message] = []
        parts: list[Part] = []
        for index, block in enumerate(content):
            where = f"{path}[{index}]"
            kind = part_type(block)
            if kind == "tool_result":
                results.append(self._result(block, where))
            elif kind in RESULT_TYPES:
                results.append(self._others.result(block, where))
            else:
                parts += self._shown(block, where)
        return [*results, UserMessage(content=_content(parts))] if parts else results

    def _result(self, block: dict[str, Any], path: str) -> ToolMessage:
        result = self._read(block, types.ToolResultBlock, path)
        parts: list[Part] = []
        if isinstance(result.content, str):
            parts = [TextPart(text=result.content)]
        else:
            for index, inner in enumerate(result.content or ()):
                parts += self._shown(inner, f"{path}.content[{index}]")
        return ToolMessage(
            content=_content(parts), tool_call_id=read_id(result.tool_use_id), is_error=bool(result.is_error)
        )

    def _assistant(
        self, content: str | list[dict[str, Any]], calls: Sequence[dict[str, Any]], path: str
    ) -> list[Message]:
        if isinstance(content, str) and not calls:
            return [AssistantMessage(content=content)]
        turn = _AssistantTurn()
        if isinstance(content, str):
            turn.texts += [TextPart(text=content)] if content else []
            content = []
        for index, block in enumerate(content):
            self._add(turn, block, f"{path}[{index}]")
        for index, call in enumerate(calls):
            where = f"{path.removesuffix('content')}tool_calls[{index}]"
            turn.other_calls.append(self._others.function_call(call, where))
        return turn.messages(self._dropped)

    def _add(self, turn: "_AssistantTurn", block: dict[str, Any], where: str) -> None:
        """Add a block of the model's."""
        kind = block.get("type")
        if kind == "text":
            said = self._read(block, types.TextBlock, where)
            turn.texts.append(TextPart(text=with_sources(said.text, said.citations)))
        elif kind == "tool_use":
            turn.calls.append(self._read(block, types.ToolUseBlock, where))
        elif kind == "thinking":
            turn.think(self._read(block, types.ThinkingBlock, where))
        elif kind == "redacted_thinking":
            turn.think(self._read(block, types.RedactedThinkingBlock, where))
        elif kind == "compaction" and isinstance(block.get("content"), str):
            turn.texts.append(TextPart(text=block["content"]))
        elif isinstance(kind, str):
            self._add_other(turn, block, kind, where)
        else:
            raise not_translatable(f"{where}.type", "a block has a type")

    def _add_other(self, turn: "_AssistantTurn", block: dict[str, Any], kind: str, where: str) -> None:
        """Add a part in another vendor's words, and of what else there is the name to what is told."""
        if kind in CALL_TYPES:
            turn.other_calls.append(self._others.call(block, where))
            return
        if kind in THOUGHT_TYPES:
            thought = self._others.thought(block, where)
            turn.reasoning += [thought] if thought is not None else []
            return
        texts = [part for part in self._others.part(block, where) or () if isinstance(part, TextPart)]
        turn.texts += texts
        if not texts:
            self._dropped.add(f"{where}.{kind}")

    def _shown(self, block: dict[str, Any], path: str, depth: int = 0) -> list[Part]:
        """What the model is shown of a block of the user's."""
        kind = block.get("type")
        read = self._parts.get(kind) if isinstance(kind, str) else None
        if read is not None and depth <= MAX_NESTED:
            return read(block, path, depth)
        others = self._others.part(block, path, depth) if read is None else None
        if others is not None:
            return others
        if kind == "container_upload":
            raise not_translatable(f"{path}.type", "the file is at Anthropic: send its content as a 'document'")
        raise not_translatable(
            f"{path}.type", f"{kind!r} is no block that it can be shown: send text, an image or a document"
        )

    def _text(self, block: dict[str, Any], path: str, _depth: int) -> list[Part]:
        return [TextPart(text=self._read(block, types.TextBlock, path).text)]

    def _image(self, block: dict[str, Any], path: str, _depth: int) -> list[Part]:
        image = self._read(block, types.ImageBlock, path)
        return [ImagePart(image_url=ImageUrl(url=self._url(image.source, f"{path}.source", "image/png")))]

    def _document(self, block: dict[str, Any], path: str, depth: int) -> list[Part]:
        document = self._read(block, types.DocumentBlock, path)
        if isinstance(document.citations, dict) and document.citations.get("enabled"):
            self._dropped.add(f"{path}.citations")
        where = f"{path}.source"
        if document.source.get("type") in ("text", "content"):
            source = converted(document.source, types.Source, inside=where)
            inner = source.data if source.type == "text" else source.content
            return document_text(document.title, document.context, self._inside(inner or "", f"{where}.content", depth))
        url = self._url(document.source, where, "application/pdf")
        text = _text_of_data_url(url)
        if text is not None:
            return document_text(document.title, document.context, [TextPart(text=text)])
        file: list[Part] = [FilePart(file=File(url=url, filename=document.title or None))]
        return [TextPart(text=document.context), *file] if document.context else file

    def _inside(self, content: str | list[dict[str, Any]], path: str, depth: int) -> list[Part]:
        if isinstance(content, str):
            return [TextPart(text=content)]
        return [
            part for index, block in enumerate(content) for part in self._shown(block, f"{path}[{index}]", depth + 1)
        ]

    def _search_result(self, block: dict[str, Any], path: str, _depth: int) -> list[Part]:
        found = self._read(block, types.SearchResultBlock, path)
        said = "\n".join(text.text for text in found.content)
        return [TextPart(text=search_result_text(found.title, found.source, said))]

    def _tool_reference(self, block: dict[str, Any], path: str, _depth: int) -> list[Part]:
        return [TextPart(text=f"Found the tool `{self._read(block, types.ToolReferenceBlock, path).tool_name}`.")]

    def _url(self, raw: dict[str, Any], path: str, media_type: str) -> str:
        """The address of an image or a document: its own, or one that holds its content."""
        if raw.get("type") == "file":
            raise not_translatable(f"{path}.file_id", "the file is at Anthropic: send its content in base64")
        source = converted(raw, types.Source, inside=path)
        if source.type == "url" and source.url:
            return source.url
        if source.type == "base64" and source.data:
            return f"data:{source.media_type or media_type};base64,{source.data}"
        raise not_translatable(path, "a source has `url`, or `data` in base64")

    def _read(self, block: dict[str, Any], shape: type[Shape], path: str) -> Shape:
        known = converted(block, shape, inside=path)
        drop_unknown(known, {name: value for name, value in block.items() if name != "type"}, self._dropped)
        if block.get("cache_control") is not None:  # a hint about the price, which no other vendor takes
            self._dropped.add("cache_control")
        return known


class _AssistantTurn:
    def __init__(self) -> None:
        self.texts: list[TextPart] = []
        self.calls: list[types.ToolUseBlock] = []
        self.other_calls: list[ToolCall] = []
        """In another vendor's words."""
        self.reasoning: list[ReasoningBlock] = []
        self._extra_content: dict[str, dict[str, Any]] = {}

    def think(self, block: types.ThinkingBlock | types.RedactedThinkingBlock) -> None:
        """Take a block of thinking: of Anthropic's own, or of another vendor's model, which is to have it back."""
        if isinstance(block, types.ThinkingBlock):
            kept, text = read_kept(block.signature), block.thinking or None
            own = ReasoningBlock(text=text, signature=block.signature or None)
        else:
            kept, text = read_kept(block.data), None
            own = ReasoningBlock(data=block.data)
        found = self._kept(kept, text) if kept is not None else own
        if found is not None and found != ReasoningBlock():
            place = len(self.calls) + len(self.other_calls)
            self.reasoning.append(replace(found, after_calls=place) if place else found)

    def _kept(self, kept: KeptThinking, text: str | None) -> ReasoningBlock | None:
        self._extra_content |= kept.calls
        return kept.block(text)

    def messages(self, dropped: DroppedFields) -> list[Message]:
        """One message for the turn: its text, then its calls. None for a turn that has only thinking."""
        calls = [self._call(block) for block in self.calls]
        known = {call.id for call in calls}  # some clients write a call in both vendors' words
        calls += (call for call in self.other_calls if call.id not in known)
        if not self.texts and not calls:
            if self.reasoning:
                dropped.add("thinking")
            return []
        texts = self.texts[0].text if len(self.texts) == 1 else self.texts or None
        return [AssistantMessage(content=texts, tool_calls=calls or None, reasoning=self.reasoning or None)]

    def _call(self, block: types.ToolUseBlock) -> ToolCall:
        call_id = read_id(block.id)
        call = ToolCall(id=call_id, function=FunctionCall(name=block.name, arguments=written_arguments(block.input)))
        extra = self._extra_content.get(call_id)
        return ToolCall(id=call.id, function=call.function, extra_content=extra) if extra else call


def _content(parts: list[Part]) -> str | list[Part]:
    """A single text becomes a plain string: to Anthropic it means the same, and other vendors expect it."""
    first = parts[0] if parts else TextPart(text="")
    return first.text if len(parts) <= 1 and isinstance(first, TextPart) else parts


def _text_of_data_url(url: str) -> str | None:
    """The text that a data: URL holds; None if it holds something else."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:text/"):
        return None
    try:
        return base64.b64decode(data).decode()
    except (binascii.Error, ValueError):
        return None
