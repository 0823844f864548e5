"""Anthropic's messages as served: its clients' requests, and the answers that they understand.

https://docs.anthropic.com/en/api/messages. Only for what goes to a provider that does not speak this dialect: a request
that stays with Anthropic is passed on as it came. What cannot be carried over is refused by name. What is read and
carried nowhere, and why nothing is lost:

- `cache_control`, anywhere: a hint about the price. Other vendors cache by themselves.
- `eager_input_streaming` of a tool: how finely its arguments are cut while they stream.
- `thinking` and `redacted_thinking` blocks of earlier turns: another vendor's model can neither read nor verify them,
  and Anthropic's own leave out those that another model wrote.
- `thinking` of type `disabled` or `adaptive`: other vendors' models think as much as they see fit, within
  `output_config.effort`, and show nothing of it. A budget of thinking tokens is refused.

Carried in other words: a tool's result that `is_error` opens with `TOOL_ERROR_MARK`, since no other vendor has a flag
for it. A call whose arguments are no JSON object is shown as `{UNPARSED_ARGUMENTS: "…"}`, and read back as it was.
"""

from typing import Any

import msgspec
from msgspec import UNSET

from domain.canonical.chat import (
    MAX_MESSAGES,
    AnswerMessage,
    AssistantMessage,
    ChatRequest,
    ChatResponse,
    FunctionCall,
    FunctionTool,
    ImagePart,
    ImageUrl,
    JsonSchema,
    Message,
    NamedFunction,
    NamedToolChoice,
    ResponseFormat,
    SystemMessage,
    TextContent,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMessage,
    UserMessage,
)
from domain.dialects.anthropic_call import (
    DROPPABLE,
    DROPPABLE_IN_IMAGE,
    DROPPABLE_IN_TEXT,
    DROPPABLE_IN_THINKING,
    DROPPABLE_IN_TOOL,
    DROPPABLE_IN_TOOL_RESULT,
    DROPPABLE_IN_TOOL_USE,
    AnyChoice,
    AssistantTurn,
    AutoChoice,
    Base64Source,
    CustomTool,
    ImageBlock,
    MessagesCall,
    NamedChoice,
    NoChoice,
    RedactedThinkingBlock,
    SystemTurn,
    TextBlock,
    ThinkingBlock,
    ToolKind,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
    UserTurn,
)
from domain.dialects.served import read, refused, reject_lossy_fields
from domain.errors import InvalidRequest
from domain.tokens import TokenUsage

TOOL_ERROR_MARK = "Error: the tool call failed.\n"
UNPARSED_ARGUMENTS = "unparsed_arguments"
ANSWER_SCHEMA_NAME = "answer"
"""OpenAI wants a name for the schema of an answer, for which Anthropic has no word."""


_decoder = msgspec.json.Decoder(MessagesCall)
_tool_decoder = msgspec.json.Decoder(CustomTool)
_tool_kind_decoder = msgspec.json.Decoder(ToolKind)
_encode = msgspec.json.encode


def read_chat(body: bytes) -> ChatRequest:
    """Read the body of `POST /v1/messages`.

    Raises:
        InvalidRequest: names the field, as the client spelled it.

    """
    chat = read(body, _decoder)
    reject_lossy_fields(DROPPABLE, chat)
    if chat.thinking is not None:
        reject_lossy_fields(DROPPABLE_IN_THINKING, chat.thinking, inside="thinking")
    messages: list[Message] = [SystemMessage(content=_texts(chat.system, "system"))] if chat.system else []
    for index, message in enumerate(chat.messages):
        messages += _messages(message, f"messages[{index}]")
    if isinstance(chat.messages[-1], AssistantTurn):
        raise refused(f"messages[{len(chat.messages) - 1}].role", "only Anthropic's continue an answer that was begun")
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequest(f"`messages` amount to more than {MAX_MESSAGES}", field="messages")
    choice = chat.tool_choice
    serial = None if choice is None or isinstance(choice, NoChoice) else choice.disable_parallel_tool_use
    return ChatRequest(
        model=chat.model,
        messages=messages,
        max_tokens=chat.max_tokens,
        temperature=chat.temperature,
        top_p=chat.top_p,
        stop=chat.stop_sequences or None,
        user=chat.metadata.user_id if chat.metadata is not None else None,
        tools=[_tool(raw, f"tools[{index}]") for index, raw in enumerate(chat.tools or ())] or None,
        tool_choice=_tool_choice(choice),
        parallel_tool_calls=not serial if serial is not None else None,
        response_format=_response_format(chat),
        reasoning_effort=chat.output_config.effort if chat.output_config is not None else None,
    )


