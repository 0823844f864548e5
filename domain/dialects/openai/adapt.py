"""Canonical requests as a certain model behind OpenAI's API can be asked: OpenAI's own, or one that speaks alike.

What the model takes is known by its traits (`domain/models.py`); one that nothing is known of is taken to be lenient.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from domain.canonical.chat import (
    AssistantMessage,
    ChatRequest,
    Content,
    DeveloperMessage,
    FilePart,
    ImagePart,
    JsonSchema,
    Message,
    Part,
    ReasoningBlock,
    ReasoningEffort,
    ResponseFormat,
    SystemMessage,
    TextPart,
    Tool,
    ToolCall,
    UserMessage,
)
from domain.dialects.codec import AdaptedRequest
from domain.dialects.field_rules import DroppedFields
from domain.dialects.openai.conversation import in_order
from domain.dialects.openai.schemas import function_parameters, may_be_strict, with_items
from domain.errors import InvalidRequest
from domain.models import ModelTraits, model_traits

MAX_USER_CHARS = 64
MAX_SCHEMA_NAME_CHARS = 64
MEDIUM_BUDGET_TOKENS = 4_096
HIGH_BUDGET_TOKENS = 16_384
"""A thinking budget from here on amounts to this effort; a smaller one is a low effort."""

EFFORT_LEVELS: tuple[ReasoningEffort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""From the least to the most."""
_MAY_BE_SPEAKER = re.compile(r"[^\s<|\\/>]{1,64}")
_NO_SCHEMA_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_TEXT_URL = re.compile(r"data:(text/[\w.+-]+|application/json)(;[\w=-]+)*?(;base64)?,", re.IGNORECASE)
_SELLERS = "/"
"""Stands in the names by which other vendors' models are sold, as in `openai/gpt-5`."""
_encode = msgspec.json.Encoder().encode


def adapt_chat_request(request: ChatRequest, upstream_model: str) -> AdaptedRequest:
    """Make a request one that this model can be asked.

    Raises:
        InvalidRequest: names what the model cannot be shown or take, and the way out.

    """
    traits = model_traits(upstream_model, "openai")
    if traits.is_responses_only:
        raise InvalidRequest(
            f"`model`: {upstream_model} is served on OpenAI's Responses API alone, which this provider does not have: "
            "ask another model",
            field="model",
        )
    if request.tools and traits.takes_tools and traits.chat_tools == "never":
        raise InvalidRequest(
            f"`tools`: {upstream_model} takes them on OpenAI's Responses API alone, which this provider does not have: "
            "ask a model that takes them on chat completions (docs/reference/models.md)",
            field="tools",
        )
    dropped = DroppedFields()
    messages = MessageAdapter(request.messages, traits, upstream_model, dropped).adapted()
    return adapt_fields(replace(request, shows_reasoning=None), messages, traits, upstream_model, dropped)


def adapt_fields(
    request: ChatRequest, messages: list[Message], traits: ModelTraits, upstream_model: str, dropped: DroppedFields
) -> AdaptedRequest:
    """Adapt all but the messages, which are given as they are to be sent. Raises as `adapt_chat_request`."""
    tools = _adapt_tools(request, traits, upstream_model)
    effort = _adapt_effort(request, traits, dropped, has_tools=tools is not None)
    response_format, instruction = _adapt_response_format(request.response_format, traits)
    if instruction is not None:
        messages = [SystemMessage(content=instruction), *messages]
    if request.cache_control is not None or any(tool.cache_control is not None for tool in request.tools or ()):
        dropped.add("cache_control")
    takes_sampling = traits.takes_sampling_at_effort_none and (effort or traits.default_effort) == "none"
    cap = request.max_tokens
    adapted = replace(
        request,
        messages=messages,
        temperature=_kept("temperature", request.temperature, takes_sampling or traits.takes_temperature, dropped),
        top_p=_kept("top_p", request.top_p, takes_sampling or traits.takes_top_p, dropped),
        max_tokens=min(cap, traits.max_output) if cap is not None and traits.max_output else cap,
        stop=_adapt_stop(request.stop, traits, dropped),
        user=_adapt_user(request.user),
        tools=tools,
        tool_choice=_kept("tool_choice", request.tool_choice, tools is not None, dropped),
        parallel_tool_calls=_kept(
            "parallel_tool_calls",
            request.parallel_tool_calls,
            tools is not None and traits.takes_parallel_tool_calls,
            dropped,
        ),
        response_format=response_format,
        reasoning_effort=effort,
        thinking_budget=None,
        cache_control=None,
    )
    calls = 1 if traits.takes_several_choices else request.n or 1
    return AdaptedRequest(request=adapted, dropped=dropped.names, calls=calls)


def _kept(field: str, value: Any, is_taken: bool, dropped: DroppedFields) -> Any:
    if value is None or is_taken:
        return value
    dropped.add(field)
    return None


def _adapt_user(user: str | None) -> str | None:
    """OpenAI refuses a longer one. Its digest identifies the user as well."""
    if not user or len(user) <= MAX_USER_CHARS:
        return user or None
    return hashlib.sha256(user.encode()).hexdigest()


