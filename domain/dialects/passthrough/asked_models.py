"""The other models that hosted tools ask, and the most tokens that one call of them is counted as.

A tool whose other model, or whose size, is not in these tables has no bound.
"""

from typing import Any

from msgspec import Struct

from domain.models import model_traits

_MAX_PROMPT_TOKENS = 32_000
"""A prompt for an image has at most so many characters: https://platform.openai.com/docs/api-reference/images."""
_MAX_INPUT_IMAGES = 16
_TOKENS_PER_INPUT_IMAGE = 8_000
"""An image that is edited at high fidelity is counted as up to 6,240 tokens beside those of its tiles:
https://platform.openai.com/docs/guides/images-vision.
"""
_TOKENS_PER_PARTIAL_IMAGE = 100
_MAX_PARTIAL_IMAGES = 3
_TOKENS_PER_IMAGE: dict[str, int] = {
    "gpt-image-1-mini": 6_240,
    "gpt-image-1.5": 6_240,
    "chatgpt-image-latest": 6_240,
    "gpt-image-2": 24_000,
    "gpt-image-2-2026-04-21": 24_000,
}
"""The largest image at quality `high`: https://platform.openai.com/docs/guides/image-generation. For gpt-image-2 it is
23,719 by the calculator there (https://community.openai.com/t/1382699, 2026-06). Of later models, which plan what they
draw, no size is published.
"""
_KNOWN_QUALITIES = frozenset({None, "auto", "low", "medium", "high"})
_WITHOUT_BOUND = ("complexity", "frame_count", "svg")
"""Fields by which a call asks more than one model, or draws more than one image."""
_KNOWN_FORMATS = frozenset({None, "png", "webp", "jpeg"})


class OtherModelBound(Struct, frozen=True):
    """Another model, and the most of its tokens that one call of a tool is charged for."""

    model: str
    most_tokens: dict[str, int]


def image_model(tool: dict[str, Any]) -> OtherModelBound | None:
    """Read OpenAI's `image_generation`; None: what it draws has no known size."""
    model = tool.get("model")
    image_tokens = _TOKENS_PER_IMAGE.get(model) if isinstance(model, str) else None
    if (
        not isinstance(model, str)
        or image_tokens is None
        or not _is_one_of(tool.get("quality"), _KNOWN_QUALITIES)
        or not _is_one_of(tool.get("output_format"), _KNOWN_FORMATS)
        or any(tool.get(name) is not None for name in _WITHOUT_BOUND)
    ):
        return None
    most = image_tokens + _MAX_PARTIAL_IMAGES * _TOKENS_PER_PARTIAL_IMAGE
    return OtherModelBound(
        model,
        {
            "input": _MAX_PROMPT_TOKENS,
            "input_image": _MAX_INPUT_IMAGES * _TOKENS_PER_INPUT_IMAGE,
            "output": most,
            "output_image": most,
        },
    )


def advisor_model(tool: dict[str, Any]) -> OtherModelBound | None:
    """Read Anthropic's advisor; None: nothing is known of the model that advises.

    It reads the conversation so far, at most what its window has room for, and writes at most `max_tokens`.
    """
    model, cap = tool.get("model"), tool.get("max_tokens")
    if not isinstance(model, str):
        return None
    traits = model_traits(model)
    if not traits.is_listed or traits.context_window is None or traits.max_output is None:
        return None
    output = traits.max_output
    if isinstance(cap, int) and not isinstance(cap, bool) and cap > 0:
        output = min(output, cap)
    return OtherModelBound(
        model, {"input": max(traits.context_window, traits.long_context_window or 0), "output": output}
    )


def _is_one_of(value: Any, known: frozenset[Any]) -> bool:
    return (value is None or isinstance(value, str)) and value in known
