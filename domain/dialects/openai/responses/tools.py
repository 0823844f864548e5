"""The tools of a Responses request as functions, and the calls of those functions as the items that its client expects.

A function stays one. A custom tool takes one text, described with its grammar. The vendor's own tools that the caller
runs (`local_shell`, `shell`, `apply_patch`) have the parameters that OpenAI documents for their calls. Tools in a name
space get its name in front. What OpenAI itself runs is dropped by its type, or refused if it is forced.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from domain.canonical.chat import (
    FunctionCall,
    FunctionTool,
    NamedFunction,
    NamedToolChoice,
    Tool,
    ToolChoice,
)
from domain.dialects.field_rules import DroppedFields, decode_translatable, not_translatable
from domain.dialects.openai.responses import types
from domain.errors import InvalidRequest
from domain.names import MAX_NAME_CHARS

ToolKind = Literal["function", "custom", "local_shell", "shell", "apply_patch"]
CALL_TYPES: dict[ToolKind, str] = {
    "function": "function_call",
    "custom": "custom_tool_call",
    "local_shell": "local_shell_call",
    "shell": "shell_call",
    "apply_patch": "apply_patch_call",
}
"""The type of the items of a tool's calls."""
NAMESPACE_SEPARATOR = "__"
_CHOICES: tuple[Literal["none", "auto", "required"], ...] = ("none", "auto", "required")


class ToolName(Struct, frozen=True, array_like=True):
    """What a client knows a function as."""

    kind: ToolKind
    name: str
    namespace: str | None = None


class ParsedTools(Struct, frozen=True):
    """The tools of a request."""

    functions: list[Tool]
    names: dict[str, ToolName]
    """By function: those that are to their client something else than a function of the same name."""
    hosted: list[str]
    """The types of tools that only OpenAI runs."""


