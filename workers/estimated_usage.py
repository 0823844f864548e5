"""The usage of a response whose provider did not report it: the most that it may charge for what was received."""

import math
from typing import Protocol

import msgspec
from msgspec.structs import replace

from domain.dialects.codec import ProviderResponse
from domain.dialects.passthrough.json_edit import rewrite
from domain.extras import NO_EXTRAS, Extras, with_asked
from domain.models import MAX_UNSEEN_TOKENS_PER_S
from domain.money import NanoUsd
from domain.pricing import charge
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
    def extras(self) -> Extras:
        """What was said beside the tokens."""
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
    output += job.unseen_output_tokens
    known_input = received.input_usage or _input_bound(job)
    read_again = sum(received.extras.uses.values()) * job.context_window
    return _with_output(
        job,
        replace(known_input, input=known_input.input + read_again + job.unseen_input_tokens),
        output,
        known.output_audio,
    )


def _input_bound(job: Job) -> TokenUsage:
    text = {job.input_class: job.input_bound - job.audio_bound}
    return replace(TokenUsage(input_audio=job.audio_bound), **text)


def _with_output(job: Job, usage: TokenUsage, tokens: int, known_audio: int = 0) -> TokenUsage:
    """The usage with so much output. What may have been speech is taken to be: it costs more than text."""
    if job.writes_audio:
        return replace(usage, output_audio=max(tokens, known_audio))
    return replace(usage, output=tokens, output_audio=known_audio)


def assumed_cost(job: Job, hold_nano_usd: NanoUsd, elapsed_s: float) -> NanoUsd:
    """The most that a stream can have cost of which nothing came: its prompt, and what was written in the time since.

    The hold, if that is less, or if what it can have cost is not known: an answer in one piece is written to its end,
    and hosted tools may have been called.
    """
    if job.stream is None or job.price is None or job.context_window or job.unseen_output_tokens:
        return hold_nano_usd
    written = (math.ceil(elapsed_s * MAX_UNSEEN_TOKENS_PER_S) + UNDER_WAY_TOKENS) * job.choices
    usage = _with_output(job, _input_bound(job), min(written, job.output_bound))
    _, breakdown = charge(usage, job.price, with_asked(NO_EXTRAS, job.asked_terms))
    if breakdown is None or breakdown.unpriced:
        return hold_nano_usd
    return min(hold_nano_usd, breakdown.total_nano_usd)


def assumed_so_far(received: Received, job: Job, hold_nano_usd: NanoUsd, output_bytes: int) -> NanoUsd:
    """The most that a stream has cost of which no more than `output_bytes` have come; its hold, if that is less.

    For models that show everything that they charge for.
    """
    if job.price is None:
        return hold_nano_usd
    known = received.usage or TokenUsage()
    output = min(max(known.output, output_bytes + UNDER_WAY_TOKENS * job.choices), job.output_bound)
    usage = _with_output(job, received.input_usage or _input_bound(job), output, known.output_audio)
    _, breakdown = charge(usage, job.price, with_asked(received.extras, job.asked_terms))
    if breakdown is None or breakdown.unpriced:
        return hold_nano_usd
    return min(hold_nano_usd, breakdown.total_nano_usd)


class UnseenTime:
    """The time of an attempt in which its model may have thought without showing it.

    That is all of it but for what lies between two pieces of the answer that came one after the other.
    """

    def __init__(self, began_s: float) -> None:
        self._last_s = began_s
        self._run: int | None = None
        self._total_s = 0.0

    def saw(self, now_s: float, writing_run: int | None) -> None:
        """Something came. `writing_run`: that of the reader after it."""
        if writing_run is None or writing_run != self._run:
            self._total_s += now_s - self._last_s
        self._last_s, self._run = now_s, writing_run

    def until(self, now_s: float) -> float:
        """Seconds until now: of what has not come, nothing is known."""
        return self._total_s + now_s - self._last_s


def with_usage(response: ProviderResponse, job: Job, elapsed_s: float) -> tuple[ProviderResponse, TokenUsage, bool]:
    """The response, its usage, and whether that is estimated. A canonical response then shows the estimate."""
    if response.usage is not None:
        return response, response.usage, False
    usage = estimated_usage(response, job, elapsed_s, is_whole=True)
    if not job.is_passthrough:
        shown = msgspec.to_builtins(answer_usage(usage))
        response = replace(response, body=rewrite(response.body, {"usage": shown}))
    return response, usage, True
