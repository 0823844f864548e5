"""Tools of OpenAI's chat completions, as clients write them: functions, custom tools, and the deprecated `functions`.

A custom tool takes a text of no schema. It becomes a function with one text, `CUSTOM_TOOL_INPUT`; what a response
repeats of it (`ToolEcho`) says which calls are to be written as calls of a custom tool again.
"""

from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.chat import (
    FunctionTool,
    NamedFunction,
    NamedToolChoice,
    Tool,
    ToolChoice,
)
from domain.dialects.cache_marks import parse_cache_control
from domain.dialects.field_rules import DroppedFields, not_translatable
from domain.dialects.openai import request_types as types
from domain.errors import InvalidRequest
from domain.names import MAX_NAME_CHARS

CUSTOM_TOOL_INPUT = "input"
"""The one parameter of a function that stands for a custom tool."""

_CUSTOM_PARAMETERS = {
    "type": "object",
    "properties": {CUSTOM_TOOL_INPUT: {"type": "string"}},
    "required": [CUSTOM_TOOL_INPUT],
    "additionalProperties": False,
}
_CHOICES: dict[Any, ToolChoice] = {"none": "none", "auto": "auto", "required": "required", "any": "required"}
_SETTINGS = frozenset({"type", "function", "custom", "cache_control"})
_FUNCTION_MEMBERS = frozenset({"name", "description", "parameters", "input_schema", "strict", "cache_control"})
_encode = msgspec.json.Encoder().encode


