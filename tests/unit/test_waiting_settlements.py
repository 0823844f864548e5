"""The attempts whose providers are asked what they cost have a bound, and their jobs are kept without bodies."""

import time
from datetime import UTC, date, datetime
from typing import Any

from msgspec.structs import replace

from infra.jobs import Job, JobFailover
from tests.support.jobs import make_job
from tests.support.ledger import attempt, lost
from workers.settlements import MAX_WAITING, WAITS_S, Settlements

LATER_S = time.monotonic() + 10 * sum(WAITS_S)


class Silent:
    """A provider that keeps no responses."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.jobs: list[Job] = []

    async def kept_response(self, job: Job, response_id: str, _credential: object) -> None:
        self.asked.append(response_id)
        self.jobs.append(job)


async def test_so_many_wait_and_no_more_and_none_holds_a_body() -> None:
    silent, nothing = Silent(), None
    calls: Any = silent
    event_log: Any = nothing
    settlements = Settlements(calls=calls, event_log=event_log, now=lambda: datetime.now(UTC))
    event = lost(attempt("prj", "key"), hold=1, day=date(2026, 3, 1))
    job = make_job(body=b"{}", failover=JobFailover(further=(make_job(body=b"{}"),), fail_over_on=(), attempts=1))
    for number in range(MAX_WAITING + 1):
        settlements.add(job, replace(event, response_id=f"resp_{number}"))
    await settlements.settle(LATER_S)
    assert silent.asked == [f"resp_{number}" for number in range(MAX_WAITING)]
    assert {(one.body, one.failover) for one in silent.jobs} == {(None, None)}
    settlements.add(make_job(body=None, body_blob_id="blob"), replace(event, response_id="later"))
    await settlements.settle(LATER_S)
    assert silent.asked[MAX_WAITING:] == ["later"], "there is room once they are over"
    assert silent.jobs[-1].body_blob_id is None
