"""Names: one rule for those that come in, one for what is shown of them.

A name is anything that people read in a list: of a project, a key, a model, a member of metadata. It has no character
that changes what a terminal or a page shows beside it: no control character, no line end, no mark that turns the
direction of writing (Unicode TR 36, "Bidirectional Text Spoofing").
"""

import re
from functools import lru_cache
from typing import Annotated
from urllib.parse import quote

from msgspec import Meta

MAX_NAME_CHARS = 256
MAX_REMEMBERED_TEXTS = 1_024
"""As headers have them: the providers and the models, of each answer."""
END = r"(?![\s\S])"
"""The end of a text. `$` stands before a last line end as well, and `\\Z` is unknown to JSON Schema."""
_UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
NAME_PATTERN = f"^[^{_UNPRINTABLE}]*{END}"
TOKEN_PATTERN = rf"^[\x21-\x7e]+{END}"
"""Visible ASCII, as a header may have it."""
HTTP_URL_PATTERN = rf"^https?://[\x21-\x7e]+{END}"

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=NAME_PATTERN)]

_SPECIAL = re.compile(f"[{_UNPRINTABLE}]")
_HEADER_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def is_name(text: str) -> bool:
    """Return True if a text may be a name."""
    return 0 < len(text) <= MAX_NAME_CHARS and _SPECIAL.search(text) is None


def without_special(text: str, *, keep: str = "") -> str:
    """Leave out every character that a name may not have, but those in `keep`. None of them is printable."""
    if text.isprintable():
        return text
    return _SPECIAL.sub(lambda found: found[0] if found[0] in keep else "", text)


def printable(text: str, *, keep: str = "") -> str:
    r"""Write characters that a name may not have as JSON's escapes (`\u001b`), but those in `keep`: for terminals."""
    if text.isprintable():
        return text
    return _SPECIAL.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)


@lru_cache(maxsize=MAX_REMEMBERED_TEXTS)
def header_text(text: str) -> str:
    """Write a text as a header's value: what is not visible ASCII, and `%`, is percent-encoded as UTF-8 (RFC 3986)."""
    return text if text.isascii() and text.isprintable() and "%" not in text else quote(text, safe=_HEADER_SAFE)
