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


MP3 = b"\xff\xe3\x18\xc4" + b"\0" * 9_996
ADTS = b"\xff\xf1\x50\x80" + b"\0" * 99_996
OGG = b"OggS" + b"\0" * 99_996


@pytest.mark.parametrize("format_", ["mp3", "wav"])
def test_an_mp3_has_at_least_the_lowest_rate_of_its_kind(format_: str) -> None:
    assert audio_tokens(format_, in_base64(MP3)) == TOKENS_PER_S * 11
    tag = b"ID3\x04\0\0" + bytes((0, 0, 40, 3)) + b"\0" * (40 * 128 + 3)
    assert audio_tokens(format_, in_base64(tag + MP3)) == TOKENS_PER_S * 16


@pytest.mark.parametrize("behind", [b"", b"\n" * 5_000, b" \t\r\n" * 2_000])
@pytest.mark.parametrize("content", [OGG, ADTS, b"ID3\x04\0\0\0\0\0\0" + ADTS, b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + MP3])
@pytest.mark.parametrize("format_", ["mp3", "wav"])
def test_another_file_is_known_behind_any_whitespace_and_any_tag(format_: str, content: bytes, behind: bytes) -> None:
    assert audio_tokens(format_, behind.decode() + in_base64(content)) is None


@pytest.mark.parametrize("mark", [b"RF64", b"RIFX", b"BW64"])
@pytest.mark.parametrize("format_", ["mp3", "wav", "pcm16"])
def test_a_wav_of_another_form_is_of_unknown_length(format_: str, mark: bytes) -> None:
    slow = base64.b64decode(wav(1, 1, 10, 8, 100_000))
    assert audio_tokens(format_, in_base64(mark + slow[4:])) is None


def test_a_wav_has_the_rate_of_its_header_however_slow_and_behind_any_whitespace() -> None:
    slow = wav(1, 1, 100, 8, 100_000)
    assert audio_tokens("wav", slow) == audio_tokens("wav", "\n" * 5_000 + "\n".join(slow)) == TOKENS_PER_S * 1_001


def test_a_wav_lasts_as_long_as_its_frames_if_they_are_shorter_than_their_samples() -> None:
    content = bytearray(base64.b64decode(wav(1, 1, 1_000, 64, 8_000)))
    content[32:34] = struct.pack("<H", 1)
    assert audio_tokens("wav", in_base64(bytes(content))) == TOKENS_PER_S * 9


@pytest.mark.parametrize(("kind", "is_bounded"), [(1, True), (7, True), (0x11, False), (0x55, False)])
def test_an_extensible_wav_is_bounded_by_the_format_that_it_really_has(kind: int, is_bounded: bool) -> None:
    fmt = struct.pack("<HHIIHH", 0xFFFE, 1, 8_000, 16_000, 2, 16) + struct.pack("<HHIH", 22, 16, 0, kind) + b"\0" * 14
    content = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data\0\0\0\0" + b"\0" * 16_000
    assert (audio_tokens("wav", in_base64(content)) is not None) == is_bounded


@pytest.mark.parametrize("format_", ["mp3", "wav"])
@pytest.mark.parametrize(
    "data",
    [
        "",
        "!" * 4_000,
        "é" * 4_000,
        "x" * 4_000,
        "\ud800",
        "data:audio/wav;base64," + wav(1, 1, 8_000, 8, 8_000),
        in_base64(b"\xff\xe3\x08\xc4" + b"\0" * 4_000),
        in_base64(b"RIFF\0\0\0\0AVI fmt " + b"\0" * 4_000),
    ],
)
def test_what_is_neither_a_wav_nor_an_mp3_is_of_unknown_length(format_: str, data: str) -> None:
    assert audio_tokens(format_, data) is None


def test_raw_samples_look_like_no_file() -> None:
    assert audio_tokens("pcm16", in_base64(b"\x01\0" * 16_000)) == TOKENS_PER_S * 3
    assert audio_tokens("pcm16", in_base64(ADTS)) is None


@pytest.mark.parametrize(("format_", "data"), [("opus", "AAAA"), (None, "AAAA"), ("wav", None), ("wav", 7)])
def test_other_formats_have_no_lowest_rate(format_: object, data: object) -> None:
    assert audio_tokens(format_, data) is None
