"""A request that ends before a worker has claimed it: its hold goes and its end comes in one step."""

import asyncio
from datetime import UTC, datetime

import pytest

from domain.errors import Unavailable
from domain.events import RequestFailed, request_stream
from infra.admission import Attempt
from infra.event_log import Commit
from tests.support.ledger import RealLedger, ask, attempt
from tests.support.waiting import eventually_so

HOLD = 40


def ended(made: Attempt) -> Commit:
    failed = RequestFailed(
        **made.identity.event_fields(), code="CLIENT_DISCONNECTED", message="the caller left", latency_ms=1
    )
    return Commit(
        stream=request_stream(made.identity.request_id),
        expected_version=0,
        project_id=made.identity.project_id,
        at=datetime.now(UTC),
        events=(failed,),
    )


async def admitted(ledger: RealLedger, number: int = 1) -> list[Attempt]:
    project = await ledger.new_project()
    key = await ledger.new_key(project)
    made = [attempt(project, key) for _ in range(number)]
    for one in made:
        assert (await ledger.admission.admit(ask(one, hold=HOLD))).outcome == "admitted"
    return made


async def test_a_withdrawn_request_holds_nothing_and_has_an_end(ledger: RealLedger) -> None:
    made = await admitted(ledger, 5)
    heads = await asyncio.gather(*(ledger.admission.withdraw(one.identity.request_id, ended(one)) for one in made))
    assert all(heads)
    assert max(head.position for head in heads if head) == await ledger.log.head()
    for one in made:
        assert [type(event) for event in await ledger.history(one)] == [RequestFailed]
    assert await ledger.held(made[0].identity.key_id) == 0


async def test_a_claimed_request_is_not_withdrawn_and_one_that_is_gone_has_one_end(ledger: RealLedger) -> None:
    claimed, other = await admitted(ledger, 2)
    assert await ledger.claims.claim(claimed.identity.request_id, 1)
    heads = await asyncio.gather(
        *(ledger.admission.withdraw(one.identity.request_id, ended(one)) for one in (claimed, other, other))
    )
    assert [head is not None for head in heads].count(True) >= 1
    assert heads[0] is None
    assert await ledger.admission.withdraw(other.identity.request_id, ended(other)) is None
    assert await ledger.history(claimed) == []
    assert len(await ledger.history(other)) == 1
    assert await ledger.held(claimed.identity.key_id) == HOLD


async def test_a_process_that_dies_while_it_withdraws_leaves_both_or_neither(ledger: RealLedger) -> None:
    (made,) = await admitted(ledger)
    async with ledger.owner.acquire() as other, other.transaction():
        await other.execute("SELECT 1 FROM log_head FOR UPDATE")  # the append waits, behind the drop
        withdrawing = asyncio.create_task(ledger.admission.withdraw(made.identity.request_id, ended(made)))

        async def waits() -> bool:
            return bool(
                await ledger.pool.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%withdraw(%' AND wait_event_type = 'Lock'"
                )
            )

        await eventually_so(waits)
        await ledger.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE '%FROM withdraw(%' AND wait_event_type = 'Lock'"
        )
        with pytest.raises(Unavailable):
            await withdrawing
    assert await ledger.held(made.identity.key_id) == HOLD, "the sweeper, or the next try, ends it"
    assert await ledger.history(made) == []
    assert await ledger.admission.withdraw(made.identity.request_id, ended(made))
    assert [type(event) for event in await ledger.history(made)] == [RequestFailed]