def _adapt_stop(stop: str | list[str] | None, traits: ModelTraits, dropped: DroppedFields) -> str | list[str] | None:
    if stop is None:
        return None
    if not traits.takes_stop:
        dropped.add("stop")
        return None
    given = [stop] if isinstance(stop, str) else stop
    kept = [one for one in given if one][: traits.max_stop_sequences]
    if len(kept) == len(given):
        return stop
    dropped.add("stop")
    return kept or None


def _adapt_effort(
    request: ChatRequest, traits: ModelTraits, dropped: DroppedFields, *, has_tools: bool
) -> ReasoningEffort | None:
    """The level next to the one that is asked for. A budget of thinking tokens amounts to a level as well."""
    wanted, field = request.reasoning_effort, "reasoning_effort"
    if wanted is None and request.thinking_budget is not None:
        wanted, field = effort_of_budget(request.thinking_budget), "thinking_budget"
    if has_tools and traits.chat_tools == "at_effort_none":
        if wanted != "none":  # the model would think by itself
            dropped.add(field)
        return "none"
    if wanted is None:
        return None
    if has_tools and traits.chat_tools == "without_effort" and wanted != "none":
        dropped.add(field)
        return None
    levels = traits.efforts
    if traits.highest_chat_effort is not None:
        highest = EFFORT_LEVELS.index(traits.highest_chat_effort)
        levels = tuple(level for level in levels if EFFORT_LEVELS.index(level) <= highest)
    if not levels or (wanted == "none" and wanted not in levels and not traits.name):
        if levels or wanted != "none":  # a model that knows no effort makes none
            dropped.add(field)
        return None
    return nearest_effort(wanted, levels)


def nearest_effort(wanted: ReasoningEffort, levels: Sequence[ReasoningEffort]) -> ReasoningEffort:
    """The level next to the one that is wanted, of two the lower; there is at least one."""
    place = EFFORT_LEVELS.index(wanted)
    return min(levels, key=lambda level: (abs(EFFORT_LEVELS.index(level) - place), EFFORT_LEVELS.index(level)))


def effort_of_budget(budget_tokens: int) -> ReasoningEffort:
    """The effort that has about this budget of thinking tokens."""
    if budget_tokens < MEDIUM_BUDGET_TOKENS:
        return "low"
    return "medium" if budget_tokens < HIGH_BUDGET_TOKENS else "high"


def _adapt_tools(request: ChatRequest, traits: ModelTraits, upstream_model: str) -> list[Tool] | None:
    tools = request.tools
    if not tools:
        return None
    if not traits.takes_tools:
        raise InvalidRequest(f"`tools`: {upstream_model} takes none: ask another model", field="tools")
    if traits.max_tools is not None and len(tools) > traits.max_tools:
        raise InvalidRequest(
            f"`tools`: {upstream_model} takes {traits.max_tools}, and there are {len(tools)}: send fewer", field="tools"
        )
    return [_adapt_tool(tool) for tool in tools]


def _adapt_tool(tool: Tool) -> Tool:
    function = tool.function
    parameters, words = function_parameters(function.parameters)
    description = f"{function.description or ''}\n\n{words}".strip() if words else function.description
    strict = function.strict
    if strict and not may_be_strict(parameters):
        strict = None
    if parameters is function.parameters and strict == function.strict and tool.cache_control is None:
        return tool
    adapted = replace(function, parameters=parameters, description=description, strict=strict)
    return replace(tool, function=adapted, cache_control=None)


def _adapt_response_format(
    wanted: ResponseFormat | None, traits: ModelTraits
) -> tuple[ResponseFormat | None, str | None]:
    """The format, and an instruction that takes its place for models that know no schema."""
    if wanted is None or wanted.json_schema is None:
        return wanted, None
    given = wanted.json_schema
    if not traits.takes_structured_output:
        schema = _encode(given.schema).decode()
        instruction = f"Answer with one JSON object, and nothing else, that keeps to this JSON Schema:\n{schema}"
        return ResponseFormat(type="json_object"), instruction
    strict = False if given.strict and not may_be_strict(given.schema) else given.strict
    name = _NO_SCHEMA_NAME.sub("_", given.name)[:MAX_SCHEMA_NAME_CHARS]
    settled = JsonSchema(name=name, schema=with_items(given.schema), description=given.description, strict=strict)
    return ResponseFormat(type="json_schema", json_schema=settled), None


