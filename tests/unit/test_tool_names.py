"""A tool's name that a provider does not take is another one there, and the client's own in the response."""

import re

import msgspec

from domain.canonical.chat import (
    AnswerMessage,
    AssistantMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    FunctionCall,
    FunctionTool,
    NamedFunction,
    NamedToolChoice,
    Tool,
    ToolCall,
    UserMessage,
)
from domain.canonical.stream import ChatChunk, ChunkChoice, Delta, FunctionDelta, ToolCallDelta
from domain.dialects.codec import StreamSummary
from domain.dialects.native.stream import NativeWriter
from domain.dialects.tool_names import NamingWriter, tool_name, with_client_names, with_tool_names
from domain.tokens import AnswerUsage, TokenUsage

TOKENS = TokenUsage(input=1, output=1)
LONG = "mcp__a_server_with_a_long_name__" + 60 * "x"
CALL = ToolCall(id="call_1", function=FunctionCall(name=LONG, arguments="{}"))
REQUEST = ChatRequest(
    messages=[UserMessage(content="hi"), AssistantMessage(tool_calls=[CALL])],
    tools=[Tool(function=FunctionTool(name=LONG)), Tool(function=FunctionTool(name="short"))],
    tool_choice=NamedToolChoice(function=NamedFunction(name=LONG)),
)


def test_a_name_that_may_be_sent_stays() -> None:
    assert tool_name("mcp__server__tool-1", 64) == "mcp__server__tool-1"


def test_names_that_may_not_be_sent_differ_and_are_always_the_same() -> None:
    given = (LONG, LONG + "y", "functions.f", "functions/f", "größe")
    sent = [tool_name(name, 64) for name in given]
    assert len(set(sent)) == len(given)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in sent)
    assert sent == [tool_name(name, 64) for name in given]


def test_a_tool_has_one_name_wherever_it_stands() -> None:
    request, names = with_tool_names(REQUEST, 64)
    (sent,) = names
    assert names == {sent: LONG}
    assert request.tools is not None
    assert [tool.function.name for tool in request.tools] == [sent, "short"]
    assert request.tool_choice == NamedToolChoice(function=NamedFunction(name=sent))
    message = request.messages[1]
    assert isinstance(message, AssistantMessage)
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.name == sent


def test_a_response_has_the_clients_names() -> None:
    sent = tool_name(LONG, 64)
    message = AnswerMessage(
        content=None, tool_calls=[ToolCall(id="1", function=FunctionCall(name=sent, arguments="{}"))]
    )
    response = ChatResponse(
        id="x",
        model="m",
        provider="p",
        choices=[Choice(index=0, message=message, finish_reason="tool_calls")],
        usage=AnswerUsage(prompt_tokens=1, completion_tokens=1, total_tokens=2),
    )
    calls = with_client_names(response, {sent: LONG}).choices[0].message.tool_calls
    assert calls
    assert calls[0].function.name == LONG


def test_a_stream_has_the_clients_names() -> None:
    sent = tool_name(LONG, 64)
    call = ToolCallDelta(index=0, id="1", type="function", function=FunctionDelta(name=sent))
    chunk = ChatChunk(id="x", model="m", choices=[ChunkChoice(index=0, delta=Delta(tool_calls=[call]))])
    writer = NamingWriter(NativeWriter(), {sent: LONG})
    event = msgspec.json.decode(writer.write(chunk).removeprefix(b"data: "))
    assert event["choices"][0]["delta"]["toolCalls"][0]["function"]["name"] == LONG
    assert writer.end(StreamSummary(usage=TOKENS, cost_usd=None, latency_ms=1)).endswith(b"data: [DONE]\n\n")
