"""The canonical request as Anthropic's: what a certain model of its can be asked.

https://platform.claude.com/docs/en/api/messages. `rules.py` says what becomes of each field. What is sent depends on
the request and the model's traits alone, so that a request is adapted, bounded and sent alike.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from domain.canonical.chat import (
    AssistantMessage,
    ChatRequest,
    DeveloperMessage,
    FunctionTool,
    Message,
    NamedToolChoice,
    SystemMessage,
    TextContent,
    TextPart,
    Tool,
)
from domain.dialects.anthropic.rules import PROVIDER_RULES
from domain.dialects.anthropic.structured import StructuredAnswer, structured_answer
from domain.dialects.anthropic.thinking import Conversation, ThinkingFields, sampling, thinking_fields
from domain.dialects.anthropic.tools import render_tool_choice, render_tools, with_cache_control
from domain.dialects.anthropic.turns import TurnWriter, has_prefill, lacks_thinking, split_instructions
from domain.dialects.codec import AdaptedRequest
from domain.dialects.field_rules import DroppedFields, apply_rules, rules_by_name
from domain.estimate import input_bound
from domain.models import ModelTraits, cap_when_unset, model_traits

MAX_CACHE_BREAKPOINTS = 4
MAX_USER_ID_CHARS = 256
_KIND = "anthropic"
_IDENTIFYING = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+|\+?[\d\s().-]{7,20}")
"""An e-mail address or a telephone number: Anthropic refuses them as a `user_id`."""
_RULES = rules_by_name(PROVIDER_RULES)
_MESSAGE_RULES = rules_by_name(PROVIDER_RULES, inside="messages[]")

Block = dict[str, Any]


def adapt_chat_request(request: ChatRequest, upstream_model: str) -> AdaptedRequest:
    """Make a request one that a model of Anthropic's can be asked.

    Raises:
        InvalidRequest: names the field and what is allowed.

    """
    dropped = DroppedFields()
    traits = model_traits(upstream_model, _KIND)
    apply_rules(_RULES, request, dropped)
    for index, message in enumerate(request.messages):
        apply_rules(_MESSAGE_RULES, message, dropped, inside=f"messages[{index}]")
    longest = traits.max_output if traits.is_listed else None
    if longest is not None and request.max_tokens is not None and request.max_tokens > longest:
        request = replace(request, max_tokens=longest)
    if not request.tools:
        request = _without_tools(request, dropped)
    wire = render_chat_request(request, upstream_model, dropped)
    adapted = replace(
        request,
        messages=[_without_name(message) for message in request.messages],
        temperature=wire.get("temperature"),
        top_p=wire.get("top_p"),
        stop=wire.get("stop_sequences"),
        seed=None,
        n=None,
    )
    return AdaptedRequest(request=adapted, dropped=dropped.names, calls=request.n or 1)


def _without_name(message: Message) -> Message:
    return replace(message, name=None) if getattr(message, "name", None) is not None else message


def _without_tools(request: ChatRequest, dropped: DroppedFields) -> ChatRequest:
    """A request that has no tools: the fields about them say nothing then. Anthropic wants the tools of the calls in
    its history defined, so those are; none of them may be called.
    """
    if request.tool_choice not in (None, "none", "auto"):
        dropped.add("tool_choice")
    if request.parallel_tool_calls is not None:
        dropped.add("parallel_tool_calls")
    names = {
        call.function.name: None
        for message in request.messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls or ()
    }
    tools = [Tool(function=FunctionTool(name=name)) for name in names]
    return replace(request, tools=tools or None, tool_choice="none" if tools else None, parallel_tool_calls=None)


def render_chat_request(
    request: ChatRequest, upstream_model: str, dropped: DroppedFields | None = None
) -> dict[str, Any]:
    """The body of `POST /v1/messages`. `dropped` collects the names of what is left out.

    Raises:
        InvalidRequest: a message holds what cannot be carried over.

    """
    dropped = dropped or DroppedFields()
    traits = model_traits(upstream_model, _KIND)
    cap = request.max_tokens or cap_when_unset(upstream_model, lambda: input_bound(request))
    choice, choice_instruction = render_tool_choice(request, traits, dropped) if request.tools else (None, None)
    fields, structured = _thinking_and_format(request, traits, cap, dropped)
    temperature, top_p = sampling(request, traits, fields, dropped)
    instructions, rest = split_instructions(request.messages)
    writer = TurnWriter(request, traits, dropped, thinks=fields.is_on)
    tools = render_tools(request, traits, dropped)
    if structured.tool is not None:
        choice = _with_answer_tool(tools, structured.tool, choice)
    wire: dict[str, Any] = {
        "model": upstream_model,
        "max_tokens": cap,
        "messages": writer.write(rest),
        "system": _system(instructions, (structured.instruction, choice_instruction)),
        "temperature": temperature,
        "top_p": top_p,
        "stop_sequences": _stop_sequences(request, traits, dropped),
        "metadata": _metadata(request, dropped),
        "tools": tools or None,
        "tool_choice": choice,
        "thinking": fields.thinking,
        "output_config": _output_config(fields, structured),
        "cache_control": msgspec.to_builtins(request.cache_control) if request.cache_control is not None else None,
    }
    _limit_breakpoints(wire)
    return {name: value for name, value in wire.items() if value is not None}


def _thinking_and_format(
    request: ChatRequest, traits: ModelTraits, cap: int, dropped: DroppedFields
) -> tuple[ThinkingFields, StructuredAnswer]:
    """A tool for the answer's JSON is forced, so it is the way of a model that is not asked to think."""
    begins_answer = has_prefill(request.messages)
    must_call = request.tool_choice == "required" or isinstance(request.tool_choice, NamedToolChoice)
    is_forced = must_call and bool(request.tools) and traits.takes_forced_tool
    conversation = Conversation(
        is_forced=is_forced,
        has_prefill=begins_answer and traits.takes_prefill,
        lacks_thinking=lacks_thinking(request.messages),
    )
    fields = thinking_fields(request, traits, cap, conversation, dropped)
    may_force = not (fields.is_on or traits.thinks_by_default or must_call or begins_answer)
    return fields, structured_answer(request, traits, may_force=may_force)


