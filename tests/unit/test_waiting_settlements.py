"""The attempts whose providers are asked what they cost have a bound, in number and in bytes."""

import time
from datetime import UTC, date, datetime
from typing import Any

from msgspec.structs import replace

from tests.support.jobs import make_job
from tests.support.ledger import attempt, lost
from workers.settlements import MAX_WAITING_BYTES, WAITS_S, Settlements

LATER_S = time.monotonic() + 10 * sum(WAITS_S)


class Silent:
    """A provider that keeps no responses."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def kept_response(self, _job: object, response_id: str, _credential: object) -> None:
        self.asked.append(response_id)


async def test_the_bodies_of_those_that_wait_take_so_much_memory_and_no_more() -> None:
    silent, nothing = Silent(), None
    calls: Any = silent
    event_log: Any = nothing
    settlements = Settlements(calls=calls, event_log=event_log, now=lambda: datetime.now(UTC))
    event = lost(attempt("prj", "key"), hold=1, day=date(2026, 3, 1))
    large = make_job(body=bytes(MAX_WAITING_BYTES // 2))
    for number in range(3):
        settlements.add(large, replace(event, response_id=f"resp_{number}"))
    await settlements.settle(LATER_S)
    assert silent.asked == ["resp_0", "resp_1"]
    settlements.add(large, replace(event, response_id="resp_3"))
    await settlements.settle(LATER_S)
    assert silent.asked[2:] == ["resp_3"], "there is room once they are over"