_typed = msgspec.json.Decoder(types.Typed)
_function = msgspec.json.Decoder(types.FunctionToolParam)
_custom = msgspec.json.Decoder(types.CustomToolParam)
_namespace = msgspec.json.Decoder(types.NamespaceToolParam)
_shell = msgspec.json.Decoder(types.ShellToolParam)


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_TEXT: dict[str, Any] = {"type": "string"}
_MILLISECONDS: dict[str, Any] = {"type": "integer", "description": "The most time that it may take, in milliseconds."}
_OWN_TOOLS: dict[str, FunctionTool] = {
    "local_shell": FunctionTool(
        name="local_shell",
        description="Runs a command on the user's machine and returns its output.",
        parameters=_object(
            ["command"],
            command={"type": "array", "items": _TEXT, "description": "The command and its arguments."},
            working_directory=_TEXT,
            timeout_ms=_MILLISECONDS,
        ),
    ),
    "shell": FunctionTool(
        name="shell",
        description="Runs shell commands on the user's machine, one after another, and returns their output.",
        parameters=_object(["commands"], commands={"type": "array", "items": _TEXT}, timeout_ms=_MILLISECONDS),
    ),
    "apply_patch": FunctionTool(
        name="apply_patch",
        description=(
            "Creates, updates or deletes one file. `diff` is a V4A diff: a new file has `+` before each line; "
            "an update has hunks that begin with `@@`, with ` `, `+` or `-` before each line."
        ),
        parameters=_object(
            ["operation"],
            operation=_object(
                ["type", "path"],
                type={"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                path=_TEXT,
                diff=_TEXT,
            ),
        ),
    ),
}
"""The vendor's tools that the caller runs. https://platform.openai.com/docs/guides/tools-shell"""


def parse_tools(tools: Iterable[Raw]) -> ParsedTools:
    """Read the tools.

    Raises:
        InvalidRequest: names the field.

    """
    parsed = ParsedTools([], {}, [])
    for index, raw in enumerate(tools):
        _parse_tool(raw, f"tools[{index}]", None, parsed)
    return parsed


def _parse_tool(raw: Raw, path: str, namespace: str | None, parsed: ParsedTools) -> None:
    kind = decode_translatable(raw, _typed, inside=path).kind
    match kind:
        case "function":
            function = decode_translatable(raw, _function, inside=path)
            tool = FunctionTool(
                name=function.name,
                description=function.description,
                parameters=function.parameters or {"type": "object", "properties": {}},
                strict=function.strict,
            )
            _add(parsed, tool, ToolName("function", function.name, namespace))
        case "custom":
            custom = decode_translatable(raw, _custom, inside=path)
            _add(parsed, _custom_function(custom), ToolName("custom", custom.name, namespace))
        case "namespace":
            space = decode_translatable(raw, _namespace, inside=path)
            for index, member in enumerate(space.tools):
                _parse_tool(member, f"{path}.tools[{index}]", space.name, parsed)
        case "shell" if not _is_local(decode_translatable(raw, _shell, inside=path)):
            parsed.hosted.append(kind)
        case "local_shell" | "shell" | "apply_patch":
            _add(parsed, _OWN_TOOLS[kind], ToolName(kind, kind))
        case _:
            parsed.hosted.append(kind)


def _is_local(shell: types.ShellToolParam) -> bool:
    return shell.environment is None or shell.environment.get("type") == "local"


def _add(parsed: ParsedTools, tool: FunctionTool, name: ToolName) -> None:
    function_name = qualified(name.name, name.namespace)
    if name != ToolName("function", function_name):
        parsed.names[function_name] = name
    parsed.functions.append(Tool(function=msgspec.structs.replace(tool, name=function_name)))


def qualified(name: str, namespace: str | None) -> str:
    """The function's name of a tool in a name space."""
    if not namespace:
        return name
    joined = namespace + name if namespace.endswith(NAMESPACE_SEPARATOR) else namespace + NAMESPACE_SEPARATOR + name
    return joined[:MAX_NAME_CHARS]


def _custom_function(custom: types.CustomToolParam) -> FunctionTool:
    description = custom.description or ""
    wanted = custom.format
    if wanted is not None and wanted.definition:
        grammar = f"`input` has to match this {wanted.syntax or ''} grammar:\n{wanted.definition}".replace("  ", " ")
        description = f"{description}\n\n{grammar}" if description else grammar
    return FunctionTool(
        name=custom.name, description=description or None, parameters=_object(["input"], input={"type": "string"})
    )


def parse_tool_choice(
    choice: str | dict[str, Any] | None, parsed: ParsedTools, dropped: DroppedFields
) -> tuple[ToolChoice | None, list[Tool]]:
    """The choice, and the tools that it leaves. Hosted tools are dropped here, since a forced one is refused.

    Raises:
        InvalidRequest: it forces a tool that only OpenAI runs, or is no choice.

    """
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        mode = choice.get("mode", "auto")
        allowed = [tool for tool in choice.get("tools") or () if isinstance(tool, dict)]
        names = {_function_name(tool) for tool in allowed}
        functions = [tool for tool in parsed.functions if tool.function.name in names]
        if mode == "required" and not functions:
            raise _hosted_choice("tool_choice.tools")
        return _parse_mode(mode, parsed, functions, dropped), functions
    if isinstance(choice, dict):
        name = _function_name(choice)
        if not any(tool.function.name == name for tool in parsed.functions):
            if str(choice.get("type")) not in ("function", "custom"):
                raise _hosted_choice("tool_choice.type")
            raise InvalidRequest(f"`tool_choice` names {name!r}, which is none of `tools`", field="tool_choice")
        _drop_hosted(parsed, dropped)
        return NamedToolChoice(function=NamedFunction(name=name)), parsed.functions
    return _parse_mode(choice, parsed, parsed.functions, dropped), parsed.functions


def _parse_mode(
    mode: object, parsed: ParsedTools, functions: list[Tool], dropped: DroppedFields
) -> Literal["none", "auto", "required"] | None:
    if mode is not None and mode not in _CHOICES:
        raise InvalidRequest(f"`tool_choice` may be {', '.join(_CHOICES)}, or an object", field="tool_choice")
    if mode == "required" and not functions and parsed.hosted:
        raise _hosted_choice("tool_choice")
    _drop_hosted(parsed, dropped)
    if mode is not None and not functions:
        if mode == "required":
            dropped.add("tool_choice")
        return None
    return next((one for one in _CHOICES if one == mode), None)


def _drop_hosted(parsed: ParsedTools, dropped: DroppedFields) -> None:
    for kind in parsed.hosted:
        dropped.add(kind)


def _function_name(tool: dict[str, Any]) -> str:
    """The function that a choice names: by its name, or by its type alone."""
    return qualified(str(tool.get("name") or tool.get("type")), tool.get("namespace"))


def _hosted_choice(field: str) -> InvalidRequest:
    return not_translatable(field, "only OpenAI runs this tool, give the model a function")


def call_item(call: FunctionCall, call_id: str, name: ToolName | None) -> dict[str, Any]:
    """The item of a call, without its id and status. A call that its tool's item cannot hold is a function's."""
    name = name or ToolName("function", call.name)
    item = _ITEMS[name.kind](call.arguments, name)
    if item is None:
        item = _function_item(call.arguments, name)
    if name.namespace is not None:
        item["namespace"] = name.namespace
    return item | {"call_id": call_id}


def _function_item(arguments: str, name: ToolName) -> dict[str, Any]:
    return {"type": "function_call", "name": name.name, "arguments": arguments or "{}"}


def _custom_item(arguments: str, name: ToolName) -> dict[str, Any]:
    members = members_of(arguments)
    text = members.get("input") if members is not None else None
    return {"type": "custom_tool_call", "name": name.name, "input": text if isinstance(text, str) else arguments}


def _local_shell_item(arguments: str, _name: ToolName) -> dict[str, Any] | None:
    action = members_of(arguments)
    if action is None or not isinstance(action.get("command"), list):
        return None
    allowed = {name: action[name] for name in ("working_directory", "timeout_ms") if action.get(name) is not None}
    return {
        "type": "local_shell_call",
        "action": {"type": "exec", "command": [str(word) for word in action["command"]], "env": {}, **allowed},
    }


def _shell_item(arguments: str, _name: ToolName) -> dict[str, Any] | None:
    action = members_of(arguments)
    if action is None or not isinstance(action.get("commands"), list):
        return None
    commands = [str(command) for command in action["commands"]]
    return {
        "type": "shell_call",
        "action": {"commands": commands, "timeout_ms": action.get("timeout_ms"), "max_output_length": None},
    }


def _apply_patch_item(arguments: str, _name: ToolName) -> dict[str, Any] | None:
    members = members_of(arguments)
    operation = members.get("operation") if members is not None else None
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
        return None
    return {"type": "apply_patch_call", "operation": operation}


_ITEMS: dict[ToolKind, Callable[[str, ToolName], dict[str, Any] | None]] = {
    "function": _function_item,
    "custom": _custom_item,
    "local_shell": _local_shell_item,
    "shell": _shell_item,
    "apply_patch": _apply_patch_item,
}


def members_of(arguments: str) -> dict[str, Any] | None:
    """The arguments of a call, if they are a JSON object."""
    try:
        members = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return members if isinstance(members, dict) else None
