"""Conversations in the order that OpenAI's API wants: behind the calls of an assistant the result of each, then others.

Other vendors are less strict, and clients that are interrupted leave calls without a result.
"""

import hashlib
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from domain.canonical.chat import (
    TOOL_ERROR_MARK,
    AssistantMessage,
    Content,
    ImagePart,
    Message,
    Part,
    TextContent,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)

MAX_CALL_ID_CHARS = 40
"""OpenAI refuses a longer `tool_call_id`. Those of its own Responses API are longer."""
NO_RESULT = "(The tool call has no result: it was interrupted.)"


def in_order(messages: Sequence[Message], *, shows_media_in_results: bool = False) -> list[Message]:
    """The messages with every result behind its call, nothing empty, and ids that OpenAI takes.

    `shows_media_in_results`: the API shows images and files in a result. Else they follow in a message of the user.
    """
    settled: list[Message] = []
    turn: list[Message] = []
    for message in _joined(messages):
        if isinstance(message, AssistantMessage):
            settled += _turn(turn, shows_media_in_results)
            turn = [message]
        else:
            turn.append(message)
    return settled + _turn(turn, shows_media_in_results)


def _joined(messages: Iterable[Message]) -> Iterable[Message]:
    """The messages without empty ones. What an assistant says behind its calls becomes a part of the same message."""
    last: AssistantMessage | None = None
    for message in messages:
        if isinstance(message, AssistantMessage):
            if is_blank(message.content) and not message.tool_calls:
                continue
            if last is not None and last.tool_calls:
                last = _both(last, message)
                continue
        if last is not None:
            yield last
        last = None
        if isinstance(message, AssistantMessage):
            last = message
        else:
            yield message
    if last is not None:
        yield last


def is_blank(content: Content | TextContent | None) -> bool:
    """Return True if the content says nothing."""
    if content is None or isinstance(content, str):
        return not (content and content.strip())
    return all(isinstance(part, TextPart) and not part.text.strip() for part in content)


def _both(one: AssistantMessage, other: AssistantMessage) -> AssistantMessage:
    calls = [*(one.tool_calls or ()), *(other.tool_calls or ())]
    before = len(one.tool_calls or ())
    later = (replace(thought, after_calls=before + thought.after_calls) for thought in other.reasoning or ())
    thoughts = [*(one.reasoning or ()), *later]
    content = one.content if is_blank(other.content) else other.content
    if not is_blank(one.content) and not is_blank(other.content):
        content = [*_text_parts(one.content), *_text_parts(other.content)]
    return replace(one, content=content, tool_calls=calls or None, reasoning=thoughts or None)


def _text_parts(content: TextContent | None) -> list[TextPart]:
    return [TextPart(text=content or "")] if content is None or isinstance(content, str) else content


def _turn(turn: list[Message], shows_media_in_results: bool) -> list[Message]:
    """An assistant's message and all that follows it before the next."""
    if not turn:
        return []
    first, *others = turn
    calls = first.tool_calls or [] if isinstance(first, AssistantMessage) else []
    head: list[Message] = []
    if isinstance(first, AssistantMessage):
        head = [replace(first, tool_calls=[_with_short_id(call) for call in calls] or None)]
    else:
        others = turn
    results = {call.id: None for call in calls}
    found: dict[str, ToolMessage] = {}
    rest: list[Message] = []
    for message in others:
        if not isinstance(message, ToolMessage):
            rest.append(message)
        elif message.tool_call_id in results and message.tool_call_id not in found:
            found[message.tool_call_id] = message
        else:
            rest.append(_orphan(message))
    attached: list[Part] = []
    for call in calls:
        head.append(_result(call, found.get(call.id), None if shows_media_in_results else attached))
    return [*head, *([UserMessage(content=attached)] if attached else []), *rest]


def short_id(call_id: str) -> str:
    """The id of a call as OpenAI takes it: itself, or its digest. The same for a call and its result."""
    if len(call_id) <= MAX_CALL_ID_CHARS:
        return call_id
    return f"call_{hashlib.sha256(call_id.encode()).hexdigest()[: MAX_CALL_ID_CHARS - 5]}"


def _with_short_id(call: ToolCall) -> ToolCall:
    made = short_id(call.id)
    return call if made == call.id else replace(call, id=made)


def _result(call: ToolCall, message: ToolMessage | None, attached: list[Part] | None) -> ToolMessage:
    """A call's result. What it shows is moved to `attached`, to follow in a message of the user; None: it stays."""
    call_id = short_id(call.id)
    if message is None:
        return ToolMessage(content=NO_RESULT, tool_call_id=call_id)
    content = message.content
    if not isinstance(content, str) and attached is not None:
        parts: list[Part] = []
        for part in content:
            if isinstance(part, TextPart):
                parts.append(part)
                continue
            what = "image" if isinstance(part, ImagePart) else "file"
            number = 1 + len(attached) // 2  # each has a title
            attached += [TextPart(text=f"Attachment {number}, of the result of {call.function.name}:"), part]
            parts.append(TextPart(text=f"[The {what} follows as attachment {number}.]"))
        content = parts
    return ToolMessage(content=marked(content) if message.is_error else content, tool_call_id=call_id)


def marked(content: Content) -> Content:
    """The content of a result whose tool failed."""
    return TOOL_ERROR_MARK + content if isinstance(content, str) else [TextPart(text=TOOL_ERROR_MARK), *content]


def _orphan(message: ToolMessage) -> UserMessage:
    """A result whose call is not in the conversation: no provider takes it as one."""
    title = f"Result of the tool call {message.tool_call_id}:"
    content = marked(message.content) if message.is_error else message.content
    if isinstance(content, str):
        return UserMessage(content=f"{title}\n{content}")
    return UserMessage(content=[TextPart(text=title), *content])
