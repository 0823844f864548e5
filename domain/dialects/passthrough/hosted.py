"""Which tools of a passed-through request its provider runs, what their calls cost, and the fields that limit them.

Types are the vendors' own. A tool that no row matches has no known price.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from domain.dialects.codec import Codec
from domain.dialects.passthrough.asked_models import OtherModelBound, advisor_model, image_model
from domain.dialects.passthrough.fields import MCP_FIELD, SEARCH_FIELD, STANDARD_TERMS
from domain.extras import MAX_TERM_CHARS
from domain.hosted_tools import MAX_SERVER_TURNS, NO_TOOLS, HostedTool, HostedTools

TOOL_CALLS_FIELD = "max_tool_calls"
MAX_TOOL_CALLS = 1_000
_CONTAINER_SIZES = frozenset({"1g", "4g", "16g", "64g"})
_DEFAULT_CONTAINER = "1g"


class _Row(Struct, frozen=True):
    """One kind of tool. `limited_by` and the rest: see `HostedTool`."""

    limited_by: Any
    use: str | None = None
    rows: tuple[str, ...] = ()
    is_session: bool = False
    other: Callable[[dict[str, Any]], OtherModelBound | None] | None = None
    """Reads the other model that each call asks, and the most of its tokens; None: it asks none."""


_TABLE: tuple[tuple[re.Pattern[str], _Row], ...] = tuple(
    (re.compile(pattern), row)
    for pattern, row in (
        # OpenAI's, https://platform.openai.com/docs/guides/tools
        (r"web_search(_\d{4}_\d\d_\d\d)?", _Row("request", "web_search")),
        (
            r"web_search_preview(_\d{4}_\d\d_\d\d)?",
            _Row("request", "web_search", ("web_search_preview", "web_search")),
        ),
        (r"file_search", _Row("request", "file_search")),
        (r"code_interpreter|shell", _Row("request", "container", is_session=True)),
        (r"mcp|tool_search", _Row("request")),
        (r"image_generation", _Row("request", "image_generation_call", other=image_model)),
        # Anthropic's, https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview
        (r"web_search_\d{8}", _Row("tool", "web_search")),
        (r"web_fetch_\d{8}", _Row("tool")),
        (r"code_execution_\d{8}", _Row("nothing", "code_execution", is_session=True)),
        (r"tool_search_tool_\w+|mcp_toolset", _Row("nothing")),
        (r"advisor_\d{8}", _Row("tool", "advisor_message", other=advisor_model)),
    )
)
_CLIENT_TOOL_TYPES = frozenset({"function", "custom", "namespace", "local_shell", "apply_patch", "computer"})
_CLIENT_TOOL_TYPE_PREFIXES = (
    "bash_2",
    "text_editor_2",
    "memory_2",
    "computer_2",
    "computer_toolset_2",
    "computer_use_preview",
    "browser_toolset_2",
)
"""Prefixes of the types of more tools that the caller runs. The provider runs every other tool, and charges for it."""
_LIMITS_ITSELF = re.compile(r"(web_(search|fetch)|advisor)_\d{8}")
_MAKES_CODE_FREE = re.compile(r"web_(search|fetch)_(2026\d{4}|20[3-9]\d{5}|202[7-9]\d{4})")
"""Code execution costs nothing beside these: https://platform.claude.com/docs/en/about-claude/pricing"""


def is_run_by_caller(kind: str, tool: dict[str, Any]) -> bool:
    """Return True if the provider runs nothing for a tool of this type."""
    if kind == "shell":
        environment = tool.get("environment")
        return isinstance(environment, dict) and environment.get("type") == "local"
    if kind == "tool_search":
        return tool.get("execution") == "client"
    return kind in _CLIENT_TOOL_TYPES or kind.startswith(_CLIENT_TOOL_TYPE_PREFIXES)


def is_known_tool(kind: str, tool: dict[str, Any]) -> bool:
    """Return True if it is known who runs a tool of this type, and that no other model does."""
    return is_run_by_caller(kind, tool) or any(pattern.fullmatch(kind) and row.other is None for pattern, row in _TABLE)


def hosted_tool(kind: str, tool: dict[str, Any], path: str) -> HostedTool | None:
    """Read a tool that its provider runs; None if nothing is known of what it costs."""
    row = next((row for pattern, row in _TABLE if pattern.fullmatch(kind)), None)
    if row is None:
        return None
    rows = row.rows
    if row.use == "container":
        size = _container_size(tool)
        if size is None:
            return None
        rows = (f"container_{size}",)
    other = row.other(tool) if row.other is not None else None
    if row.other is not None and other is None:
        return None
    limit = _own_limit(tool) if row.limited_by == "tool" else None
    return HostedTool(
        field=f"{path} ({kind})",
        use=row.use,
        model=other.model if other is not None else None,
        most_tokens=other.most_tokens if other is not None else {},
        rows=rows,
        is_session=row.is_session,
        limited_by=row.limited_by,
        max_calls=MAX_SERVER_TURNS if row.limited_by == "nothing" else limit,
    )


