"""A gateway whose workers and projector die under a constant load: the short form of `make soak`."""

from pathlib import Path

from bench.soak import Plan, soak
from tests.provider.running import RunningProvider
from tests.support.load import ANSWERED

SHORT = Plan(seconds=40, per_second=8, worker_every_s=12, projector_every_s=18)
"""A rate that a busy machine has room for. A kill waits until the process that it is for is there."""


async def test_callers_notice_no_death_of_a_worker_or_the_projector_and_the_books_balance(
    tmp_path: Path, provider: RunningProvider
) -> None:
    found = await soak(tmp_path, provider, SHORT)
    assert found.wrong == []
    assert len(found.killed_at_s["worker"]) >= 2
    assert len(found.killed_at_s["projector"]) >= 1
    assert found.load.outcomes[ANSWERED] > 200
    assert 0 < found.spent_usd <= found.billed_usd
