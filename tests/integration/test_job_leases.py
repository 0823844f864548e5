"""The queue of asynchronous jobs: fair, in one runner's hands at a time, and lost with nobody."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from domain.events import JobCancelled, RequestAccepted, job_stream
from infra.event_log import Commit
from infra.ids import new_id
from infra.job_leases import JobLeases, remove_job_leases
from tests.support.ledger import RealLedger


async def accept(ledger: RealLedger, project: str, key: str, count: int) -> list[str]:
    """Accept jobs, and have them folded. Return their ids."""
    now, job_ids = datetime.now(UTC), [new_id("job") for _ in range(count)]
    for job_id in job_ids:
        accepted = RequestAccepted(
            job_id=job_id,
            key_id=key,
            operation="chat",
            model="echo",
            request_blob_id="b",
            request_bytes=2,
            deadline=now + timedelta(days=1),
        )
        commit = Commit(stream=job_stream(job_id), expected_version=0, project_id=project, at=now, events=(accepted,))
        await ledger.log.append(commit)
    await ledger.fold()
    return job_ids


async def take(leases: JobLeases, count: int, *, skipped: tuple[str, ...] = (), free: int = 1_000) -> list[str]:
    """Take jobs. Return their ids."""
    fresh = [new_id("req") for _ in range(count)]
    return [job.job_id for job in await leases.take(fresh, free=free, skipped_keys=skipped)]


async def test_job_is_in_one_runners_hands(ledger: RealLedger) -> None:
    job_ids = await accept(ledger, "p", "k", 3)
    one, other = JobLeases(ledger.pool, "one"), JobLeases(ledger.pool, "other")
    assert sorted(await take(one, 2) + await take(other, 5)) == sorted(job_ids)
    assert await take(one, 5) == []


async def test_lease_that_ends_gives_the_job_to_another_with_its_request_id(ledger: RealLedger) -> None:
    (job_id,) = await accept(ledger, "p", "k", 1)
    one, other = JobLeases(ledger.pool, "one"), JobLeases(ledger.pool, "other")
    (first,) = await one.take(["req_1"], free=8, skipped_keys=())
    assert (first.request_id, first.is_again) == ("req_1", False)
    await ledger.owner.execute("UPDATE job_leases SET until = now() - interval '1 s'")
    (again,) = await other.take(["req_2"], free=8, skipped_keys=())
    assert (again.job_id, again.request_id, again.is_again) == (job_id, "req_1", True)
    assert await one.renew([job_id]) == set()
    await one.release(job_id, wait_s=0)
    assert await take(one, 1) == [], "what is no longer its own it cannot give back"


async def test_renewed_lease_goes_on(ledger: RealLedger) -> None:
    (job_id,) = await accept(ledger, "p", "k", 1)
    one = JobLeases(ledger.pool, "one")
    await take(one, 1)
    await ledger.owner.execute("UPDATE job_leases SET until = now() + interval '1 s'")
    assert await one.renew([job_id]) == {job_id}
    assert await ledger.pool.fetchval("SELECT until > now() + interval '10 s' FROM job_leases")


async def test_released_job_waits_and_has_its_new_request_id(ledger: RealLedger) -> None:
    (job_id,) = await accept(ledger, "p", "k", 1)
    one = JobLeases(ledger.pool, "one")
    await one.take(["req_1"], free=8, skipped_keys=())
    await one.release(job_id, wait_s=60, request_id="req_2")
    assert await take(one, 1) == []
    await ledger.owner.execute("UPDATE job_leases SET until = now() - interval '1 s'")
    (again,) = await one.take(["req_3"], free=8, skipped_keys=())
    assert again.request_id == "req_2"


async def test_project_and_key_with_the_fewest_in_hand_come_first(ledger: RealLedger) -> None:
    flood = await accept(ledger, "flood", "k", 40)
    one = JobLeases(ledger.pool, "one")
    assert set(await take(one, 8)) <= set(flood)
    quiet = await accept(ledger, "quiet", "k2", 4)
    beside = await accept(ledger, "flood", "k3", 2)
    taken = await take(one, 6)
    assert set(quiet) <= set(taken)
    assert Counter(job_id in beside for job_id in taken if job_id not in quiet)[True] == 2


async def test_one_project_does_not_have_every_slot(ledger: RealLedger) -> None:
    await accept(ledger, "flood", "k", 40)
    one = JobLeases(ledger.pool, "one")
    taken: list[str] = []
    for _ in range(32):
        taken += await take(one, 1, free=32 - len(taken))
    assert len(taken) == 28
    assert len(await take(one, 1, free=4)) == 0
    (quiet,) = await accept(ledger, "quiet", "k", 1)
    assert await take(one, 1, free=4) == [quiet]


async def test_one_project_does_not_have_every_slot_if_it_takes_many_at_once(ledger: RealLedger) -> None:
    await accept(ledger, "flood", "k", 40)
    one = JobLeases(ledger.pool, "one")
    assert len(await take(one, 4, free=8)) == 4
    assert len(await take(one, 4, free=4)) == 3
    (quiet,) = await accept(ledger, "quiet", "k", 1)
    assert await take(one, 1, free=1) == [quiet]


async def test_a_lone_project_has_its_share_of_every_runners_slots(ledger: RealLedger) -> None:
    await accept(ledger, "flood", "k", 120)
    for number in range(3):
        runner = JobLeases(ledger.pool, f"runner {number}")
        taken: list[str] = []
        for _ in range(32):
            taken += await take(runner, 1, free=32 - len(taken))
        assert len(taken) == 28, "as many as if there were no other runner"
    (quiet,) = await accept(ledger, "quiet", "k", 1)
    assert await take(JobLeases(ledger.pool, "runner 0"), 1, free=4) == [quiet]


async def test_paused_keys_jobs_are_left(ledger: RealLedger) -> None:
    await accept(ledger, "p", "paused", 3)
    others = await accept(ledger, "p", "other", 2)
    assert sorted(await take(JobLeases(ledger.pool, "one"), 5, skipped=("paused",))) == sorted(others)


async def test_job_that_has_ended_is_not_taken_and_loses_its_lease(ledger: RealLedger) -> None:
    (job_id,) = await accept(ledger, "p", "k", 1)
    one = JobLeases(ledger.pool, "one")
    await take(one, 1)
    cancelled = JobCancelled(job_id=job_id, key_id="k", by_key_id="k")
    await ledger.log.append(
        Commit(stream=job_stream(job_id), expected_version=1, project_id="p", at=datetime.now(UTC), events=(cancelled,))
    )
    await ledger.fold()
    await one.release(job_id, wait_s=-1)
    assert await take(one, 1) == []
    assert await remove_job_leases(ledger.pool, 10) == 1
