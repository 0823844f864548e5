"""A Responses request in the canonical form. `rules.py` says what becomes of each field."""

import hashlib
from collections.abc import Mapping

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from domain.canonical.chat import (
    ChatRequest,
    JsonSchema,
    Message,
    ResponseFormat,
    SystemMessage,
    UserMessage,
)
from domain.dialects.cache_marks import parse_cache_control
from domain.dialects.codec import TranslatedRequest
from domain.dialects.field_rules import DroppedFields, apply_rules, decode_translatable, not_translatable
from domain.dialects.openai.responses import types
from domain.dialects.openai.responses.echo import make_echo
from domain.dialects.openai.responses.items import InputReader
from domain.dialects.openai.responses.rules import STREAM_OPTIONS_RULES, TEXT_RULES, TOP_LEVEL_RULES
from domain.dialects.openai.responses.tools import parse_tool_choice, parse_tools
from domain.errors import InvalidRequest
from domain.names import MAX_NAME_CHARS

_ENCRYPTED_REASONING = "reasoning.encrypted_content"
_LOGPROBS = "message.output_text.logprobs"
_KNOWN = frozenset(types.ResponsesBody.__struct_fields__)

_decoder = msgspec.json.Decoder(types.ResponsesBody)
_members = msgspec.json.Decoder(dict[str, Raw])


def parse_responses_request(body: bytes) -> TranslatedRequest:
    """Read the body of `POST /responses`.

    Raises:
        InvalidRequest: names the field, as the client spelled it.

    """
    given = decode_translatable(body, _decoder)
    members = _members.decode(body)
    dropped = DroppedFields()
    _drop(given, members, dropped)
    tools = parse_tools(given.tools or ())
    choice, functions = parse_tool_choice(given.tool_choice, tools, dropped)
    reasoning = given.reasoning or types.ReasoningConfig()
    request = ChatRequest(
        model=given.model,
        messages=_messages(given, dropped),
        temperature=given.temperature,
        max_tokens=given.max_output_tokens,
        top_p=given.top_p,
        user=_end_user(given),
        tools=functions or None,
        tool_choice=choice,
        parallel_tool_calls=given.parallel_tool_calls if functions else None,
        response_format=_response_format(given.text),
        reasoning_effort=reasoning.effort,
        cache_control=parse_cache_control(given.cache_control),
        shows_reasoning=True if reasoning.summary or reasoning.generate_summary else None,
    )
    return TranslatedRequest(request=request, dropped=dropped.names, echo=make_echo(members, tools.names))


def _drop(given: types.ResponsesBody, members: Mapping[str, Raw], dropped: DroppedFields) -> None:
    if _LOGPROBS in (given.include or ()):
        raise not_translatable("include", f"only OpenAI's models tell `{_LOGPROBS}`, leave it out")
    others = [detail for detail in given.include or () if detail != _ENCRYPTED_REASONING]
    apply_rules(TOP_LEVEL_RULES, replace(given, include=others), dropped)
    if given.text is not None:
        apply_rules(TEXT_RULES, given.text, dropped, inside="text")
    if given.stream_options is not None:
        apply_rules(STREAM_OPTIONS_RULES, given.stream_options, dropped, inside="stream_options")
    for name, raw in members.items():
        if name not in _KNOWN and bytes(raw) != b"null":
            dropped.add(name)


def _messages(given: types.ResponsesBody, dropped: DroppedFields) -> list[Message]:
    messages: list[Message] = [SystemMessage(content=given.instructions)] if given.instructions else []
    if isinstance(given.input, str):
        messages.append(UserMessage(content=given.input))
    else:
        reader = InputReader(dropped)
        for index, raw in enumerate(given.input or ()):
            reader.read(raw, f"input[{index}]")
        messages += reader.messages()
    if not messages:
        raise InvalidRequest("`input` has nothing for the model", field="input")
    return messages


def _end_user(given: types.ResponsesBody) -> str | None:
    """Both fields identify the end user, against misuse; one that is too long is told by its digest."""
    user = given.safety_identifier or given.user
    if user is None or len(user) <= MAX_NAME_CHARS:
        return user
    return hashlib.sha256(user.encode()).hexdigest()


def _response_format(text: types.TextConfig | None) -> ResponseFormat | None:
    wanted = text.format if text is not None else None
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return ResponseFormat(type="json_object")
    if wanted.schema is None:
        raise InvalidRequest("`text.format.schema` is missing", field="text.format.schema")
    schema = JsonSchema(name=wanted.name, schema=wanted.schema, description=wanted.description, strict=wanted.strict)
    return ResponseFormat(type="json_schema", json_schema=schema)
