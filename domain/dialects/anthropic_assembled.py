"""The message that a stream of Anthropic's events amounts to, as it would have come without streaming."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from domain.dialects.provider_response import UnreadableResponse

_EVENT_FRAME = frozenset({"type", "delta", "usage"})


class _Block:
    """A content block: what it started as, and what its deltas added."""

    def __init__(self, start: dict[str, Any]) -> None:
        self._members = start
        self._texts: dict[str, list[str]] = {}
        self._input: list[str] = []

    def add(self, delta: Mapping[str, Any]) -> None:
        match delta["type"]:
            case "text_delta":
                self._append("text", delta["text"])
            case "thinking_delta":
                self._append("thinking", delta["thinking"])
            case "input_json_delta":
                self._input.append(delta["partial_json"])
            case "citations_delta":
                self._members["citations"] = [*(self._members.get("citations") or ()), delta["citation"]]
            case "signature_delta":
                self._members["signature"] = delta["signature"]
            case _:
                self._add_unknown(delta)

    def whole(self) -> dict[str, Any]:
        whole = dict(self._members)
        for name, pieces in self._texts.items():
            whole[name] = (whole.get(name) or "") + "".join(pieces)
        if written := "".join(self._input):
            whole["input"] = _checked_json(written)
        return whole

    def _append(self, name: str, piece: str) -> None:
        self._texts.setdefault(name, []).append(piece)

    def _add_unknown(self, delta: Mapping[str, Any]) -> None:
        """Deltas of kinds to come: a text is taken for a piece, anything else for the whole."""
        for name, value in delta.items():
            if isinstance(value, str) and name != "type":
                self._append(name, value)
            elif name != "type" and (value is not None or name not in self._members):
                self._members[name] = value


class AnthropicAssembler:
    """Merges events as they come, so that a long stream is kept as text and not as events."""

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, _Block] = {}

    def add(self, event: dict[str, Any]) -> None:
        """Take the next event, decoded. Those that no answer shows (`ping` …) change nothing.

        Raises:
            UnreadableResponse: it does not follow from those before it.

        """
        try:
            match event["type"]:
                case "message_start":
                    self._message = event["message"]
                case "content_block_start":
                    self._blocks[event["index"]] = _Block(event["content_block"])
                case "content_block_delta":
                    self._blocks[event["index"]].add(event["delta"])
                case "message_delta":
                    self._end(event)
                case _:
                    pass
        except (KeyError, TypeError, AttributeError) as error:
            raise UnreadableResponse(f"the stream's {event.get('type')} does not fit: {error!r}") from error

    def answer(self) -> bytes:
        """The whole message.

        Raises:
            UnreadableResponse: it never started, or a tool's input is no JSON.

        """
        if self._message is None:
            raise UnreadableResponse("the stream had no message_start")
        content = [block.whole() for _, block in sorted(self._blocks.items())]
        return msgspec.json.encode(self._message | {"content": content})

    def _end(self, event: dict[str, Any]) -> None:
        if self._message is None:
            raise UnreadableResponse("the stream had no message_start")
        message = self._message
        for changes in (event["delta"], {name: event[name] for name in event.keys() - _EVENT_FRAME}):
            message.update({name: value for name, value in changes.items() if value is not None or name not in message})
        counted = {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
        message["usage"] = (message.get("usage") or {}) | counted


def _checked_json(written: str) -> Raw:
    """The input's bytes as the model wrote them, so that no number changes its form."""
    try:
        msgspec.json.decode(written)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableResponse(f"a tool's input is no JSON: {error}") from error
    return Raw(written.encode())
