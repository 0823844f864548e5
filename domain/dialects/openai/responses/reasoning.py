"""A model's thinking as reasoning items, and back: with its signatures, which its provider wants to see again.

An item's `encrypted_content` is opaque to its client. Ours is a mark, a version and the block as JSON in base64: it
is not secret, since a provider that cares signs or encrypts its thinking itself.
"""

import base64
import binascii
from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.chat import ReasoningBlock
from domain.dialects.passthrough.json_edit import rewrite

_MARK = "gw1."
MAX_ENCODED_CHARS = 8 * 1024 * 1024


class KeptReasoning(Struct, frozen=True, array_like=True):
    """What goes round: a block of thinking, or what the provider wants back with its calls."""

    text: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    extra_content: dict[str, dict[str, Any]] | None = None
    """By the id of the call. See `ToolCall`."""
    detail: dict[str, Any] | None = None

    @property
    def block(self) -> ReasoningBlock | None:
        """The block; None if it has none."""
        if self.text is None and self.signature is None and self.data is None:
            return None
        return ReasoningBlock(text=self.text, signature=self.signature, data=self.data, id=self.id, detail=self.detail)


class _Request(Struct, frozen=True):
    input: Any = None


_MARKED = f'"{_MARK}'.encode()
_encode = msgspec.json.Encoder().encode
_decode_request = msgspec.json.Decoder(_Request).decode
_decode = msgspec.json.Decoder(KeptReasoning).decode


def encode_reasoning(kept: KeptReasoning) -> str:
    """The `encrypted_content` of an item."""
    return _MARK + base64.urlsafe_b64encode(_encode(kept)).decode()


def kept_of(block: ReasoningBlock) -> KeptReasoning:
    """What goes round of a block."""
    return KeptReasoning(block.text, block.signature, block.data, block.id, detail=block.detail)


def decode_reasoning(encrypted_content: str) -> KeptReasoning | None:
    """What an item's `encrypted_content` has; None if it was not made here."""
    if not encrypted_content.startswith(_MARK) or len(encrypted_content) > MAX_ENCODED_CHARS:
        return None
    try:
        return _decode(base64.urlsafe_b64decode(encrypted_content[len(_MARK) :]))
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError):
        return None


def without_kept_reasoning(body: bytes) -> bytes:
    """A request to OpenAI without the reasoning items that were made here, which it cannot decrypt: its client has gone
    on with a conversation that a model of another vendor began. The same bytes if there are none.
    """
    if _MARKED not in body:
        return body
    try:
        items = _decode_request(body).input
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    if not isinstance(items, list):
        return body
    left = [item for item in items if not _is_kept(item)]
    return rewrite(body, {"input": left}) if len(left) < len(items) else body


def _is_kept(item: Any) -> bool:
    value = item.get("encrypted_content") if isinstance(item, dict) and item.get("type") == "reasoning" else None
    return isinstance(value, str) and value.startswith(_MARK)