class MessageAdapter:
    """Adapts the messages of one request to chat completions; `responses/adapt.py` to the other API."""

    shows_media_in_results: ClassVar[bool] = False
    takes_file_addresses: ClassVar[bool] = False

    def __init__(
        self, messages: list[Message], traits: ModelTraits, upstream_model: str, dropped: DroppedFields
    ) -> None:
        self._messages = messages
        self._traits = traits
        self._model = upstream_model
        self.dropped = dropped
        self._is_unknown = not traits.name
        """The model is none of OpenAI's: its API may take less of some things, and more of others."""

    def adapted(self) -> list[Message]:
        """The messages.

        Raises:
            InvalidRequest: one has something that the model cannot be shown.

        """
        ordered = in_order(self._messages, shows_media_in_results=self.shows_media_in_results)
        ordered = ordered or [UserMessage(content="")]
        last_user = max((at for at, message in enumerate(ordered) if isinstance(message, UserMessage)), default=-1)
        adapted = [self._message(message, is_open=at > last_user) for at, message in enumerate(ordered)]
        if _thoughts(adapted) < _thoughts(self._messages):
            self.dropped.add("reasoning")
        return adapted

    def _message(self, message: Message, *, is_open: bool) -> Message:
        content = self._content(message.content)
        name = getattr(message, "name", None)
        if name is not None and not self.may_be_speaker(name):
            self.dropped.add("name")
            message = replace(message, name=None)
        match message:
            case DeveloperMessage() if self._traits.system_role == "system":
                return SystemMessage(content=self._joined(content) or "", name=message.name)
            case AssistantMessage():
                return self._assistant(message, self._joined(content), is_open=is_open)
            case UserMessage():
                return message if content is message.content else replace(message, content=content)
            case _:
                joined = self._joined(content)
                return message if joined is message.content else replace(message, content=joined)

    def _assistant(self, message: AssistantMessage, content: Any, *, is_open: bool) -> AssistantMessage:
        """An earlier answer, with the thinking that its model is sent back."""
        thoughts = self.thoughts(message, is_open=is_open)
        calls = [self._call(call) for call in message.tool_calls] if message.tool_calls else None
        return replace(message, content=content or None, tool_calls=calls, reasoning=thoughts or None)

    def may_be_speaker(self, name: str) -> bool:
        """Return True if the API takes it as the name of a message's speaker."""
        return _MAY_BE_SPEAKER.fullmatch(name) is not None

    def thoughts(self, message: AssistantMessage, *, is_open: bool) -> list[ReasoningBlock]:
        """The thinking that the model is sent back: models that do not sign it want it while a turn's tools run
        (`is_open`), and sellers everything that came with their own marks (`ReasoningBlock.detail`).
        """
        if self._is_unknown or _SELLERS in self._model:
            of_sellers = [replace(one, after_calls=0) for one in message.reasoning or () if one.detail is not None]
            if of_sellers:
                return of_sellers
        if not (self._is_unknown and is_open and message.tool_calls):
            return []
        return [one for one in message.reasoning or () if one.text and not one.signature and not one.data]

    def _call(self, call: ToolCall) -> ToolCall:
        if call.extra_content and not self._is_unknown:
            call = replace(call, extra_content=UNSET)
        if not call.function.arguments:
            call = replace(call, function=replace(call.function, arguments="{}"))
        return call

    def _joined(self, content: Any) -> Any:
        """The text of several parts in one piece, for a provider of which it is not known that it takes parts."""
        if not isinstance(content, list) or (len(content) > 1 and not self._is_unknown):
            return content
        if all(isinstance(part, TextPart) for part in content):
            return "\n\n".join(part.text for part in content)
        return content

    def _content(self, content: Content | list[TextPart] | None) -> Any:
        if content is None or isinstance(content, str):
            return content
        parts = [self._part(part) for part in content]
        return content if all(one is other for one, other in zip(parts, content, strict=True)) else parts

    def _part(self, part: Part) -> Part:
        if part.cache_control is not None:
            self.dropped.add("cache_control")
            part = replace(part, cache_control=None)
        match part:
            case TextPart():
                return part
            case ImagePart():
                if not self._traits.takes_images:
                    raise InvalidRequest(
                        f"`messages`: {self._model} sees no images: send text, or ask another model", field="messages"
                    )
                return part
            case FilePart():
                return self._file(part)

    def _file(self, part: FilePart) -> Part:
        """A file as a file, or a text as text.

        Raises:
            InvalidRequest: it is at an address, which the API does not take, or the model reads none.

        """
        url, name = part.file.url, part.file.filename
        text = _text_of(url)
        if text is not None:
            return TextPart(text=f"{name}:\n{text}" if name else text)
        if not url.startswith("data:") and not self.takes_file_addresses:
            raise InvalidRequest(
                "`messages`: a file at an address cannot be sent to this provider: send its content, as base64",
                field="messages",
            )
        if not self._traits.takes_pdf:
            raise InvalidRequest(
                f"`messages`: {self._model} reads no files: send text, or ask another model", field="messages"
            )
        return part


def _thoughts(messages: list[Message]) -> int:
    return sum(len(getattr(message, "reasoning", None) or ()) for message in messages)


def _text_of(url: str) -> str | None:
    """The text of a `data:` URL that has one."""
    head = _TEXT_URL.match(url)
    if head is None:
        return None
    data = url[head.end() :]
    try:
        content = base64.b64decode(data, validate=False) if head[3] else unquote_to_bytes(data)
    except binascii.Error:
        return None
    return content.decode(errors="replace")
