"""Anthropic's messages: a provider's into the canonical response, and the canonical response into a client's.

A response is read leniently: one that has content is given, whatever else of it is missing.
"""

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET

from domain.canonical.chat import (
    UNKNOWN,
    AnswerMessage,
    ChatResponse,
    Choice,
    FinishReason,
    ReasoningBlock,
    ToolCall,
    answered_call,
    thoughts_by_place,
)
from domain.dialects.anthropic import answer_types as types
from domain.dialects.anthropic.kept_thinking import KeptThinking, write_kept
from domain.dialects.anthropic.structured import ANSWER_TOOL
from domain.dialects.anthropic.tool_ids import made_id, written_id
from domain.dialects.anthropic.tools import parsed_arguments, written_arguments
from domain.dialects.anthropic.usage import parse_extras, read_usage, render_usage
from domain.dialects.anthropic.whole_answers import whole_message
from domain.dialects.codec import ProviderResponse, passed_through
from domain.dialects.decode import decode_provider_json, stream_failure
from domain.dialects.errors import UnreadableResponse
from domain.estimate import utf8_length
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenUsage, answer_usage

_EMPTY_CONTENT_BYTES = 256
"""Content that is longer has something in it."""

_decode = msgspec.json.Decoder(types.Message).decode
_decode_metered = msgspec.json.Decoder(types.MeteredMessage).decode
_decode_content = msgspec.json.Decoder(list[types.ContentBlock] | str | None).decode
_encode = msgspec.json.encode

FINISH_REASONS: dict[str | None, FinishReason | None] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    None: None,
}

STOP_REASONS: dict[str | None, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    None: "end_turn",
}
"""By the canonical finish reason. A stop sequence cannot be told from an end."""


class _Answer:
    """The blocks of a message as canonical members."""

    def __init__(self, blocks: list[types.ContentBlock], response_id: str) -> None:
        self.texts: list[str] = []
        self.calls: list[ToolCall] = []
        self.reasoning: list[ReasoningBlock] = []
        self._is_by_tool = any(block.name == ANSWER_TOOL for block in blocks)
        """The answer is JSON, so that what is said around it is none of it."""
        for index, block in enumerate(blocks):
            self._add(index, block, response_id)

    def _add(self, index: int, block: types.ContentBlock, response_id: str) -> None:
        match block.type:
            case "text" if not self._is_by_tool:
                self.texts.append(block.text or "")
            case "thinking" if block.thinking or block.signature:
                self._think(ReasoningBlock(text=block.thinking or None, signature=block.signature or None))
            case "redacted_thinking" if block.data:
                self._think(ReasoningBlock(data=block.data))
            case "tool_use" if block.name == ANSWER_TOOL:
                self.texts.append(written_arguments(block.input))
            case "tool_use":
                self.calls.append(called(block, index, response_id))
            case _:
                pass  # what Anthropic's own tools did has no place in the canonical answer

    def _think(self, thought: ReasoningBlock) -> None:
        self.reasoning.append(msgspec.structs.replace(thought, after_calls=len(self.calls)))

    def message(self) -> AnswerMessage:
        return AnswerMessage(
            content="".join(self.texts) if self.texts else None,
            tool_calls=self.calls or UNSET,
            reasoning=self.reasoning or UNSET,
        )


def called(block: types.ContentBlock, index: int, response_id: str) -> ToolCall:
    """The call of a block; one that has no id is given one."""
    name = block.name or UNKNOWN
    return answered_call(block.id or made_id(response_id, index, name), name, written_arguments(block.input))


def parse_chat_response(body: bytes, *, model: str, provider: str) -> ProviderResponse:
    """Read a message: its text blocks are joined, its tool uses become calls. `model` is the caller's name for it.

    Raises:
        UnreadableResponse: it is none.
        StreamFailed: it is the provider's report of a failure.

    """
    body = whole_message(body)
    message = decode_provider_json(_decode, body)
    blocks = _blocks(message.content, message.error)
    response_id = sanitize_identifier(message.id or _made_message_id(body))
    usage, input_usage = read_usage(message.usage)
    answer = _Answer(blocks, response_id)
    finish_reason = _finish_reason(message.stop_reason, is_answered=any(b.name == ANSWER_TOOL for b in blocks))
    response = ChatResponse(
        id=response_id,
        model=model,
        provider=provider,
        choices=[Choice(index=0, message=answer.message(), finish_reason=finish_reason)],
        usage=answer_usage(usage or TokenUsage()),
    )
    return ProviderResponse(
        body=_encode(response),
        usage=usage,
        input_usage=input_usage,
        received_output_bytes=_output_bytes(blocks) if usage is None else 0,
        answered_by=sanitize_identifier(message.model or ""),
        response_id=response_id,
        finish_reason=finish_reason,
        is_empty=_is_empty(blocks),
        extras=parse_extras(message.usage, message.container),
    )


