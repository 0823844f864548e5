"""Images count by their vendors' formulas, from the size that stands in their first bytes."""

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.dialects.anthropic.images import image_tokens as anthropic_tokens
from domain.dialects.openai.images import MARGIN
from domain.dialects.openai.images import image_tokens as openai_tokens
from domain.dialects.passthrough.inspect import read_passthrough
from domain.dialects.registry import DIALECTS
from domain.image_size import TOKENS_PER_IMAGE, Image, image_of
from tests.unit.test_passthrough_request import chat, message, response


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(9)


def jpeg(width: int, height: int, *, metadata: int = 60_000) -> bytes:
    preview = b"\xff\xe1" + struct.pack(">H", metadata + 2) + b"\xff\xc0" * (metadata // 2)
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + preview + b"\xff\xff" + frame


def gif(width: int, height: int) -> bytes:
    extension = b"\x21\xf9\x04\x00\x00\x00\x00\x00"
    frame = b"\x2c" + struct.pack("<HHHH", 1, 2, width - 1, height - 2)
    return b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\x00\x00" + bytes(6) + extension + frame


def webp(kind: bytes, width: int, height: int) -> bytes:
    header = b"RIFF" + bytes(4) + b"WEBP" + kind + bytes(4)
    if kind == b"VP8 ":
        return header + bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height)
    if kind == b"VP8L":
        return header + b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    return header + bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


FORMATS = {
    "png": png,
    "jpeg": jpeg,
    "gif": gif,
    "webp": lambda width, height: webp(b"VP8 ", width, height),
    "webp without loss": lambda width, height: webp(b"VP8L", width, height),
    "webp extended": lambda width, height: webp(b"VP8X", width, height),
}


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("prefix", ["", "data:image/x;base64,"])
@pytest.mark.parametrize("size", [(1_092, 1_091), (16, 3_000)])
def test_the_size_stands_in_the_first_bytes(name: str, prefix: str, size: tuple[int, int]) -> None:
    image = image_of(prefix + base64_of(FORMATS[name](*size)))
    assert (image.width, image.height) == size


def test_of_two_frames_of_a_jpeg_the_larger_counts() -> None:
    """A decoder may take the second, and the vendor counts what it shows."""

    def frame(width: int, height: int) -> bytes:
        return b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)

    table = b"\xff\xdb" + struct.pack(">H", 1_002) + bytes(1_000)
    scan = b"\xff\xda" + bytes(5_000)
    image = image_of(base64_of(b"\xff\xd8" + frame(8, 8) + table + frame(3_000, 2_000) + scan))
    assert (image.width, image.height) == (3_000, 2_000)
    assert image_of(base64_of(b"\xff\xd8" + frame(8, 9) + scan)).width == 8
    beyond = b"\xff\xd8" + frame(8, 8) + b"\xff\xe1\xff\xff" * 1 + bytes(0xFFFD)
    assert not image_of(base64_of(beyond + b"".join(b"\xff\xe2\xff\xff" + bytes(0xFFFD) for _ in range(9)))).is_known


@given(st.binary(max_size=60) | st.sampled_from([make(9, 9) for make in FORMATS.values()]), st.integers(0, 60))
def test_no_bytes_are_too_strange_to_be_looked_at(data: bytes, length: int) -> None:
    image = image_of(base64_of(data[:length]))
    assert image.width >= 0
    assert image.height >= 0


