"""The tokens of an image, by Anthropic's formula.

Source: Anthropic, "Vision", Evaluate image size; as it was in November 2026: width × height ÷ 750, also given as the
patches of 28 by 28 pixels that cover the image, after it is scaled to the largest size that a model reads.
"""

import re

from domain.image_size import Image

PIXELS_PER_TOKEN = 750
PATCH = 28
MAX_TOKENS = 4_784
"""For models that read high resolutions, and those that are not known: 2,576 by 1,456 pixels."""
MAX_TOKENS_BEFORE = 1_600
MARGIN = 16
"""For what stands around an image, and for rounding."""

_LOW_RESOLUTION = re.compile(
    r"claude-3.*|claude-(opus|sonnet|haiku)-4(-[0156])?(-\d{8})?|claude-(opus|sonnet)-4-0|claude-[2].*"
)


def image_tokens(image: Image, upstream_model: str) -> int:
    """The most tokens of an image for one of Anthropic's models."""
    most = MAX_TOKENS_BEFORE if _LOW_RESOLUTION.fullmatch(upstream_model) else MAX_TOKENS
    if not image.is_known:
        return most + MARGIN
    by_area = -(-image.width * image.height // PIXELS_PER_TOKEN)
    by_patches = -(-image.width // PATCH) * -(-image.height // PATCH)
    return min(most, max(by_area, by_patches)) + MARGIN