def _messages(message: UserTurn | AssistantTurn | SystemTurn, path: str) -> list[Message]:
    """The messages that a turn amounts to: each tool's result is one of its own, in its place."""
    match message:
        case SystemTurn():
            return [SystemMessage(content=_texts(message.content, f"{path}.content"))]
        case AssistantTurn():
            return _assistant(message, f"{path}.content")
        case UserTurn():
            return _user(message, f"{path}.content")


def _user(turn: UserTurn, path: str) -> list[Message]:
    if isinstance(turn.content, str):
        return [UserMessage(content=turn.content)]
    messages: list[Message] = []
    parts: list[TextPart | ImagePart] = []
    for index, block in enumerate(turn.content):
        match block:
            case ToolResultBlock():
                if parts:
                    messages.append(_said_by_user(parts))
                    parts = []
                messages.append(_tool_result(block, f"{path}[{index}]"))
            case TextBlock():
                parts.append(_text(block, f"{path}[{index}]"))
            case ImageBlock():
                parts.append(_image(block, f"{path}[{index}]"))
    return [*messages, _said_by_user(parts)] if parts else messages


def _said_by_user(parts: list[TextPart | ImagePart]) -> UserMessage:
    """One text stands alone: Anthropic says that it is the same, and it is what other vendors expect."""
    first = parts[0]
    return UserMessage(content=first.text if len(parts) == 1 and isinstance(first, TextPart) else parts)


def _assistant(turn: AssistantTurn, path: str) -> list[Message]:
    """A turn in one message: what is said, then the calls. One of thinking alone says nothing to another model."""
    if isinstance(turn.content, str):
        return [AssistantMessage(content=turn.content)]
    texts: list[TextBlock] = []
    calls: list[ToolCall] = []
    for index, block in enumerate(turn.content):
        match block:
            case TextBlock():
                if calls:
                    raise refused(f"{path}[{index}]", "send an assistant's text before its `tool_use` blocks")
                texts.append(block)
            case ToolUseBlock():
                reject_lossy_fields(DROPPABLE_IN_TOOL_USE, block, inside=f"{path}[{index}]")
                calls.append(ToolCall(id=block.id, function=FunctionCall(name=block.name, arguments=_written(block))))
            case ThinkingBlock() | RedactedThinkingBlock():
                continue  # see the module's docstring
    if not texts and not calls:
        return []
    return [AssistantMessage(content=_texts(texts, path) if texts else None, tool_calls=calls or None)]


def _written(call: ToolUseBlock) -> str:
    unparsed = call.input.get(UNPARSED_ARGUMENTS)
    return unparsed if isinstance(unparsed, str) and len(call.input) == 1 else _encode(call.input).decode()


def _tool_result(block: ToolResultBlock, path: str) -> ToolMessage:
    reject_lossy_fields(DROPPABLE_IN_TOOL_RESULT, block, inside=path)
    content = _texts(block.content or "", f"{path}.content")
    if block.is_error:
        content = TOOL_ERROR_MARK + content if isinstance(content, str) else [TextPart(text=TOOL_ERROR_MARK), *content]
    return ToolMessage(content=content, tool_call_id=block.tool_use_id)


def _texts(content: str | list[TextBlock], path: str) -> TextContent:
    if isinstance(content, str):
        return content
    parts = [_text(block, f"{path}[{index}]") for index, block in enumerate(content)]
    return parts[0].text if len(parts) == 1 else parts