@pytest.mark.parametrize("content", [None, "https://x/a.png", "data:,", "!", base64_of(b"%PDF"), "ä" * 900])
def test_an_image_that_cannot_be_read_has_no_size(content: str | None) -> None:
    assert not image_of(content).is_known


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [  # the examples of the vendor's own page, and the ends of each formula
        ("gpt-4o", (1_024, 1_024), "high", 765),
        ("gpt-4o-2024-08-06", (2_048, 4_096), "high", 1_105),
        ("gpt-4o", (4_096, 8_192), "low", 85),
        ("gpt-4.1", (1_024, 1_024), None, 765),
        ("gpt-4o-mini", (1_024, 1_024), None, 2_833 + 4 * 5_667),
        ("gpt-5", (1_024, 1_024), None, 70 + 4 * 140),
        ("o3", (1_024, 1_024), None, 75 + 4 * 150),
        ("gpt-4.1-mini", (1_024, 1_024), None, 1_659),
        ("gpt-5-nano", (1_024, 1_024), None, 2_520),
        ("o4-mini", (1_800, 2_400), None, 2_642),
        ("gpt-4o", (768, 20_000), None, 85 + 8 * 170),
        ("gpt-4o", (0, 0), None, 85 + 8 * 170),
    ],
)
def test_openais_formulas(model: str, size: tuple[int, int], detail: str | None, tokens: int) -> None:
    found = openai_tokens(Image(width=size[0], height=size[1], detail=detail), model)
    assert tokens <= found <= tokens + MARGIN + 1 or (size == (768, 20_000) and found >= tokens)


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("claude-sonnet-4-5", (200, 200), 64),
        ("claude-sonnet-4-5", (1_000, 1_000), 1_334),
        ("claude-sonnet-4-5", (1_092, 1_092), 1_590),
        ("claude-sonnet-4-5", (8_000, 8_000), 1_600),
        ("claude-opus-4-7", (2_576, 1_456), 4_784),
        ("claude-of-tomorrow", (8_000, 8_000), 4_784),
        ("claude-sonnet-4-5", (1, 2_800), 100),
        ("claude-3-haiku-20240307", (0, 0), 1_600),
    ],
)
def test_anthropics_formula(model: str, size: tuple[int, int], tokens: int) -> None:
    found = anthropic_tokens(Image(width=size[0], height=size[1]), model)
    assert tokens <= found <= tokens + 16


def test_a_model_of_an_unknown_formula_counts_images_as_the_largest() -> None:
    assert openai_tokens(Image(width=9, height=9), "gpt-of-tomorrow") == TOKENS_PER_IMAGE


DATA = base64_of(png(1_024, 1_024))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ],
)
def test_an_image_of_a_chat_holds_what_its_formula_says(part: dict[str, Any]) -> None:
    few = chat(part).token_bound("gpt-4o", None, is_builtin=True)
    assert 765 < few.input_tokens < 2_000
    assert (few.media_tokens, chat(part).input_tokens) == (
        few.media_tokens,
        few.input_tokens - few.media_tokens + 50_000,
    )
    assert chat(part).token_bound("gpt-4o", None, is_builtin=False).input_tokens > TOKENS_PER_IMAGE


def test_low_detail_is_read_where_each_call_has_it() -> None:
    url = f"data:image/png;base64,{DATA}"
    in_chat = chat({"type": "image_url", "image_url": {"url": url, "detail": "low"}})
    in_response = response(
        input=[{"role": "user", "content": [{"type": "input_image", "image_url": url, "detail": "low"}]}]
    )
    for request in (in_chat, in_response):
        assert request.token_bound("gpt-4o", None, is_builtin=True).media_tokens == 85 + MARGIN


def test_an_image_in_a_tool_result_counts_in_its_message() -> None:
    part = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}
    bounds = message({"type": "tool_result", "tool_use_id": "t", "content": [part, part]}).token_bound(
        "claude-sonnet-4-5", None, is_builtin=True
    )
    assert bounds.item_tokens is not None
    assert 2 * 1_398 <= bounds.media_tokens < bounds.item_tokens[0] < 2 * 1_398 + 400


def test_a_part_with_two_contents_counts_as_two_images() -> None:
    url = f"data:image/png;base64,{DATA}"
    found = chat({"type": "image_url", "image_url": {"url": url}, "source": {"data": DATA}})
    assert len(found.images) == 2


def test_the_codec_of_each_call_with_images_has_a_formula() -> None:
    image = Image(width=100, height=100)
    for dialect, operation in (("openai", "chat"), ("openai", "responses"), ("anthropic", "chat")):
        codec = DIALECTS.codec(dialect, operation)  # type: ignore[arg-type]
        assert codec.image_tokens(image, "gpt-4o") < TOKENS_PER_IMAGE
    assert read_passthrough(b'{"model":"m","messages":[]}', DIALECTS.codec("openai", "chat")).images == ()
