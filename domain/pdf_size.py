"""The pages of a PDF, and the bytes of what is written on them. Nothing is rendered.

A page is shown to the model as an image and as its text. Each letter of the text is at least a byte of a page's content
stream, which is mostly compressed. Whatever could write more than that, or hides it, makes the file one of unknown
length: forms and pages that are shown many times, encryption, other compressions, letters that stand for long texts.

Source: ISO 32000-1, 7.3.8 (streams), 7.5.7 (object streams), 7.7.3 (pages), 8.10 (forms), 9.10.3 (ToUnicode), 14.9.4
(ActualText).
"""

import base64
import binascii
import re
import zlib
from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

MAX_PAGES = 10_000
MAX_STREAMS = 20_000
MAX_TEXT_BYTES = 1_100_000
"""More fills every model's window."""
MAX_ASCII85_BYTES = 64 * 1024
"""It is decoded byte by byte."""
MAX_DICTIONARY_BYTES = 8_192
LETTERS_PER_CODE = 4
"""A ligature has three."""

_stream_starts = re.compile(rb"stream\r?\n")
_page = re.compile(rb"/Type\s*/Page(?![\w#])")
_count = re.compile(rb"/Count\s+(\d{1,9})")
_contents = re.compile(rb"/Contents\s*(\d+\s+\d+\s+R|\[[^\]]{0,65536}\]?)")
_kids = re.compile(rb"/Kids\s*(\d+\s+\d+\s+R|\[[^\]]{0,262144}\]?)")
_reference = re.compile(rb"(\d+)\s+\d+\s+R")
_object = re.compile(rb"(\d+)\s+\d+\s+obj")
_filters = re.compile(rb"/([A-Za-z0-9]+Decode|Crypt|Fl|AHx|A85|LZW|RL|CCF|DCT)\b")
_length = re.compile(rb"/Length\s+(\d{1,9})(?!\s+\d+\s+R)")
_written_otherwise = re.compile(rb"/[^\s/<>\[\]()]*#[3-7][0-9A-Fa-f]")
"""A name whose letters stand as numbers: it may be any of those that are looked for."""
_draws = re.compile(rb"\bDo\b")
_long_letters = re.compile(rb"<[0-9A-Fa-f\s]{%d,}>" % (4 * LETTERS_PER_CODE + 1))
_OTHER_KINDS = re.compile(
    rb"/Subtype\s*/(Image|Type1C|CIDFontType0C|OpenType|XML)\b|/Length1\b|/Type\s*/XRef\b|/FunctionType\b"
)
"""Pictures, fonts, tables: no text of a page, unless the file also uses one as a page's content."""


class Pdf(Struct, frozen=True, kw_only=True):
    """A PDF file."""

    pages: int
    """0: unknown, and as long as the model reads."""
    text_bytes: int


UNKNOWN = Pdf(pages=0, text_bytes=0)
TOKENS_PER_PAGE = 3_000
"""The most that Anthropic documents as usual for a page's text ("PDF support", November 2026). It is the margin: the
bytes of the text count beside it.
"""


def pdf_tokens(pdf: Pdf, image_tokens: int, context_window: int) -> int:
    """The most tokens of a PDF, for a model that counts an image as so many; no more than the model reads."""
    if not pdf.pages:
        return context_window
    return min(context_window, pdf.pages * (image_tokens + TOKENS_PER_PAGE) + pdf.text_bytes)


class _Stream(Struct, frozen=True):
    number: int
    dictionary: bytes
    data: bytes


def pdf_of(content: str) -> Pdf:
    """The PDF that a text has, as base64 or as a `data:` URL of it; `UNKNOWN` if it has none that can be measured."""
    start = content.find(",") + 1 if content.startswith("data:") else 0
    try:
        data = base64.b64decode(content[start:] if start else content)
    except (binascii.Error, ValueError):
        return UNKNOWN
    if not data.startswith(b"%PDF-") or b"/Encrypt" in data:
        return UNKNOWN
    return _measured(data)


