"""What a response repeats of its request, and the names that its client knows the called functions by.

It travels with the job of a stream, so it is bounded: the longest members are left out first.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from domain.dialects.openai.responses.tools import ToolName

MAX_ECHO_BYTES = 64 * 1024
_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""The members that a response repeats, with the vendor's defaults."""
_LEFT_OUT_FIRST = ("tools", "instructions", "text", "metadata")


class Echo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a response repeats."""

    members: dict[str, Raw] = {}
    names: dict[str, ToolName] = {}
    """See `ParsedTools`."""

    def fields(self) -> dict[str, Any]:
        """The members of the response."""
        return {**_ECHOED, **self.members}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Echo).decode


def make_echo(given: Mapping[str, Raw], names: dict[str, ToolName]) -> bytes:
    """What the response to a request of these members repeats, as JSON."""
    members = {name: raw for name, raw in given.items() if name in _ECHOED and bytes(raw) != b"null"}
    size = sum(len(bytes(raw)) for raw in members.values())
    for name in _LEFT_OUT_FIRST:
        if size > MAX_ECHO_BYTES and name in members:
            size -= len(bytes(members.pop(name)))
    return _encode(Echo(members=members, names=names))


def read_echo(echo: bytes | None) -> Echo:
    """The same again; empty if there is none."""
    return _decode(echo) if echo else Echo()
