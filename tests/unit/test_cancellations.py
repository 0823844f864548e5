"""Every listener for a request gets the cancellation when its caller disconnects, and its work ends."""

import asyncio

import pytest

from domain.errors import ClientDisconnected
from infra.broker import Broker
from infra.cancellations import CancellationListener
from tests.support.jobs import make_job


async def test_a_listener_hears_after_another_has_stopped() -> None:
    cancellations = CancellationListener(Broker())
    with cancellations.watch(make_job(request_id="req_1")) as first:
        with cancellations.watch(make_job(request_id="req_1")) as second:
            cancellations.note("req_2", is_caller=True)
        cancellations.note("req_1", is_caller=True)
    cancellations.note("req_1", is_caller=True)
    assert (first.published.is_set(), second.published.is_set()) == (True, False)


async def test_a_follower_is_not_the_caller() -> None:
    cancellations = CancellationListener(Broker())
    with cancellations.watch(make_job(request_id="req_1")) as left:
        cancellations.note("req_1", is_caller=False)
        assert (left.published.is_set(), left.caller_is_gone) == (True, False)
        cancellations.note("req_1", is_caller=True)
        cancellations.note("req_1", is_caller=False)
        assert left.caller_is_gone


async def test_work_without_a_cancellation_starts_no_task() -> None:
    async def tasks() -> int:
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    with CancellationListener(Broker()).watch(make_job(request_id="req_1")) as cancellation:
        assert await cancellation.or_cancelled(tasks()) == len(asyncio.all_tasks())


@pytest.mark.parametrize("comes_first", [True, False], ids=["before the work", "during the work"])
async def test_work_ends_when_nothing_waits_for_it(comes_first: bool) -> None:
    cancellations, ended = CancellationListener(Broker()), asyncio.Event()

    async def work() -> None:
        if not comes_first:
            cancellations.note("req_1", is_caller=True)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with cancellations.watch(make_job(request_id="req_1")) as cancellation:
        if comes_first:
            cancellations.note("req_1", is_caller=True)
        with pytest.raises(ClientDisconnected):
            await cancellation.or_cancelled(work())
    task = asyncio.current_task()
    assert task is not None
    assert (ended.is_set(), task.cancelling(), len(asyncio.all_tasks())) == (True, 0, 1)


async def test_work_that_ends_otherwise_when_it_is_cancelled_counts_as_cancelled() -> None:
    cancellations = CancellationListener(Broker())

    async def work() -> None:
        cancellations.note("req_1", is_caller=True)
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("cleaning up")

    with cancellations.watch(make_job(request_id="req_1")) as cancellation, pytest.raises(ClientDisconnected):
        await cancellation.or_cancelled(work())


async def test_a_follower_that_leaves_ends_no_work() -> None:
    cancellations = CancellationListener(Broker())

    async def work() -> str:
        cancellations.note("req_1", is_caller=False)
        for _ in range(5):
            await asyncio.sleep(0)
        return "done"

    with cancellations.watch(make_job(request_id="req_1")) as cancellation:
        assert await cancellation.or_cancelled(work()) == "done"
    assert len(asyncio.all_tasks()) == 1


async def test_work_whose_own_task_is_cancelled_ends_as_cancelled() -> None:
    cancellations = CancellationListener(Broker())
    with cancellations.watch(make_job(request_id="req_1")) as cancellation:
        working = asyncio.create_task(cancellation.or_cancelled(asyncio.sleep(60)))
        await asyncio.sleep(0)
        working.cancel()
        cancellations.note("req_1", is_caller=True)
        with pytest.raises(asyncio.CancelledError):
            await working
