"""The input items of a Responses request as canonical messages, in their order.

The model's side of a turn (thinking, text, calls) becomes one message, until something else comes in between or its
order would be lost. Thinking that neither text nor a call follows is left out: no vendor takes it alone.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import replace

from domain.canonical.chat import (
    AssistantMessage,
    Content,
    DeveloperMessage,
    FunctionCall,
    Message,
    Part,
    ReasoningBlock,
    SystemMessage,
    TextContent,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from domain.dialects.field_rules import DroppedFields, decode_translatable, not_translatable
from domain.dialects.message_parts import CALL_TYPES, RESULT_TYPES, THOUGHT_TYPES, PartReader, part_type
from domain.dialects.openai.responses import types
from domain.dialects.openai.responses.reasoning import decode_reasoning
from domain.dialects.openai.responses.rules import WHOLE_ITEMS
from domain.dialects.openai.responses.tools import qualified
from domain.errors import InvalidRequest

_FAILED = "failed"
_LEFT_OUT = frozenset(
    {
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "tool_search_call",
        "tool_search_output",
        "additional_tools",
        "configuration_update",
        "image_generation_call",
        "compaction_trigger",
        "program",
        "program_output",
    }
)
"""Items that tell the model nothing, or that only OpenAI's models read beside what stands in the text."""
_TOLD_AS_TEXT = frozenset({"web_search_call", "file_search_call", "code_interpreter_call", "mcp_call"})
"""What OpenAI's own tools did."""
_BOOKKEEPING = ("id", "status", "type", "container_id", "created_by")
_REFUSED = {
    "item_reference": WHOLE_ITEMS,
    "compaction": "only OpenAI's models read it, send the conversation itself",
    "compaction_summary": "only OpenAI's models read it, send the conversation itself",
    "computer_call": "the tool is for OpenAI's models only",
    "computer_call_output": "the tool is for OpenAI's models only",
}

