"""Tools in Anthropic's requests and responses: their definitions, the choice among them, and the input of a call."""

from typing import Any

import msgspec

from domain.canonical.chat import ChatRequest, FunctionTool, NamedFunction, NamedToolChoice, Tool, ToolChoice
from domain.dialects.anthropic import types
from domain.dialects.lossy import DroppableField, decode_translatable, not_translatable, reject_lossy_fields

UNPARSED_ARGUMENTS = "unparsed_arguments"
"""The member that holds a call's arguments if they are no JSON object. It is read back as it was."""

DROPPABLE_IN_TOOL = {
    "allowed_callers": DroppableField((["direct"],), "only Anthropic's own tools call others"),
    "defer_loading": DroppableField((False,), "only Anthropic searches for tools"),
    "input_examples": DroppableField(([],), "put them into the `description`"),
}

_tool_decoder = msgspec.json.Decoder(types.CustomTool)
_type_decoder = msgspec.json.Decoder(types.ToolType)
_encode = msgspec.json.encode


def parse_tool(raw: msgspec.Raw, path: str) -> Tool:
    """Read a tool of a client's request, which stands at `path`.

    Raises:
        InvalidRequest: it is one that Anthropic runs, or it has a field that would be lost.

    """
    kind = decode_translatable(raw, _type_decoder, inside=path).type
    if kind not in (None, "custom"):
        raise not_translatable(
            f"{path}.type", f"{kind!r} is a tool of Anthropic's, only tools of type 'custom' can be carried"
        )
    tool = decode_translatable(raw, _tool_decoder, inside=path)
    reject_lossy_fields(DROPPABLE_IN_TOOL, tool, inside=path)
    return Tool(
        function=FunctionTool(
            name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
        )
    )


def parse_tool_choice(
    choice: types.ToolChoiceAuto | types.ToolChoiceAny | types.ToolChoiceTool | types.ToolChoiceNone | None,
) -> ToolChoice | None:
    """The canonical word for a client's choice."""
    match choice:
        case None:
            return None
        case types.ToolChoiceAuto():
            return "auto"
        case types.ToolChoiceAny():
            return "required"
        case types.ToolChoiceNone():
            return "none"
        case types.ToolChoiceTool():
            return NamedToolChoice(function=NamedFunction(name=choice.name))


def parse_tool_input(block: types.ToolUseBlock) -> str:
    """The arguments of a call in a client's request, as JSON; see `UNPARSED_ARGUMENTS`."""
    unparsed = block.input.get(UNPARSED_ARGUMENTS)
    return unparsed if isinstance(unparsed, str) and len(block.input) == 1 else _encode(block.input).decode()


def render_tool_input(arguments: str) -> dict[str, Any]:
    """The arguments of a call as the object that Anthropic's clients expect; see `UNPARSED_ARGUMENTS`."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {UNPARSED_ARGUMENTS: arguments}


def render_tools(request: ChatRequest) -> list[dict[str, Any]] | None:
    """The request's tools as Anthropic defines them; None if it has none."""
    if not request.tools:
        return None
    return [
        {"name": tool.function.name, "input_schema": tool.function.parameters or {"type": "object", "properties": {}}}
        | ({"description": tool.function.description} if tool.function.description else {})
        | ({"strict": tool.function.strict} if tool.function.strict is not None else {})
        for tool in request.tools
    ]


def render_tool_choice(request: ChatRequest) -> dict[str, Any] | None:
    """Anthropic's word for the request's choice; None to leave it out."""
    if not request.tools:
        return None
    choice: dict[str, Any] | None
    match request.tool_choice:
        case NamedToolChoice() as named:
            choice = {"type": "tool", "name": named.function.name}
        case "required":
            choice = {"type": "any"}
        case "none":
            return {"type": "none"}
        case "auto":
            choice = {"type": "auto"}
        case None:
            choice = None
    if request.parallel_tool_calls is not None:
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": not request.parallel_tool_calls}
    return choice