def _finish_reason(stop_reason: str | None, *, is_answered: bool) -> FinishReason | None:
    """A model that called the tool of its answer has ended."""
    found = FINISH_REASONS.get(stop_reason, "stop")
    return "stop" if is_answered and found == "tool_calls" else found


def _blocks(content: Any, error: Any) -> list[types.ContentBlock]:
    if error is not None:
        raise stream_failure(error)
    if content is UNSET:
        raise UnreadableResponse("it has no content")
    if isinstance(content, str):
        return [types.ContentBlock(type="text", text=content)]
    return content or []


def _made_message_id(body: bytes) -> str:
    return f"msg_{hashlib.sha256(body).hexdigest()[:24]}"


def _output_bytes(blocks: list[types.ContentBlock]) -> int:
    return sum(
        utf8_length(block.text)
        + utf8_length(block.thinking)
        + utf8_length(block.name)
        + (len(_encode(block.input)) if block.input is not None else 0)
        for block in blocks
    )


def _is_empty(blocks: list[types.ContentBlock]) -> bool:
    return not any(
        block.text if block.type == "text" else block.type not in ("thinking", "redacted_thinking") for block in blocks
    )


def render_chat_response(response: ChatResponse, usage: TokenUsage, *, hides_thinking: bool = False) -> bytes:
    """Write a message: of the choices, the first, since Anthropic's messages have one.

    `hides_thinking`: the client asked for none, or not to be shown it. Then only what has to come back with the results
    of calls is given, encrypted as far as the client can tell.
    """
    choice = response.choices[0] if response.choices else None
    blocks = _render_blocks(choice.message, hides_thinking=hides_thinking) if choice is not None else []
    has_calls = any(block["type"] == "tool_use" for block in blocks)
    return _encode(
        {
            "id": response.id,
            "type": "message",
            "role": "assistant",
            "model": response.model,
            "content": blocks,
            "stop_reason": stop_reason(choice.finish_reason if choice is not None else None, has_calls=has_calls),
            "stop_sequence": None,
            "usage": render_usage(usage),
        }
    )


def stop_reason(finish_reason: str | None, *, has_calls: bool) -> str:
    """Anthropic's word. OpenAI says `stop` if a call was forced; Anthropic's clients go by the reason alone."""
    return "tool_use" if has_calls and finish_reason in ("stop", None) else STOP_REASONS[finish_reason]


def _render_blocks(message: AnswerMessage, *, hides_thinking: bool) -> list[dict[str, Any]]:
    calls = message.tool_calls or []
    shown = [thought for thought in message.reasoning or () if calls or (thought.text and not hides_thinking)]
    first, *later = thoughts_by_place(shown, len(calls))
    blocks = [thinking_block(thought, hides=hides_thinking) for _, thought in first]
    if message.content:
        blocks.append({"type": "text", "text": message.content})
    for call, thoughts in zip(calls, [[], *later], strict=False):
        blocks += (thinking_block(thought, hides=hides_thinking) for _, thought in thoughts)
        if call.extra_content:
            blocks.append(kept_block(KeptThinking(calls={call.id: call.extra_content})))
        blocks.append(
            {
                "type": "tool_use",
                "id": written_id(call.id),
                "name": call.function.name,
                "input": parsed_arguments(call.function.arguments),
            }
        )
    return blocks


def thinking_block(thought: ReasoningBlock, *, hides: bool) -> dict[str, Any]:
    """A block of thinking as Anthropic's clients have it, from which `parse_request` reads it back."""
    if thought.text and not hides:
        return {"type": "thinking", "thinking": thought.text, "signature": write_kept(KeptThinking.of(thought))}
    return kept_block(KeptThinking.of(thought, with_text=True))


def kept_block(kept: KeptThinking) -> dict[str, Any]:
    """A block that the client shows nobody and sends back."""
    return {"type": "redacted_thinking", "data": write_kept(kept)}


def meter_chat_response(body: bytes) -> ProviderResponse:
    """Read the usage of a passed-through message. Raises as `parse_chat_response`."""
    body = whole_message(body)
    message = decode_provider_json(_decode_metered, body)
    if message.error is not None or message.content is UNSET:
        _blocks(message.content, message.error)
    usage, input_usage = read_usage(message.usage)
    content = message.content
    blocks: list[types.ContentBlock] | None = None
    if content is not UNSET and (usage is None or len(content) <= _EMPTY_CONTENT_BYTES):
        blocks = _blocks(decode_provider_json(_decode_content, bytes(content)), None)
    return passed_through(
        body,
        usage=usage,
        input_usage=input_usage,
        received_output_bytes=_output_bytes(blocks) if usage is None and blocks is not None else 0,
        model=message.model or "",
        response_id=message.id or _made_message_id(body),
        finish_reason=FINISH_REASONS.get(message.stop_reason, "stop"),
        is_empty=blocks is not None and _is_empty(blocks),
        extras=parse_extras(message.usage, message.container),
    )
