"""The size of an image in pixels, from the first bytes of its file: PNG, JPEG, GIF and WebP. Nothing is decoded.

Sources: PNG specification 11.2.2; JPEG, ITU-T T.81 B.2.2; GIF 89a, sections 18 and 20; RFC 9649 (WebP).
"""

import base64
import binascii

from msgspec import Struct

TOKENS_PER_IMAGE = 50_000
"""Above every documented formula: OpenAI's tiles in high detail (gpt-4o-mini multiplies them to 48,169 at most for 768
by 2000 pixels), Anthropic's width × height ÷ 750 (about 4,800 at its largest size)."""
MAX_HEADER_CHARS = 512 * 1024
"""Of base64: the size of a JPEG stands behind its metadata, such as a preview."""
HEADER_CHARS = (512, 8 * 1024, MAX_HEADER_CHARS)
"""Of base64, read one after the other until the size is known."""
MAX_JPEG_SEGMENTS = 1_000
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG's start-of-frame markers."""
_SCANS = frozenset({0xD9, 0xDA})
"""Its markers of a scan's start, and of the image's end."""


class Image(Struct, frozen=True, kw_only=True):
    """An image of a request."""

    width: int
    height: int
    """Pixels; 0 by 0 if they are unknown: it has an address, or is no such file."""
    detail: str | None = None
    """As the caller asks for it: `low`, `high`, `auto` …"""

    @property
    def is_known(self) -> bool:
        """True if its size is."""
        return self.width > 0 and self.height > 0


def image_of(content: str | None, detail: object = None) -> Image:
    """The image that a text has, as base64 or as a `data:` URL of it."""
    size = None
    if content is not None and not content.startswith("http"):
        start = content.find(",") + 1 if content.startswith("data:") else 0
        size = next(filter(None, (_size(content, start, chars) for chars in _header_chars(len(content) - start))), None)
    width, height = size or (0, 0)
    return Image(width=width, height=height, detail=detail if isinstance(detail, str) else None)


def largest(_image: Image) -> int:
    """The tokens of an image for a model whose formula is unknown."""
    return TOKENS_PER_IMAGE


def _header_chars(length: int) -> tuple[int, ...]:
    """How much to read of a content of so many characters, at most as many times as it takes."""
    enough = next((number for number, chars in enumerate(HEADER_CHARS, start=1) if chars >= length), len(HEADER_CHARS))
    return HEADER_CHARS[:enough]


def _size(content: str, start: int, chars: int) -> tuple[int, int] | None:
    try:
        data = base64.b64decode(content[start : start + chars - chars % 4] + "==")
    except (binascii.Error, ValueError):
        return None
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        return _big(data, 16, 4), _big(data, 20, 4)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data, is_whole=len(content) - start <= chars)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif_size(data)
    return _webp_size(data) if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _jpeg_size(data: bytes, *, is_whole: bool) -> tuple[int, int] | None:
    """The largest of the frames before the first scan: which of several a decoder takes is its own affair.

    `is_whole`: the data is all that there is of the file.
    """
    position, size = 2, (0, 0)
    for _ in range(MAX_JPEG_SEGMENTS):
        if position + 9 > len(data):
            return size if is_whole and size != (0, 0) else None
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker in _SCANS:
            return size
        if marker in _FRAMES:
            size = max(size[0], _big(data, position + 7, 2)), max(size[1], _big(data, position + 5, 2))
        if marker == 0xFF:  # a marker may have any number of these before it
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            position += 2 + _big(data, position + 2, 2)
    return None


def _gif_size(data: bytes) -> tuple[int, int] | None:
    """The screen, or the first picture on it if that is larger."""
    if len(data) < 13:
        return None
    width, height = _little(data, 6, 2), _little(data, 8, 2)
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while position + 10 <= len(data) and data[position] == 0x21:  # an extension: its label, then blocks
        position += 2
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
    if position + 9 > len(data) or data[position] != 0x2C:
        return None
    return (
        max(width, _little(data, position + 1, 2) + _little(data, position + 5, 2)),
        max(height, _little(data, position + 3, 2) + _little(data, position + 7, 2)),
    )


def _webp_size(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8 " if data[23:26] == b"\x9d\x01\x2a":
            return _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
        case b"VP8L" if data[20:21] == b"\x2f":
            bits = _little(data, 21, 4)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X" if len(data) >= 30:
            return _little(data, 24, 3) + 1, _little(data, 27, 3) + 1
        case _:
            return None


def _big(data: bytes, start: int, count: int) -> int:
    return int.from_bytes(data[start : start + count], "big")


def _little(data: bytes, start: int, count: int) -> int:
    return int.from_bytes(data[start : start + count], "little")
