"""Anthropic's clients' requests in the canonical form.

https://docs.anthropic.com/en/api/messages. A request that goes to a provider of the same dialect is passed through and
is not read here. `rules.py` says what becomes of each field.
"""

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.chat import (
    MAX_MESSAGES,
    MAX_STOP_SEQUENCES,
    MAX_USER_CHARS,
    ChatRequest,
    JsonSchema,
    Message,
    ReasoningEffort,
    ResponseFormat,
    SystemMessage,
)
from domain.decoding import converted, decoded
from domain.dialects.anthropic import types
from domain.dialects.anthropic.client_tools import parse_tools
from domain.dialects.anthropic.client_turns import TurnReader
from domain.dialects.anthropic.rules import CLIENT_RULES
from domain.dialects.anthropic.schemas import may_be_strict
from domain.dialects.codec import TranslatedRequest
from domain.dialects.field_rules import DroppedFields, apply_rules, drop_unknown, rules_by_name
from domain.errors import InvalidRequest

ANSWER_SCHEMA_NAME = "answer"
"""OpenAI requires a name for the schema of a response; Anthropic has no such field."""

_RULES = rules_by_name(CLIENT_RULES)
_decoder = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.encode


class Echo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the response depends on of its request."""

    hides_thinking: bool = False
    """The client did not ask to see the model's thinking, and may not expect a block of it."""


def parse_chat_request(body: bytes) -> TranslatedRequest:
    """Read the body of `POST /v1/messages`.

    Raises:
        InvalidRequest: names the field, as the client spelled it.

    """
    raw = decoded(body, _decoder)
    dropped = DroppedFields()
    chat = converted(raw, types.MessagesBody)
    drop_unknown(chat, raw, dropped)
    apply_rules(_RULES, chat, dropped)
    tools = parse_tools(chat, dropped)
    effort, budget, shows_reasoning = _thinking(chat)
    request = ChatRequest(
        model=chat.model,
        messages=_messages(chat, dropped),
        max_tokens=chat.max_tokens,
        temperature=chat.temperature,
        top_p=chat.top_p,
        stop=_stop(chat, dropped),
        user=_user(chat, dropped),
        tools=tools.tools,
        tool_choice=tools.choice,
        parallel_tool_calls=tools.parallel,
        response_format=_response_format(chat),
        reasoning_effort=effort,
        thinking_budget=budget,
        shows_reasoning=shows_reasoning or None,
    )
    echo = None if shows_reasoning else _encode(Echo(hides_thinking=True))
    return TranslatedRequest(request=request, dropped=dropped.names, echo=echo)


def _messages(chat: types.MessagesBody, dropped: DroppedFields) -> list[Message]:
    reader = TurnReader(dropped)
    messages: list[Message] = []
    if chat.system:
        messages.append(SystemMessage(content=reader.texts(chat.system, "system")))
    for index, turn in enumerate(chat.messages):
        messages += reader.messages(turn, f"messages[{index}].content")
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequest(f"`messages` amount to more than {MAX_MESSAGES}", field="messages")
    if not messages:
        raise InvalidRequest("`messages` say nothing that another vendor's model could read", field="messages")
    return messages


def _stop(chat: types.MessagesBody, dropped: DroppedFields) -> list[str] | None:
    stop = [text for text in chat.stop_sequences or () if text]
    if len(stop) > MAX_STOP_SEQUENCES:
        dropped.add("stop_sequences")
    return stop[:MAX_STOP_SEQUENCES] or None


def _user(chat: types.MessagesBody, dropped: DroppedFields) -> str | None:
    user = chat.metadata.user_id if chat.metadata is not None else None
    if user is None or len(user) <= MAX_USER_CHARS:
        return user or None
    dropped.add("metadata.user_id")
    return hashlib.sha256(user.encode()).hexdigest()


def _thinking(chat: types.MessagesBody) -> tuple[ReasoningEffort | None, int | None, bool]:
    """The effort, the budget of thinking tokens, and whether the client is to see the thinking."""
    effort: ReasoningEffort | None = chat.output_config.effort if chat.output_config is not None else None
    config = chat.thinking
    if config is None:
        return effort, None, False
    if config.type == "disabled":
        return effort or "none", None, False
    budget = config.budget_tokens if config.type == "enabled" else None
    return effort, budget, config.display != "omitted"


def _response_format(chat: types.MessagesBody) -> ResponseFormat | None:
    """Anthropic keeps to a schema without fail, which OpenAI calls strict, and takes fewer schemas for."""
    settled = chat.output_config.format if chat.output_config is not None else None
    if settled is not None and chat.output_format is not None and settled != chat.output_format:
        raise InvalidRequest("`output_format` and `output_config.format` differ: send one", field="output_format")
    wanted = settled or chat.output_format
    if wanted is None:
        return None
    schema = JsonSchema(name=ANSWER_SCHEMA_NAME, schema=wanted.schema, strict=may_be_strict(wanted.schema))
    return ResponseFormat(type="json_schema", json_schema=schema)
