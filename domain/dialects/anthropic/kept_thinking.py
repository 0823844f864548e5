"""What another vendor's model wants back with its next request, in the one place that Anthropic's clients keep unread.

Anthropic's clients send the `signature` of a thinking block and the `data` of a redacted one back as they came. For a
model of another vendor they hold a value of ours: marked, with a version, and readable by `read_kept` alone.
"""

import base64
import binascii
from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.chat import ReasoningBlock

MARK = "gw1."
"""Opens a value of ours, in its first version. No signature of Anthropic's has a dot."""

_encode = msgspec.json.Encoder().encode


class KeptThinking(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to come back."""

    text: str | None = None
    """Of thinking that the client did not ask to see. Else it is in the block."""
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    """These three: see `ReasoningBlock`."""
    calls: dict[str, dict[str, Any]] = {}
    """`extra_content` of tool calls, by their ids."""

    def block(self, text: str | None) -> ReasoningBlock | None:
        """The canonical block; None if it would be empty."""
        found = ReasoningBlock(text=text or self.text, signature=self.signature, data=self.data, id=self.id)
        return found if found != ReasoningBlock() else None


_decode = msgspec.json.Decoder(KeptThinking).decode


def write_kept(kept: KeptThinking) -> str:
    """The value for the client to keep."""
    return MARK + base64.urlsafe_b64encode(_encode(kept)).decode()


def read_kept(value: str | None) -> KeptThinking | None:
    """Read a value of ours; None: it is none, but (say) a signature of Anthropic's own."""
    if value is None or not value.startswith(MARK):
        return None
    try:
        return _decode(base64.urlsafe_b64decode(value.removeprefix(MARK)))
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError):
        return KeptThinking()
