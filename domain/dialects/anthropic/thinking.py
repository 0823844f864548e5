"""How much a model of Anthropic's is asked to think, and what that leaves of the sampling.

https://platform.claude.com/docs/en/build-with-claude/extended-thinking, …/adaptive-thinking and …/effort. Models know
an effort, or a budget of thinking tokens, or both, or neither: the request's one becomes the model's other.
"""

from typing import Any

from msgspec import Struct

from domain.canonical.chat import ChatRequest, ReasoningEffort
from domain.dialects.field_rules import DroppedFields
from domain.models import ModelTraits

EFFORT_BUDGETS: dict[ReasoningEffort, int] = {
    "minimal": 1_024,
    "low": 1_024,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 32_000,
    "max": 64_000,
}
"""Thinking tokens for an effort, for a model that knows budgets alone. Up to `high` the numbers of Google's
OpenAI-compatible API (https://ai.google.dev/gemini-api/docs/openai#thinking), the field's only published ones."""
LEAST_TOP_P_WITH_THINKING = 0.95

_ORDER: tuple[ReasoningEffort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class Conversation(Struct, frozen=True, kw_only=True):
    """What a conversation allows."""

    is_forced: bool
    """A tool must be called. A model that thinks cannot be forced."""
    has_prefill: bool
    """It ends with the beginning of the answer, which leaves no room for thinking."""
    lacks_thinking: bool
    """Its last calls of tools began with no thinking, so that a budget of it would be refused now."""


class ThinkingFields(Struct, frozen=True, kw_only=True):
    """The fields of Anthropic's that say how much to think. None: left out."""

    thinking: dict[str, Any] | None = None
    effort: str | None = None

    @property
    def is_on(self) -> bool:
        """The request asks for thinking."""
        return self.thinking is not None and self.thinking["type"] in ("enabled", "adaptive")


def thinking_fields(
    request: ChatRequest, traits: ModelTraits, cap: int, conversation: Conversation, dropped: DroppedFields
) -> ThinkingFields:
    """The fields for this model. `cap`: the most tokens of its answer, thinking included."""
    effort, budget = request.reasoning_effort, request.thinking_budget
    may_think = not (conversation.is_forced or conversation.has_prefill)
    if effort == "none" and budget is None:
        return _off(traits)
    level = _nearest(effort, traits)
    if traits.thinking == "none":
        _drop(dropped, reasoning_effort=effort if level is None else None, thinking_budget=budget)
        return ThinkingFields(effort=level)
    if traits.thinking != "adaptive" and (budget is not None or not traits.efforts):
        wanted = budget if budget is not None else EFFORT_BUDGETS.get(effort) if effort is not None else None
        tokens = _fitting(wanted, cap, traits, is_exact=budget is not None)
        if tokens is not None and may_think and not conversation.lacks_thinking:
            return ThinkingFields(thinking={"type": "enabled", "budget_tokens": tokens}, effort=level)
        if traits.thinking == "budget" or conversation.lacks_thinking:
            _drop(dropped, reasoning_effort=effort if level is None else None, thinking_budget=budget)
            return ThinkingFields(effort=level)
    if traits.thinking == "budget" or not (effort or budget or request.shows_reasoning):
        return _unless_forced(traits, conversation, level)
    if not may_think:
        _drop(dropped, thinking_budget=budget)
        return _unless_forced(traits, conversation, level)
    shown = {"display": "summarized"} if request.shows_reasoning else {}
    return ThinkingFields(thinking={"type": "adaptive"} | shown, effort=level or _effort_of(budget, traits))


def sampling(
    request: ChatRequest, traits: ModelTraits, fields: ThinkingFields, dropped: DroppedFields
) -> tuple[float | None, float | None]:
    """The temperature and `top_p` that the model takes: not both where it refuses that, nor others while it thinks."""
    temperature, top_p = request.temperature, request.top_p
    if temperature is not None and (not traits.takes_temperature or fields.is_on):
        if temperature != 1:
            dropped.add("temperature")
        temperature = None
    if temperature is not None and temperature > traits.max_temperature:
        dropped.add("temperature")
        temperature = traits.max_temperature
    is_too_low = fields.is_on and top_p is not None and top_p < LEAST_TOP_P_WITH_THINKING
    is_second = temperature is not None and not traits.takes_temperature_with_top_p
    if top_p is not None and (not traits.takes_top_p or is_too_low or is_second):
        if top_p != 1:
            dropped.add("top_p")
        top_p = None
    return temperature, top_p


def _off(traits: ModelTraits) -> ThinkingFields:
    """No thinking, or as little as a model that always thinks can be asked for."""
    if not traits.thinks_by_default:
        return ThinkingFields()
    if traits.takes_thinking_disabled:
        return ThinkingFields(thinking={"type": "disabled"})
    least = traits.efforts[0] if traits.efforts else None
    if traits.takes_thinking_between_tools:
        return ThinkingFields(thinking={"type": "between_tools"}, effort=least)
    return ThinkingFields(effort=least)


def _unless_forced(traits: ModelTraits, conversation: Conversation, level: str | None) -> ThinkingFields:
    """Thinking as the model does without being asked. A call can be forced only if that is turned off."""
    if not (conversation.is_forced and traits.thinks_by_default and traits.takes_thinking_disabled):
        return ThinkingFields(effort=level)
    highest = traits.highest_effort_without_thinking
    if level is not None and highest is not None:
        level = min(level, highest, key=list[str](_ORDER).index)
    return ThinkingFields(thinking={"type": "disabled"}, effort=level)


def _nearest(effort: ReasoningEffort | None, traits: ModelTraits) -> str | None:
    """The model's level that is nearest to the effort from below, else its least."""
    if effort is None or not traits.efforts:
        return None
    rank = _ORDER.index(effort)
    return next((level for level in reversed(traits.efforts) if _ORDER.index(level) <= rank), traits.efforts[0])


def _effort_of(budget: int | None, traits: ModelTraits) -> str | None:
    """The effort that a budget amounts to: the most that it covers."""
    if budget is None:
        return None
    covered = [effort for effort, tokens in EFFORT_BUDGETS.items() if tokens <= budget]
    return _nearest(covered[-1] if covered else "low", traits)


def _fitting(wanted: int | None, cap: int, traits: ModelTraits, *, is_exact: bool) -> int | None:
    """The budget below the cap. One that stands for an effort leaves half of it for the answer; None: no room."""
    least = traits.min_thinking_budget
    if wanted is None or cap <= least:
        return None
    return max(least, min(wanted, cap - 1 if is_exact else cap // 2))


def _drop(dropped: DroppedFields, **fields: object) -> None:
    for name, value in fields.items():
        if value is not None:
            dropped.add(name)
