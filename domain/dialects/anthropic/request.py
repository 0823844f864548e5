"""Anthropic's requests: a client's into the canonical request, and the canonical request into a provider's.

https://docs.anthropic.com/en/api/messages. A request that goes to a provider of the same dialect is passed through and
is not read here. What cannot be translated is refused by name. Dropped without loss:

- `cache_control`, anywhere: a hint about the price. Other vendors cache by themselves.
- `eager_input_streaming` of a tool: how finely its arguments are cut while they stream.
- `thinking` and `redacted_thinking` blocks of earlier turns: another vendor's model can neither read nor verify them,
  and Anthropic's own leave out those that another model wrote.
- `thinking` of type `disabled` or `adaptive`: other vendors' models think as much as they see fit, within
  `output_config.effort`, and show nothing of it. A budget of thinking tokens is refused.

Translated into other words: the result of a tool that `is_error` opens with `TOOL_ERROR_MARK`, since no other vendor
has a flag for it.

Towards Anthropic, system and developer messages are joined into `system` in their order, neighbours of one role are
merged, since Anthropic's turns alternate, and tool results become blocks of the user's turn. Empty texts of the model
are left out, since Anthropic takes none: OpenAI's models write them beside their tool calls.
"""

import re
from typing import Any

import msgspec

from domain.canonical.chat import (
    MAX_MESSAGES,
    AssistantMessage,
    ChatRequest,
    DeveloperMessage,
    FunctionCall,
    ImagePart,
    ImageUrl,
    JsonSchema,
    Message,
    Part,
    ResponseFormat,
    SystemMessage,
    TextContent,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from domain.dialects.anthropic import types
from domain.dialects.anthropic.tools import (
    parse_tool,
    parse_tool_choice,
    parse_tool_input,
    render_tool_choice,
    render_tools,
)
from domain.dialects.codec import AdaptedRequest
from domain.dialects.lossy import DroppableField, decode_translatable, not_translatable, reject_lossy_fields
from domain.errors import InvalidRequest
from domain.estimate import input_bound
from domain.models import cap_when_unset

TOOL_ERROR_MARK = "Error: the tool call failed.\n"
ANSWER_SCHEMA_NAME = "answer"
"""OpenAI requires a name for the schema of a response; Anthropic has no such field."""


DROPPABLE: dict[str, DroppableField] = {
    "top_k": DroppableField((), "only Anthropic's models take it, send `top_p`"),
    "service_tier": DroppableField(("auto", "standard_only"), "only Anthropic sells its tiers"),
    "speed": DroppableField(("standard",), "only Anthropic sells it"),
    "container": DroppableField((), "only Anthropic has them"),
    "inference_geo": DroppableField((), "only Anthropic can promise it"),
    "diagnostics": DroppableField(({}, {"previous_message_id": None}), "only Anthropic gives them"),
    "user_profile_id": DroppableField((), "only Anthropic knows it"),
    "workspace_id": DroppableField((), "only Anthropic knows it"),
    "mcp_servers": DroppableField(([],), "only Anthropic calls them, send the servers' tools as `tools`"),
    "context_management": DroppableField(
        ({}, {"edits": []}), "only Anthropic edits the context, send what is to be read"
    ),
}
DROPPABLE_IN_TEXT = {"citations": DroppableField(([],), "only Anthropic's models cite, leave them out")}
DROPPABLE_IN_IMAGE = {
    "transformations": DroppableField(({}, {"oversized_image": "downsize"}), "other vendors scale as they see fit")
}
DROPPABLE_IN_TOOL_USE = {
    "caller": DroppableField(({"type": "direct"},), "only Anthropic's own tools call others"),
    "toolset_name": DroppableField((), "only Anthropic has toolsets"),
}
DROPPABLE_IN_TOOL_RESULT = {"toolset_name": DroppableField((), "only Anthropic has toolsets")}
DROPPABLE_IN_THINKING = {
    "type": DroppableField(("disabled", "adaptive"), "send `output_config.effort`"),
    "display": DroppableField(("omitted",), "other vendors show no thinking"),
    "budget_tokens": DroppableField((), "send `output_config.effort`"),
}

_decoder = msgspec.json.Decoder(types.MessagesBody)
_DATA_URL = re.compile(r"data:(image/(?:jpeg|png|gif|webp));base64,(.+)", re.DOTALL)


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read the body of `POST /v1/messages`.

    Raises:
        InvalidRequest: names the field, as the client spelled it.

    """
    chat = decode_translatable(body, _decoder)
    reject_lossy_fields(DROPPABLE, chat)
    if chat.thinking is not None:
        reject_lossy_fields(DROPPABLE_IN_THINKING, chat.thinking, inside="thinking")
    messages: list[Message] = [SystemMessage(content=_parse_texts(chat.system, "system"))] if chat.system else []
    for index, message in enumerate(chat.messages):
        messages += _parse_turn(message, f"messages[{index}]")
    if isinstance(chat.messages[-1], types.AssistantTurn):
        raise not_translatable(
            f"messages[{len(chat.messages) - 1}].role", "only Anthropic's continue an answer that was begun"
        )
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequest(f"`messages` amount to more than {MAX_MESSAGES}", field="messages")
    choice = chat.tool_choice
    serial = None if choice is None or isinstance(choice, types.ToolChoiceNone) else choice.disable_parallel_tool_use
    return ChatRequest(
        model=chat.model,
        messages=messages,
        max_tokens=chat.max_tokens,
        temperature=chat.temperature,
        top_p=chat.top_p,
        stop=chat.stop_sequences or None,
        user=chat.metadata.user_id if chat.metadata is not None else None,
        tools=[parse_tool(raw, f"tools[{index}]") for index, raw in enumerate(chat.tools or ())] or None,
        tool_choice=parse_tool_choice(choice),
        parallel_tool_calls=not serial if serial is not None else None,
        response_format=_parse_response_format(chat),
        reasoning_effort=chat.output_config.effort if chat.output_config is not None else None,
    )


def _parse_turn(message: types.UserTurn | types.AssistantTurn | types.SystemTurn, path: str) -> list[Message]:
    """The messages that a turn amounts to: each tool's result is one of its own, in its place."""
    match message:
        case types.SystemTurn():
            return [SystemMessage(content=_parse_texts(message.content, f"{path}.content"))]
        case types.AssistantTurn():
            return _parse_assistant_turn(message, f"{path}.content")
        case types.UserTurn():
            return _parse_user_turn(message, f"{path}.content")


def _parse_user_turn(turn: types.UserTurn, path: str) -> list[Message]:
    if isinstance(turn.content, str):
        return [UserMessage(content=turn.content)]
    messages: list[Message] = []
    parts: list[Part] = []
    for index, block in enumerate(turn.content):
        match block:
            case types.ToolResultBlock():
                if parts:
                    messages.append(_user_message(parts))
                    parts = []
                messages.append(_parse_tool_result(block, f"{path}[{index}]"))
            case types.TextBlock():
                parts.append(_parse_text(block, f"{path}[{index}]"))
            case types.ImageBlock():
                parts.append(_parse_image(block, f"{path}[{index}]"))
    return [*messages, _user_message(parts)] if parts else messages


def _user_message(parts: list[Part]) -> UserMessage:
    """A single text becomes a plain string: to Anthropic it means the same, and other vendors expect it."""
    first = parts[0]
    return UserMessage(content=first.text if len(parts) == 1 and isinstance(first, TextPart) else parts)


def _parse_assistant_turn(turn: types.AssistantTurn, path: str) -> list[Message]:
    """One message for the turn: its text, then its calls. Empty for a turn that has only thinking."""
    if isinstance(turn.content, str):
        return [AssistantMessage(content=turn.content)]
    texts: list[types.TextBlock] = []
    calls: list[ToolCall] = []
    for index, block in enumerate(turn.content):
        match block:
            case types.TextBlock():
                if calls:
                    raise not_translatable(f"{path}[{index}]", "send an assistant's text before its `tool_use` blocks")
                texts.append(block)
            case types.ToolUseBlock():
                reject_lossy_fields(DROPPABLE_IN_TOOL_USE, block, inside=f"{path}[{index}]")
                calls.append(
                    ToolCall(id=block.id, function=FunctionCall(name=block.name, arguments=parse_tool_input(block)))
                )
            case types.ThinkingBlock() | types.RedactedThinkingBlock():
                continue  # see the module's docstring
    if not texts and not calls:
        return []
    return [AssistantMessage(content=_parse_texts(texts, path) if texts else None, tool_calls=calls or None)]


def _parse_tool_result(block: types.ToolResultBlock, path: str) -> ToolMessage:
    reject_lossy_fields(DROPPABLE_IN_TOOL_RESULT, block, inside=path)
    content = _parse_texts(block.content or "", f"{path}.content")
    if block.is_error:
        content = TOOL_ERROR_MARK + content if isinstance(content, str) else [TextPart(text=TOOL_ERROR_MARK), *content]
    return ToolMessage(content=content if isinstance(content, str) else [*content], tool_call_id=block.tool_use_id)


def _parse_texts(content: str | list[types.TextBlock], path: str) -> TextContent:
    if isinstance(content, str):
        return content
    parts = [_parse_text(block, f"{path}[{index}]") for index, block in enumerate(content)]
    return parts[0].text if len(parts) == 1 else parts


def _parse_text(block: types.TextBlock, path: str) -> TextPart:
    reject_lossy_fields(DROPPABLE_IN_TEXT, block, inside=path)
    return TextPart(text=block.text)


def _parse_image(block: types.ImageBlock, path: str) -> ImagePart:
    reject_lossy_fields(DROPPABLE_IN_IMAGE, block, inside=path)
    match block.source:
        case types.UrlSource() as source:
            return ImagePart(image_url=ImageUrl(url=source.url))
        case types.Base64Source() as source:
            return ImagePart(image_url=ImageUrl(url=f"data:{source.media_type};base64,{source.data}"))


def _parse_response_format(chat: types.MessagesBody) -> ResponseFormat | None:
    """Anthropic keeps to a schema without fail, which OpenAI calls strict."""
    settled = chat.output_config.format if chat.output_config is not None else None
    if settled is not None and chat.output_format is not None and settled != chat.output_format:
        raise InvalidRequest("`output_format` and `output_config.format` differ: send one", field="output_format")
    wanted = settled or chat.output_format
    if wanted is None:
        return None
    schema = JsonSchema(name=ANSWER_SCHEMA_NAME, schema=wanted.schema, strict=True)
    return ResponseFormat(type="json_schema", json_schema=schema)


def adapt_chat_request(request: ChatRequest, upstream_model: str) -> AdaptedRequest:
    """Make a request one that a model of Anthropic's can be asked.

    Raises:
        InvalidRequest: names the field and what is allowed.

    """
    for field, given, allowed in (
        ("temperature", request.temperature is not None and request.temperature > 1, "Anthropic's range is 0 to 1"),
        ("seed", request.seed is not None, "Anthropic's models take no seed: leave it out"),
        (
            "responseFormat",
            request.response_format is not None and request.response_format.type == "json_object",
            "Anthropic's models know 'text' and 'json_schema'",
        ),
        (
            "reasoningEffort",
            request.reasoning_effort in ("none", "minimal"),
            "Anthropic's models know 'low', 'medium', 'high', 'xhigh' and 'max'",
        ),
        (
            "responseFormat.jsonSchema",
            request.response_format is not None
            and request.response_format.type == "json_schema"
            and request.response_format.json_schema is None,
            "a format of type 'json_schema' needs it",
        ),
        ("toolChoice", request.tool_choice is not None and not request.tools, "needs `tools`"),
    ):
        if given:
            raise InvalidRequest(f"`{field}` cannot be sent to {upstream_model}: {allowed}", field=field)
    render_chat_request(request, upstream_model)
    return AdaptedRequest(request=request)


def render_chat_request(request: ChatRequest, upstream_model: str) -> dict[str, Any]:
    """The body of `POST /v1/messages`.

    Raises:
        InvalidRequest: a message holds what cannot be carried over.

    """
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(request.messages):
        if getattr(message, "name", None) is not None:
            raise InvalidRequest(
                f"`messages[{index}].name` cannot be sent to {upstream_model}: leave it out",
                field=f"messages[{index}].name",
            )
        if isinstance(message, SystemMessage | DeveloperMessage):
            system.append(_render_text(message.content))
            continue
        role = "assistant" if isinstance(message, AssistantMessage) else "user"
        blocks = _render_blocks(message, f"messages[{index}]")
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    wire: dict[str, Any] = {
        "model": upstream_model,
        "max_tokens": request.max_tokens or cap_when_unset(upstream_model, lambda: input_bound(request)),
        "messages": turns,
        "system": "\n\n".join(system) or None,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop_sequences": [request.stop] if isinstance(request.stop, str) else request.stop,
        "metadata": {"user_id": request.user} if request.user else None,
        "tools": render_tools(request),
        "tool_choice": render_tool_choice(request),
        "output_config": _render_output_config(request),
    }
    return {name: value for name, value in wire.items() if value is not None}


def _render_blocks(message: Any, path: str) -> list[dict[str, Any]]:
    if isinstance(message, ToolMessage):
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": _render_text(message.content)}]
    blocks = _render_content(message.content, path)
    if isinstance(message, AssistantMessage):
        blocks = [block for block in blocks if block.get("text") != ""]
    for index, call in enumerate(getattr(message, "tool_calls", None) or ()):
        try:
            arguments = msgspec.json.decode(call.function.arguments or "{}", type=dict)
        except msgspec.DecodeError as error:
            field = f"{path}.toolCalls[{index}].function.arguments"
            raise InvalidRequest(f"`{field}` must be a JSON object for this model: {error}", field=field) from error
        blocks.append({"type": "tool_use", "id": call.id, "name": call.function.name, "input": arguments})
    return blocks


def _render_content(content: Any, path: str) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [
        {"type": "image", "source": _render_image(part.image_url, f"{path}.content[{index}].imageUrl")}
        if isinstance(part, ImagePart)
        else {"type": "text", "text": part.text}
        for index, part in enumerate(content)
    ]


def _render_image(image: ImageUrl, path: str) -> dict[str, Any]:
    if image.detail == "low":  # Anthropic's models see the whole of every image, at its price
        raise InvalidRequest(
            f"`{path}.detail` 'low' cannot be sent to this model: leave it out, or send a smaller image",
            field=f"{path}.detail",
        )
    if image.url.startswith("https://"):
        return {"type": "url", "url": image.url}
    data = _DATA_URL.fullmatch(image.url)
    if data is None:
        raise InvalidRequest(
            f"`{path}.url` must be an https address or a data: URL of a JPEG, PNG, GIF or WebP in base64",
            field=f"{path}.url",
        )
    return {"type": "base64", "media_type": data[1], "data": data[2]}


def _render_text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _render_output_config(request: ChatRequest) -> dict[str, Any] | None:
    config: dict[str, Any] = {}
    if request.reasoning_effort is not None:
        config["effort"] = request.reasoning_effort
    if request.response_format is not None and request.response_format.json_schema is not None:
        config["format"] = {"type": "json_schema", "schema": _with_description(request.response_format.json_schema)}
    return config or None


def _with_description(wanted: JsonSchema) -> dict[str, Any]:
    """The schema, with the format's description inside: Anthropic has no other place for it."""
    if wanted.description is None:
        return wanted.schema
    if wanted.schema.get("description", wanted.description) != wanted.description:
        field = "responseFormat.jsonSchema.description"
        raise InvalidRequest(
            f"`{field}` cannot be sent to this model beside another one in the schema: leave it out", field=field
        )
    return wanted.schema | {"description": wanted.description}
