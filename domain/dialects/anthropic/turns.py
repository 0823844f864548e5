"""A canonical conversation as Anthropic's turns.

https://platform.claude.com/docs/en/api/messages. The instructions at the beginning are the system prompt; those that
come later keep their place, as text of the user's turn in `<system>` tags. Turns alternate, so neighbours of one role
are merged. The results of a turn's calls are the first blocks of the turn after it, one for each call: results that
come later are moved there, several of one call are joined, missing ones are reported as missing, and those of no call
become text. Blank texts are left out, since Anthropic refuses them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from domain.canonical.chat import (
    AssistantMessage,
    ChatRequest,
    DeveloperMessage,
    FilePart,
    ImagePart,
    Message,
    Part,
    ReasoningBlock,
    SystemMessage,
    TextContent,
    TextPart,
    ToolMessage,
    UserMessage,
    thoughts_by_place,
)
from domain.dialects.anthropic.kept_thinking import MARK
from domain.dialects.anthropic.media import file_block, image_block
from domain.dialects.anthropic.tool_ids import claude_id, made_id
from domain.dialects.anthropic.tools import parsed_arguments, with_cache_control
from domain.dialects.field_rules import DroppedFields
from domain.errors import InvalidRequest
from domain.models import ModelTraits

NO_TEXT = "..."
"""Stands for a message of the user's that says nothing, where Anthropic needs one."""
NO_RESULT = "There is no result: the tool was not called."
GO_ON = "Your answer was cut off. Continue it exactly where it ends, and repeat nothing of it."
"""For models that continue no answer of their own. After
https://platform.claude.com/docs/en/about-claude/models/migration-guide (prefill)."""

_OWN_FORMS = ("anthropic", "unknown")
"""How the `format` begins of thinking that a seller gives, if it is of these models."""
_THINKING = frozenset({"thinking", "redacted_thinking"})
Block = dict[str, Any]
Turn = dict[str, Any]
_INSTRUCTIONS = (SystemMessage, DeveloperMessage)
_CallKey = tuple[int, int]
"""The place of a call: the index of its message, and its own among the message's calls."""


def has_prefill(messages: Sequence[Message]) -> bool:
    """True if the conversation ends with words of the model's, which its answer is to continue."""
    last = messages[-1]
    return (
        isinstance(last, AssistantMessage)
        and not last.tool_calls
        and any(text.strip() for text in _texts_of(last.content))
    )


def lacks_thinking(messages: Sequence[Message]) -> bool:
    """True if the model's last turn called tools and did not begin with thinking of its own."""
    has_calls = False
    for message in reversed(messages):
        if isinstance(message, AssistantMessage):
            has_calls = has_calls or bool(message.tool_calls)
            if _thinking_blocks(enumerate(message.reasoning or ())):
                return False
            if not has_calls:
                return False
        elif isinstance(message, UserMessage) and has_calls:
            break
    return has_calls


