"""What the gateway itself says inside a stream of the Responses API."""

import msgspec
from msgspec import Struct

from domain.dialects.sse import SseParser, sse


class _Numbered(Struct, frozen=True):
    sequence_number: int = -1


_decode = msgspec.json.Decoder(_Numbered).decode


def next_sequence_number(sent: bytes) -> int:
    """The number that follows the last event's in these bytes of a stream; 0 where none can be read."""
    events = [event for event in SseParser().feed(sent) if event.data]
    try:
        return _decode(events[-1].data).sequence_number + 1 if events else 0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


def error(message: str, code: str, sequence_number: int) -> bytes:
    """An error inside a stream; `sequence_number` follows the last event's."""
    body = {
        "type": "error",
        "sequence_number": sequence_number,
        "code": code,
        "message": message,
        "param": None,
    }
    return sse(msgspec.json.encode(body), "error")
