"""Bounds the tokens of audio that stands in a request: by how long its bytes can last, whatever was said in them.

Vendors count audio by its duration. OpenAI: 10 tokens a second for what it reads
(https://platform.openai.com/docs/guides/realtime-costs); Gemini: 32 (https://ai.google.dev/gemini-api/docs/tokens).

A decoder goes by what is in a file, not by the format that the request names, so the file's first bytes are read: of
WAV the rates of its samples, of MP3 the first frame. Whatever is neither is a file of unknown length, for which nothing
is returned: it may fill the model's window.
"""

import base64
import re
import struct
from binascii import Error
from typing import NamedTuple

TOKENS_PER_S = 32
FORMATS = frozenset({"mp3", "wav", "pcm16"})
"""Those whose bytes bound how long they last. Other formats may hold any silence in a few bytes."""
MP3_BYTES_PER_S = 1_000
"""MPEG-2.5 layer III at 8 kbit/s, the lowest rate that it has."""
PCM16_BYTES_PER_S = 16_000
"""8 kHz; OpenAI's is 24."""
MAX_DURATION_S = 10_000_000
HEADER_CHARS = 4_096
"""Of the base64, in which a WAV file says how its samples are stored."""
_WHITESPACE = b" \t\r\n\v\f"
_OF_OTHER_FILES = (b"OggS", b"fLaC", b"\x1aE\xdf\xa3", b"FORM", b"caff", b"#!AMR", b"ADIF", b"RIF", b"RF64", b"BW64")
"""How files begin that raw samples would not: Ogg, FLAC, Matroska, AIFF, CAF, AMR, AAC, and WAV of other byte orders or
lengths.
"""
_SAMPLES = frozenset({1, 3, 6, 7})
"""WAV's formats in which each sample has a fixed length: PCM, floats, A-law, µ-law."""
_EXTENSIBLE = 0xFFFE
"""WAV's format that says the real one later, `_REAL_KIND_AT` bytes after its own place."""
_REAL_KIND_AT = 24
_ID3_HEADER_BYTES = 10
_FRAME_BYTES = 4
_RATES = re.compile(b"fmt ")


class _Samples(NamedTuple):
    kind: int
    channels: int
    per_s: int
    bytes_per_s: int
    frame_bytes: int
    bits: int


def audio_tokens(format_: object, base64_data: object) -> int | None:
    """The most tokens that audio in base64 is counted as; None: its bytes do not bound it.

    Costs a copy of the data, without its whitespace: about two milliseconds for a megabyte.
    """
    if not isinstance(format_, str) or format_ not in FORMATS or not isinstance(base64_data, str):
        return None
    written = base64_data.encode(errors="surrogatepass").translate(None, _WHITESPACE)
    rate = _least_bytes_per_s(format_, written)
    if rate is None:
        return None
    size_bytes = -(-len(written) * 3 // 4)
    duration_s = size_bytes / rate
    return TOKENS_PER_S * (int(duration_s) + 1) if duration_s <= MAX_DURATION_S else None


def _least_bytes_per_s(format_: str, written: bytes) -> float | None:
    """By what the file is. Only raw samples have nothing to know them by: those that look like no file."""
    head = _bytes_at(written, 0, HEADER_CHARS * 3 // 4)
    if head is None:
        return None
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return _wav_bytes_per_s(head)
    if head.startswith(b"ID3"):
        return MP3_BYTES_PER_S if _is_mp3_frame(_behind_id3(written, head)) else None
    if _is_mp3_frame(head):
        return MP3_BYTES_PER_S
    is_file = head[4:8] == b"ftyp" or head.startswith(_OF_OTHER_FILES) or _is_aac_frame(head)
    return PCM16_BYTES_PER_S if format_ == "pcm16" and not is_file else None


def _wav_bytes_per_s(head: bytes) -> float | None:
    rates = [_bytes_per_s(head, found.end() + 4) for found in _RATES.finditer(head)]  # a decoder may read another one
    known = [rate for rate in rates if rate is not None]
    return min(known) if known and len(known) == len(rates) else None


def _bytes_per_s(head: bytes, at: int) -> float | None:
    try:
        samples = _Samples(*struct.unpack_from("<HHIIHH", head, at))
        kind = samples.kind
        if kind == _EXTENSIBLE:
            (kind,) = struct.unpack_from("<H", head, at + _REAL_KIND_AT)
    except struct.error:
        return None
    rate = samples.per_s * min(samples.channels * samples.bits / 8, samples.frame_bytes)
    return rate if kind in _SAMPLES and rate else None


def _behind_id3(written: bytes, head: bytes) -> bytes:
    """What follows the tag, whose length is written in seven bits of each of four bytes."""
    length = 0
    for byte in head[6:_ID3_HEADER_BYTES]:
        length = length << 7 | byte & 0x7F
    return _bytes_at(written, _ID3_HEADER_BYTES + length, _FRAME_BYTES) or b""


def _is_mp3_frame(frame: bytes) -> bool:
    """Whether a frame of layer III begins here, of a rate that the standard names."""
    if len(frame) < _FRAME_BYTES or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return False
    version, layer, bit_rate, per_s = frame[1] >> 3 & 3, frame[1] >> 1 & 3, frame[2] >> 4, frame[2] >> 2 & 3
    return version != 1 and layer == 1 and bit_rate not in (0, 15) and per_s != 3


def _is_aac_frame(frame: bytes) -> bool:
    return len(frame) > 1 and frame[0] == 0xFF and frame[1] & 0xF6 == 0xF0


def _bytes_at(written: bytes, start: int, count: int) -> bytes | None:
    """So many bytes, or up to the end; None: they are no base64."""
    first = start // 3
    quads = written[first * 4 : (-(-(start + count) // 3)) * 4]
    try:
        found = base64.b64decode(quads + b"=" * (-len(quads) % 4), validate=True)
    except (Error, ValueError):
        return None
    return found[start - first * 3 :][:count]
