"""Tools in requests to Anthropic's models, and the input of a call in both directions."""

from typing import Any

import msgspec

from domain.canonical.chat import CacheControl, ChatRequest, FunctionTool, NamedToolChoice, Tool
from domain.dialects.anthropic.schemas import NotExpressible, answer_schema, input_schema
from domain.dialects.field_rules import DroppedFields
from domain.models import ModelTraits

UNPARSED_ARGUMENTS = "unparsed_arguments"
"""The member that holds a call's arguments if they are no JSON object. It is read back as it was."""
MAX_STRICT_TOOLS = 20
"""https://platform.claude.com/docs/en/build-with-claude/structured-outputs#schema-complexity-limits"""
CALL_SOMETHING = "Call at least one of the tools in your answer."
CALL_THIS = "Call the tool `{name}` in your answer."

_encode = msgspec.json.encode
_decode_arguments = msgspec.json.Decoder(dict[str, Any] | None).decode


def written_arguments(given: Any) -> str:
    """The arguments of a call as JSON: from an object, from JSON in a string, or from nothing at all."""
    if given is None or given == "":
        return "{}"
    if isinstance(given, str):
        return given
    if isinstance(given, dict) and len(given) == 1 and isinstance(given.get(UNPARSED_ARGUMENTS), str):
        return str(given[UNPARSED_ARGUMENTS])
    return _encode(given).decode()


def parsed_arguments(arguments: str) -> dict[str, Any]:
    """The arguments of a call as the object that Anthropic wants; see `UNPARSED_ARGUMENTS`."""
    try:
        return _decode_arguments(arguments.strip() or "{}") or {}
    except (msgspec.DecodeError, RecursionError):
        return {UNPARSED_ARGUMENTS: arguments}


def render_tools(request: ChatRequest, traits: ModelTraits, dropped: DroppedFields) -> list[dict[str, Any]]:
    """The request's tools as Anthropic defines them, which takes no name twice: what is the same is left out."""
    strict = 0
    rendered: list[dict[str, Any]] = []
    seen: dict[str, FunctionTool] = {}
    for tool in request.tools or ():
        if seen.get(tool.function.name) == tool.function:
            continue
        seen[tool.function.name] = tool.function
        wire = _render_tool(tool, traits, dropped, may_be_strict=strict < MAX_STRICT_TOOLS)
        strict += "strict" in wire
        rendered.append(wire)
    return rendered


def _render_tool(tool: Tool, traits: ModelTraits, dropped: DroppedFields, *, may_be_strict: bool) -> dict[str, Any]:
    function = tool.function
    wire: dict[str, Any] = {"name": function.name}
    if function.description:
        wire["description"] = function.description
    wire["input_schema"] = input_schema(function.parameters)
    if function.strict:
        try:
            if not (traits.takes_structured_output and may_be_strict):
                raise NotExpressible("this model does not take it")  # noqa: TRY301 - one way out for both
            wire |= {"input_schema": answer_schema(wire["input_schema"]), "strict": True}
        except NotExpressible:
            dropped.add("strict")
    return with_cache_control(wire, tool.cache_control)


def render_tool_choice(
    request: ChatRequest, traits: ModelTraits, dropped: DroppedFields
) -> tuple[dict[str, Any] | None, str | None]:
    """Anthropic's word for the request's choice (None: left out), and an instruction for a model that has no word."""
    choice: dict[str, Any] | None = None
    instruction: str | None = None
    match request.tool_choice:
        case NamedToolChoice() as named:
            choice = {"type": "tool", "name": named.function.name}
            instruction = CALL_THIS.format(name=named.function.name)
        case "required":
            choice, instruction = {"type": "any"}, CALL_SOMETHING
        case "none":
            return {"type": "none"}, None
        case "auto":
            choice = {"type": "auto"}
        case None:
            pass
    if instruction is not None and not traits.takes_forced_tool:
        dropped.add("tool_choice")
        choice = {"type": "auto"}
    else:
        instruction = None
    if request.parallel_tool_calls is not None:
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": not request.parallel_tool_calls}
    return choice, instruction


def with_cache_control(block: dict[str, Any], mark: CacheControl | None) -> dict[str, Any]:
    """The block, marked as the end of what is to be cached."""
    return block if mark is None else block | {"cache_control": msgspec.to_builtins(mark)}