def _text(block: TextBlock, path: str) -> TextPart:
    reject_lossy_fields(DROPPABLE_IN_TEXT, block, inside=path)
    return TextPart(text=block.text)


def _image(block: ImageBlock, path: str) -> ImagePart:
    reject_lossy_fields(DROPPABLE_IN_IMAGE, block, inside=path)
    match block.source:
        case UrlSource() as source:
            return ImagePart(image_url=ImageUrl(url=source.url))
        case Base64Source() as source:
            return ImagePart(image_url=ImageUrl(url=f"data:{source.media_type};base64,{source.data}"))


def _tool(raw: msgspec.Raw, path: str) -> Tool:
    kind = read(raw, _tool_kind_decoder, inside=path).type
    if kind not in (None, "custom"):
        raise refused(f"{path}.type", f"{kind!r} is a tool of Anthropic's, only tools of type 'custom' can be carried")
    tool = read(raw, _tool_decoder, inside=path)
    reject_lossy_fields(DROPPABLE_IN_TOOL, tool, inside=path)
    return Tool(
        function=FunctionTool(
            name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
        )
    )


def _tool_choice(choice: AutoChoice | AnyChoice | NamedChoice | NoChoice | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case AutoChoice():
            return "auto"
        case AnyChoice():
            return "required"
        case NoChoice():
            return "none"
        case NamedChoice():
            return NamedToolChoice(function=NamedFunction(name=choice.name))


def _response_format(chat: MessagesCall) -> ResponseFormat | None:
    """Anthropic keeps to a schema without fail, which OpenAI calls strict."""
    settled = chat.output_config.format if chat.output_config is not None else None
    if settled is not None and chat.output_format is not None and settled != chat.output_format:
        raise InvalidRequest("`output_format` and `output_config.format` differ: send one", field="output_format")
    wanted = settled or chat.output_format
    if wanted is None:
        return None
    schema = JsonSchema(name=ANSWER_SCHEMA_NAME, schema=wanted.schema, strict=True)
    return ResponseFormat(type="json_schema", json_schema=schema)


STOP_REASONS: dict[str | None, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    None: "end_turn",
}
"""From OpenAI's word for why an answer ended to Anthropic's. A stop sequence cannot be told from an end."""


def stop_reason(finish_reason: str | None, *, has_calls: bool) -> str:
    """Anthropic's word. OpenAI says `stop` where a call was forced; Anthropic's clients go by the reason alone."""
    return "tool_use" if has_calls and finish_reason in ("stop", None) else STOP_REASONS[finish_reason]


def write_chat(answer: ChatResponse, usage: TokenUsage) -> bytes:
    """An answer of `POST /v1/messages`: the first choice, since Anthropic's answers have one."""
    choice = answer.choices[0] if answer.choices else None
    blocks = _blocks(choice.message) if choice is not None else []
    has_calls = any(block["type"] == "tool_use" for block in blocks)
    return _encode(
        {
            "id": answer.id,
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": blocks,
            "stop_reason": stop_reason(choice.finish_reason if choice is not None else None, has_calls=has_calls),
            "stop_sequence": None,
            "usage": usage_to_wire(usage),
        }
    )


def usage_to_wire(usage: TokenUsage) -> dict[str, Any]:
    """Tokens as Anthropic counts them: the input excludes what was read from the cache or written to it."""
    written = usage.cache_write + usage.cache_write_1h
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_prompt_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached_prompt_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def _blocks(message: AnswerMessage) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if message.content:
        blocks.append({"type": "text", "text": message.content, "citations": None})
    calls = message.tool_calls if message.tool_calls is not UNSET else ()
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.function.name, "input": tool_input(call.function.arguments)}
        for call in calls
    ]
    return blocks


def tool_input(arguments: str) -> dict[str, Any]:
    """A call's arguments as the object that Anthropic's clients expect; what is none keeps its text."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {UNPARSED_ARGUMENTS: arguments}
