"""Messages of OpenAI's chat completions, as clients write them, into canonical ones.

A part may be one of another API, whose calls and results then stand among the parts: they become what they would be in
a chat completion.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from domain.canonical.chat import (
    AssistantMessage,
    CacheControl,
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
from domain.dialects.cache_marks import parse_cache_control
from domain.dialects.field_rules import DroppedFields, FieldRule, apply_rules, not_translatable, rules_by_name
from domain.dialects.message_parts import CALL_TYPES, RESULT_TYPES, THOUGHT_TYPES, PartReader, part_type
from domain.dialects.openai import request_types as types
from domain.dialects.openai.reasoning import parse_reasoning, parse_thinking_blocks
from domain.dialects.openai.rules import CHAT_CLIENT_RULES
from domain.dialects.openai.tools import arguments_text, custom_arguments
from domain.errors import InvalidRequest
from domain.names import MAX_NAME_CHARS

_PART_RULES: dict[str, FieldRule] = rules_by_name(CHAT_CLIENT_RULES, "messages[].content[]")
_MESSAGE_RULES: dict[str, FieldRule] = rules_by_name(CHAT_CLIENT_RULES, "messages[]")


class _OpenCalls:
    """The calls of a message that have no result yet. To find one takes as long if there are thousands."""

    def __init__(self, calls: Iterable[ToolCall]) -> None:
        self._names = OrderedDict((call.id, call.function.name) for call in calls)
        self._by_name: dict[str, OrderedDict[str, None]] = {}
        for call_id, name in self._names.items():
            self._by_name.setdefault(name, OrderedDict())[call_id] = None

    def take(self, call_id: str | None, name: str | None) -> str | None:
        """The id of the call that a result belongs to, which is closed; None if there is none.

        `call_id`: as the result says. If it says none, the first call of this name, or of any.
        """
        found = call_id
        if not call_id:
            found = next(iter(self._names if name is None else self._by_name.get(name, ())), None)
        if found is None or found not in self._names:
            return None
        del self._by_name[self._names.pop(found)][found]
        return found


class MessageReader:
    """Reads the messages of one request, in their order: a result without an id belongs to a call before it."""

    def __init__(self, dropped: DroppedFields) -> None:
        self._dropped = dropped
        self._parts = PartReader(dropped)
        self._open_calls = _OpenCalls(())

    def read(self, message: types.MessageParam, path: str) -> list[Message]:
        """Read one message, which may hold results of tools beside what it says; `path` names it in a refusal.

        Raises:
            InvalidRequest: it has something that no model of another vendor can be shown.

        """
        apply_rules(_MESSAGE_RULES, message, self._dropped, inside="messages[]")
        mark = parse_cache_control(message.cache_control)
        match message:
            case types.SystemMessageParam():
                return [SystemMessage(content=self._text(message.content, mark, path), name=_name(message.name))]
            case types.DeveloperMessageParam():
                return [DeveloperMessage(content=self._text(message.content, mark, path), name=_name(message.name))]
            case types.UserMessageParam():
                return self._user(message, mark, path)
            case types.AssistantMessageParam():
                return [self._assistant(message, mark, path)]
            case types.ToolMessageParam():
                return [self._result(message, self._answered(message.tool_call_id, None), mark, path)]
            case types.FunctionMessageParam():
                return [self._result(message, self._answered(None, message.name), mark, path)]

    def _user(self, message: types.UserMessageParam, mark: CacheControl | None, path: str) -> list[Message]:
        results, content = self._split(message.content, RESULT_TYPES, path)
        messages: list[Message] = [self._part_result(raw, where) for where, raw in results]
        if content or not messages:
            parts = self._content(content, mark, path)
            messages.append(UserMessage(content=parts, name=_name(message.name)))
        return messages

    def _result(
        self,
        message: types.ToolMessageParam | types.FunctionMessageParam,
        call_id: str,
        mark: CacheControl | None,
        path: str,
    ) -> ToolMessage:
        """The result of a call. Some clients put Anthropic's whole result into the message."""
        inner, content = self._split(message.content, RESULT_TYPES, path)
        results = [self._parts.result({"tool_use_id": call_id} | raw, where) for where, raw in inner]
        parts = self._content(content, mark, path)
        if not results:
            return ToolMessage(content=parts, tool_call_id=call_id)
        joined = [part for one in (*results, ToolMessage(content=parts, tool_call_id="_")) for part in _listed(one)]
        is_error = any(one.is_error for one in results)
        return ToolMessage(content=_single(joined), tool_call_id=call_id, is_error=is_error)

    def _part_result(self, raw: dict[str, Any], path: str) -> ToolMessage:
        found = self._parts.result(raw, path)
        return replace(found, tool_call_id=self._answered(found.tool_call_id, None))

    def _split(
        self, content: types.Content | None, kinds: frozenset[str], path: str
    ) -> tuple[list[tuple[str, dict[str, Any]]], list[tuple[str, Any]]]:
        """The parts of some types, and the others, each with its path."""
        if not isinstance(content, list):
            return [], [(f"{path}.content", content)] if content else []
        chosen: list[tuple[str, dict[str, Any]]] = []
        others: list[tuple[str, Any]] = []
        for index, raw in enumerate(content):
            is_one = part_type(raw) in kinds
            (chosen if is_one else others).append((f"{path}.content[{index}]", raw))
        return chosen, others

    def _answered(self, call_id: str | None, name: str | None) -> str:
        """The id of the call that a result belongs to: the one it says, else the first of this name without one."""
        return self._open_calls.take(call_id, name) or call_id or name or "call_unknown"

    def _assistant(self, message: types.AssistantMessageParam, mark: CacheControl | None, path: str) -> Message:
        made_id = f"call_{path.strip('mesag[]')}"
        calls = [
            self._call(call, f"{path}.tool_calls[{index}]", f"{made_id}_{index}")
            for index, call in enumerate(message.tool_calls or ())
        ]
        if message.function_call is not None and not calls:
            calls = [_function_call(message.function_call, f"{made_id}_0")]
        said = self._said(message, path)
        known = {call.id for call in calls}  # some clients write a call in both vendors' words
        calls += (call for call in said.calls if call.id not in known)
        self._open_calls = _OpenCalls(calls)
        blocks = parse_reasoning(message.reasoning_details, is_sellers=False)
        blocks = blocks or parse_thinking_blocks(message.thinking_blocks)
        blocks = blocks or said.thoughts or parse_reasoning(None, message.reasoning_content, message.reasoning)
        return AssistantMessage(
            content=_marked_text(said.texts, mark),
            tool_calls=calls or None,
            reasoning=blocks or None,
            name=_name(message.name),
        )

    def _call(self, call: types.ToolCallParam, path: str, made_id: str) -> ToolCall:
        call_id = call.id or made_id
        if call.custom is not None:
            function = FunctionCall(name=call.custom.name, arguments=custom_arguments(call.custom.input))
        elif call.function is not None:
            function = FunctionCall(name=call.function.name, arguments=arguments_text(call.function.arguments))
        else:
            raise InvalidRequest(f"`{path}` calls no function", field=path)
        made = ToolCall(id=_limited(call_id), function=function)
        extra = call.extra_content or _signature(call)
        return replace(made, extra_content=extra) if extra else made

    def _said(self, message: types.AssistantMessageParam, path: str) -> "_Said":
        """What an earlier answer said, thought and called. A refusal is text of the model, too, and so is a transcript.

        Raises:
            InvalidRequest: it was only spoken, or has something that the canonical form has no place for.

        """
        said = _Said()
        if isinstance(message.content, list):
            for index, raw in enumerate(message.content):
                self._read_said(raw, f"{path}.content[{index}]", said)
        elif message.content is not None:
            said.texts = message.content
        more = message.refusal or _transcript(message, path)
        if more and not said.texts:
            said.texts = more
        elif more:
            said.texts = [*_text_parts(said.texts), TextPart(text=more)]
        return said

    def _read_said(self, raw: Any, path: str, said: "_Said") -> None:
        kind = part_type(raw)
        if kind in CALL_TYPES:
            said.calls.append(self._parts.call(raw, path))
        elif kind in THOUGHT_TYPES:
            thought = self._parts.thought(raw, path)
            said.thoughts += [thought] if thought is not None else []
        else:
            texts = self._texts(raw, path, "only a user's message and a tool's result have it")
            said.texts = [*_text_parts(said.texts), *texts]

    def _text(self, content: types.Content | None, mark: CacheControl | None, path: str) -> TextContent:
        if content is None or isinstance(content, str):
            return _marked_text(content or "", mark) or ""
        parts = [
            part
            for index, raw in enumerate(content)
            for part in self._texts(raw, f"{path}.content[{index}]", "instructions are text")
        ]
        return _marked_text(parts, mark) or ""

    def _texts(self, raw: Any, path: str, advice: str) -> list[TextPart]:
        parts = self._part(raw, path)
        texts = [part for part in parts if isinstance(part, TextPart)]
        if len(texts) < len(parts):
            raise not_translatable(f"{path}.type", advice)
        return texts

    def _content(self, content: list[tuple[str, Any]], mark: CacheControl | None, path: str) -> Content:
        """Some parts, each with its path, or one text."""
        if not content:
            return ""
        if content[0][0] == f"{path}.content":
            return _marked(str(content[0][1]), mark)
        return _marked([part for where, raw in content for part in self._part(raw, where)], mark)

    def _part(self, raw: Any, path: str) -> list[Part]:
        if isinstance(raw, str):
            return [TextPart(text=raw)]
        if not isinstance(raw, dict):
            raise InvalidRequest(f"`{path}`: Expected `object`, got `{type(raw).__name__}`", field=path)
        if not isinstance(raw.get("type"), str):
            raise InvalidRequest(f"`{path}.type`: Object missing required field `type`", field=f"{path}.type")
        apply_rules(_PART_RULES, raw, self._dropped, inside="messages[].content[]")
        parts = self._parts.part(raw, path)
        if parts is None:
            raise not_translatable(f"{path}.type", f"{raw['type'][:64]!r} is no part that it can be shown: {_ADVICE}")
        return parts


