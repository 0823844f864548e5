"""Reports how far streamed attempts are, so that little is assumed of one whose worker dies.

A report is what has come of the attempt, and the most that it may have cost by the time that it has grown by a quarter:
the next one is due only then. So a stream makes a few reports, and all that are due go into one statement. Nothing
waits for a report: what comes between two looks is not in it, and is less than the bytes that are counted as tokens are
too many.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from domain.dialects.codec import StreamReader
from domain.errors import Unavailable
from domain.events import KeptResponse
from domain.money import NanoUsd
from infra.admission import Claim, Claims, Progress, SeenStream
from infra.jobs import Job
from workers.estimated_usage import assumed_cost, assumed_so_far
from workers.kept_responses import with_id
from workers.stopping import set_at_stop

LOOK_INTERVAL_S = 0.1
MAX_REPORTS = 512
"""In one statement; the others are due at the next look."""
GROWTH = 1.25
FIRST_BYTES = 256
FIRST_S = 0.5
"""The first report covers a stream's first bytes, or first moments."""
SLACK_BYTES = 64
FAILED_PAUSE_S = 1.0
"""Before what could not be written is reported again."""

log = structlog.get_logger(__name__)


class StreamedAttempt:
    """One attempt whose answer is being streamed."""

    def __init__(
        self,
        job: Job,
        claim: Claim,
        reader: StreamReader,
        began_s: float,
        *,
        kept: KeptResponse | None = None,
        credential: str | None = None,
    ) -> None:
        """`kept`: how the provider can be asked for the response, by the id that comes with the stream. `credential`:
        the name of the call's, if the provider has several.
        """
        self._job = job
        self._claim = claim
        self._reader = reader
        self._began_s = began_s
        self._covered_s = 0.0
        self._covered_bytes = 0
        self._is_bounded = is_reported(job)
        self._kept = kept
        self._credential = credential
        self._told_id: str | None = None

    def due(self, now_s: float) -> Progress | None:
        """The next report; None if the last one still covers what has come, and has its id."""
        response_id = self._reader.response_id or None if self._kept is not None else None
        assumed = self._assumed(now_s) if self._is_bounded else None
        if assumed is None and response_id == self._told_id:
            return None
        self._told_id = response_id
        identity = self._job.identity
        return Progress(identity.request_id, self._claim.attempt, assumed, self._seen(response_id))

    def repeat(self) -> None:
        """Have the next report due at once: nobody has read the last one."""
        self._covered_s, self._covered_bytes, self._told_id = 0.0, 0, None

    def _assumed(self, now_s: float) -> NanoUsd | None:
        """The most that it may cost until the next report; None if none is due."""
        received = self._reader.received_output_bytes
        if received or self._reader.usage is not None:
            if received + SLACK_BYTES <= self._covered_bytes:
                return None
            self._covered_bytes = round(received * GROWTH) + FIRST_BYTES
            return assumed_so_far(self._reader, self._job, self._claim.hold_nano_usd, self._covered_bytes)
        elapsed_s = now_s - self._began_s + LOOK_INTERVAL_S
        if elapsed_s <= self._covered_s:
            return None
        self._covered_s = elapsed_s * GROWTH + FIRST_S
        return assumed_cost(self._job, self._claim.hold_nano_usd, self._covered_s)

    def _seen(self, response_id: str | None) -> SeenStream:
        usage = self._reader.usage
        return SeenStream(
            received_bytes=self._reader.received_output_bytes,
            covered_bytes=self._covered_bytes,
            output_tokens=usage.completion_tokens if usage is not None else 0,
            input_usage=self._reader.input_usage,
            response_id=response_id,
            credential=self._credential,
            kept=with_id(self._kept, response_id or ""),
        )


class ProgressReports:
    """The streamed attempts of one worker."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._attempts: set[StreamedAttempt] = set()
        self._begun = asyncio.Event()
        """An attempt has begun since there were none, or the worker stops."""
        self._not_before_s = 0.0

    @contextmanager
    def of(
        self,
        job: Job,
        claim: Claim,
        reader: StreamReader,
        *,
        kept: KeptResponse | None = None,
        credential: str | None = None,
    ) -> Iterator[None]:
        """Report an attempt until the block ends, if anything less than its hold can be said of it, or its provider can
        be asked for it later (`kept`).
        """
        if kept is None and not is_reported(job):
            yield
            return
        attempt = StreamedAttempt(job, claim, reader, time.monotonic(), kept=kept, credential=credential)
        self._attempts.add(attempt)
        self._begun.set()
        try:
            yield
        finally:
            self._attempts.discard(attempt)

    async def run(self, stop: asyncio.Event) -> None:
        """Report what is due until `stop` is set and no attempt is left; the pool ends what drains too long."""
        with set_at_stop(self._begun, stop):
            while not (stop.is_set() and not self._attempts):
                if not self._attempts:
                    self._begun.clear()
                    await self._begun.wait()
                await asyncio.sleep(LOOK_INTERVAL_S)
                await self.report(time.monotonic())

    async def report(self, now_s: float) -> int:
        """Write the reports that are due. Return their number. What cannot be written is due again after a pause."""
        if now_s < self._not_before_s:
            return 0
        due: list[tuple[StreamedAttempt, Progress]] = []
        for attempt in self._attempts:
            if (progress := attempt.due(now_s)) is not None:
                due.append((attempt, progress))
            if len(due) == MAX_REPORTS:
                break
        if due:
            try:
                await self._claims.report([progress for _, progress in due])
            except Unavailable as error:
                self._not_before_s = now_s + FAILED_PAUSE_S
                for attempt, _ in due:
                    attempt.repeat()
                log.warning("progress_not_reported", attempts=len(due), message=error.message)
        return len(due)


def is_reported(job: Job) -> bool:
    """True for streams of which what has come bounds what they cost: nothing is charged that is not shown."""
    return (
        job.stream is not None
        and job.price is not None
        and not (job.may_think_unseen or job.context_window or job.unseen_output_tokens)
    )
