"""The usage of a response whose provider did not report it: the most that it may charge for what was received."""

import math
from typing import Protocol

import msgspec
from msgspec.structs import replace

from domain.dialects.codec import ProviderResponse
from domain.dialects.passthrough.json_edit import rewrite
from domain.models import MAX_UNSEEN_TOKENS_PER_S
from domain.tokens import TokenUsage, answer_usage
from infra.jobs import Job

UNDER_WAY_TOKENS = 16
"""Tokens that a provider may have charged for and that had not arrived when its stream was cut. Text that has arrived
leaves room for more: it has several bytes a token.
"""


class Received(Protocol):
    """What was read of a response: a `StreamReader`, or a `ProviderResponse`."""

    @property
    def usage(self) -> TokenUsage | None:
        """As the provider said so far."""
        ...

    @property
    def input_usage(self) -> TokenUsage | None:
        """The input's tokens, if the provider sent those alone."""
        ...

    @property
    def received_output_bytes(self) -> int:
        """UTF-8 bytes of text, tool calls and thinking."""
        ...


def estimated_usage(received: Received, job: Job, elapsed_s: float, *, is_whole: bool) -> TokenUsage:
    """The least of three bounds: a text has no more tokens than bytes, a model thinks no faster than
    `MAX_UNSEEN_TOKENS_PER_S` in each of its choices, and a response is no longer than its cap. `is_whole`: nothing more
    was to come.
    """
    known = received.usage or TokenUsage()
    unseen = math.ceil(elapsed_s * MAX_UNSEEN_TOKENS_PER_S) * job.choices if job.may_think_unseen else 0
    under_way = 0 if is_whole else UNDER_WAY_TOKENS * job.choices
    output = max(known.output, min(received.received_output_bytes + under_way + unseen, job.output_bound))
    if received.input_usage is not None:
        return replace(received.input_usage, output=output)
    return TokenUsage(input=job.input_bound, output=output)


def with_usage(response: ProviderResponse, job: Job, elapsed_s: float) -> tuple[ProviderResponse, TokenUsage, bool]:
    """The response, its usage, and whether that is estimated. A canonical response then shows the estimate."""
    if response.usage is not None:
        return response, response.usage, False
    usage = estimated_usage(response, job, elapsed_s, is_whole=True)
    if not job.is_passthrough:
        shown = msgspec.to_builtins(answer_usage(usage))
        response = replace(response, body=rewrite(response.body, {"usage": shown}))
    return response, usage, True
