"""Ids of tool calls, which Anthropic takes only of certain characters and other vendors make of any.

An id that may not be sent is written in another way, always the same one: a call and its result still belong together,
and what an Anthropic client sends back can be read as the id that its provider knows.
"""

import hashlib
import re

MAX_ID_CHARS = 64
MAX_CANONICAL_ID_CHARS = 256

_PLAIN = re.compile(r"[a-zA-Z0-9_-]+")
_WRITTEN = re.compile(r"_x([0-9a-f]{2,6})_")
_TO_WRITE = re.compile(r"[^a-zA-Z0-9_-]|_(?=x)")
_MADE_CHARS = 24
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def written_id(call_id: str) -> str:
    """The id in letters, digits, `_` and `-` alone; `read_id` gives it back."""
    if _PLAIN.fullmatch(call_id) and not _WRITTEN.search(call_id):
        return call_id
    return _TO_WRITE.sub(_write_character, call_id)


def read_id(written: str) -> str:
    """The id that `written_id` wrote so. Ids longer than the canonical form allows are replaced by their digest."""
    call_id = _WRITTEN.sub(_read_character, written)
    return call_id if 0 < len(call_id) <= MAX_CANONICAL_ID_CHARS and "\0" not in call_id else made_id(call_id)


def claude_id(call_id: str) -> str:
    """The id as Anthropic takes it: `written_id`, or a digest if that is too long."""
    written = written_id(call_id)
    return written if len(written) <= MAX_ID_CHARS else made_id(call_id)


def made_id(*seeds: object) -> str:
    """An id for a call that has none: always the same for the same seeds."""
    digest = hashlib.sha256("/".join(str(seed) for seed in seeds).encode(errors="surrogatepass")).hexdigest()
    return f"toolu_{digest[:_MADE_CHARS]}"


def _write_character(found: re.Match[str]) -> str:
    return f"_x{ord(found[0]):02x}_"


def _read_character(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return chr(code) if code <= _LAST_CODE_POINT and code not in _SURROGATES else found[0]