def split_instructions(messages: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """The instructions that a conversation begins with, and the rest. One of instructions alone is said by the user."""
    count = next((number for number, message in enumerate(messages) if not isinstance(message, _INSTRUCTIONS)), 0)
    return messages[:count], messages[count:]


class TurnWriter:
    """Writes the turns of one request."""

    def __init__(self, request: ChatRequest, traits: ModelTraits, dropped: DroppedFields, *, thinks: bool) -> None:
        self._messages = request.messages
        self._traits = traits
        self._dropped = dropped
        self._thinks = thinks
        self._results, self._orphans = _matched(self._messages)
        self._ids = _ids(self._messages)
        self._turns: list[Turn] = []
        self._unanswered: list[int] = []
        self._thoughts_sent = 0
        self._has_only_instructions = all(isinstance(message, _INSTRUCTIONS) for message in self._messages)

    def write(self, rest: Sequence[Message]) -> list[Turn]:
        """The turns of the messages after the instructions.

        Raises:
            InvalidRequest: nothing is said, or a part cannot be shown.

        """
        first = len(self._messages) - len(rest)
        for index, message in enumerate(rest, first):
            self._write(index, message)
        self._answer_calls()
        turns = self._turns
        if self._thoughts_sent < sum(len(getattr(message, "reasoning", None) or ()) for message in self._messages):
            self._dropped.add("reasoning")
        if not turns and not first:
            raise InvalidRequest("`messages` say nothing: Anthropic's models need a text to answer", field="messages")
        if not turns or turns[0]["role"] == "assistant":
            turns.insert(0, {"role": "user", "content": [_text(NO_TEXT)]})
        if turns[-1]["role"] == "assistant":
            self._end_with_assistant(is_prefill=has_prefill(rest))
        return turns

    def _write(self, index: int, message: Message) -> None:
        path = f"messages[{index}]"
        match message:
            case AssistantMessage():
                self._add("assistant", self._assistant_blocks(index, message, path))
                if message.tool_calls:
                    self._unanswered.append(index)
                return
            case ToolMessage():
                self._answer_calls()
                if index in self._orphans:
                    said = [_text(f"The result of the tool call {message.tool_call_id}:")]
                    self._add("user", said + self._content(message.content, path))
            case UserMessage():
                self._answer_calls()
                self._add("user", self._content(message.content, path))
            case SystemMessage() | DeveloperMessage():
                self._answer_calls()
                blocks = self._content(message.content, path)
                self._add("user", blocks if self._has_only_instructions else _as_instructions(blocks))

    def _add(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self._turns and self._turns[-1]["role"] == role:
            self._turns[-1]["content"] += blocks
        else:
            self._turns.append({"role": role, "content": blocks})

    def _answer_calls(self) -> None:
        """Write a result for every call of the turn so far."""
        for index in self._unanswered:
            message = self._messages[index]
            assert isinstance(message, AssistantMessage), "it has calls"
            for position in range(len(message.tool_calls or ())):
                self._add("user", [self._result(index, position)])
        self._unanswered.clear()

    def _result(self, index: int, position: int) -> Block:
        block: Block = {"type": "tool_result", "tool_use_id": self._ids[index, position]}
        found = self._results.get((index, position))
        if not found:
            return block | {"content": NO_RESULT, "is_error": True}
        messages = [(number, self._messages[number]) for number in found]
        shown = [
            part
            for number, message in messages
            if isinstance(message, ToolMessage)
            for part in self._content(message.content, f"messages[{number}]")
        ]
        if any(isinstance(message, ToolMessage) and message.is_error for _, message in messages):
            block["is_error"] = True
        marks = [part.pop("cache_control") for part in shown if "cache_control" in part]
        if marks:
            block["cache_control"] = marks[-1]
        if not shown:
            return block | {"content": ""}
        is_one_text = len(shown) == 1 and shown[0]["type"] == "text"
        return block | {"content": shown[0]["text"] if is_one_text else shown}

    def _assistant_blocks(self, index: int, message: AssistantMessage, path: str) -> list[Block]:
        calls = message.tool_calls or []
        places = thoughts_by_place(message.reasoning or () if self._thinks else (), len(calls))
        blocks = _thinking_blocks(places[0]) + self._content(message.content, path)
        for position, call in enumerate(calls):
            blocks += _thinking_blocks(places[position]) if position else []
            blocks.append(
                {
                    "type": "tool_use",
                    "id": self._ids[index, position],
                    "name": call.function.name,
                    "input": parsed_arguments(call.function.arguments),
                }
            )
        self._thoughts_sent += sum(block["type"] in _THINKING for block in blocks)
        return blocks

    def _content(self, content: str | Sequence[Part] | None, path: str) -> list[Block]:
        if content is None:
            return []
        if isinstance(content, str):
            content = [TextPart(text=content)]
        blocks: list[Block] = []
        for index, part in enumerate(content):
            where = f"{path}.content[{index}]"
            match part:
                case TextPart():
                    if not part.text.strip():
                        if part.text:
                            self._dropped.add("content")
                        if part.cache_control is not None and blocks:
                            blocks[-1] = with_cache_control(blocks[-1], part.cache_control)
                        continue
                    block = _text(part.text)
                case ImagePart():
                    if part.image_url.detail not in (None, "auto"):
                        self._dropped.add("detail")
                    block = image_block(part, where)
                case FilePart():
                    block = file_block(part, where)
            blocks.append(with_cache_control(block, part.cache_control))
        return blocks

    def _end_with_assistant(self, *, is_prefill: bool) -> None:
        """End with the beginning of an answer, without the whitespace that Anthropic refuses there; or with a turn of
        the user's, if the model takes no such beginning or the conversation did not end with one.
        """
        last = self._turns[-1]["content"][-1]
        if last["type"] == "text":
            last["text"] = last["text"].rstrip()
        if not is_prefill or not self._traits.takes_prefill:
            self._turns.append({"role": "user", "content": [_text(GO_ON if is_prefill else NO_TEXT)]})


def _matched(messages: Sequence[Message]) -> tuple[dict[_CallKey, list[int]], frozenset[int]]:
    """The messages with the results of each call, and those with results of none."""
    open_calls: dict[str, _CallKey] = {}
    results: dict[_CallKey, list[int]] = {}
    orphans = set()
    for index, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            open_calls |= {call.id: (index, position) for position, call in enumerate(message.tool_calls or ())}
        elif isinstance(message, ToolMessage):
            key = open_calls.get(message.tool_call_id)
            if key is None:
                orphans.add(index)
            else:
                results.setdefault(key, []).append(index)
    return results, frozenset(orphans)


def _ids(messages: Sequence[Message]) -> dict[_CallKey, str]:
    """Anthropic's ids of all calls: each is there once, although some vendors number each turn's calls anew."""
    ids: dict[_CallKey, str] = {}
    used: set[str] = set()
    for index, message in enumerate(messages):
        for position, call in enumerate(message.tool_calls or () if isinstance(message, AssistantMessage) else ()):
            found = claude_id(call.id)
            if found in used:
                found = made_id(call.id, index, position)
            used.add(found)
            ids[index, position] = found
    return ids


def _thinking_blocks(thoughts: Iterable[tuple[int, ReasoningBlock]]) -> list[Block]:
    """Those of the blocks that a model of Anthropic's wrote. It can neither read nor verify any other."""
    blocks: list[Block] = []
    for _, thought in thoughts:
        form = (thought.detail or {}).get("format")
        if isinstance(form, str) and not form.startswith(_OWN_FORMS):
            continue
        if thought.signature and not thought.signature.startswith(MARK):
            blocks.append({"type": "thinking", "thinking": thought.text or "", "signature": thought.signature})
        elif thought.data and thought.id is None and thought.text is None and not thought.data.startswith(MARK):
            blocks.append({"type": "redacted_thinking", "data": thought.data})
    return blocks


def _as_instructions(blocks: Iterable[Block]) -> list[Block]:
    return [block | {"text": f"<system>\n{block['text']}\n</system>"} for block in blocks]


def _texts_of(content: TextContent | None) -> list[str]:
    if content is None or isinstance(content, str):
        return [content or ""]
    return [part.text for part in content]


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
