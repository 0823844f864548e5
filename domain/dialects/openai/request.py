"""OpenAI's chat requests of clients, into the canonical request.

https://platform.openai.com/docs/api-reference/chat/create. A request that goes to a provider of the same dialect is
passed through and is not read here. `rules.py` says what becomes of its fields. Members that are neither told nor
carried repeat what others say: `parsed`, `parsed_arguments` and the `index` of a call, which OpenAI's SDK adds to a
response and sends back, and the `name` of a tool's result.
"""

import hashlib
from typing import Literal, get_args

import msgspec

from domain.canonical.chat import (
    ChatRequest,
    JsonSchema,
    ReasoningEffort,
    ResponseFormat,
)
from domain.dialects.cache_marks import parse_cache_control
from domain.dialects.codec import TranslatedRequest
from domain.dialects.field_rules import (
    DroppedFields,
    FieldRule,
    apply_rules,
    decode_translatable,
    drop_unknown,
    not_translatable,
    rules_by_name,
)
from domain.dialects.openai import request_types as types
from domain.dialects.openai.messages import MessageReader
from domain.dialects.openai.rules import CHAT_CLIENT_RULES
from domain.dialects.openai.tools import ToolEcho, parse_tools
from domain.names import MAX_NAME_CHARS

ANSWER_SCHEMA_NAME = "answer"

_decoder = msgspec.json.Decoder(types.ChatCompletionsBody)
_encode = msgspec.json.Encoder().encode
_UNSAID_EFFORTS: dict[str, ReasoningEffort] = {"adaptive": "high", "auto": "high", "enabled": "medium"}
"""What a type of thinking amounts to that comes without a budget: for `adaptive` Anthropic's default."""
_EFFORTS: dict[str, ReasoningEffort] = {effort: effort for effort in get_args(ReasoningEffort)}
_RULES: dict[str, FieldRule] = {
    name: rule
    for name, rule in rules_by_name(CHAT_CLIENT_RULES).items()
    if name not in ("tool_choice", "parallel_tool_calls")  # by whether there are tools
}
_STREAM_RULES: dict[str, FieldRule] = rules_by_name(CHAT_CLIENT_RULES, "stream_options")


def parse_chat_request(body: bytes) -> TranslatedRequest:
    """Read the body of `POST /chat/completions`.

    Raises:
        InvalidRequest: names the field, as the client spelled it.

    """
    chat = decode_translatable(body, _decoder)
    dropped = DroppedFields()
    apply_rules(_RULES, chat, dropped)
    if chat.stream_options is not None:
        apply_rules(_STREAM_RULES, chat.stream_options, dropped, inside="stream_options")
    reader = MessageReader(dropped)
    messages = [
        found for index, message in enumerate(chat.messages) for found in reader.read(message, f"messages[{index}]")
    ]
    given = parse_tools(chat, dropped)
    if given.tools is None and chat.parallel_tool_calls is False:  # true says no more than an absent field
        dropped.add("parallel_tool_calls")
    thinking = _parse_thinking(chat, dropped)
    request = ChatRequest(
        model=chat.model,
        messages=messages,
        temperature=chat.temperature,
        max_tokens=_smaller(chat.max_tokens, chat.max_completion_tokens),
        top_p=chat.top_p,
        stop=_parse_stop(chat.stop, dropped),
        n=chat.n if chat.n != 1 else None,
        seed=chat.seed,
        user=_parse_user(chat),
        tools=given.tools,
        tool_choice=given.choice,
        parallel_tool_calls=chat.parallel_tool_calls if given.tools is not None else None,
        response_format=_parse_response_format(chat.response_format),
        reasoning_effort=thinking.effort,
        thinking_budget=thinking.budget,
        shows_reasoning=thinking.is_shown,
        cache_control=parse_cache_control(chat.cache_control),
    )
    drop_unknown(chat, msgspec.json.decode(body), dropped)
    echo = _encode(given.echo) if given.echo != ToolEcho() else None
    return TranslatedRequest(request=request, dropped=dropped.names, echo=echo)


def _smaller(one: int | None, other: int | None) -> int | None:
    """The cap that both fields allow: some frameworks send both."""
    return min((cap for cap in (one, other) if cap is not None), default=None)


def _parse_stop(stop: str | list[str] | None, dropped: DroppedFields) -> str | list[str] | None:
    """The stop sequences; empty ones stop nothing."""
    if isinstance(stop, list):
        kept = [one for one in stop if one]
        if len(kept) != len(stop):
            dropped.add("stop")
        return kept or None
    return stop or None


def _parse_user(chat: types.ChatCompletionsBody) -> str | None:
    """Both fields identify the end user, against misuse. A longer name is its digest."""
    user = chat.safety_identifier or chat.user or None
    if user is not None and len(user) > MAX_NAME_CHARS:
        return hashlib.sha256(user.encode()).hexdigest()
    return user


class _Thinking(msgspec.Struct, kw_only=True):
    effort: ReasoningEffort | None = None
    budget: int | None = None
    is_shown: bool | None = None


def _parse_thinking(chat: types.ChatCompletionsBody, dropped: DroppedFields) -> _Thinking:
    """What is said of thinking, in OpenAI's words, else in OpenRouter's, else in Anthropic's."""
    found = _Thinking(is_shown=chat.include_reasoning)
    said: list[tuple[Literal["reasoning_effort", "reasoning"], str | None]] = [
        ("reasoning_effort", chat.reasoning_effort)
    ]
    settings = chat.reasoning
    if settings is not None:
        said.append(("reasoning", settings.effort))
        found.budget = settings.max_tokens
        if settings.enabled is False:
            found.effort = "none"
        elif settings.enabled and settings.effort is None and settings.max_tokens is None:
            found.effort = "medium"
        if settings.exclude is not None:
            found.is_shown = not settings.exclude
    thinking = chat.thinking
    if thinking is not None:
        if thinking.type == "disabled":
            found.effort = "none"
        elif thinking.budget_tokens is None and found.budget is None:
            found.effort = found.effort or _UNSAID_EFFORTS.get(thinking.type or "")
        if thinking.type != "disabled":
            found.budget = found.budget or thinking.budget_tokens
            found.is_shown = True if found.is_shown is None else found.is_shown
        if thinking.display is not None:
            found.is_shown = thinking.display != "omitted"
    for field, effort in reversed(said):
        if effort in _EFFORTS:
            found.effort = _EFFORTS[effort]
        elif effort is not None:
            dropped.add(field)
    return found


def _parse_response_format(wanted: types.ResponseFormatParam | None) -> ResponseFormat | None:
    """The format of the answer. A schema that is missing leaves any JSON object.

    Raises:
        InvalidRequest: it is none that a model of another vendor can be held to.

    """
    if wanted is None:
        return None
    match wanted.type:
        case "text":
            return ResponseFormat(type="text")
        case "json_object" | "json_schema":
            given = wanted.json_schema or types.JsonSchemaParam()
            schema = given.schema if given.schema is not None else wanted.schema
            if schema is None:
                return ResponseFormat(type="json_object")
            return ResponseFormat(
                type="json_schema",
                json_schema=JsonSchema(
                    name=(given.name or ANSWER_SCHEMA_NAME)[:MAX_NAME_CHARS],
                    schema=schema,
                    description=given.description,
                    strict=given.strict,
                ),
            )
        case _:
            raise not_translatable("response_format.type", "send `json_schema`, `json_object` or `text`")
