"""What of a stream could not be reported is reported later: its cost so far, and by which name it can be asked for."""

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from domain.errors import Unavailable
from domain.extras import NO_EXTRAS
from infra.admission import Progress
from tests.unit.test_assumptions import CLAIM, job, kept
from workers.progress import FAILED_PAUSE_S, ProgressReports


class Claims:
    """The table of attempts, which is away for the first reports."""

    def __init__(self, failures: int) -> None:
        self._failures = failures
        self.written: list[Progress] = []

    async def report(self, progress: Sequence[Progress]) -> None:
        if self._failures:
            self._failures -= 1
            raise Unavailable("the database is away", retry_after_s=1)
        self.written.extend(progress)


async def test_what_could_not_be_written_is_reported_again_after_a_pause() -> None:
    claims: Any = Claims(failures=1)
    reports = ProgressReports(claims)
    read: Any = SimpleNamespace(
        usage=None, input_usage=None, extras=NO_EXTRAS, received_output_bytes=100, response_id="resp_1"
    )
    now_s = time.monotonic()
    with reports.of(job(), CLAIM, read, kept=kept()):
        assert await reports.report(now_s) == 1
        assert await reports.report(now_s + FAILED_PAUSE_S / 2) == 0
        assert await reports.report(now_s + FAILED_PAUSE_S) == 1
        assert await reports.report(now_s + 2 * FAILED_PAUSE_S) == 0, "it is known"
    (told,) = claims.written
    assert told.seen.response_id == "resp_1"
    assert told.assumed_nano_usd is not None


async def test_a_response_that_its_provider_does_not_keep_is_reported_without_its_id() -> None:
    claims: Any = Claims(failures=0)
    reports = ProgressReports(claims)
    read: Any = SimpleNamespace(
        usage=None, input_usage=None, extras=NO_EXTRAS, received_output_bytes=100, response_id="resp_1"
    )
    with reports.of(job(), CLAIM, read):
        assert await reports.report(time.monotonic()) == 1
    assert [told.seen.response_id for told in claims.written] == [None]
