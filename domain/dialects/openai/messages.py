"""Messages of OpenAI's chat completions, as clients write them, into canonical ones."""

import base64
import re
from collections.abc import Sequence
from typing import Any, Literal

from msgspec.structs import replace

from domain.canonical.chat import (
    AssistantMessage,
    CacheControl,
    Content,
    DeveloperMessage,
    File,
    FilePart,
    FunctionCall,
    ImagePart,
    ImageUrl,
    Message,
    Part,
    ReasoningBlock,
    SystemMessage,
    TextContent,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from domain.dialects.field_rules import DroppedFields, FieldRule, apply_rules, not_translatable, rules_by_name
from domain.dialects.openai import request_types as types
from domain.dialects.openai.reasoning import parse_reasoning, parse_thinking_blocks, thinking_text
from domain.dialects.openai.rules import CHAT_CLIENT_RULES
from domain.dialects.openai.tools import arguments_text, custom_arguments, parse_cache_control
from domain.errors import InvalidRequest
from domain.names import MAX_NAME_CHARS

_IMAGE_TYPE = re.compile(r"data:image/jpg(?=[;,])", re.IGNORECASE)
_PDF_URL = re.compile(r"data:application/pdf[;,]", re.IGNORECASE)
_DETAILS: dict[str, Literal["auto", "low", "high"]] = {"auto": "auto", "low": "low", "high": "high"}
_URL = ("data:", "https://", "http://")
_BASE64_PDF = base64.b64encode(b"%PDF-1").decode()[:6]
_MEDIA_TYPES = {".pdf": "application/pdf", ".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv"}
_PART_RULES: dict[str, FieldRule] = rules_by_name(CHAT_CLIENT_RULES, "messages[].content[]")
_MESSAGE_RULES: dict[str, FieldRule] = rules_by_name(CHAT_CLIENT_RULES, "messages[]")


class MessageReader:
    """Reads the messages of one request, in their order: a result without an id belongs to a call before it."""

    def __init__(self, dropped: DroppedFields) -> None:
        self._dropped = dropped
        self._open_calls: list[ToolCall] = []
        """Calls that have no result yet."""

    def read(self, message: types.MessageParam, path: str) -> Message:
        """Read one message; `path` names it in a refusal.

        Raises:
            InvalidRequest: it has something that no model of another vendor can be shown.

        """
        apply_rules(_MESSAGE_RULES, message, self._dropped, inside="messages[]")
        mark = parse_cache_control(message.cache_control)
        match message:
            case types.SystemMessageParam():
                return SystemMessage(content=self._text(message.content, mark), name=_name(message.name))
            case types.DeveloperMessageParam():
                return DeveloperMessage(content=self._text(message.content, mark), name=_name(message.name))
            case types.UserMessageParam():
                return UserMessage(content=self._content(message.content, mark, path), name=_name(message.name))
            case types.AssistantMessageParam():
                return self._assistant(message, mark, path)
            case types.ToolMessageParam():
                call_id = self._answered(message.tool_call_id, None)
                return ToolMessage(content=self._content(message.content, mark, path), tool_call_id=call_id)
            case types.FunctionMessageParam():
                call_id = self._answered(None, message.name)
                return ToolMessage(content=self._content(message.content, mark, path), tool_call_id=call_id)

    def _answered(self, call_id: str | None, name: str | None) -> str:
        """The id of the call that a result belongs to: the one it says, else the first of this name without one."""
        named = [call for call in self._open_calls if name is None or call.function.name == name]
        found = next((call for call in self._open_calls if call.id == call_id), None) if call_id else None
        if found is None and not call_id and named:
            found = named[0]
        if found is not None:
            self._open_calls.remove(found)
            return found.id
        return call_id or name or "call_unknown"

    def _assistant(self, message: types.AssistantMessageParam, mark: CacheControl | None, path: str) -> Message:
        calls = [
            self._call(call, f"{path}.tool_calls[{index}]", f"call_{path.strip('mesag[]')}_{index}")
            for index, call in enumerate(message.tool_calls or ())
        ]
        if message.function_call is not None and not calls:
            calls = [_function_call(message.function_call, f"call_{path.strip('mesag[]')}_0")]
        self._open_calls = list(calls)
        content, thoughts = _said(message, path)
        blocks = parse_reasoning(message.reasoning_details) or parse_thinking_blocks(message.thinking_blocks)
        blocks = blocks or thoughts or parse_reasoning(None, message.reasoning_content, message.reasoning)
        return AssistantMessage(
            content=_marked_text(content, mark),
            tool_calls=calls or None,
            reasoning=blocks or None,
            name=_name(message.name),
        )

    def _call(self, call: types.ToolCallParam, path: str, made_id: str) -> ToolCall:
        call_id = call.id or made_id
        if call.custom is not None:
            function = FunctionCall(name=call.custom.name, arguments=custom_arguments(call.custom.input))
        elif call.function is not None:
            function = FunctionCall(name=call.function.name, arguments=arguments_text(call.function.arguments))
        else:
            raise InvalidRequest(f"`{path}` calls no function", field=path)
        made = ToolCall(id=_limited(call_id), function=function)
        extra = call.extra_content or _signature(call)
        return replace(made, extra_content=extra) if extra else made

    def _text(
        self, content: str | Sequence[types.TextContentPart | str] | None, mark: CacheControl | None
    ) -> TextContent:
        if content is None or isinstance(content, str):
            return _marked_text(content or "", mark) or ""
        parts = [self._text_part(part) for part in content]
        return _marked_text(parts, mark) or ""

    def _text_part(self, part: types.TextContentPart | str) -> TextPart:
        if isinstance(part, str):
            return TextPart(text=part)
        apply_rules(_PART_RULES, part, self._dropped, inside="messages[].content[]")
        return TextPart(text=part.text, cache_control=parse_cache_control(part.cache_control))

    def _content(
        self, content: str | Sequence[types.ContentPart] | None, mark: CacheControl | None, path: str
    ) -> Content:
        if content is None or isinstance(content, str):
            return _marked(content or "", mark)
        parts = [self._part(part, f"{path}.content[{index}]") for index, part in enumerate(content)]
        return _marked(parts, mark)

    def _part(self, part: types.ContentPart, path: str) -> Part:
        match part:
            case types.ImageContentPart():
                apply_rules(_PART_RULES, part, self._dropped, inside="messages[].content[]")
                return self._image(part)
            case types.FileContentPart():
                apply_rules(_PART_RULES, part, self._dropped, inside="messages[].content[]")
                return _file(part, path)
            case _:
                return self._text_part(part)

    def _image(self, part: types.ImageContentPart) -> Part:
        given = part.image_url if isinstance(part.image_url, types.ImageUrlParam) else None
        url = given.url if given is not None else str(part.image_url)
        mark = parse_cache_control(part.cache_control)
        if _PDF_URL.match(url):  # some clients show every file as an image
            return FilePart(file=File(url=url), cache_control=mark)
        detail = given.detail if given is not None else None
        if detail is not None and detail not in _DETAILS:
            self._dropped.add("detail")
        image = ImageUrl(url=_IMAGE_TYPE.sub("data:image/jpeg", url, count=1), detail=_DETAILS.get(detail or ""))
        return ImagePart(image_url=image, cache_control=mark)


def _name(name: str | None) -> str | None:
    """A speaker's name, if it can be one."""
    return name if name and len(name) <= MAX_NAME_CHARS and "\x00" not in name else None


def _limited(call_id: str) -> str:
    if len(call_id) > MAX_NAME_CHARS or "\x00" in call_id:
        raise InvalidRequest(f"the id of a tool call may have {MAX_NAME_CHARS} characters", field="messages")
    return call_id


def _function_call(call: types.FunctionParam, call_id: str) -> ToolCall:
    return ToolCall(id=call_id, function=FunctionCall(name=call.name, arguments=arguments_text(call.arguments)))


def _signature(call: types.ToolCallParam) -> dict[str, Any] | None:
    """Gemini's signature of a thought, where its clients put it: as its own endpoint has it."""
    beside = call.provider_specific_fields
    for found in (
        call.thought_signature,
        call.function.thought_signature if call.function is not None else None,
        beside.get("thought_signature") if isinstance(beside, dict) else None,
    ):
        if found:
            return {"google": {"thought_signature": found}}
    return None


def _said(message: types.AssistantMessageParam, path: str) -> tuple[TextContent | None, list[ReasoningBlock]]:
    """What an earlier answer said, and what it thought. A refusal is text of the model, too, and so is a transcript.

    Raises:
        InvalidRequest: it was only spoken.

    """
    thoughts: list[ReasoningBlock] = []
    content: TextContent | None
    if message.content is None or isinstance(message.content, str):
        content = message.content
    else:
        parts: list[TextPart] = []
        for part in message.content:
            if isinstance(part, types.ThinkingContentPart):
                thoughts.append(ReasoningBlock(text=thinking_text(part.thinking), signature=part.signature or None))
            else:
                parts.append(_assistant_part(part))
        content = parts or None
    more = message.refusal or _transcript(message, path)
    if not more:
        return content, thoughts
    if not content:
        return more, thoughts
    said = [TextPart(text=content)] if isinstance(content, str) else content
    return [*said, TextPart(text=more)], thoughts


def _assistant_part(part: types.TextContentPart | types.RefusalContentPart | str) -> TextPart:
    match part:
        case types.TextContentPart():
            return TextPart(text=part.text, cache_control=parse_cache_control(part.cache_control))
        case types.RefusalContentPart():
            return TextPart(text=part.refusal)
        case str():
            return TextPart(text=part)


def _transcript(message: types.AssistantMessageParam, path: str) -> str | None:
    if message.audio is None or message.content:
        return None
    transcript = message.audio.get("transcript") if isinstance(message.audio, dict) else None
    if not isinstance(transcript, str):
        raise not_translatable(f"{path}.audio", "send what was said as `content`")
    return transcript


def _marked(content: str | list[Part], mark: CacheControl | None) -> Content:
    """The content, its last part with a mark of the whole message."""
    if isinstance(content, str):
        return [TextPart(text=content, cache_control=mark)] if mark is not None and content else content
    if not content:
        return ""
    if mark is None or content[-1].cache_control is not None:
        return content
    return [*content[:-1], replace(content[-1], cache_control=mark)]


def _marked_text(content: TextContent | None, mark: CacheControl | None) -> TextContent | None:
    if content is None or isinstance(content, str):
        return [TextPart(text=content, cache_control=mark)] if mark is not None and content else content
    if not content:
        return None
    if mark is None or content[-1].cache_control is not None:
        return content
    return [*content[:-1], replace(content[-1], cache_control=mark)]


def _file(part: types.FileContentPart, path: str) -> FilePart | ImagePart:
    """Read a file. Its data may be bare base64, whose type then is the one that its name or its beginning says.

    Raises:
        InvalidRequest: it is at OpenAI.

    """
    given = part.file
    data = (given.file_data or "").strip()
    if not data and given.file_id is not None and given.file_id.startswith(_URL):  # LiteLLM's clients write it so
        data = given.file_id
    if not data:
        raise not_translatable(
            f"{path}.file.file_id", "the file is at OpenAI: send its content as `file.file_data`, a `data:` URL"
        )
    if not data.startswith(_URL):
        data = f"data:{_media_type(data, given.filename)};base64,{data}"
    mark = parse_cache_control(part.cache_control)
    if data.startswith("data:image/"):
        return ImagePart(image_url=ImageUrl(url=_IMAGE_TYPE.sub("data:image/jpeg", data, count=1)), cache_control=mark)
    return FilePart(file=File(url=data, filename=given.filename or None), cache_control=mark)


def _media_type(data: str, filename: str | None) -> str:
    if data.startswith(_BASE64_PDF):
        return "application/pdf"
    ending = f".{(filename or '').rpartition('.')[2].lower()}"
    return _MEDIA_TYPES.get(ending, "application/pdf")