_typed = msgspec.json.Decoder(types.Typed)
_message = msgspec.json.Decoder(types.MessageItem)
_reasoning = msgspec.json.Decoder(types.ReasoningItem)
_function_call = msgspec.json.Decoder(types.FunctionCallItem)
_custom_call = msgspec.json.Decoder(types.CustomToolCallItem)
_action_call = msgspec.json.Decoder(types.ActionCallItem)
_call_output = msgspec.json.Decoder(types.CallOutputItem)
_members = msgspec.json.Decoder(dict[str, Any])


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class InputReader:
    """Reads the items of one request, one after another."""

    def __init__(self, dropped: DroppedFields) -> None:
        self._dropped = dropped
        self._parts = PartReader(dropped)
        self._messages: list[Message] = []
        self._reasoning: list[ReasoningBlock] = []
        self._said: list[TextPart] = []
        self._calls: list[ToolCall] = []
        self._extra_content: dict[str, dict[str, Any]] = {}

    def read(self, raw: Raw, path: str) -> None:
        """Read the next item.

        Raises:
            InvalidRequest: names the field.

        """
        kind = decode_translatable(raw, _typed, inside=path).kind
        reader = _READERS.get(kind)
        if reader is not None:
            reader(self, raw, path)
        elif kind in _LEFT_OUT:
            self._dropped.add(kind)
        elif kind in _TOLD_AS_TEXT:
            self._tell(raw, kind, path)
        else:
            advice = _REFUSED.get(kind, "no model of another vendor knows such an item")
            raise not_translatable(f"{path} ({kind})", advice)

    def messages(self) -> list[Message]:
        """All messages."""
        self._end_turn()
        return self._messages

    def _read_message(self, raw: Raw, path: str) -> None:
        message = decode_translatable(raw, _message, inside=path)
        content = message.content if message.content is not None else ""
        where = f"{path}.content"
        match message.role:
            case "assistant":
                self._read_said(content, where)
                for index, call in enumerate(message.tool_calls or ()):
                    at = f"{path}.tool_calls[{index}]"
                    self._add_call(self._parts.function_call(call, at))
            case "tool":
                self._end_turn()
                result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": content}
                self._messages.append(self._parts.result(result, path))
            case "user":
                self._end_turn()
                self._read_user(content, where)
            case "system":
                self._end_turn()
                self._messages.append(SystemMessage(content=self._texts(content, where)))
            case "developer":
                self._end_turn()
                self._messages.append(DeveloperMessage(content=self._texts(content, where)))

    def _read_user(self, content: types.Content, path: str) -> None:
        """Results among the parts come before what else is said."""
        if isinstance(content, str):
            self._messages.append(UserMessage(content=content))
            return
        parts: list[Part] = []
        results: list[Message] = []
        for index, raw in enumerate(content):
            where = f"{path}[{index}]"
            if part_type(raw) in RESULT_TYPES:
                results.append(self._parts.result(raw, where))
            else:
                parts += self._part(raw, where)
        self._messages += results
        if parts or not results:
            self._messages.append(UserMessage(content=parts or ""))

    def _read_said(self, content: types.Content, path: str) -> None:
        """What the model said, and what it called if that stands among the parts."""
        if isinstance(content, str):
            self._say(content)
            return
        for index, raw in enumerate(content):
            where = f"{path}[{index}]"
            kind = part_type(raw)
            if kind in CALL_TYPES:
                self._add_call(self._parts.call(raw, where))
            elif kind in THOUGHT_TYPES:
                self._think(self._parts.thought(raw, where))
            else:
                self._say(self._texts([raw], where, is_one=True))

    def _add_call(self, call: ToolCall) -> None:
        if all(known.id != call.id for known in self._calls):  # some clients write a call in both vendors' words
            self._calls.append(call)

    def _part(self, raw: Any, path: str) -> list[Part]:
        if isinstance(raw, str):
            return [TextPart(text=raw)]
        kind = raw.get("type") if isinstance(raw, dict) else None
        if not isinstance(kind, str):
            raise InvalidRequest(f"`{path}.type`: Object missing required field `type`", field=f"{path}.type")
        parts = self._parts.part(raw, path)
        if parts is None:
            raise not_translatable(f"{path} ({kind[:64]})", "send text, an image or a file")
        return parts

    def _texts(self, content: types.Content, path: str, *, is_one: bool = False) -> TextContent:
        if isinstance(content, str):
            return content
        texts: list[TextPart] = []
        for index, raw in enumerate(content):
            where = path if is_one else f"{path}[{index}]"
            for part in self._part(raw, where):
                if not isinstance(part, TextPart):
                    raise not_translatable(where, "only a user's message and a tool's output have it")
                texts.append(part)
        return texts or ""

    def _say(self, content: TextContent) -> None:
        if self._calls:
            self._end_turn()
        texts = [TextPart(text=content)] if isinstance(content, str) else content
        self._said += (part for part in texts if part.text)

    def _tell(self, raw: Raw, kind: str, path: str) -> None:
        members = decode_translatable(raw, _members, inside=path)
        told = {name: value for name, value in members.items() if name not in _BOOKKEEPING and value is not None}
        self._say(f"[{kind}: {_json(told)}]")

    def _read_reasoning(self, raw: Raw, path: str) -> None:
        item = decode_translatable(raw, _reasoning, inside=path)
        kept = decode_reasoning(item.encrypted_content) if item.encrypted_content else None
        if kept is not None:
            self._extra_content |= kept.extra_content or {}
        block = kept.block if kept is not None else None if item.encrypted_content else _open_thinking(item)
        if block is None and kept is None and (item.encrypted_content or item.id):
            self._dropped.add("reasoning")
        self._think(block)

    def _think(self, block: ReasoningBlock | None) -> None:
        if block is None:
            return
        if self._said or self._calls:
            self._end_turn()
        self._reasoning.append(block)

    def _read_function_call(self, raw: Raw, path: str) -> None:
        call = decode_translatable(raw, _function_call, inside=path)
        arguments = call.arguments if isinstance(call.arguments, str) else _json(call.arguments or {})
        self._call(call.call_id, qualified(call.name, call.namespace), arguments)

    def _read_custom_call(self, raw: Raw, path: str) -> None:
        call = decode_translatable(raw, _custom_call, inside=path)
        self._call(call.call_id, qualified(call.name, call.namespace), _json({"input": call.input}))

    def _read_local_shell_call(self, raw: Raw, path: str) -> None:
        self._read_action_call(raw, path, "local_shell")

    def _read_shell_call(self, raw: Raw, path: str) -> None:
        self._read_action_call(raw, path, "shell")

    def _read_apply_patch_call(self, raw: Raw, path: str) -> None:
        call = decode_translatable(raw, _action_call, inside=path)
        self._call(call.call_id, "apply_patch", _json({"operation": call.operation or {}}))

    def _read_action_call(self, raw: Raw, path: str, name: str) -> None:
        call = decode_translatable(raw, _action_call, inside=path)
        action = {member: value for member, value in (call.action or {}).items() if value not in (None, {}, "exec")}
        self._call(call.call_id, name, _json(action))

    def _call(self, call_id: str, name: str, arguments: str) -> None:
        self._calls.append(ToolCall(id=call_id, function=FunctionCall(name=name, arguments=arguments or "{}")))

    def _read_output(self, raw: Raw, path: str) -> None:
        output = decode_translatable(raw, _call_output, inside=path)
        call_id = output.call_id or output.id
        if call_id is None:
            raise InvalidRequest(f"`{path}.call_id`: Object missing required field `call_id`", field=f"{path}.call_id")
        self._end_turn()
        self._messages.append(
            ToolMessage(
                content=self._output(output.output, f"{path}.output"),
                tool_call_id=call_id,
                is_error=output.status == _FAILED,
            )
        )

    def _output(self, output: Any, path: str) -> Content:
        """What a tool gave: a text, parts that the model is shown, or any JSON as its text."""
        if output is None or isinstance(output, str):
            return output or ""
        if isinstance(output, list) and output and all(isinstance(part, dict) and "type" in part for part in output):
            return [part for index, raw in enumerate(output) for part in self._part(raw, f"{path}[{index}]")] or ""
        return _json(output)

    def _end_turn(self) -> None:
        if self._said or self._calls:
            calls = [replace(call, extra_content=self._extra_content.get(call.id, UNSET)) for call in self._calls]
            self._messages.append(
                AssistantMessage(
                    content=(self._said[0].text if len(self._said) == 1 else self._said) if self._said else None,
                    tool_calls=calls or None,
                    reasoning=self._reasoning or None,
                )
            )
        elif self._reasoning:
            self._dropped.add("reasoning")
        self._reasoning, self._said, self._calls = [], [], []


