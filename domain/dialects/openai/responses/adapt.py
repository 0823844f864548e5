"""Canonical requests as a certain model can be asked on OpenAI's Responses API, statelessly.

It is the other API of the same models, so what `openai/adapt.py` knows of them holds here. It takes more: tools beside
any effort, files at an address, images in what a tool gave, the model's own thinking of earlier turns. And it lacks a
few fields of chat completions: stop sequences, a seed, several choices, names of speakers.
"""

from functools import lru_cache
from typing import ClassVar

from msgspec.structs import replace

from domain.canonical.chat import AssistantMessage, ChatRequest, ReasoningBlock
from domain.dialects.codec import AdaptedRequest
from domain.dialects.field_rules import DroppedFields
from domain.dialects.openai.adapt import MessageAdapter, adapt_fields
from domain.models import ModelTraits, model_traits

LEAST_CAP = 16
"""OpenAI refuses a lower `max_output_tokens`."""
MAX_CACHED_TRAITS = 256


@lru_cache(maxsize=MAX_CACHED_TRAITS)
def responses_traits(upstream_model: str) -> ModelTraits:
    """What the model takes on this API."""
    return replace(
        model_traits(upstream_model, "openai"),
        chat_tools="always",
        highest_chat_effort=None,
        takes_stop=False,
        takes_several_choices=False,
    )


def adapt_responses_request(request: ChatRequest, upstream_model: str) -> AdaptedRequest:
    """Make a request one that this model can be asked.

    Raises:
        InvalidRequest: names what the model cannot be shown or take, and the way out.

    """
    traits = responses_traits(upstream_model)
    dropped = DroppedFields()
    if request.seed is not None:
        dropped.add("seed")
    cap = request.max_tokens
    request = replace(request, seed=None, max_tokens=max(cap, LEAST_CAP) if cap is not None else None)
    messages = _ResponsesAdapter(request.messages, traits, upstream_model, dropped).adapted()
    return adapt_fields(request, messages, traits, upstream_model, dropped)


def is_sealed(thought: ReasoningBlock) -> bool:
    """Return True for thinking as OpenAI's API gives it out, encrypted, and takes it back."""
    return thought.data is not None and thought.id is not None and thought.detail is None


class _ResponsesAdapter(MessageAdapter):
    """Adapts the messages of one request."""

    shows_media_in_results: ClassVar[bool] = True
    takes_file_addresses: ClassVar[bool] = True

    def may_be_speaker(self, name: str) -> bool:  # noqa: ARG002 - as is overridden
        """See `MessageAdapter`: it has no names."""
        return False

    def thoughts(self, message: AssistantMessage, *, is_open: bool) -> list[ReasoningBlock]:  # noqa: ARG002
        """See `MessageAdapter`: of any turn, since the model leaves out by itself what it no longer needs."""
        return [thought for thought in message.reasoning or () if is_sealed(thought)]
