"""Audio in a request is bounded by how long it can last: by what its file says, not by the format that is named."""

import base64
import struct

import pytest

from domain.dialects.passthrough.audio import TOKENS_PER_S, audio_tokens


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def wav(kind: int, channels: int, per_s: int, bits: int, size: int) -> str:
    frame = max(1, channels * bits // 8)
    fmt = struct.pack("<HHIIHH", kind, channels, per_s, per_s * frame, frame, bits)
    head = b"RIFF" + struct.pack("<I", size) + b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data"
    return in_base64(head + struct.pack("<I", size) + b"\0" * size)


@pytest.mark.parametrize(
    ("file", "seconds"),
    [
        (wav(1, 1, 24_000, 16, 480_000), 10),
        (wav(1, 2, 44_100, 16, 1_764_000), 10),
        (wav(1, 1, 8_000, 8, 80_000), 10),
        (wav(1, 1, 100, 8, 10_000), 100),
        (wav(7, 1, 8_000, 8, 80_000), 10),
    ],
)
def test_a_wav_lasts_as_long_as_its_samples(file: str, seconds: int) -> None:
    tokens = audio_tokens("wav", file)
    assert tokens is not None
    assert TOKENS_PER_S * seconds <= tokens <= TOKENS_PER_S * (seconds + 2)


@pytest.mark.parametrize(
    "content",
    [
        base64.b64decode(wav(0x704F, 1, 48_000, 16, 1_000)),
        base64.b64decode(wav(1, 1, 0, 8, 1_000)),
        base64.b64decode(wav(1, 0, 8_000, 8, 1_000)),
        b"RIFF....WAVE" + b"\0" * 9_000,
        b"RIFF....WAVEfmt ",
        b"OggS" + b"\0" * 1_000,
        b"fLaC" + b"\0" * 1_000,
        b"\0\0\0\x20ftypM4A " + b"\0" * 1_000,
        b"\x1aE\xdf\xa3" + b"\0" * 1_000,
    ],
)
@pytest.mark.parametrize("format_", ["wav", "mp3", "pcm16"])
def test_a_file_whose_length_its_bytes_do_not_tell_is_not_bounded_by_them(content: bytes, format_: str) -> None:
    assert audio_tokens(format_, in_base64(content)) is None


def test_a_second_wav_header_cannot_make_the_audio_longer_than_its_bound() -> None:
    slow, fast = base64.b64decode(wav(1, 1, 100, 8, 0)), base64.b64decode(wav(1, 1, 48_000, 16, 10_000))
    tokens = audio_tokens("wav", in_base64(slow[:36] + fast[12:]))
    assert tokens is not None
    assert tokens >= TOKENS_PER_S * 100


def test_an_mp3_has_at_least_the_lowest_rate_of_its_kind() -> None:
    assert audio_tokens("mp3", in_base64(b"\xff\xe3" + b"\0" * 9_998)) == TOKENS_PER_S * 11


@pytest.mark.parametrize(("format_", "data"), [("opus", "AAAA"), (None, "AAAA"), ("wav", None), ("wav", 7)])
def test_other_formats_have_no_lowest_rate(format_: object, data: object) -> None:
    assert audio_tokens(format_, data) is None


def test_what_is_no_base64_is_bounded_by_its_length() -> None:
    assert audio_tokens("wav", "!" * 4_000) == TOKENS_PER_S * 4
