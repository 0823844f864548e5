"""Small changes to JSON of a vendor's own dialect that is otherwise passed on as it came.

Only the members named are written anew; the bytes of every other member are those that came, in their order. The space
between members of a changed object is not kept, and of a name given twice the last value counts.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from domain.dialects.streamed import DONE, decoded
from domain.errors import InvalidRequest
from domain.sse import SseEvent, sse

_NULL_USAGE = b',"usage":null'
_USAGE = b'"usage"'
_NULL = b"null"


class _Chunk(Struct, frozen=True, gc=False):
    """As much of an OpenAI chunk as tells what to do with its usage."""

    usage: Raw | UnsetType = UNSET
    choices: list[Raw] | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def rewrite(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """A request with some top-level members changed, or added at its end.

    Raises:
        InvalidRequest: the body is no JSON object.

    """
    try:
        members = _decode_members(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body must be a JSON object: {error}") from error
    return _encode({**members, **changes})


def with_cost(body: bytes, cost_usd: Decimal | None) -> bytes:
    """An answer, or the data of an event, with `usage.cost`: in its `usage`, or in that of its `response`.

    One that has no usage is given back as it is.

    Raises:
        UnreadableAnswer: it is no JSON object.

    """
    members = decoded(_decode_members, body)
    if "response" in members and "usage" not in members:
        response = bytes(members["response"])
        priced = with_cost(response, cost_usd)
        return body if priced is response else _encode(members | {"response": Raw(priced)})
    usage = members.get("usage")
    if usage is None or bytes(usage) == _NULL:
        return body
    priced_usage = decoded(_decode_members, bytes(usage)) | {"cost": cost_usd}
    return _encode(members | {"usage": priced_usage})


def event_with_cost(event: SseEvent, cost_usd: Decimal | None) -> bytes:
    """The bytes of an event whose usage, where it has one, also tells the cost.

    Raises:
        UnreadableAnswer: its data is no JSON object.

    """
    if not event.data or event.data == DONE or _USAGE not in event.data:
        return event.raw
    return _replaced(event, with_cost(event.data, cost_usd))


def without_usage(event: SseEvent) -> bytes:
    """The bytes of an OpenAI event for a client that did not ask for usage; none of the chunk that has nothing else.

    Raises:
        UnreadableAnswer: its data is no JSON object.

    """
    data = event.data
    if _USAGE not in data:
        return event.raw
    chunk = decoded(_decode_chunk, data)
    if chunk.usage is UNSET:
        return event.raw
    if bytes(chunk.usage) != _NULL and not chunk.choices:
        return b""
    if data.count(_USAGE) == 1 and _NULL_USAGE in data and event.raw.count(_USAGE) == 1:
        return event.raw.replace(_NULL_USAGE, b"", 1)
    members = decoded(_decode_members, data)
    del members["usage"]
    return _replaced(event, _encode(members))


def _replaced(event: SseEvent, data: bytes) -> bytes:
    """The event with other data, and its other lines as they came."""
    before, found, after = event.raw.partition(event.data)
    return before + data + after if found and b"\n" not in data else sse(data, event.name or None)
