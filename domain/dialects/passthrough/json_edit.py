"""Small changes to JSON of a vendor's own dialect that is otherwise passed on as it came.

Only the members named are written anew; every other byte is the one that came. Where a name is given twice the last
value counts, and the object is written anew without the space between its members.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from domain.dialects.decode import decode_provider_json
from domain.dialects.passthrough.json_members import member_spans
from domain.dialects.sse import DONE, SseEvent, sse
from domain.errors import InvalidRequest

_NULL_USAGE = b',"usage":null'
_USAGE = b'"usage"'
_NULL = b"null"


class _Chunk(Struct, frozen=True, gc=False):
    """As much of an OpenAI chunk as tells what to do with its usage."""

    usage: Raw | UnsetType = UNSET
    choices: list[Raw] | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def rewrite(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """A request with some top-level members changed, or added at its end. One that has these values is the same.

    Raises:
        InvalidRequest: the body is no JSON object.

    """
    try:
        members = _decode_members(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body must be a JSON object: {error}") from error
    new = {name: value for name, value in changes.items() if not _says(members.get(name), value)}
    return _with(body, members, new)


def with_cost(body: bytes, cost_usd: Decimal | None) -> bytes:
    """An answer, or the data of an event, with `usage.cost`: in its `usage`, or in that of its `response`.

    One that has no usage is given back as it is.

    Raises:
        UnreadableResponse: it is no JSON object.

    """
    members = decode_provider_json(_decode_members, body)
    if "response" in members and "usage" not in members:
        response = bytes(members["response"])
        priced = with_cost(response, cost_usd)
        return body if priced is response else _with(body, members, {"response": Raw(priced)})
    if "usage" not in members or bytes(members["usage"]) == _NULL:
        return body
    usage = bytes(members["usage"])
    priced_usage = _with(usage, decode_provider_json(_decode_members, usage), {"cost": cost_usd})
    return _with(body, members, {"usage": Raw(priced_usage)})


def event_with_cost(event: SseEvent, cost_usd: Decimal | None) -> bytes:
    """The bytes of an event whose usage, where it has one, also tells the cost.

    Raises:
        UnreadableResponse: its data is no JSON object.

    """
    if not event.data or event.data == DONE or _USAGE not in event.data:
        return event.raw
    return _replaced(event, with_cost(event.data, cost_usd))


def without_usage(event: SseEvent) -> bytes:
    """The bytes of an OpenAI event for a client that did not ask for usage; none of the chunk that has nothing else.

    Raises:
        UnreadableResponse: its data is no JSON object.

    """
    data = event.data
    if _USAGE not in data:
        return event.raw
    chunk = decode_provider_json(_decode_chunk, data)
    if chunk.usage is UNSET:
        return event.raw
    if bytes(chunk.usage) != _NULL and not chunk.choices:
        return b""
    if data.count(_USAGE) == 1 and _NULL_USAGE in data and event.raw.count(_USAGE) == 1:
        return event.raw.replace(_NULL_USAGE, b"", 1)
    return _replaced(event, _without(data, decode_provider_json(_decode_members, data), "usage"))


def _says(known: Raw | None, value: Any) -> bool:
    return known is not None and _encode(_decode_any(known)) == _encode(value)


def _with(body: bytes, members: Mapping[str, Raw], changes: Mapping[str, Any]) -> bytes:
    """An object with these values, those that it did not have behind the others."""
    spans = member_spans(body, members)
    if spans is None:
        return _encode({**members, **changes})
    pieces: list[bytes] = []
    position = 0
    for name, (_, start, end) in spans.items():
        if name in changes:
            pieces += (body[position:start], _encode(changes[name]))
            position = end
    last = max((end for _, _, end in spans.values()), default=body.index(b"{") + 1)
    pieces.append(body[position:last])
    added = {name: value for name, value in changes.items() if name not in spans}
    if added:
        pieces += (b"," if spans else b"", _encode(added)[1:-1])
    return b"".join((*pieces, body[last:]))


def _without(body: bytes, members: Mapping[str, Raw], name: str) -> bytes:
    """An object without one of its members; of those that follow the first loses its comma where that was the first."""
    spans = member_spans(body, members)
    if spans is None:
        return _encode({other: value for other, value in members.items() if other != name})
    start, _, end = spans[name]
    if start:
        return body[:start] + body[end:]
    return body[: body.index(b"{") + 1] + body[end:].lstrip().removeprefix(b",").lstrip()


def _replaced(event: SseEvent, data: bytes) -> bytes:
    """The event with other data, and its other lines as they came."""
    before, found, after = event.raw.partition(event.data)
    return before + data + after if found and b"\n" not in data else sse(data, event.name or None)
