"""A canonical request as the input of the Responses API, to have its tokens counted there."""

from collections.abc import Iterator
from typing import Any

from domain.canonical.chat import (
    AssistantMessage,
    ChatRequest,
    Content,
    FilePart,
    ImagePart,
    Message,
    NamedToolChoice,
    Part,
    TextContent,
    Tool,
    ToolMessage,
)


def render_count_request(request: ChatRequest, upstream_model: str) -> dict[str, Any]:
    """The body of `POST /responses/input_tokens`."""
    choice = request.tool_choice
    wanted = request.response_format.json_schema if request.response_format is not None else None
    wire = {
        "model": upstream_model,
        "input": [item for message in request.messages for item in _items(message)],
        "tools": [_tool(tool) for tool in request.tools] if request.tools else None,
        "tool_choice": {"type": "function", "name": choice.function.name}
        if isinstance(choice, NamedToolChoice)
        else choice,
        "text": {"format": {"type": "json_schema", "name": wanted.name, "schema": wanted.schema}} if wanted else None,
    }
    return {name: value for name, value in wire.items() if value is not None}


def _items(message: Message) -> Iterator[dict[str, Any]]:
    match message:
        case ToolMessage():
            yield {
                "type": "function_call_output",
                "call_id": message.tool_call_id,
                "output": _content(message.content, "input_text"),
            }
        case AssistantMessage():
            if message.content:
                yield {"role": "assistant", "content": _content(message.content, "output_text")}
            for call in message.tool_calls or ():
                yield {
                    "type": "function_call",
                    "call_id": call.id,
                    "name": call.function.name,
                    "arguments": call.function.arguments,
                }
        case _:
            role = message.__struct_config__.tag
            yield {"role": role, "content": _content(message.content, "input_text")}


def _content(content: Content | TextContent, text_type: str) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else [_part(part, text_type) for part in content]


def _part(part: Part, text_type: str) -> dict[str, Any]:
    match part:
        case ImagePart():
            return {"type": "input_image", "image_url": part.image_url.url, "detail": part.image_url.detail or "auto"}
        case FilePart():
            is_data = part.file.url.startswith("data:")
            name = {"filename": part.file.filename or "file"} if is_data else {}
            return {"type": "input_file", "file_data" if is_data else "file_url": part.file.url} | name
        case _:
            return {"type": text_type, "text": part.text}


def _tool(tool: Tool) -> dict[str, Any]:
    function = tool.function
    return {
        "type": "function",
        "name": function.name,
        "description": function.description,
        "parameters": function.parameters or {"type": "object", "properties": {}},
        "strict": bool(function.strict),
    }
