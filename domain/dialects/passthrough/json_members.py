"""Finds the members of a JSON object in its bytes, and replaces the values of some.

Only the changed members are encoded again; every other byte stays as it came. If a name occurs twice, the last value
counts, and the whole object is encoded again, without the space between its members.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

_before_value = re.compile(rb'\s*[{,]\s*"[^"\\]*(?:\\.[^"\\]*)*"\s*:\s*').match
"""Matches the bytes between the value of a member and that of the one before."""

decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
encode_value = msgspec.json.Encoder(decimal_format="number").encode
_decode_value = msgspec.json.Decoder().decode

Spans = dict[str, tuple[int, int, int]]
"""By name: the offsets of the end of the member before, of the value's start and of its end."""


def member_spans(body: bytes, members: Mapping[str, Raw]) -> Spans | None:
    """Return the span of each member of `body`, which was decoded to `members`; None if a name occurs twice.

    The decoder keeps only the last value of such a name, so the spans would not match the bytes.
    """
    spans: Spans = {}
    position = 0
    for name, value in members.items():
        before = _before_value(body, position)
        if before is None or not body.startswith(value, start := before.end()):
            return None
        end = start + len(value)
        spans[name] = (position, start, end)
        position = end
    return spans if not spans or body[position:].strip() == b"}" else None


class EditableObject(Struct, frozen=True):
    """A JSON object whose members may be changed without parsing it again. Holds the spans of those members only."""

    body: bytes
    spans: Spans | None
    """None: a name occurs twice."""
    end: int
    """The offset at which a member is added: behind the last one."""
    is_empty: bool

    @classmethod
    def of(cls, body: bytes, spans: Spans | None, names: Collection[str]) -> "EditableObject":
        """An object with these spans, in which the members with these names may be changed or added."""
        if not spans:
            return cls(body=body, spans=spans, end=body.index(b"{") + 1, is_empty=True)
        _, _, end = next(reversed(spans.values()))
        edited = {name: spans[name] for name in spans if name in names}
        return cls(body=body, spans=edited, end=end, is_empty=False)

    def with_members(self, changes: Mapping[str, Any]) -> bytes:
        """Return the object with these values; new members are added at the end."""
        body, spans = self.body, self.spans
        if spans is None:
            return encode_value({**decode_members(body), **changes})
        pieces: list[bytes] = []
        position = 0
        for name, (_, start, end) in spans.items():
            if name in changes:
                pieces += (body[position:start], encode_value(changes[name]))
                position = end
        pieces.append(body[position : self.end])
        added = {name: value for name, value in changes.items() if name not in spans}
        if added:
            pieces += (b"" if self.is_empty else b",", encode_value(added)[1:-1])
        return b"".join((*pieces, body[self.end :]))

    def differing(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the changes that give a member another value."""
        return {name: value for name, value in changes.items() if not self._has(name, value)}

    def value(self, name: str) -> Any:
        """A member's value; None if there is no such member."""
        if self.spans is None:
            member = decode_members(self.body).get(name)
            return _decode_value(member) if member is not None else None
        if name not in self.spans:
            return None
        _, start, end = self.spans[name]
        return _decode_value(self.body[start:end])

    def _has(self, name: str, value: Any) -> bool:
        if self.spans is None or name not in self.spans:
            return False
        _, start, end = self.spans[name]
        return encode_value(_decode_value(self.body[start:end])) == encode_value(value)