def _with_answer_tool(tools: list[Block], answer: Block, choice: dict[str, Any] | None) -> dict[str, Any]:
    """Add the tool of the answer, and the choice by which it, or one that the model may call, is called."""
    is_only_one = not tools or (choice is not None and choice["type"] == "none")
    tools.append(answer)
    forced = {"type": "tool", "name": answer["name"]} if is_only_one else {"type": "any"}
    serial = choice.get("disable_parallel_tool_use") if choice is not None else None
    return forced if serial is None else forced | {"disable_parallel_tool_use": serial}


def _system(messages: Sequence[Message], added: tuple[str | None, ...]) -> str | list[Block] | None:
    """The system prompt: one text, or blocks if places in it are marked for the cache."""
    contents = [message.content for message in messages if isinstance(message, SystemMessage | DeveloperMessage)]
    contents += [text for text in added if text]
    blocks = [block for content in contents for block in _instruction_blocks(content)]
    if any("cache_control" in block for block in blocks):
        return blocks
    texts = ("".join(part.text for part in _parts(content)) for content in contents)
    return "\n\n".join(text for text in texts if text.strip()) or None


def _instruction_blocks(content: TextContent) -> list[Block]:
    return [
        with_cache_control({"type": "text", "text": part.text}, part.cache_control)
        for part in _parts(content)
        if part.text.strip()
    ]


def _parts(content: TextContent) -> list[TextPart]:
    return [TextPart(text=content)] if isinstance(content, str) else content


def _stop_sequences(request: ChatRequest, traits: ModelTraits, dropped: DroppedFields) -> list[str] | None:
    """Those that are not blank, which Anthropic refuses, and not more than the model takes."""
    given = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if not traits.takes_stop:
        kept: list[str] = []
    else:
        kept = list(dict.fromkeys(text for text in given if text.strip()))[: traits.max_stop_sequences]
    if any(text not in kept for text in given if text):
        dropped.add("stop")
    return kept or None


def _metadata(request: ChatRequest, dropped: DroppedFields) -> dict[str, Any] | None:
    """The end user: by a digest where Anthropic refuses the name."""
    user = request.user
    if not user or not user.strip():
        return None
    if len(user) > MAX_USER_ID_CHARS or _IDENTIFYING.fullmatch(user.strip()):
        dropped.add("user")
        user = hashlib.sha256(user.encode()).hexdigest()
    return {"user_id": user}


def _output_config(fields: ThinkingFields, structured: StructuredAnswer) -> dict[str, Any] | None:
    config = {"effort": fields.effort, "format": structured.output_format}
    return {name: value for name, value in config.items() if value is not None} or None


def _limit_breakpoints(wire: dict[str, Any]) -> None:
    """Leave at most four marks for the cache: the last of the tools and the system prompt, and the last of the
    conversation. The marks before them would be met by those as well.
    """
    system = wire["system"]
    fixed = [*(wire["tools"] or ()), *(system if isinstance(system, list) else ())]
    said = [block for turn in wire["messages"] for block in turn["content"]]
    of_fixed = [block for block in fixed if "cache_control" in block]
    of_said = [block for block in said if "cache_control" in block]
    most = MAX_CACHE_BREAKPOINTS - (wire["cache_control"] is not None)  # that of the whole request is one of them
    room = most - min(1, len(of_fixed))
    kept = of_said[-room:]
    for block in of_said[: -len(kept)] if kept else ():
        del block["cache_control"]
    for block in of_fixed[: max(0, len(of_fixed) - (most - len(kept)))]:
        del block["cache_control"]