class ToolEcho(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a response repeats of its request."""

    custom: tuple[str, ...] = ()
    """The names of the custom tools."""
    are_functions: bool = False
    """The calls are to be written as `function_call`."""


class GivenTools(Struct, kw_only=True):
    """The tools of a request."""

    tools: list[Tool] | None
    choice: ToolChoice | None
    echo: ToolEcho


def parse_tools(chat: types.ChatCompletionsBody, dropped: DroppedFields) -> GivenTools:
    """Read the tools and the choice among them.

    Raises:
        InvalidRequest: a tool cannot be read, or one has to be used that only OpenAI runs.

    """
    if chat.tools is None and chat.functions:
        return _functions(chat, dropped)
    custom: list[str] = []
    tools: list[Tool] = []
    hosted: list[str] = []
    for index, given in enumerate(chat.tools or ()):
        tool = _parse_tool(given, f"tools[{index}]", custom, dropped)
        if tool is None:
            hosted.append(str(given.get("type")))
        else:
            tools.append(tool)
    choice = _parse_choice(chat.tool_choice)
    if chat.tool_choice is not None and isinstance(chat.tool_choice, dict):
        tools = _allowed(chat.tool_choice, tools)
    if not tools:
        if choice not in (None, "none", "auto") and hosted:
            raise not_translatable(
                "tool_choice", f"only OpenAI runs {', '.join(hosted)}: send tools that you run, or `tool_choice: auto`"
            )
        if chat.tool_choice is not None:
            dropped.add("tool_choice")
        choice = None
    for kind in hosted:
        dropped.add(f"tools.{kind.replace('.', '_')}")
    return GivenTools(tools=tools or None, choice=choice, echo=ToolEcho(custom=tuple(custom)))


def _parse_tool(given: dict[str, Any], path: str, custom: list[str], dropped: DroppedFields) -> Tool | None:
    """Read one tool; None if it is one that only OpenAI runs. A function may stand in `function` or for itself, and
    have its schema in `input_schema`: some clients write tools as Anthropic's API has them, whoever they ask.
    """
    kind = given.get("type")
    settings = given
    cache_control = parse_cache_control(given.get("cache_control"))
    if kind == "custom" and "input_schema" not in given:
        settings = given["custom"] if isinstance(given.get("custom"), dict) else given
        name = _name(settings, f"{path}.custom.name")
        custom.append(name)
        function = FunctionTool(name=name, description=_custom_description(settings), parameters=_CUSTOM_PARAMETERS)
        return Tool(function=function, cache_control=cache_control)
    if isinstance(given.get("function"), dict):
        settings = given["function"]
        _drop_others(given, _SETTINGS, dropped)
    elif kind not in (None, "function", "custom"):
        return None
    _drop_others(settings, _FUNCTION_MEMBERS | {"type"}, dropped)
    parameters, strict = settings.get("parameters"), settings.get("strict")
    if parameters is None:
        parameters = settings.get("input_schema")
    if parameters is not None and not isinstance(parameters, dict):
        raise InvalidRequest(f"`{path}.function.parameters` must be a JSON Schema", field=f"{path}.function.parameters")
    function = FunctionTool(
        name=_name(settings, f"{path}.function.name"),
        description=str(settings["description"]) if settings.get("description") is not None else None,
        parameters=parameters,
        strict=strict if isinstance(strict, bool) else None,
    )
    return Tool(function=function, cache_control=cache_control or parse_cache_control(settings.get("cache_control")))


def _drop_others(given: dict[str, Any], known: frozenset[str], dropped: DroppedFields) -> None:
    for name, value in given.items():
        if name not in known and value is not None:
            dropped.add(name)


def _name(settings: dict[str, Any], path: str) -> str:
    name = settings.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS or "\x00" in name:
        raise InvalidRequest(f"`{path}` must be the name of the tool", field=path)
    return name


def _custom_description(settings: dict[str, Any]) -> str | None:
    """A grammar can only be told to other vendors' models, not imposed on them."""
    said = str(settings["description"]) if settings.get("description") else ""
    form = settings.get("format")
    grammar = form.get("grammar", form) if isinstance(form, dict) else {}
    if isinstance(grammar, dict) and grammar.get("definition"):
        said += f"\n\n`{CUSTOM_TOOL_INPUT}` keeps to this {grammar.get('syntax', '')} grammar:\n{grammar['definition']}"
    return said.strip() or None


def _parse_choice(given: Any) -> ToolChoice | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        if not isinstance(given, str) or given not in _CHOICES:
            raise InvalidRequest("`tool_choice` may be none, auto, required or a tool's name", field="tool_choice")
        return _CHOICES[given]
    kind = given.get("type")
    if kind is not None and not isinstance(kind, str):
        raise InvalidRequest("`tool_choice.type` must be a text", field="tool_choice.type")
    if kind in _CHOICES:
        return _CHOICES[kind]
    if kind == "allowed_tools":
        allowed = given["allowed_tools"] if isinstance(given.get("allowed_tools"), dict) else given
        return "required" if allowed.get("mode") == "required" else "auto"
    if kind not in ("function", "custom", "tool", None):
        raise not_translatable(
            "tool_choice", f"only OpenAI runs {kind}: send tools that you run, or `tool_choice: auto`"
        )
    name = _chosen_name(given)
    if name is None:
        raise InvalidRequest("`tool_choice` must name a function", field="tool_choice")
    return NamedToolChoice(function=NamedFunction(name=name))


def _chosen_name(given: dict[str, Any]) -> str | None:
    inner = given.get("function") or given.get("custom")
    name = inner.get("name") if isinstance(inner, dict) else given.get("name")
    return name if isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS and "\x00" not in name else None


def _allowed(choice: dict[str, Any], tools: list[Tool]) -> list[Tool]:
    """The tools that a choice of type `allowed_tools` allows; all of them if it is none."""
    if choice.get("type") != "allowed_tools":
        return tools
    settings = choice["allowed_tools"] if isinstance(choice.get("allowed_tools"), dict) else choice
    names = {_chosen_name(one) for one in settings.get("tools") or () if isinstance(one, dict)}
    return [tool for tool in tools if tool.function.name in names]


def _functions(chat: types.ChatCompletionsBody, dropped: DroppedFields) -> GivenTools:
    tools = [
        Tool(function=FunctionTool(name=one.name, description=one.description, parameters=one.parameters))
        for one in chat.functions or ()
    ]
    if chat.tool_choice is not None:
        dropped.add("tool_choice")
    return GivenTools(
        tools=tools, choice=_parse_choice(_function_choice(chat.function_call)), echo=ToolEcho(are_functions=True)
    )


def _function_choice(given: Any) -> Any:
    return {"type": "function", "function": given} if isinstance(given, dict) else given


def custom_arguments(text: str | None) -> str:
    """The arguments of the function that stands for a custom tool."""
    return _encode({CUSTOM_TOOL_INPUT: text or ""}).decode()


def custom_input(arguments: str) -> str:
    """The text that a custom tool is called with; what is no such object is the text itself."""
    try:
        read = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    text = read.get(CUSTOM_TOOL_INPUT) if isinstance(read, dict) else None
    return text if isinstance(text, str) else arguments


def arguments_text(arguments: Any) -> str:
    """A call's arguments as JSON text, whatever its client wrote: null is `{}`."""
    if arguments is None:
        return "{}"
    return arguments if isinstance(arguments, str) else _encode(arguments).decode()