class _Said:
    """What an earlier answer said."""

    def __init__(self) -> None:
        self.texts: TextContent | None = None
        self.thoughts: list[ReasoningBlock] = []
        self.calls: list[ToolCall] = []


_ADVICE = "send text, an image or a file"


def _text_parts(content: TextContent | None) -> list[TextPart]:
    if content is None or isinstance(content, str):
        return [TextPart(text=content)] if content else []
    return content


def _listed(message: ToolMessage) -> list[Part]:
    content = message.content
    return ([TextPart(text=content)] if content else []) if isinstance(content, str) else content


def _single(parts: list[Part]) -> Content:
    """A text that is all there is becomes a plain string."""
    first = parts[0] if parts else TextPart(text="")
    if isinstance(first, TextPart) and len(parts) <= 1 and first.cache_control is None:
        return first.text
    return parts


def _name(name: str | None) -> str | None:
    """A speaker's name, if it can be one."""
    return name if name and len(name) <= MAX_NAME_CHARS and "\x00" not in name else None


def _limited(call_id: str) -> str:
    if len(call_id) > MAX_NAME_CHARS or "\x00" in call_id:
        raise InvalidRequest(f"the id of a tool call may have {MAX_NAME_CHARS} characters", field="messages")
    return call_id


def _function_call(call: types.FunctionParam, call_id: str) -> ToolCall:
    return ToolCall(id=call_id, function=FunctionCall(name=call.name, arguments=arguments_text(call.arguments)))


