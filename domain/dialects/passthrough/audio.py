"""Bounds the tokens of audio that stands in a request: by how long its bytes can last, whatever was said in them.

Vendors count audio by its duration. OpenAI: 10 tokens a second for what it reads
(https://platform.openai.com/docs/guides/realtime-costs); Gemini: 32 (https://ai.google.dev/gemini-api/docs/tokens).

A decoder goes by what is in a file, not by the format that the request names, so the file's first bytes are read: of
WAV the rates of its samples. Of a file of unknown length nothing is returned: it may fill the model's window.
"""

import base64
import re
import struct
from binascii import Error
from typing import NamedTuple

TOKENS_PER_S = 32
MIN_BYTES_PER_S: dict[str, int] = {
    "mp3": 1_000,  # MPEG-2.5 layer III at 8 kbit/s, the lowest rate that it has
    "wav": 1_000,  # below 8-bit PCM (8,000) at 8 kHz; what has a header is bounded by that
    "pcm16": 16_000,  # 8 kHz; OpenAI's is 24
}
"""The least bytes that a second of each format has. Formats that may hold any silence in a few bytes have no such rate.
"""
MAX_DURATION_S = 10_000_000
HEADER_CHARS = 4_096
"""Of the base64, in which a WAV file says how its samples are stored."""
_WAV = b"RIFF"
_OF_OTHER_FILES = (_WAV, b"OggS", b"fLaC", b"\x1aE\xdf\xa3", b"FORM", b"caff", b"#!AMR", b"ADIF")
"""How files begin that an `mp3` or raw samples would not: Ogg, FLAC, Matroska, AIFF, CAF, AMR, AAC."""
_SAMPLES = frozenset({1, 3, 6, 7, 0xFFFE})
"""WAV's formats in which each sample has a fixed length: PCM, floats, A-law, µ-law, and those with a longer header."""


_RATES = re.compile(b"fmt ")


class _Samples(NamedTuple):
    kind: int
    channels: int
    per_s: int
    bytes_per_s: int
    frame_bytes: int
    bits: int


def audio_tokens(format_: object, base64_data: object) -> int | None:
    """The most tokens that audio in base64 is counted as; None: its bytes do not bound it."""
    if not isinstance(format_, str) or format_ not in MIN_BYTES_PER_S or not isinstance(base64_data, str):
        return None
    rate = _least_bytes_per_s(format_, _head(base64_data))
    if rate is None:
        return None
    size_bytes = -(-len(base64_data) * 3 // 4)
    duration_s = size_bytes / rate
    return TOKENS_PER_S * (int(duration_s) + 1) if duration_s <= MAX_DURATION_S else None


def _least_bytes_per_s(format_: str, head: bytes) -> float | None:
    if head[4:8] == b"ftyp" or head.startswith(tuple(kind for kind in _OF_OTHER_FILES if kind != _WAV)):
        return None
    if not head.startswith(_WAV):
        return MIN_BYTES_PER_S[format_]
    rates = [_bytes_per_s(head, found.end() + 4) for found in _RATES.finditer(head)]  # a decoder may read another one
    known = [rate for rate in rates if rate is not None]
    return min(known) if known and len(known) == len(rates) else None


def _bytes_per_s(head: bytes, at: int) -> float | None:
    try:
        samples = _Samples(*struct.unpack_from("<HHIIHH", head, at))
    except struct.error:
        return None
    rate = samples.channels * samples.per_s * samples.bits / 8
    return rate if samples.kind in _SAMPLES and rate else None


def _head(base64_data: str) -> bytes:
    try:
        return base64.b64decode(base64_data[:HEADER_CHARS].encode("ascii", "ignore"))
    except (Error, ValueError):
        return b""
