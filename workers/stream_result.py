"""The result of a provider's stream: of a complete one, and of one that was cut."""

import math

import msgspec

from domain.dialects.codec import StreamReader
from domain.models import MAX_UNSEEN_TOKENS_PER_S
from domain.tokens import TokenUsage
from infra.jobs import Job
from workers.attempt_recorder import AttemptResult

UNDER_WAY_TOKENS = 16
"""Tokens that a provider may have charged for and that had not arrived when its stream was cut. Text that has arrived
leaves room for more: it has several bytes a token.
"""


def accept_end(reader: StreamReader) -> None:
    """Take the closing of the connection for the end of the stream if nothing is missing but the vendor's last event:
    not every provider that speaks alike sends it.
    """
    if reader.finish_reason is not None and reader.usage is not None:
        reader.is_ended = True


def attempt_result(reader: StreamReader, job: Job, elapsed_s: float) -> AttemptResult:
    """The response as far as it came. If the provider sent no usage, the most that it may charge after so long."""
    return AttemptResult(
        answered_by=reader.answered_by,
        response_id=reader.response_id,
        finish_reason=reader.finish_reason,
        usage=reader.usage if reader.is_ended and reader.usage is not None else _estimated(reader, job, elapsed_s),
        is_estimated=not reader.is_ended or reader.usage is None,
    )


def _estimated(reader: StreamReader, job: Job, elapsed_s: float) -> TokenUsage:
    """The least of three bounds: a text has no more tokens than bytes, a model thinks no faster than
    `MAX_UNSEEN_TOKENS_PER_S`, and a response is no longer than its cap.
    """
    known = reader.usage or TokenUsage()
    unseen = math.ceil(elapsed_s * MAX_UNSEEN_TOKENS_PER_S) if job.may_think_unseen else 0
    under_way = 0 if reader.is_ended else UNDER_WAY_TOKENS
    output = max(known.output, min(reader.received_output_bytes + under_way + unseen, job.output_bound))
    if reader.input_usage is not None:
        return msgspec.structs.replace(reader.input_usage, output=output)
    return TokenUsage(input=job.input_bound, output=output)
