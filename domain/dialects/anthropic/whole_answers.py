"""Anthropic's response in one piece as a stream, and a stream as a response in one piece.

Some providers send the one where the other was asked for. A client is sent what it asked for all the same.
"""

from typing import Any

import msgspec

from domain.dialects.decode import decode_provider_json, stream_failure
from domain.dialects.errors import UnreadableResponse
from domain.dialects.sse import DONE, SseEvent, SseParser, sse

_EVENTS = (b"event:", b"data:", b":")
_MARGIN_BYTES = 64
_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
_STARTED_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
}

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def whole_message(body: bytes) -> bytes:
    """The response in one piece: as it is, or put together from a stream.

    Raises:
        UnreadableResponse, StreamFailed: the stream cannot be read, or reports a failure.

    """
    if not body[:_MARGIN_BYTES].lstrip().startswith(_EVENTS):
        return body
    assembly = _Assembly()
    for event in SseParser().feed(body + b"\n\n"):
        if event.data and event.data != DONE:
            assembly.add(decode_provider_json(_decode, event.data))
    return _encode(assembly.message())


def events_of_message(body: bytes) -> list[SseEvent]:
    """The events of the stream that a response amounts to. Raises `UnreadableResponse` if it is none."""
    message = decode_provider_json(_decode, body)
    if message.get("error") is not None:
        raise stream_failure(message["error"])
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise UnreadableResponse("it has no content")
    started = message | {"content": [], "stop_reason": None, "stop_sequence": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": started}]
    for index, block in enumerate(content):
        events += _events_of_block(index, block)
    ended = {"stop_reason": message.get("stop_reason") or "end_turn", "stop_sequence": message.get("stop_sequence")}
    events += (
        {"type": "message_delta", "delta": ended, "usage": message.get("usage")},
        {"type": "message_stop"},
    )
    return SseParser().feed(b"".join(sse(_encode(event), event["type"]) for event in events))


def _events_of_block(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    kind = str(block.get("type"))
    start = block | _STARTED_EMPTY.get(kind, {})
    deltas: list[dict[str, Any]] = []
    if kind == "tool_use":
        given = block.get("input")
        written = given if isinstance(given, str) else _encode(given or {}).decode()
        deltas.append({"type": "input_json_delta", "partial_json": written})
    elif kind in _STARTED_EMPTY:
        deltas += [{"type": name, member: block[member]} for name, member in _DELTAS.items() if block.get(member)]
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


class _Assembly:
    """Puts the events of one stream together."""

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, list[str]] = {}

    def add(self, event: dict[str, Any]) -> None:
        given = event.get("index")
        index = given if isinstance(given, int) else 0
        match event.get("type"):
            case "message_start" if isinstance(event.get("message"), dict):
                self._message = dict(event["message"])
            case "content_block_start" if isinstance(event.get("content_block"), dict):
                self._blocks[index] = dict(event["content_block"])
            case "content_block_delta" if isinstance(event.get("delta"), dict):
                self._continue(index, event["delta"])
            case "message_delta":
                self._end(event)
            case "error":
                raise stream_failure(event.get("error") or {})
            case _:
                pass

    def _continue(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks.setdefault(index, {"type": "text", "text": ""})
        member = _DELTAS.get(str(delta.get("type")))
        if member is not None:
            block[member] = f"{block.get(member) or ''}{delta.get(member) or ''}"
        elif delta.get("type") == "input_json_delta":
            self._inputs.setdefault(index, []).append(str(delta.get("partial_json") or ""))
        elif delta.get("type") == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta.get("citation")]

    def _end(self, event: dict[str, Any]) -> None:
        message = self._message = self._message or {}
        delta, usage = event.get("delta"), event.get("usage")
        message |= delta if isinstance(delta, dict) else {}
        if isinstance(usage, dict):
            so_far = message.get("usage")
            said = {name: value for name, value in usage.items() if value is not None}
            message["usage"] = (so_far if isinstance(so_far, dict) else {}) | said

    def message(self) -> dict[str, Any]:
        if self._message is None:
            raise UnreadableResponse("the stream has no message")
        for index, pieces in self._inputs.items():
            written = "".join(pieces)
            if written:
                self._blocks[index]["input"] = _parsed(written)
        return self._message | {"content": [block for _, block in sorted(self._blocks.items())]}


def _parsed(written: str) -> Any:
    try:
        return msgspec.json.decode(written)
    except (msgspec.DecodeError, RecursionError):
        return written
