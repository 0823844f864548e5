"""Joins the answers of several calls into one, for providers whose calls give one answer each. Pure."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from domain.canonical.chat import ChatResponse
from domain.dialects.codec import ProviderResponse
from domain.extras import joined as joined_extras
from domain.tokens import AnswerUsage, TokenUsage

_decode = msgspec.json.Decoder(ChatResponse).decode
_encode = msgspec.json.encode


def join_choices(responses: Sequence[ProviderResponse]) -> ProviderResponse:
    """One canonical response with the choices of all, numbered in their order; at least one response.

    Its tokens are those of all calls. If one of the calls does not say its tokens, nothing is known of the sum.
    """
    first = responses[0]
    answers = [_decode(response.body) for response in responses]
    choices = [choice for answer in answers for choice in answer.choices]
    joined = replace(
        answers[0],
        choices=[replace(choice, index=index) for index, choice in enumerate(choices)],
        usage=AnswerUsage(
            **{name: sum(getattr(one.usage, name) for one in answers) for name in AnswerUsage.__struct_fields__}
        ),
    )
    known = [response.usage for response in responses if response.usage is not None]
    return replace(
        first,
        body=_encode(joined),
        usage=sum(known, TokenUsage()) if len(known) == len(responses) else None,
        input_usage=None,
        received_output_bytes=sum(response.received_output_bytes for response in responses),
        finish_reason=next(
            (one.finish_reason for one in responses if one.finish_reason != "stop"), first.finish_reason
        ),
        is_empty=all(response.is_empty for response in responses),
        extras=replace(joined_extras([response.extras for response in responses]), readings=_readings(responses)),
    )


def _readings(responses: Sequence[ProviderResponse]) -> tuple[TokenUsage, ...]:
    """What each call has read: all its turns, if it says them, else one."""
    return tuple(
        reading
        for response in responses
        if response.usage is not None
        for reading in response.extras.readings or (response.usage,)
    )
