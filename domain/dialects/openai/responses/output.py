"""A response as the Responses API's clients read it: its output items, its usage, and the object around them.

Ids are made from the provider's id of its answer, so a response that is sent again has the same ones.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from domain.canonical.chat import AnswerMessage, ChatResponse, FinishReason, ReasoningBlock, ToolCall, thoughts_by_place
from domain.dialects.openai.responses.echo import Echo, read_echo
from domain.dialects.openai.responses.reasoning import KeptReasoning, encode_reasoning, kept_of
from domain.dialects.openai.responses.tools import call_item
from domain.tokens import TokenUsage

ID_CHARS = 24
_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "local_shell_call": "lsh",
    "shell_call": "sh",
    "apply_patch_call": "apc",
}
_HAS_NO_STATUS = frozenset({"reasoning", "custom_tool_call"})
_INCOMPLETE: dict[FinishReason | None, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The reasons for which a response is incomplete."""

_encode = msgspec.json.Encoder().encode


def response_id(answer_id: str) -> str:
    """The id of the response that a provider gave this id."""
    return f"resp_{_digest(answer_id)}"


def item_id(kind: str, answer_id: str, index: int) -> str:
    """The id of the output item at `index`."""
    return f"{_PREFIXES[kind]}_{_digest(answer_id)}{index:02}"


def _digest(answer_id: str) -> str:
    return hashlib.sha256(answer_id.encode()).hexdigest()[:ID_CHARS]


def with_identity(item: dict[str, Any], answer_id: str, index: int, status: str) -> dict[str, Any]:
    """An item with its id and, if its kind has one, its status."""
    kind = item["type"]
    if kind == "apply_patch_call":
        status = "in_progress" if status == "in_progress" else "completed"
    own = {"id": item_id(kind, answer_id, index)} | ({} if kind in _HAS_NO_STATUS else {"status": status})
    return own | item


def reasoning_item(block: ReasoningBlock) -> dict[str, Any]:
    """Thinking: its text as the summary, and what its provider wants to see again."""
    return {
        "type": "reasoning",
        "summary": [summary_part(block.text)] if block.text else [],
        "encrypted_content": encode_reasoning(kept_of(block)),
    }


def extras_item(extra_content: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a provider wants back with its calls, by their ids: an item that shows nothing."""
    return {
        "type": "reasoning",
        "summary": [],
        "encrypted_content": encode_reasoning(KeptReasoning(extra_content=extra_content)),
    }


def summary_part(text: str) -> dict[str, Any]:
    """A part of a summary."""
    return {"type": "summary_text", "text": text}


def text_part(text: str) -> dict[str, Any]:
    """A part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> dict[str, Any]:
    """A part of a message in which the model says that it will not answer."""
    return {"type": "refusal", "refusal": text}


def message_item(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """A message of the model's."""
    return {"type": "message", "role": "assistant", "content": parts}


def tool_item(call: ToolCall, echo: Echo) -> dict[str, Any]:
    """A call, as the tool that its client has declared."""
    return call_item(call.function, call.id, echo.names.get(call.function.name))


def _items(message: AnswerMessage, echo: Echo) -> Iterator[dict[str, Any]]:
    calls = message.tool_calls or []
    first, *later = thoughts_by_place(message.reasoning or (), len(calls))
    yield from (reasoning_item(block) for _, block in first)
    if message.content:
        part = refusal_part if message.is_refusal is True else text_part
        yield message_item([part(message.content)])
    for call, thoughts in zip(calls, [[], *later], strict=False):
        yield from (reasoning_item(block) for _, block in thoughts)
        yield tool_item(call, echo)
    extras = {call.id: call.extra_content for call in message.tool_calls or () if call.extra_content}
    if extras:
        yield extras_item(extras)


def render_responses_response(answer: ChatResponse, usage: TokenUsage, *, created_s: int, echo: bytes | None) -> bytes:
    """Write a response; `created_s` is a Unix time. Of several choices it has the first."""
    repeated = read_echo(echo)
    finish = answer.choices[0].finish_reason if answer.choices else None
    if finish == "content_filter" and answer.choices[0].message.is_refusal is True:
        finish = "stop"  # a response that refuses is complete
    items = list(_items(answer.choices[0].message, repeated)) if answer.choices else []
    output = [
        with_identity(item, answer.id, index, "completed" if index < len(items) - 1 else item_status(finish))
        for index, item in enumerate(items)
    ]
    return _encode(
        response_object(answer.id, answer.model, repeated, created_s=created_s)
        | ending(finish, output)
        | {"usage": render_responses_usage(usage)}
    )


def item_status(finish: FinishReason | None) -> str:
    """The status of the last item."""
    return "incomplete" if finish in _INCOMPLETE else "completed"


def ending(finish: FinishReason | None, output: list[dict[str, Any]]) -> dict[str, Any]:
    """The members of a response that has ended so."""
    reason = _INCOMPLETE.get(finish)
    return {
        "status": "completed" if reason is None else "incomplete",
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": output,
    }


def response_object(answer_id: str, model: str, echo: Echo, *, created_s: int) -> dict[str, Any]:
    """A response that has just begun."""
    return {
        "id": response_id(answer_id),
        "object": "response",
        "created_at": created_s,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "previous_response_id": None,
        "service_tier": "default",
        "store": False,
        "usage": None,
    } | echo.fields()


def render_responses_usage(usage: TokenUsage) -> dict[str, Any]:
    """OpenAI's sums: the input's include the cached tokens, the output's the reasoning."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_prompt_tokens,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total_tokens,
    }
