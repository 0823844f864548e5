"""Canonical requests as the body of `POST /responses`, stateless, and of the count of their tokens there."""

from collections.abc import Iterator
from typing import Any

import msgspec

from domain.canonical.chat import (
    AssistantMessage,
    ChatRequest,
    Content,
    FilePart,
    ImagePart,
    Message,
    NamedToolChoice,
    Part,
    ReasoningBlock,
    ResponseFormat,
    TextContent,
    Tool,
    ToolMessage,
    thoughts_by_place,
)
from domain.dialects.openai.responses.adapt import is_sealed, responses_traits

ENCRYPTED_REASONING = "reasoning.encrypted_content"
DEFAULT_FILENAME = "document.pdf"


def render_responses_request(request: ChatRequest, upstream_model: str) -> dict[str, Any]:
    """The body of `POST /responses`: nothing is to be kept, and the model's thinking comes back encrypted."""
    wire = {
        **render_count_request(request, upstream_model),
        "store": False,
        "include": [ENCRYPTED_REASONING] if responses_traits(upstream_model).efforts else None,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_output_tokens": request.max_tokens,
        "user": request.user,
        "parallel_tool_calls": request.parallel_tool_calls,
        "reasoning": _present(
            {"effort": request.reasoning_effort, "summary": "auto" if request.shows_reasoning else None}
        )
        or None,
    }
    return _present(wire)


def without_refused(content: bytes, said: bytes) -> bytes | None:
    """See `Codec`: encrypted thinking that another organization's key, or another seller, made; encrypted thinking of a
    model that has none; and summaries, which OpenAI refuses to organizations that it has not verified.
    """
    body = msgspec.json.decode(content)
    changes: dict[str, Any] = {}
    if b"ncrypted" in said:
        kept = [item for item in body["input"] if item.get("type") != "reasoning"]
        changes = {"input": kept} if len(kept) < len(body["input"]) else {"include": []} if body.get("include") else {}
    elif b"summar" in said and "summary" in body.get("reasoning", ()):
        changes = {"reasoning": _present(body["reasoning"] | {"summary": None})}
    return msgspec.json.encode(body | changes) if changes else None


def render_count_request(request: ChatRequest, upstream_model: str) -> dict[str, Any]:
    """The body of `POST /responses/input_tokens`: what the model is shown."""
    choice = request.tool_choice
    wire = {
        "model": upstream_model,
        "input": [item for message in request.messages for item in _items(message)],
        "tools": [_tool(tool) for tool in request.tools] if request.tools else None,
        "tool_choice": {"type": "function", "name": choice.function.name}
        if isinstance(choice, NamedToolChoice)
        else choice,
        "text": {"format": _format(request.response_format)} if request.response_format is not None else None,
    }
    return _present(wire)


def _items(message: Message) -> Iterator[dict[str, Any]]:
    match message:
        case ToolMessage():
            yield {
                "type": "function_call_output",
                "call_id": message.tool_call_id,
                "output": _content(message.content, "input_text"),
            }
        case AssistantMessage():
            calls = message.tool_calls or []
            sealed = [thought for thought in message.reasoning or () if is_sealed(thought)]
            first, *later = thoughts_by_place(sealed, len(calls))
            yield from (_thought(thought) for _, thought in first)
            if message.content:
                yield {"role": "assistant", "content": _content(message.content, "output_text")}
            for call, thoughts in zip(calls, [[], *later], strict=False):
                yield from (_thought(thought) for _, thought in thoughts)
                yield {
                    "type": "function_call",
                    "call_id": call.id,
                    "name": call.function.name,
                    "arguments": call.function.arguments,
                }
        case _:
            role = message.__struct_config__.tag
            yield {"role": role, "content": _content(message.content, "input_text")}


def _thought(thought: ReasoningBlock) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": thought.text}] if thought.text else []
    return {"type": "reasoning", "id": thought.id, "summary": summary, "encrypted_content": thought.data}


def _content(content: Content | TextContent, text_type: str) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else [_part(part, text_type) for part in content]


def _part(part: Part, text_type: str) -> dict[str, Any]:
    match part:
        case ImagePart():
            return {"type": "input_image", "image_url": part.image_url.url, "detail": part.image_url.detail or "auto"}
        case FilePart():
            is_data = part.file.url.startswith("data:")
            name = {"filename": part.file.filename or DEFAULT_FILENAME} if is_data else {}
            return {"type": "input_file", "file_data" if is_data else "file_url": part.file.url} | name
        case _:
            return {"type": text_type, "text": part.text}


def _tool(tool: Tool) -> dict[str, Any]:
    """A function. One that does not say is strict here, and is not on chat completions."""
    function = tool.function
    wire = {
        "type": "function",
        "name": function.name,
        "description": function.description,
        "parameters": function.parameters or {"type": "object", "properties": {}},
        "strict": bool(function.strict),
    }
    return _present(wire)


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    schema = wanted.json_schema
    if schema is None:
        return {"type": wanted.type}
    wire = {
        "type": "json_schema",
        "name": schema.name,
        "schema": schema.schema,
        "description": schema.description,
        "strict": schema.strict,
    }
    return _present(wire)


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
