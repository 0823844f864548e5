"""Documented limits of models: longest answer, context window, hidden thinking. No prices.

Used for the bound of a request whose caller sets no output cap, and for the cap that Anthropic insists on. Sources:
OpenAI's and Anthropic's model pages. A model that no row matches is taken to answer as long as its window is.
"""

import re

from msgspec import Struct

DEFAULT_CONTEXT_WINDOW = 1_050_000
"""For an unknown model: the largest window of a listed model."""
ANTHROPIC_DEFAULT_MAX_OUTPUT = 4_096


class ModelLimits(Struct, frozen=True, kw_only=True):
    """Tokens that a model reads and writes at most."""

    context_window: int
    max_output: int


def _limits(context_window: int, max_output: int) -> ModelLimits:
    return ModelLimits(context_window=context_window, max_output=max_output)


_LIMITS: tuple[tuple[re.Pattern[str], ModelLimits], ...] = tuple(
    (re.compile(pattern), limits)
    for pattern, limits in (
        (r"echo(-.+)?", _limits(128_000, 128_000)),
        (r"gpt-4o-mini(-\d{4}-.*)?", _limits(128_000, 16_384)),
        (r"gpt-4o-2024-05-13", _limits(128_000, 4_096)),
        (r"(chatgpt-4o|gpt-4o)(-.*)?", _limits(128_000, 16_384)),
        (r"gpt-4-turbo(-.*)?|gpt-4-(1106|0125)-.*", _limits(128_000, 4_096)),
        (r"gpt-3\.5-turbo(-.*)?", _limits(16_385, 4_096)),
        (r"gpt-4-32k(-.*)?", _limits(32_768, 32_768)),
        (r"gpt-4(-0613|-0314)?", _limits(8_192, 8_192)),
        (r"gpt-4\.1(-.*)?", _limits(1_047_576, 32_768)),
        (r"gpt-5(-(mini|nano|pro|codex).*|-\d{4}.*)?", _limits(400_000, 272_000)),
        (r"o1-preview(-.*)?", _limits(128_000, 32_768)),
        (r"o1-mini(-.*)?", _limits(128_000, 65_536)),
        (r"(o1|o3|o4-mini|o3-mini|o1-pro|o3-pro)(-.*)?", _limits(200_000, 100_000)),
        (r"text-embedding-.*", _limits(8_192, 0)),
        (r"claude-3-(opus|haiku|sonnet)(-.*)?", _limits(200_000, 4_096)),
        (r"claude-3[.-]5-(sonnet|haiku)(-.*)?", _limits(200_000, 8_192)),
        (r"claude-3[.-]7-sonnet(-.*)?", _limits(200_000, 128_000)),
        (r"claude-opus-4(-1)?(-\d{8})?", _limits(200_000, 32_000)),
        (r"claude-(sonnet|haiku)-4(-5)?(-\d{8})?", _limits(1_000_000, 64_000)),
    )
)


MAX_UNSEEN_TOKENS_PER_S = 1_000
"""Hidden thinking tokens per second: an assumption, since no vendor publishes a bound."""

_SHOWS_ALL = re.compile(r"echo(-.*)?|gpt-(3\.5|4).*|chatgpt-4o.*|claude-3[.-].*")
"""Models that do not think, or show all of it. Claude's since 4 show a summary, OpenAI's reasoning models nothing."""


def may_think_unseen(upstream_model: str) -> bool:
    """Return True if the model may charge for output that it does not show, as an unknown model may."""
    return _SHOWS_ALL.fullmatch(upstream_model) is None


def model_limits(upstream_model: str) -> ModelLimits | None:
    """Return the documented limits of a model; None if there are none."""
    return next((limits for pattern, limits in _LIMITS if pattern.fullmatch(upstream_model)), None)


def longest_answer(upstream_model: str, context_window: int | None) -> int:
    """The most tokens that a model answers with when the caller sets no cap."""
    limits = model_limits(upstream_model)
    return limits.max_output if limits is not None else context_window or DEFAULT_CONTEXT_WINDOW