_READERS: dict[str, Callable[[InputReader, Raw, str], None]] = {
    "message": InputReader._read_message,  # noqa: SLF001 - the table of its own methods
    "reasoning": InputReader._read_reasoning,  # noqa: SLF001
    "function_call": InputReader._read_function_call,  # noqa: SLF001
    "custom_tool_call": InputReader._read_custom_call,  # noqa: SLF001
    "local_shell_call": InputReader._read_local_shell_call,  # noqa: SLF001
    "shell_call": InputReader._read_shell_call,  # noqa: SLF001
    "apply_patch_call": InputReader._read_apply_patch_call,  # noqa: SLF001
    "function_call_output": InputReader._read_output,  # noqa: SLF001
    "custom_tool_call_output": InputReader._read_output,  # noqa: SLF001
    "local_shell_call_output": InputReader._read_output,  # noqa: SLF001
    "shell_call_output": InputReader._read_output,  # noqa: SLF001
    "apply_patch_call_output": InputReader._read_output,  # noqa: SLF001
}


def _open_thinking(item: types.ReasoningItem) -> ReasoningBlock | None:
    """Thinking that its model shows in the open. A summary alone is OpenAI's own, or that of a model that shows it."""
    texts = [piece.text for piece in (item.content or item.summary or ()) if piece.text]
    return ReasoningBlock(text="\n\n".join(texts)) if texts else None
