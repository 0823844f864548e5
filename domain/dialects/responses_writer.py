"""What the gateway itself says inside a stream of the Responses API."""

import msgspec

from domain.sse import sse


def error(message: str, code: str, sequence_number: int) -> bytes:
    """An error inside a stream; `sequence_number` follows the last event's (`ResponsesReader.next_sequence_number`)."""
    body = {
        "type": "error",
        "sequence_number": sequence_number,
        "code": code,
        "message": message,
        "param": None,
    }
    return sse(msgspec.json.encode(body), "error")
