"""Decodes JSON from a provider: every failure to read it is an `UnreadableResponse`."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.sanitize import sanitize_identifier, sanitize_message

T = TypeVar("T")

UNREADABLE_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The errors of a decoder for data that is not JSON, or has another type."""


class _Typed(Struct, frozen=True):
    type: str


_decode_type = msgspec.json.Decoder(_Typed).decode


def decode_provider_json(decode: Callable[[bytes], T], data: bytes) -> T:
    """Decode with a typed decoder.

    Raises:
        UnreadableResponse: the data is not JSON of the decoder's type.

    """
    try:
        return decode(data)
    except UNREADABLE_JSON as error:
        raise UnreadableResponse(str(error)) from error


def decode_known_event(decode: Callable[[bytes], T], data: bytes, known_types: frozenset[str]) -> T | None:
    """Decode an event; None if it has a type that is not in `known_types` and a shape that the decoder does not read.

    Raises:
        UnreadableResponse: it has a known type and cannot be read.

    """
    try:
        return decode_provider_json(decode, data)
    except UnreadableResponse:
        if decode_provider_json(_decode_type, data).type in known_types:
            raise
        return None


def stream_failure(error: Any) -> StreamFailed:
    """The failure that a vendor's error object reports. Some providers send only a sentence, or a number as code."""
    if not isinstance(error, dict):
        return StreamFailed(sanitize_message(str(error)), "error")
    kind = error.get("code") or error.get("type") or "error"
    message = error.get("message") or "the provider failed inside its stream"
    return StreamFailed(sanitize_message(str(message)), sanitize_identifier(str(kind)))
