"""A request whose API process is gone is ended with its hold, unless a worker has it."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.events import RequestFailed
from infra.admission import Attempt
from projections.abandoned import GONE_FOR, AbandonedRequests
from tests.support.ledger import RealLedger, ask, attempt

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(seconds=1)


class Processes:
    """The API processes that listen, and the time."""

    def __init__(self, *listening: str) -> None:
        self.listening = set(listening)
        self.now = NOW

    async def listens(self, reply_to: str) -> bool:
        return reply_to.split(".")[1] in self.listening

    def abandoned(self, ledger: RealLedger) -> AbandonedRequests:
        return AbandonedRequests(ledger.pool, listens=self.listens, now=lambda: self.now)


async def admitted(ledger: RealLedger, process: str, key: tuple[str, str]) -> Attempt:
    made = attempt(*key, now=NOW, deadline=NOW + timedelta(hours=1), reply_to=f"reply.{process}.x")
    assert (await ledger.admission.admit(ask(made, hold=70))).outcome == "admitted"
    return made


@pytest.fixture
async def key(ledger: RealLedger) -> tuple[str, str]:
    project = await ledger.new_project()
    return project, await ledger.new_key(project, daily_budget_nano_usd=1_000)


async def test_what_a_dead_process_had_ends_with_its_hold_and_nothing_else(
    ledger: RealLedger, key: tuple[str, str]
) -> None:
    processes = Processes("alive")
    ended, of_living, claimed = [await admitted(ledger, name, key) for name in ("dead", "alive", "dead")]
    assert await ledger.claims.claim(claimed.identity.request_id, 1)
    abandoned = processes.abandoned(ledger)
    processes.now = NOW + 2 * TICK
    assert await abandoned.end() == 0
    processes.now += GONE_FOR
    assert await abandoned.end() == 1
    (failed,) = await ledger.history(ended)
    assert isinstance(failed, RequestFailed)
    assert failed.code == "UNAVAILABLE"
    assert (await ledger.history(of_living), await ledger.history(claimed)) == ([], [])
    assert await ledger.held(key[1]) == 140
    assert await abandoned.end() == 0


async def test_a_process_that_is_found_again_keeps_its_requests(ledger: RealLedger, key: tuple[str, str]) -> None:
    processes = Processes()
    made = await admitted(ledger, "lost", key)
    abandoned = processes.abandoned(ledger)
    processes.now = NOW + 2 * TICK
    await abandoned.end()
    processes.listening.add("lost")
    processes.now += GONE_FOR / 2
    await abandoned.end()
    processes.listening.clear()
    processes.now += GONE_FOR / 2
    assert await abandoned.end() == 0
    assert await ledger.history(made) == []
