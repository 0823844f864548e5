"""What a worker reads of a provider can be read again in an API process, under more calls, or is refused at once."""

from typing import Any

import msgspec
import pytest

from domain.reserve import RESERVED_CALLS, with_reserve


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def under(calls: int, content: bytes) -> Any:
    """Decode JSON with other calls under way."""
    return under(calls - 1, content) if calls else msgspec.json.decode(content)


def deepest() -> int:
    """Return the most levels that are read with the reserve."""
    levels = 1
    while True:
        try:
            content = nested(levels + 1)
            with_reserve(content, lambda: msgspec.json.decode(content))  # noqa: B023 - called at once
        except RecursionError:
            return levels
        levels += 1


def test_what_is_read_with_the_reserve_is_read_under_many_more_calls() -> None:
    levels = deepest()
    assert levels > 400
    assert under(RESERVED_CALLS - 20, nested(levels))
    with pytest.raises(RecursionError):
        under(RESERVED_CALLS + 20, nested(levels))


def test_shallow_content_is_read_at_once() -> None:
    assert with_reserve(b"[1, 2]", lambda: "read") == "read"
