"""Where the members of a JSON object stand in its bytes."""

import re
from collections.abc import Mapping

from msgspec import Raw

_before_value = re.compile(rb'\s*[{,]\s*"[^"\\]*(?:\\.[^"\\]*)*"\s*:\s*').match
"""Matches the bytes between the value of a member and that of the one before."""


def member_spans(body: bytes, members: Mapping[str, Raw]) -> dict[str, tuple[int, int, int]] | None:
    """The span of each member of `body`, which was decoded to `members`; None if a name is given twice.

    A span is where the member before ends, and where its own value starts and ends. Of a name that is given twice the
    decoder keeps the last value, so that an earlier one is left over.
    """
    spans: dict[str, tuple[int, int, int]] = {}
    position = 0
    for name, value in members.items():
        before = _before_value(body, position)
        written = memoryview(value)
        if before is None or not body.startswith(written, before.end()):
            return None
        end = before.end() + len(written)
        spans[name] = (position, before.end(), end)
        position = end
    return spans if not spans or body[position:].strip() == b"}" else None