def _measured(data: bytes) -> Pdf:
    inflated: list[tuple[_Stream, bytes]] = []
    skipped: set[int] = set()
    structure: list[bytes] = []
    left = MAX_TEXT_BYTES
    for number, stream in enumerate(_streams(data, structure)):
        if _OTHER_KINDS.search(stream.dictionary):
            skipped.add(stream.number)
            continue
        text = _inflated(stream, left) if number < MAX_STREAMS else None
        if text is None or (b"begincmap" in text and _long_letters.search(text)):
            return UNKNOWN
        left -= len(text)
        inflated.append((stream, text))
    places = [b"".join(structure), *(text for stream, text in inflated if b"/ObjStm" in stream.dictionary)]
    used = Counter(
        int(number) for place in places for found in _contents.findall(place) for number in _reference.findall(found)
    )
    pages = max(
        sum(len(_page.findall(place)) for place in places),
        max((int(count) for place in places for count in _count.findall(place)), default=0),
    )
    text_bytes = _text_bytes(inflated, used)
    numbers = {stream.number for stream, _ in inflated}
    if not 0 < pages <= MAX_PAGES or text_bytes is None or used.keys() - numbers or skipped & used.keys():
        return UNKNOWN
    if any(_written_otherwise.search(place) for place in places) or _says_more(places):
        return UNKNOWN
    return Pdf(pages=pages, text_bytes=text_bytes)


def _says_more(places: list[bytes]) -> bool:
    """True if a page may be shown more than once, or a text that stands outside the pages in many places of them."""
    kids: Counter[bytes] = Counter()
    for place in places:
        for found in _kids.findall(place):
            if not found.endswith(b"]") or b"%" in found:  # it stands elsewhere, or a comment has a bracket
                return True
            kids.update(_reference.findall(found))
    replaces_text = any(b"/ActualText" in place for place in places)
    return max(kids.values(), default=0) > 1 or (replaces_text and any(b"/Properties" in place for place in places))


def _text_bytes(inflated: list[tuple[_Stream, bytes]], used: Counter[int]) -> int | None:
    """The bytes of all streams, each as often as it is drawn; None if that cannot be told."""
    draws = sum(len(_draws.findall(text)) for _, text in inflated)
    total = 0
    for stream, text in inflated:
        is_form = b"/Form" in stream.dictionary
        if is_form and _draws.search(text):
            return None
        if b"/ObjStm" not in stream.dictionary or used[stream.number]:
            total += len(text) * max(1, used[stream.number], draws if is_form else 0)
    return total


def _streams(data: bytes, structure: list[bytes]) -> Iterator[_Stream]:
    """The streams of a file, one by one. What is between them is added to `structure`."""
    position = 0
    while (start := _stream_starts.search(data, position)) is not None:
        end = data.find(b"endstream", start.end())
        end = len(data) if end < 0 else end
        structure.append(data[position : start.start()])
        before = structure[-1][-MAX_DICTIONARY_BYTES:]
        objects = list(_object.finditer(before))
        number = int(objects[-1][1]) if objects else 0
        yield _Stream(number, before[objects[-1].end() :] if objects else before, data[start.end() : end])
        position = end + len(b"endstream")
    structure.append(data[position:])


def _inflated(stream: _Stream, most: int) -> bytes | None:
    """What a stream has, if it is no more than so many bytes; None if it is more, or cannot be read."""
    filters = _filters.findall(stream.dictionary)
    if not filters:
        length = _length.search(stream.dictionary)  # else a part of it may seem to lie behind it
        is_whole = length is not None and int(length[1]) <= len(stream.data) <= most
        return stream.data if is_whole else None
    data = stream.data
    inflating = zlib.decompressobj()
    try:
        if filters == [b"ASCII85Decode", b"FlateDecode"] and len(data) <= MAX_ASCII85_BYTES:
            data = base64.a85decode(b"<~" + data.strip().removeprefix(b"<~"), adobe=True)
        elif filters != [b"FlateDecode"]:
            return None
        text = inflating.decompress(data, most + 1)
    except (zlib.error, ValueError):
        return None
    return text if inflating.eof and len(text) <= most else None
