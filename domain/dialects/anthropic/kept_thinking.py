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
from domain.dialects.passthrough.json_edit import rewrite

MARK = "gw1."
"""Opens a value of ours, in its first version. No signature of Anthropic's has a dot."""

_MARKED = f'"{MARK}'.encode()
_encode = msgspec.json.Encoder().encode


class _Messages(Struct, frozen=True):
    messages: list[Any]


_decode_messages = msgspec.json.Decoder(_Messages).decode


class KeptThinking(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to come back."""

    text: str | None = None
    """Of thinking that the client is not shown. Else it is in the block."""
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    detail: dict[str, Any] | None = None
    """These four: see `ReasoningBlock`."""
    calls: dict[str, dict[str, Any]] = {}
    """`extra_content` of tool calls, by their ids."""

    def block(self, text: str | None) -> ReasoningBlock | None:
        """The canonical block; None if it would be empty."""
        said = text or self.text
        if not (said or self.signature or self.data or self.id):
            return None
        return ReasoningBlock(text=said, signature=self.signature, data=self.data, id=self.id, detail=self.detail)

    @classmethod
    def of(cls, block: ReasoningBlock, *, with_text: bool = False) -> "KeptThinking":
        """What is to come back of a block."""
        return cls(
            text=block.text if with_text else None,
            signature=block.signature,
            data=block.data,
            id=block.id,
            detail=block.detail,
        )


_decode = msgspec.json.Decoder(KeptThinking).decode


def without_kept(body: bytes) -> bytes:
    """A request to Anthropic without the blocks that hold values of ours, which it would refuse as forged: its client
    has gone on with a conversation that a model of another vendor began. The same bytes if there are none.
    """
    if _MARKED not in body:
        return body
    try:
        messages = _decode_messages(body).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    kept = [turn for turn in map(_without_kept, messages) if turn is not None]
    return rewrite(body, {"messages": kept}) if kept != messages else body


def _without_kept(turn: Any) -> Any:
    """The turn; None if nothing of it is left."""
    content = turn.get("content") if isinstance(turn, dict) else None
    if not isinstance(content, list):
        return turn
    others = [block for block in content if not _is_kept(block)]
    if not others and content:
        return None
    return {**turn, "content": others}


def _is_kept(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    value = {"thinking": block.get("signature"), "redacted_thinking": block.get("data")}.get(str(block.get("type")))
    return isinstance(value, str) and value.startswith(MARK)


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
