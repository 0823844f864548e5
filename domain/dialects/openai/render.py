"""Canonical chat requests as the body of `POST /chat/completions`: only spelled, since `adapt.py` has adapted them."""

from typing import Any

import msgspec

from domain.canonical.chat import (
    AssistantMessage,
    ChatRequest,
    FilePart,
    Message,
    NamedToolChoice,
    Part,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolMessage,
)
from domain.dialects.openai.reasoning import render_details
from domain.models import model_traits

DEFAULT_FILENAME = "document.pdf"


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
        "n": request.n if model_traits(upstream_model).takes_several_choices else None,
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
    return _present(wire)


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
    if isinstance(message, AssistantMessage):
        if message.tool_calls:
            wire["tool_calls"] = [_render_call(call) for call in message.tool_calls]
        if message.reasoning and message.reasoning[0].detail is not None:
            wire["reasoning_details"] = render_details(message.reasoning)
        elif message.reasoning:
            wire["reasoning_content"] = "\n\n".join(block.text for block in message.reasoning if block.text)
    return wire


def _render_call(call: ToolCall) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": call.function.arguments},
    }
    return wire | ({"extra_content": call.extra_content} if call.extra_content else {})


def _render_part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, FilePart):
        return {
            "type": "file",
            "file": {"filename": part.file.filename or DEFAULT_FILENAME, "file_data": part.file.url},
        }
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
