"""A message that is known whole, as the stream that Anthropic would have sent."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from domain.canonical.stream import pieces
from domain.dialects.anthropic_writer import event
from domain.dialects.streamed import compact, decoded

_COMES_LAST = ("stop_reason", "stop_sequence", "stop_details")
_STREAMED_INPUTS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
"""Blocks whose input comes in pieces."""

_NULL = Raw(b"null")


class _Message(Struct, frozen=True):
    content: list[dict[str, Raw]]
    usage: dict[str, Raw]


_decode = msgspec.json.Decoder(_Message).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_list = msgspec.json.Decoder(list[Raw] | None).decode


def replay_anthropic(body: bytes) -> list[bytes]:
    """The events of a message; what the SDK accumulates of them is the message.

    Raises:
        UnreadableResponse: the body is no message.

    """
    body = compact(body)
    whole = decoded(_decode, body)
    members = decoded(_decode_members, body)
    last = {name: members[name] for name in _COMES_LAST if name in members}
    start = members | dict.fromkeys(last, _NULL)
    start |= {"content": Raw(b"[]"), "usage": Raw(msgspec.json.encode(whole.usage | {"output_tokens": 0}))}
    end: dict[str, Any] = {"type": "message_delta", "delta": last, "usage": whole.usage}
    if "container" in members:
        end["delta"] = last | {"container": members["container"]}
    if "context_management" in members:
        end["context_management"] = members["context_management"]
    events = [event({"type": "message_start", "message": start})]
    for index, block in enumerate(whole.content):
        started, deltas = _block(block)
        events.append(event({"type": "content_block_start", "index": index, "content_block": started}))
        events += [event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
        events.append(event({"type": "content_block_stop", "index": index}))
    return [*events, event(end), event({"type": "message_stop"})]


def _block(block: dict[str, Raw]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a block starts as, and the deltas that complete it."""
    kind = decoded(_decode_text, bytes(block.get("type", _NULL)))
    if kind == "text":
        return _text_block(block)
    if kind == "thinking":
        deltas: list[dict[str, Any]] = [
            {"type": "thinking_delta", "thinking": piece} for piece in _text_pieces(block, "thinking")
        ]
        empty: dict[str, Any] = {"thinking": ""}
        if "signature" in block:
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            empty["signature"] = ""
        return block | empty, deltas
    if kind in _STREAMED_INPUTS and "input" in block:
        written = bytes(block["input"]).decode()
        return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(written)]
    return block, []


def _text_block(block: dict[str, Raw]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    citations = decoded(_decode_list, bytes(block.get("citations", _NULL)))
    start: dict[str, Any] = block | {"text": ""}
    if citations:
        start["citations"] = []
    deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": piece} for piece in _text_pieces(block, "text")]
    return start, deltas + [{"type": "citations_delta", "citation": citation} for citation in citations or ()]


def _text_pieces(block: dict[str, Raw], name: str) -> Iterator[str]:
    return pieces(decoded(_decode_text, bytes(block.get(name, _NULL))))