def _signature(call: types.ToolCallParam) -> dict[str, Any] | None:
    """Gemini's signature of a thought, where its clients put it: as its own endpoint has it."""
    beside = call.provider_specific_fields
    for found in (
        call.thought_signature,
        call.function.thought_signature if call.function is not None else None,
        beside.get("thought_signature") if isinstance(beside, dict) else None,
    ):
        if found:
            return {"google": {"thought_signature": found}}
    return None


def _transcript(message: types.AssistantMessageParam, path: str) -> str | None:
    if message.audio is None or message.content:
        return None
    transcript = message.audio.get("transcript") if isinstance(message.audio, dict) else None
    if not isinstance(transcript, str):
        raise not_translatable(f"{path}.audio", "send what was said as `content`")
    return transcript


def _marked(content: str | list[Part], mark: CacheControl | None) -> Content:
    """The content, its last part with a mark of the whole message."""
    if isinstance(content, str):
        return [TextPart(text=content, cache_control=mark)] if mark is not None and content else content
    if not content:
        return ""
    if mark is None or content[-1].cache_control is not None:
        return content
    return [*content[:-1], replace(content[-1], cache_control=mark)]


def _marked_text(content: TextContent | None, mark: CacheControl | None) -> TextContent | None:
    if content is None or isinstance(content, str):
        return [TextPart(text=content, cache_control=mark)] if mark is not None and content else content
    if not content:
        return None
    if mark is None or content[-1].cache_control is not None:
        return content
    return [*content[:-1], replace(content[-1], cache_control=mark)]
