"""Verifications that an operator asks for: one at a time, each with an end, whatever becomes of its process."""

import asyncio
import sys

from infra.ids import new_id
from infra.settings import Settings, load_settings
from projections.audit_process import make
from projections.audit_runner import AuditRunner
from projections.audit_runs import MAX_RUNS, ask_run, end_run, newest_runs, report_run, run_of, take_run
from tests.support.ledger import RealLedger
from tests.support.owner import DatabaseOwner
from tests.support.waiting import eventually_so

SETTINGS: Settings = load_settings({})
DIES = (sys.executable, "-c", "raise SystemExit(7)")


async def test_who_asks_while_one_is_open_gets_that_one(ledger: RealLedger) -> None:
    asked = await asyncio.gather(*(ask_run(ledger.pool, "verify", new_id("run")) for _ in range(5)))
    assert len({run.run_id for run in asked}) == 1
    assert (await ask_run(ledger.pool, "balance", new_id("run"))).run_id != asked[0].run_id


async def test_who_asks_while_the_open_one_ends_gets_one_of_their_own(ledger: RealLedger) -> None:
    first = await ask_run(ledger.pool, "verify", new_id("run"))
    async with ledger.pool.acquire() as ending:
        ends = ending.transaction()
        await ends.start()
        await end_run(ending, first.run_id, "intact", [])  # type: ignore[arg-type]  # a connection has what it uses
        asking = asyncio.create_task(ask_run(ledger.pool, "verify", new_id("run")))
        await asyncio.wait((asking,), timeout=0.3)
        await ends.commit()
    second = await asking
    assert (second.run_id != first.run_id, second.ended_at) == (True, None)


async def test_one_run_is_made_at_a_time_in_the_order_of_asking(ledger: RealLedger) -> None:
    first = await ask_run(ledger.pool, "balance", new_id("run"))
    second = await ask_run(ledger.pool, "verify", new_id("run"))
    taken = await asyncio.gather(*(take_run(ledger.pool) for _ in range(5)))
    assert [one for one in taken if one is not None] == [(first.run_id, "balance")]
    await end_run(ledger.pool, first.run_id, "agrees", ["done"])
    assert await take_run(ledger.pool) == (second.run_id, "verify")


async def test_a_run_ends_once(ledger: RealLedger) -> None:
    run = await ask_run(ledger.pool, "verify", new_id("run"))
    await end_run(ledger.pool, run.run_id, "intact", ["intact"])
    await end_run(ledger.pool, run.run_id, "failed", ["too late"])
    ended = await run_of(ledger.pool, run.run_id)
    assert ended is not None
    assert (ended.verdict, ended.lines) == ("intact", ["intact"])
    assert not await report_run(ledger.pool, run.run_id, 1, 2)


async def test_a_run_whose_process_dies_has_failed(ledger: RealLedger) -> None:
    run = await ask_run(ledger.pool, "verify", new_id("run"))
    runner = AuditRunner(ledger.pool, DIES)

    async def has_ended() -> bool:
        await runner.look()
        shown = await run_of(ledger.pool, run.run_id)
        return shown is not None and shown.verdict == "failed" and shown.lines == ["its process ended with code 7"]

    await eventually_so(has_ended)


async def test_a_run_whose_machine_dies_does_not_stop_the_next(ledger: RealLedger) -> None:
    lost = await ask_run(ledger.pool, "verify", new_id("run"))
    assert await take_run(ledger.pool) is not None
    await ledger.owner.execute("UPDATE audit_runs SET beat_at = beat_at - interval '31 seconds'")
    following = await ask_run(ledger.pool, "verify", new_id("run"))
    assert following.run_id != lost.run_id
    assert await take_run(ledger.pool) == (following.run_id, "verify")
    ended = await run_of(ledger.pool, lost.run_id)
    assert ended is not None
    assert (ended.verdict, ended.lines) == ("failed", ["the process that made it has ended"])


async def test_a_run_that_no_projector_takes_has_failed(ledger: RealLedger) -> None:
    waiting = await ask_run(ledger.pool, "verify", new_id("run"))
    await ledger.owner.execute("UPDATE audit_runs SET asked_at = asked_at - interval '6 minutes'")
    assert await take_run(ledger.pool) is None
    ended = await run_of(ledger.pool, waiting.run_id)
    assert ended is not None
    assert ended.verdict == "failed"


async def test_a_log_that_was_rewritten_is_told(ledger: RealLedger) -> None:
    await ledger.new_project()
    await DatabaseOwner(ledger.owner).run('UPDATE events SET data = \'{"name": "another"}\' WHERE position = 1')
    run = await ask_run(ledger.pool, "verify", new_id("run"))
    await make(ledger.pool, SETTINGS, run.run_id, "verify")
    ended = await run_of(ledger.pool, run.run_id)
    assert ended is not None
    assert (ended.verdict, ended.lines[0][:20]) == ("broken", "BROKEN at position 1")


async def test_old_runs_are_forgotten(ledger: RealLedger) -> None:
    for _ in range(MAX_RUNS + 3):
        run = await ask_run(ledger.pool, "verify", new_id("run"))
        await end_run(ledger.pool, run.run_id, "intact", [])
    await ask_run(ledger.pool, "verify", new_id("run"))
    assert len(await newest_runs(ledger.pool, 10 * MAX_RUNS)) <= MAX_RUNS + 1
