"""OpenAI's chat requests: a client's into the canonical request, and the canonical request into a provider's.

https://platform.openai.com/docs/api-reference/chat/create. A request that goes to a provider of the same dialect is
passed through and is not read here. What cannot be translated is refused by name. Dropped without loss, because only
the price or the speed depends on it, or because it repeats what another field says:

- `prompt_cache_key`, `prompt_cache_options`, `prompt_cache_retention`, `prompt_cache_breakpoint`: other vendors' prompt
  caches have no such settings.
- the `name` of a tool message: its `tool_call_id` says the same.
- `parsed`, `parsed_arguments` and the `index` of a call: OpenAI's SDK adds them to a response and sends them back.
"""

import re
from typing import Any

import msgspec

from domain.canonical.chat import (
    AssistantMessage,
    ChatRequest,
    Content,
    DeveloperMessage,
    FilePart,
    FunctionCall,
    ImagePart,
    Message,
    NamedToolChoice,
    Part,
    ResponseFormat,
    SystemMessage,
    TextContent,
    TextPart,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from domain.dialects.lossy import DroppableField, decode_translatable, reject_lossy_fields
from domain.dialects.openai import types
from domain.errors import InvalidRequest
from domain.models import model_traits

DROPPABLE: dict[str, DroppableField] = {
    "n": DroppableField((1,), "ask again for another answer"),
    "logprobs": DroppableField((False,), "only OpenAI's models tell them"),
    "top_logprobs": DroppableField((0,), "only OpenAI's models tell them"),
    "presence_penalty": DroppableField((0,), "only OpenAI's models take it"),
    "frequency_penalty": DroppableField((0,), "only OpenAI's models take it"),
    "logit_bias": DroppableField(({},), "its tokens are those of OpenAI's models"),
    "modalities": DroppableField((["text"],), "text is what can be answered"),
    "store": DroppableField((False,), "nothing is kept for OpenAI's dashboard"),
    "metadata": DroppableField(({},), "send the header `x-gateway-metadata`, by which usage can be grouped"),
    "service_tier": DroppableField(("auto", "default"), "only OpenAI sells its tiers"),
    "verbosity": DroppableField(("medium",), "say in a message how long the answer may be"),
    "functions": DroppableField((), "it is deprecated, send `tools`"),
    "function_call": DroppableField((), "it is deprecated, send `tool_choice`"),
    "audio": DroppableField((), "text is what can be answered"),
    "prediction": DroppableField((), "only OpenAI's models take one"),
    "moderation": DroppableField((), "only OpenAI moderates on the way"),
    "web_search_options": DroppableField((), "only OpenAI's models search"),
}
DROPPABLE_IN_STREAM_OPTIONS: dict[str, DroppableField] = {
    "include_obfuscation": DroppableField((False,), "chunks are not padded here"),
}
DROPPABLE_IN_ASSISTANT: dict[str, DroppableField] = {
    "audio": DroppableField((), "send what was said as `content`"),
    "annotations": DroppableField(([],), "leave them out"),
    "function_call": DroppableField((), "it is deprecated, send `tool_calls`"),
}

_decoder = msgspec.json.Decoder(types.ChatCompletionsBody)
_HUMP = re.compile(r"(?<=[a-z])[A-Z]")


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read the body of `POST /chat/completions`.

    Raises:
        InvalidRequest: names the field, as the client spelled it.

    """
    chat = decode_translatable(body, _decoder)
    reject_lossy_fields(DROPPABLE, chat)
    if chat.stream_options is not None:
        reject_lossy_fields(DROPPABLE_IN_STREAM_OPTIONS, chat.stream_options, inside="stream_options")
    return ChatRequest(
        model=chat.model,
        messages=[_parse_message(message, f"messages[{index}]") for index, message in enumerate(chat.messages)],
        temperature=chat.temperature,
        max_tokens=_same_value(chat, "max_tokens", "max_completion_tokens"),
        top_p=chat.top_p,
        stop=chat.stop or None,
        seed=chat.seed,
        user=_same_value(chat, "user", "safety_identifier"),  # both identify the end user, against misuse
        tools=chat.tools,
        tool_choice=chat.tool_choice,
        parallel_tool_calls=chat.parallel_tool_calls,
        response_format=_parse_response_format(chat.response_format),
        reasoning_effort=chat.reasoning_effort,
    )


def _same_value(chat: types.ChatCompletionsBody, older: str, newer: str) -> Any:
    """The value of two fields with one meaning. A request has one of them, or both with one value."""
    values = [value for value in (getattr(chat, newer), getattr(chat, older)) if value is not None]
    if len(values) > 1 and values[0] != values[1]:
        raise InvalidRequest(f"`{older}` and `{newer}` say different things: send one", field=older)
    return values[0] if values else None


def _parse_message(
    message: types.SystemMessageParam
    | types.DeveloperMessageParam
    | types.UserMessageParam
    | types.AssistantMessageParam
    | types.ToolMessageParam,
    path: str,
) -> Message:
    match message:
        case types.SystemMessageParam():
            return SystemMessage(content=_parse_text(message.content), name=message.name)
        case types.DeveloperMessageParam():
            return DeveloperMessage(content=_parse_text(message.content), name=message.name)
        case types.UserMessageParam():
            return UserMessage(content=_parse_content(message.content), name=message.name)
        case types.AssistantMessageParam():
            reject_lossy_fields(DROPPABLE_IN_ASSISTANT, message, inside=path)
            calls = [_parse_tool_call(call) for call in message.tool_calls or ()]
            return AssistantMessage(
                content=_parse_assistant_content(message), tool_calls=calls or None, name=message.name
            )
        case types.ToolMessageParam():
            text = _parse_text(message.content)
            return ToolMessage(content=text if isinstance(text, str) else [*text], tool_call_id=message.tool_call_id)


def _parse_tool_call(call: types.ToolCallParam) -> ToolCall:
    return ToolCall(id=call.id, function=FunctionCall(name=call.function.name, arguments=call.function.arguments))


def _parse_text(content: str | list[types.TextContentPart]) -> TextContent:
    return content if isinstance(content, str) else [TextPart(text=part.text) for part in content]


def _parse_content(content: str | list[types.TextContentPart | types.ImageContentPart]) -> Content:
    if isinstance(content, str):
        return content
    return [
        TextPart(text=part.text) if isinstance(part, types.TextContentPart) else ImagePart(image_url=part.image_url)
        for part in content
    ]


def _parse_assistant_content(message: types.AssistantMessageParam) -> TextContent | None:
    """The text of an earlier answer. A refusal is text of the model, too: it takes the place of the content."""
    content: TextContent | None
    if message.content is None or isinstance(message.content, str):
        content = message.content
    else:
        content = [
            TextPart(text=part.text if isinstance(part, types.TextContentPart) else part.refusal)
            for part in message.content
        ]
    if not message.refusal:
        return content
    if not content:
        return message.refusal
    said = [TextPart(text=content)] if isinstance(content, str) else content
    return [*said, TextPart(text=message.refusal)]


def _parse_response_format(
    wanted: types.ResponseFormatText | types.ResponseFormatJsonObject | types.ResponseFormatJsonSchema | None,
) -> ResponseFormat | None:
    match wanted:
        case None:
            return None
        case types.ResponseFormatText():
            return ResponseFormat(type="text")
        case types.ResponseFormatJsonObject():
            return ResponseFormat(type="json_object")
        case types.ResponseFormatJsonSchema():
            return ResponseFormat(type="json_schema", json_schema=wanted.json_schema)


def cap_field(upstream_model: str) -> str:
    """The field that limits a model's output: reasoning models refuse the older one, many other providers the newer."""
    return model_traits(upstream_model).cap_field


def render_chat_request(request: ChatRequest, upstream_model: str) -> dict[str, Any]:
    """The body of `POST /chat/completions`. Fields that the caller left out are left out."""
    choice = request.tool_choice
    wire = {
        "model": upstream_model,
        "messages": [_render_message(message) for message in request.messages],
        "temperature": request.temperature,
        cap_field(upstream_model): request.max_tokens,
        "top_p": request.top_p,
        "stop": request.stop,
        "seed": request.seed,
        "user": request.user,
        "tools": [_render_tool(tool) for tool in request.tools] if request.tools else None,
        "tool_choice": {"type": "function", "function": {"name": choice.function.name}}
        if isinstance(choice, NamedToolChoice)
        else choice,
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": _render_response_format(request.response_format) if request.response_format else None,
        "reasoning_effort": request.reasoning_effort,
    }
    return {name: value for name, value in wire.items() if value is not None}


def _render_message(message: Message) -> dict[str, Any]:
    content = message.content
    wire: dict[str, Any] = {
        "role": message.__struct_config__.tag,
        "content": [_render_part(part) for part in content] if isinstance(content, list) else content,
    }
    if isinstance(message, ToolMessage):
        wire["tool_call_id"] = message.tool_call_id
    elif message.name is not None:
        wire["name"] = message.name
    if isinstance(message, AssistantMessage) and message.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
    return wire


def _render_part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, FilePart):
        return {"type": "file", "file": {"file_data": part.file.url, "filename": part.file.filename or "file"}}
    image = {"url": part.image_url.url}
    if part.image_url.detail:
        image["detail"] = part.image_url.detail
    return {"type": "image_url", "image_url": image}


def _render_tool(tool: Tool) -> dict[str, Any]:
    return {"type": "function", "function": _present(msgspec.structs.asdict(tool.function))}


def _render_response_format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.json_schema is None:
        return {"type": wanted.type}
    return {"type": wanted.type, "json_schema": _present(msgspec.structs.asdict(wanted.json_schema))}


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def in_snake_case(error: InvalidRequest) -> InvalidRequest:
    """The same refusal with the field as OpenAI's clients write it: their requests have the canonical structure.

    The name of an unknown field is the client's own and stays as it is.
    """
    if error.field is None or "unknown field" in error.message:
        return error
    field = _HUMP.sub(lambda hump: f"_{hump[0].lower()}", error.field)
    respelled = InvalidRequest(error.message.replace(f"`{error.field}`", f"`{field}`"), field=field)
    respelled.limit_status = error.limit_status
    return respelled