def _own_limit(tool: dict[str, Any]) -> int | None:
    """Return how often a tool lets itself be called; None if it has no limit, or one that is no number above zero."""
    own = tool.get("max_uses")
    if isinstance(own, bool) or not isinstance(own, int | float) or not 1 <= own < math.inf:
        return None
    return int(own)


def with_waivers(tools: Iterable[HostedTool]) -> tuple[HostedTool, ...]:
    """The tools, those marked that others of them make free."""
    tools = tuple(tools)
    if not any(_MAKES_CODE_FREE.search(tool.field) for tool in tools):
        return tools
    return tuple(replace(tool, is_waived=tool.use == "code_execution") for tool in tools)


def limit_changes(tools: Any, calls: int, *, in_request: bool) -> dict[str, Any]:
    """The members to change so that the hosted tools of a request are called no more than so often.

    `in_request`: the dialect has `max_tool_calls`, for all of them together.
    """
    if in_request:
        return {"max_tool_calls": calls}
    if not isinstance(tools, list) or not any(map(_limits_itself, tools)):
        return {}
    return {
        "tools": [
            {**tool, "max_uses": min(calls, _own_limit(tool) or calls)} if _limits_itself(tool) else tool
            for tool in tools
        ]
    }


def hosted_tools_of(fields: dict[str, Any], found: list[HostedTool], codec: Codec) -> HostedTools:
    """Return the tools that the provider runs, those among them that a field of their own turns on.

    A tool that is defined among the messages cannot be given a limit.
    """
    tools = [
        replace(tool, limited_by="nothing", max_calls=tool.max_calls or MAX_SERVER_TURNS)
        if tool.limited_by == "tool" and not tool.field.startswith("tools[")
        else tool
        for tool in found
        if tool.limited_by != "request" or TOOL_CALLS_FIELD in codec.known_fields
    ]
    if fields.get(SEARCH_FIELD) is not None:
        tools.append(
            HostedTool(field=SEARCH_FIELD, use="web_search", limited_by="nothing", max_calls=1, is_of_each_request=True)
        )
    if fields.get(MCP_FIELD):
        tools.append(HostedTool(field=MCP_FIELD, limited_by="nothing", max_calls=MAX_SERVER_TURNS))
    if not tools:
        return NO_TOOLS
    calls = fields.get(TOOL_CALLS_FIELD)
    is_limit = isinstance(calls, int) and not isinstance(calls, bool) and 0 <= calls <= MAX_TOOL_CALLS
    return HostedTools(tools=with_waivers(tools), max_calls=calls if is_limit else None)


def unlimited_tool(found: list[HostedTool], codec: Codec) -> str | None:
    """Return the first tool that only a field limits which the dialect's operation does not have."""
    if TOOL_CALLS_FIELD in codec.known_fields:
        return None
    return next((tool.field for tool in found if tool.limited_by == "request"), None)


def terms_of(fields: dict[str, Any]) -> dict[str, str]:
    """The terms other than the standard ones."""
    return {
        name: str(fields[name])[:MAX_TERM_CHARS]
        for name, standard in STANDARD_TERMS.items()
        if name in fields and fields[name] not in standard
    }


def writes_audio(fields: dict[str, Any]) -> bool:
    """True if the answer may be spoken: a voice is enough for some sellers."""
    modalities = fields.get("modalities")
    return (isinstance(modalities, list) and "audio" in modalities) or bool(fields.get("audio"))


def unpriced_modality(fields: dict[str, Any]) -> str | None:
    """The field that asks for an answer in anything but text and speech; None if none does."""
    modalities = fields.get("modalities")
    if not modalities or (isinstance(modalities, list) and set(map(str, modalities)) <= {"text", "audio"}):
        return None
    return "modalities"


def _limits_itself(tool: Any) -> bool:
    return isinstance(tool, dict) and _LIMITS_ITSELF.fullmatch(str(tool.get("type"))) is not None


def _container_size(tool: dict[str, Any]) -> str | None:
    """The memory of the container that a tool opens; None if it is one that was opened before."""
    container = tool.get("container", tool.get("environment"))
    if not isinstance(container, dict):
        return None if isinstance(container, str) else _DEFAULT_CONTAINER
    if container.get("type") == "container_reference":
        return None
    size = container.get("memory_limit") or _DEFAULT_CONTAINER
    return size if size in _CONTAINER_SIZES else None
