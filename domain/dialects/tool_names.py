"""Names of tools that a provider does not take: the model is told another one, and the client reads its own."""

import hashlib
import re

from msgspec.structs import replace

from domain.canonical.chat import (
    AnswerMessage,
    AssistantMessage,
    ChatRequest,
    ChatResponse,
    Message,
    NamedFunction,
    NamedToolChoice,
    Tool,
    ToolCall,
)
from domain.canonical.stream import ChatChunk, ToolCallDelta
from domain.dialects.codec import StreamSummary, StreamWriter

_DIGEST_CHARS = 8
_ODD = re.compile(r"[^a-zA-Z0-9_-]")
"""Neither OpenAI nor Anthropic takes such a character in the name of a tool."""


def tool_name(name: str, max_chars: int) -> str:
    """The name as a provider takes it: itself, if it may; else its beginning and a digest. Always the same."""
    if len(name) <= max_chars and not _ODD.search(name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{_ODD.sub('_', name)[: max_chars - _DIGEST_CHARS - 1]}_{digest}"


def with_tool_names(request: ChatRequest, max_chars: int) -> tuple[ChatRequest, dict[str, str]]:
    """The request with names that its provider takes, and the client's names by those."""
    given = {tool.function.name for tool in request.tools or ()}
    given |= {
        call.function.name
        for message in request.messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls or ()
    }
    names = {name: new for name in given if (new := tool_name(name, max_chars)) != name}
    if not names:
        return request, {}
    choice = request.tool_choice
    if isinstance(choice, NamedToolChoice):
        choice = NamedToolChoice(function=NamedFunction(name=names.get(choice.function.name, choice.function.name)))
    renamed = replace(
        request,
        messages=[_renamed_message(message, names) for message in request.messages],
        tools=[_renamed_tool(tool, names) for tool in request.tools] if request.tools else None,
        tool_choice=choice,
    )
    return renamed, {new: name for name, new in names.items()}


def _renamed_tool(tool: Tool, names: dict[str, str]) -> Tool:
    name = tool.function.name
    return replace(tool, function=replace(tool.function, name=names[name])) if name in names else tool


def _renamed_message(message: Message, names: dict[str, str]) -> Message:
    if not isinstance(message, AssistantMessage) or not message.tool_calls:
        return message
    return replace(message, tool_calls=[_renamed_call(call, names) for call in message.tool_calls])


def _renamed_call(call: ToolCall, names: dict[str, str]) -> ToolCall:
    name = call.function.name
    return replace(call, function=replace(call.function, name=names[name])) if name in names else call


def with_client_names(response: ChatResponse, names: dict[str, str]) -> ChatResponse:
    """The response with the names that its client knows."""
    return replace(
        response,
        choices=[replace(choice, message=_answer_message(choice.message, names)) for choice in response.choices],
    )


def _answer_message(message: AnswerMessage, names: dict[str, str]) -> AnswerMessage:
    if not message.tool_calls:
        return message
    return replace(message, tool_calls=[_renamed_call(call, names) for call in message.tool_calls])


class NamingWriter:
    """A writer whose client reads the names that it knows."""

    def __init__(self, writer: StreamWriter, names: dict[str, str]) -> None:
        self._writer = writer
        self._names = names

    def write(self, chunk: ChatChunk) -> bytes:
        """See `StreamWriter`."""
        if any(choice.delta.tool_calls for choice in chunk.choices):
            choices = [
                replace(choice, delta=replace(choice.delta, tool_calls=self._named(choice.delta.tool_calls)))
                for choice in chunk.choices
            ]
            chunk = replace(chunk, choices=choices)
        return self._writer.write(chunk)

    def end(self, summary: StreamSummary) -> bytes:
        """See `StreamWriter`."""
        return self._writer.end(summary)

    def _named(self, calls: list[ToolCallDelta] | None) -> list[ToolCallDelta] | None:
        return [
            replace(call, function=replace(call.function, name=self._names[call.function.name]))
            if call.function.name in self._names
            else call
            for call in calls or ()
        ] or None
