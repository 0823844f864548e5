"""Whether OpenAI keeps the response to a request: it can be read later, with its usage.

https://platform.openai.com/docs/api-reference/responses/get,
https://platform.openai.com/docs/api-reference/chat/get
"""

import msgspec
from msgspec import Struct


class _Request(Struct, frozen=True):
    store: bool | None = None


_decode = msgspec.json.Decoder(_Request).decode


def is_stored(content: bytes, *, by_default: bool) -> bool:
    """True if a request says that its response is stored; `by_default`: if it says nothing."""
    try:
        store = _decode(content).store
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return by_default if store is None else store
