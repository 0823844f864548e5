"""The tokens of an image, by OpenAI's formulas: tiles of 512 pixels, or patches of 32.

Source: OpenAI, "Images and vision", Calculating costs; as it was in November 2026. A model that is in no row has
another formula, or none that is published.
"""

import re

from domain.image_size import Image, largest

TILE = 512
MAX_SIDE = 2_048
SHORT_SIDE = 768
PATCH = 32
MAX_PATCHES = 1_536
MARGIN = 16
"""For what stands around an image, and for rounding."""

_TILES = tuple(
    (re.compile(rf"({names})(-\d{{4}}-\d{{2}}-\d{{2}})?"), base, tile)
    for names, base, tile in (
        ("gpt-4o-mini", 2_833, 5_667),
        ("gpt-4o|chatgpt-4o-latest|gpt-4\\.1|gpt-4\\.5-preview|gpt-4-turbo", 85, 170),
        ("gpt-5|gpt-5-chat-latest", 70, 140),
        ("o1|o1-pro|o3", 75, 150),
        ("computer-use-preview", 65, 129),
    )
)
"""Models, the tokens of every image, and those of each tile."""
_PATCHES = tuple(
    (re.compile(rf"({names})(-\d{{4}}-\d{{2}}-\d{{2}})?"), hundredths)
    for names, hundredths in (
        ("gpt-4\\.1-mini|gpt-5-mini", 162),
        ("gpt-4\\.1-nano|gpt-5-nano", 246),
        ("o4-mini", 172),
    )
)
"""Models, and the hundredths of a token of each patch."""


def image_tokens(image: Image, upstream_model: str) -> int:
    """The most tokens of an image for one of OpenAI's models."""
    for models, base, tile in _TILES:
        if models.fullmatch(upstream_model):
            return base + tile * (0 if image.detail == "low" else _tiles(image)) + MARGIN
    for models, hundredths in _PATCHES:
        if models.fullmatch(upstream_model):
            return -(-_patches(image) * hundredths // 100) + MARGIN
    return largest(image)


def _tiles(image: Image) -> int:
    """The tiles of an image that is scaled to fit 2,048 pixels, then to 768 on its short side.

    The second step may also make a small image larger: the documentation does not say, so the more of both counts.
    """
    if not image.is_known:
        return _tiles_of(SHORT_SIDE, MAX_SIDE)
    long, short = max(image.width, image.height), min(image.width, image.height)
    if long > MAX_SIDE:
        short, long = -(-short * MAX_SIDE // long), MAX_SIDE
    scaled = _tiles_of(SHORT_SIDE, min(MAX_SIDE, -(-long * SHORT_SIDE // short)))
    return max(scaled, _tiles_of(min(short, SHORT_SIDE), min(long, MAX_SIDE))) if short <= SHORT_SIDE else scaled


def _tiles_of(short: int, long: int) -> int:
    return -(-short // TILE) * -(-long // TILE)


def _patches(image: Image) -> int:
    if not image.is_known:
        return MAX_PATCHES
    return min(MAX_PATCHES, -(-image.width // PATCH) * -(-image.height // PATCH))
