"""The tools of an Anthropic client's request, and the choice among them, in the canonical form.

Tools that Anthropic defines and the client runs (`bash_…`, `text_editor_…`) become functions with the same input, so
that the client can run what another vendor's model asks for. Tools that Anthropic runs are dropped: the model answers
without them. One that the request insists on is refused.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.chat import FunctionTool, NamedFunction, NamedToolChoice, Tool, ToolChoice
from domain.decoding import converted
from domain.dialects.anthropic import types
from domain.dialects.field_rules import DroppedFields, drop_unknown, not_translatable

_encode = msgspec.json.encode


class ParsedTools(Struct, frozen=True, kw_only=True):
    """The tools and the choice among them; None if there are none."""

    tools: list[Tool] | None = None
    choice: ToolChoice | None = None
    parallel: bool | None = None


class _OwnTool(Struct, frozen=True):
    """A tool that Anthropic defines and its clients run."""

    description: str
    members: dict[str, dict[str, Any]]
    required: tuple[str, ...]


def _text(about: str) -> dict[str, Any]:
    return {"type": "string", "description": about}


def _one_of(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


_WHOLE = {"type": "integer"}
_PAIR = {"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2}
_FILES = {
    "path": _text("The absolute path of a file or a directory."),
    "file_text": _text("For `create`: the content of the file."),
    "old_str": _text("For `str_replace`: the text to replace. It must be in the file exactly once."),
    "new_str": _text("For `str_replace`: the text to put there."),
    "insert_line": _WHOLE | {"description": "For `insert`: the line after which to insert; 0 is the beginning."},
    "insert_text": _text("For `insert`: the text to insert."),
    "view_range": _PAIR | {"description": "For `view`: the first line and the last, from 1; -1 is the end."},
}
_KEYS = "key hold_key type cursor_position mouse_move left_mouse_down left_mouse_up left_click left_click_drag"
_CLICKS = "right_click middle_click double_click triple_click scroll wait screenshot"
OWN_TOOLS: dict[str, _OwnTool] = {
    "bash": _OwnTool(
        "Runs a command in a bash shell that keeps its state between calls.",
        {"command": _text("The command to run."), "restart": {"type": "boolean", "description": "Start a new shell."}},
        (),
    ),
    "text_editor": _OwnTool(
        "Views, creates and edits text files.",
        {"command": _one_of("view", "create", "str_replace", "insert", "undo_edit")} | _FILES,
        ("command", "path"),
    ),
    "memory": _OwnTool(
        "Keeps notes in files under /memories between conversations. Look there before you begin.",
        {"command": _one_of("view", "create", "str_replace", "insert", "delete", "rename")}
        | _FILES
        | {"old_path": _text("For `rename`: the path so far."), "new_path": _text("For `rename`: the new path.")},
        ("command",),
    ),
    "computer": _OwnTool(
        "Uses a computer by its screen, mouse and keyboard. Take a screenshot to see the outcome of an action.",
        {
            "action": _one_of(*_KEYS.split(), *_CLICKS.split()),
            "coordinate": _PAIR | {"description": "The x and y of a point on the screen, in pixels."},
            "start_coordinate": _PAIR | {"description": "For `left_click_drag`: where it begins."},
            "text": _text("What to type, or the keys to press or to hold."),
            "duration": {"type": "number", "description": "Seconds, for `hold_key` and `wait`."},
            "scroll_direction": _one_of("up", "down", "left", "right"),
            "scroll_amount": _WHOLE,
        },
        ("action",),
    ),
}
"""By the beginning of the type. Members: https://platform.claude.com/docs/en/agents-and-tools/tool-use/bash-tool, and
the pages of the others there."""


def parse_tools(body: types.MessagesBody, dropped: DroppedFields) -> ParsedTools:
    """Read the tools and the choice.

    Raises:
        InvalidRequest: a tool is wrong, or one that Anthropic runs is asked for by name.

    """
    tools: list[Tool] = []
    at_anthropic: list[str] = []
    for index, raw in enumerate(body.tools or ()):
        tool = _parse_tool(raw, f"tools[{index}]", dropped)
        if tool is not None:
            tools.append(tool)
        else:
            kind = str(raw["type"])
            dropped.add(f"tools[{index}].{kind}")
            at_anthropic.append(str(raw.get("name") or kind))
    choice = body.tool_choice
    if choice is not None:
        _check_choice(choice, tools, at_anthropic)
    if not tools:
        if choice is not None and choice.type in ("any", "tool"):
            dropped.add("tool_choice")
        return ParsedTools()
    serial = None if choice is None or choice.type == "none" else choice.disable_parallel_tool_use
    return ParsedTools(tools=tools, choice=_choice(choice), parallel=not serial if serial is not None else None)


def _check_choice(choice: types.ToolChoice, tools: Sequence[Tool], at_anthropic: Sequence[str]) -> None:
    if choice.type == "tool" and choice.name in at_anthropic:
        raise not_translatable(
            "tool_choice.name", f"{choice.name!r} is a tool that Anthropic runs, leave the choice to the model"
        )
    if choice.type == "any" and at_anthropic and not tools:
        raise not_translatable(
            "tool_choice.type", f"{at_anthropic[0]!r} is a tool that Anthropic runs, leave the choice to the model"
        )


def _choice(choice: types.ToolChoice | None) -> ToolChoice | None:
    if choice is None:
        return None
    match choice.type:
        case "auto":
            return "auto"
        case "any":
            return "required"
        case "none":
            return "none"
        case "tool":
            if choice.name is None:
                raise not_translatable("tool_choice.name", "a choice of type 'tool' needs it")
            return NamedToolChoice(function=NamedFunction(name=choice.name))


def _parse_tool(raw: dict[str, Any], path: str, dropped: DroppedFields) -> Tool | None:
    """The tool; None if it is one that only Anthropic can run."""
    kind = raw.get("type")
    if kind is None or kind == "custom":
        return _parse_custom(raw, path, dropped)
    own = next((tool for begin, tool in OWN_TOOLS.items() if str(kind).startswith(f"{begin}_")), None)
    if own is None or str(kind).startswith("computer_toolset"):
        return None
    description = own.description
    if "display_width_px" in raw:
        description += f" The screen has {raw['display_width_px']} by {raw.get('display_height_px')} pixels."
    schema = {"type": "object", "properties": own.members, "required": list(own.required)}
    name = raw.get("name")
    return Tool(
        function=FunctionTool(
            name=name if isinstance(name, str) and name else str(kind), description=description, parameters=schema
        )
    )


def _parse_custom(raw: dict[str, Any], path: str, dropped: DroppedFields) -> Tool:
    tool = converted(raw, types.CustomTool, inside=path)
    drop_unknown(tool, raw, dropped)
    if tool.cache_control is not None:
        dropped.add("cache_control")
    if tool.allowed_callers not in (None, [], ["direct"]):
        dropped.add("allowed_callers")
    if tool.defer_loading:
        dropped.add("defer_loading")
    description = tool.description
    if tool.input_examples:
        examples = "\n".join(_encode(example).decode() for example in tool.input_examples)
        description = f"{description or ''}\n\nExamples of its input:\n{examples}".lstrip()
    return Tool(
        function=FunctionTool(
            name=tool.name, description=description or None, parameters=tool.input_schema, strict=tool.strict
        )
    )
