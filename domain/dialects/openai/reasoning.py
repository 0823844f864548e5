"""A model's thinking in OpenAI's chat completions, of which OpenAI's own API has none. Others have, in three ways.

- `reasoning_content`, a text (DeepSeek, Kimi, Qwen, vLLM), which some call `reasoning` (OpenRouter, Ollama).
- `reasoning_details`, a list with signatures (OpenRouter):
  https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning
- parts of the content of type `thinking` (Mistral).
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from domain.canonical.chat import ReasoningBlock
from domain.canonical.stream import ReasoningPieces
from domain.dialects.passthrough.json_edit import rewrite

_TEXT, _SUMMARY, _ENCRYPTED = "reasoning.text", "reasoning.summary", "reasoning.encrypted"
MAX_CALLS = 1_000_000
"""Before a block of thinking."""
_AFTER_CALLS = "after_calls"
"""A member of ours, for thinking between the calls of one message: how many of them came before it."""
_READ = frozenset({"type", "text", "summary", "signature", "data", "id", "index", _AFTER_CALLS})
_ANTHROPIC, _OPENAI, _UNKNOWN = "anthropic-claude-v1", "openai-responses-v1", "unknown"
_OWN_FORMS = frozenset({_ANTHROPIC, _OPENAI, _UNKNOWN})

_MEMBERS = frozenset({"reasoning_content", "reasoning_details"})
_WRITTEN = b'"reasoning_'
"""Both begin so."""


class _Messages(Struct, frozen=True):
    messages: list[Any]


_decode_messages = msgspec.json.Decoder(_Messages).decode


def without_thinking(body: bytes) -> bytes:
    """A request to OpenAI's chat completions without the thinking of earlier turns, which was given to its client by
    another model, or by the same one on the Responses API: OpenAI refuses such members. The same bytes if it has none.
    Costs a search of the body: about a millisecond for one of a megabyte.
    """
    if _WRITTEN not in body:
        return body
    try:
        messages = _decode_messages(body).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    kept = [
        {name: value for name, value in message.items() if name not in _MEMBERS}
        if isinstance(message, dict)
        else message
        for message in messages
    ]
    return rewrite(body, {"messages": kept}) if kept != messages else body


def parse_reasoning(details: Any, *texts: Any, is_sellers: bool = True) -> list[ReasoningBlock]:
    """Read the thinking of a message: its details if it has some, else the first of the texts that is one.

    `is_sellers`: a provider wrote it, else a client sends it back.
    """
    blocks = list(_merged(_listed(details), is_sellers))
    if blocks:
        return blocks
    text = next((text for text in texts if isinstance(text, str) and text), None)
    return [ReasoningBlock(text=text)] if text is not None else []


def parse_thinking_blocks(blocks: Any) -> list[ReasoningBlock]:
    """Read thinking as Anthropic's API has it, which LiteLLM's clients send along as `thinking_blocks`."""
    found = []
    for block in _listed(blocks):
        if block.get("type") == "redacted_thinking":
            found.append(ReasoningBlock(data=_text(block.get("data"))))
        else:
            found.append(ReasoningBlock(text=_text(block.get("thinking")), signature=_text(block.get("signature"))))
    return [block for block in found if block != ReasoningBlock()]


def thinking_text(thinking: Any) -> str | None:
    """The text of a part of type `thinking`: a text, or a list of text parts."""
    if isinstance(thinking, list):
        thinking = "".join(_text(part.get("text")) or "" for part in _listed(thinking))
    return _text(thinking)


def _listed(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def parse_detail(detail: dict[str, Any], *, is_sellers: bool = True) -> ReasoningBlock:
    """Read one entry of `reasoning_details`, which may be a piece of a block. Of a client's entries the form is read
    only if it is another vendor's than those that `render_detail` writes of itself.
    """
    kind, block_id = detail.get("type"), _text(detail.get("id"))
    if kind == _ENCRYPTED:
        block = ReasoningBlock(data=_text(detail.get("data")), id=block_id)
    else:
        text = _text(detail.get("text")) or _text(detail.get("summary"))
        block = ReasoningBlock(text=text, signature=_text(detail.get("signature")), id=block_id)
    if block == ReasoningBlock():
        return block
    others = {name: value for name, value in detail.items() if name not in _READ and value is not None}
    if kind == _SUMMARY:
        others["type"] = kind
    place, form = detail.get(_AFTER_CALLS), others.get("format")
    is_told = is_sellers or (isinstance(form, str) and form not in _OWN_FORMS)
    after_calls = place if isinstance(place, int) and 0 < place < MAX_CALLS else 0
    return replace(block, detail=others if is_told else None, after_calls=after_calls)


def _merged(details: Iterable[dict[str, Any]], is_sellers: bool) -> Iterator[ReasoningBlock]:
    """The blocks of a list. A client that keeps the pieces of a stream has several entries with one index."""
    last: ReasoningPieces | None = None
    last_index: Any = None
    for detail in details:
        block, index = parse_detail(detail, is_sellers=is_sellers), detail.get("index")
        if block == ReasoningBlock():
            continue
        if last is None or index is None or index != last_index or not _goes_on(last, block):
            if last is not None:
                yield last.block()
            last = ReasoningPieces()
        elif block.data is not None:
            last = ReasoningPieces(*last.texts)  # its summary
        elif last.detail is None:
            block = replace(block, detail=None)
        last.add(block)
        last_index = index
    if last is not None:
        yield last.block()


def _goes_on(last: ReasoningPieces, block: ReasoningBlock) -> bool:
    """Whether an entry with the same index is one block with the entries before it."""
    if last.data is not None:
        return False
    return block.data is None or (block.id is not None and not last.signatures)


def render_detail(
    index: int,
    *,
    text: str | None,
    signature: str | None,
    data: str | None,
    block_id: str | None,
    detail: dict[str, Any] | None = None,
    after_calls: int = 0,
) -> dict[str, Any]:
    """Write a block, or a piece of one, as an entry of `reasoning_details`: of what a seller gave it is the same."""
    others = dict(detail or {})
    kind = others.pop("type", _TEXT)
    if data is not None:
        made_by = _OPENAI if block_id is not None else _ANTHROPIC
        wire: dict[str, Any] = {"type": _ENCRYPTED, "data": data, "id": block_id, "format": made_by}
    else:
        said = {("summary" if kind == _SUMMARY else "text"): text, "signature": signature, "id": block_id}
        wire = {"type": kind} | {name: value for name, value in said.items() if value is not None}
        wire["format"] = _ANTHROPIC if signature is not None else _UNKNOWN
    return wire | others | ({_AFTER_CALLS: after_calls} if after_calls else {}) | {"index": index}


def render_reasoning(blocks: list[ReasoningBlock]) -> dict[str, Any]:
    """Write a message's thinking as members of the message."""
    texts = [block.text for block in blocks if block.text]
    wire: dict[str, Any] = {"reasoning_content": "\n\n".join(texts)} if texts else {}
    return wire | {"reasoning_details": render_details(blocks)}


def render_details(blocks: Iterable[ReasoningBlock]) -> list[dict[str, Any]]:
    """Write thinking as `reasoning_details`."""
    return [entry for index, block in enumerate(blocks) for entry in _entries(index, block)]


def _entries(index: int, block: ReasoningBlock) -> Iterator[dict[str, Any]]:
    """The entries of a block. Encrypted thinking has its summary in one of its own, with the same index."""
    shared: dict[str, Any] = {"detail": block.detail, "after_calls": block.after_calls}
    if block.text or block.data is None:
        shown_id = block.id if block.data is None else None
        signature = block.signature
        yield render_detail(index, text=block.text or "", signature=signature, data=None, block_id=shown_id, **shared)
    if block.data is not None:
        yield render_detail(index, text=None, signature=None, data=block.data, block_id=block.id, **shared)
