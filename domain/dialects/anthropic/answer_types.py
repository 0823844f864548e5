"""Anthropic's messages and stream events as providers send them.

Read leniently: what Anthropic adds to them does not matter here, and other providers that speak alike leave members
out, or send null.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType


class ContentBlock(Struct, frozen=True):
    """A block of a provider's response."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class Message(Struct, frozen=True):
    """A provider's response."""

    content: list[ContentBlock] | str | None | UnsetType = UNSET
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: Any = None
    error: Any = None
    container: Any = None
    """That code was run in; null if none was."""


class MeteredMessage(Struct, frozen=True):
    """As much of a passed-through response as its costs and its record depend on."""

    content: msgspec.Raw | UnsetType = UNSET
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: Any = None
    error: Any = None
    container: Any = None


class EventDelta(Struct, frozen=True, gc=False):
    """Of a block, or (`stop_reason`) of the message."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    container: Any = None


class EventMessage(Struct, frozen=True, gc=False):
    """The message that a stream begins with."""

    id: str | None = None
    model: str | None = None
    usage: Any = None


class StreamEvent(Struct, frozen=True, gc=False):
    """An event of a provider's stream."""

    type: str | None = None
    index: int | None = None
    delta: EventDelta | None = None
    content_block: ContentBlock | None = None
    message: EventMessage | None = None
    usage: Any = None
    error: Any = None
