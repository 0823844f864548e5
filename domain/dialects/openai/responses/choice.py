"""Which of OpenAI's two APIs a chat request needs: chat completions, or the Responses API that has more.

What chat completions take without a loss is asked there. A provider by configuration is asked for a response only where
chat completions would refuse the request: it is not known to have the other API.
"""

from collections.abc import Callable
from typing import Any

from domain.canonical.chat import ChatRequest, FilePart, ReasoningEffort
from domain.dialects.openai.adapt import EFFORT_LEVELS, effort_of_budget, nearest_effort
from domain.models import ModelTraits, model_traits


def needs_responses(request: ChatRequest, upstream_model: str, *, is_builtin: bool) -> bool:
    """Return True if chat completions would refuse or bend this request. Takes about 1 µs.

    `is_builtin`: the provider is the vendor itself.
    """
    traits = model_traits(upstream_model, "openai")
    if _is_refused(traits, has_tools=bool(request.tools)):
        return True
    if not is_builtin or not traits.name:
        return False
    effort = request.reasoning_effort
    if effort is None and request.thinking_budget is not None:
        effort = effort_of_budget(request.thinking_budget)
    return _is_bent(traits, effort, has_tools=bool(request.tools)) or (
        request.stop is None and _has_file_at_address(request)
    )


def fits_chat_completions(value: Callable[[str], Any], upstream_model: str, *, is_builtin: bool) -> bool:
    """Return True unless chat completions are known to refuse a client's own request to them.

    `value` gives a member of its body. Only the two that decide are read, and those only for a model that minds.
    """
    traits = model_traits(upstream_model, "openai")
    minds = traits.chat_tools != "always" or traits.highest_chat_effort is not None
    if traits.is_responses_only or not minds:
        return not traits.is_responses_only
    has_tools = traits.chat_tools != "always" and bool(value("tools"))
    if _is_refused(traits, has_tools=has_tools):
        return False
    if not is_builtin:
        return True
    given = value("reasoning_effort")
    effort = next((level for level in EFFORT_LEVELS if level == given), None)
    return not _is_bent(traits, effort, has_tools=has_tools)


def _is_refused(traits: ModelTraits, *, has_tools: bool) -> bool:
    return traits.is_responses_only or (has_tools and traits.chat_tools == "never")


def _is_bent(traits: ModelTraits, effort: ReasoningEffort | None, *, has_tools: bool) -> bool:
    """True if chat completions take the request with another effort alone."""
    if has_tools and traits.takes_tools:
        if traits.chat_tools == "at_effort_none" and effort != "none":
            return True
        if traits.chat_tools == "without_effort" and effort not in (None, "none"):
            return True
    if effort is None or traits.highest_chat_effort is None or not traits.efforts:
        return False
    highest = EFFORT_LEVELS.index(traits.highest_chat_effort)
    return EFFORT_LEVELS.index(nearest_effort(effort, traits.efforts)) > highest


def _has_file_at_address(request: ChatRequest) -> bool:
    return any(
        isinstance(part, FilePart) and not part.file.url.startswith("data:")
        for message in request.messages
        if isinstance(message.content, list)
        for part in message.content
    )
