"""Group commit: waiting items go out together, in order, within limits, and a bad item fails alone."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import structlog

from domain.errors import Overloaded
from infra.batching import GATHER_TURNS, Batcher

PATIENCE_S = 5.0
"""The timeout for results that may never come."""


class Runs:
    """Doubles the numbers of a batch once its gate is open. Fails a batch with a bad number."""

    def __init__(self, *, is_open: bool = True, bad: dict[int, BaseException] | None = None) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.bad = bad or {}
        if is_open:
            self.gate.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        self.begun.set()
        await self.gate.wait()
        for item in items:
            if item in self.bad:
                raise self.bad[item]
        return [item * 2 for item in items]


async def drop_last_result(items: Sequence[int]) -> Sequence[int]:
    return items[:-1]


def batcher_of(runs: Runs, **limits: Any) -> Batcher[int, int]:
    return Batcher(runs, name="tests", **({"max_batch": 100, "max_waiting": 100} | limits))


def submit(batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(batcher.submit(item)) for item in items]


async def submit_behind_a_batch(runs: Runs, batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    """Submit 0, and the other items once its batch runs. They wait when this returns."""
    first = submit(batcher, 0)
    await asyncio.wait_for(runs.begun.wait(), PATIENCE_S)
    waiting = submit(batcher, *items)
    await run_pending_tasks()
    return first + waiting


async def run_pending_tasks() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def results(tasks: list[asyncio.Task[int]]) -> list[int | BaseException]:
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S)


async def test_single_items_are_not_delayed() -> None:
    runs = Runs()
    batcher = batcher_of(runs)
    for item in (1, 2):
        lone = submit(batcher, item)
        await run_pending_tasks()
        assert lone[0].done()
        assert lone[0].result() == item * 2
    assert runs.batches == [[1], [2]]


async def test_a_batch_takes_along_what_arrives_a_moment_later() -> None:
    runs = Runs()
    batcher = batcher_of(runs)
    first = submit(batcher, 1)
    for _ in range(GATHER_TURNS // 2):
        await asyncio.sleep(0)
    assert await results([*first, *submit(batcher, 2)]) == [2, 4]
    assert runs.batches == [[1, 2]]


async def test_waiting_items_are_batched_in_order() -> None:
    runs = Runs(is_open=False)
    tasks = await submit_behind_a_batch(runs, batcher_of(runs), 5, 3, 4, 3)
    assert runs.batches == [[0]]
    runs.gate.set()
    assert await results(tasks) == [0, 10, 6, 8, 6]
    assert runs.batches == [[0], [5, 3, 4, 3]]


async def test_a_batch_is_never_larger_than_its_limit() -> None:
    runs = Runs(is_open=False)
    tasks = await submit_behind_a_batch(runs, batcher_of(runs, max_batch=3), *range(1, 8))
    runs.gate.set()
    assert await results(tasks) == [n * 2 for n in range(8)]
    assert runs.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]


async def test_full_batcher_refuses_only_newcomers() -> None:
    runs = Runs(is_open=False)
    batcher = batcher_of(runs, max_waiting=2)
    tasks = await submit_behind_a_batch(runs, batcher, 1, 2, 3)
    with pytest.raises(Overloaded) as refusal:
        await asyncio.wait_for(tasks[3], PATIENCE_S)
    assert refusal.value.retry_after_s == 1
    runs.gate.set()
    assert await results(tasks[:3]) == [0, 2, 4]
    assert await results(submit(batcher, 4)) == [8]
    assert runs.batches == [[0], [1, 2], [4]]


async def test_only_the_bad_item_of_a_batch_fails() -> None:
    error = ValueError("two")
    runs = Runs(is_open=False, bad={2: error})
    tasks = await submit_behind_a_batch(runs, batcher_of(runs, isolate=(ValueError,)), 1, 2, 3)
    runs.gate.set()
    assert await results(tasks) == [0, 2, error, 6]
    assert runs.batches == [[0], [1, 2, 3], [1], [2], [3]]


async def test_a_lone_bad_item_is_run_once() -> None:
    error = ValueError("one")
    runs = Runs(bad={1: error})
    assert await results(submit(batcher_of(runs, isolate=(ValueError,)), 1)) == [error]
    assert runs.batches == [[1]]


async def test_common_error_reaches_every_item_once() -> None:
    error = OSError("gone")
    runs = Runs(is_open=False, bad={2: error})
    tasks = await submit_behind_a_batch(runs, batcher_of(runs, isolate=(ValueError,)), 1, 2, 3)
    runs.gate.set()
    assert await results(tasks) == [0, error, error, error]
    assert runs.batches == [[0], [1, 2, 3]]


async def test_an_error_stops_nothing_that_comes_after() -> None:
    runs = Runs(bad={1: OSError("gone")})
    batcher = batcher_of(runs)
    await results(submit(batcher, 1))
    assert await results(submit(batcher, 2)) == [4]


async def test_incomplete_batch_run_fails_its_items_only() -> None:
    batcher: Batcher[int, int] = Batcher(drop_last_result, name="tests", max_batch=100, max_waiting=100)
    first, second = await results(submit(batcher, 1, 2))
    assert [type(first), type(second)] == [AssertionError] * 2
    assert [type(one) for one in await results(submit(batcher, 3))] == [AssertionError]


async def test_cancelled_run_fails_its_items_and_the_next_starts() -> None:
    cancelled = asyncio.CancelledError()
    runs = Runs(is_open=False, bad={0: cancelled})
    batcher = batcher_of(runs)
    tasks = await submit_behind_a_batch(runs, batcher, 1, 2)
    runs.gate.set()
    assert [type(one) for one in await results(tasks)] == [asyncio.CancelledError] * 3
    assert await results(submit(batcher, 4)) == [8]


@pytest.mark.parametrize("bad", [{}, {3: OSError("gone")}, {3: ValueError("three")}], ids=["well", "lost", "isolated"])
async def test_cancelled_waiter_affects_no_other(bad: dict[int, Exception]) -> None:
    runs = Runs(is_open=False, bad=bad)
    batcher = batcher_of(runs, isolate=(ValueError,))
    tasks = await submit_behind_a_batch(runs, batcher, 1, 2, 3)
    tasks[0].cancel()
    tasks[2].cancel()
    runs.gate.set()
    first, second, third, _ = await results(tasks)
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(third, asyncio.CancelledError)
    assert second == (bad[3] if isinstance(bad.get(3), OSError) else 2)
    assert await results(submit(batcher, 4)) == [8]


async def test_close_runs_waiting_items_and_takes_no_more() -> None:
    runs = Runs(is_open=False)
    batcher = batcher_of(runs, max_batch=2)
    tasks = await submit_behind_a_batch(runs, batcher, 1, 2, 3)
    closing = asyncio.create_task(batcher.close())
    await run_pending_tasks()
    assert not closing.done()
    with pytest.raises(AssertionError, match="closed"):
        await asyncio.wait_for(batcher.submit(4), PATIENCE_S)
    runs.gate.set()
    await asyncio.wait_for(closing, PATIENCE_S)
    assert [task.done() for task in tasks] == [True] * 4
    assert await results(tasks) == [0, 2, 4, 6]


@pytest.mark.parametrize("items", [(), (1,)], ids=["unused", "idle"])
async def test_close_of_an_idle_batcher_returns(items: tuple[int, ...]) -> None:
    batcher = batcher_of(Runs())
    await results(submit(batcher, *items))
    await asyncio.wait_for(batcher.close(), PATIENCE_S)
    await asyncio.wait_for(batcher.close(), PATIENCE_S)


async def test_the_lines_of_later_batches_are_not_about_the_request_that_came_first() -> None:
    seen: list[dict[str, Any]] = []

    async def run(items: Sequence[int]) -> Sequence[int]:
        seen.append(structlog.contextvars.get_contextvars())
        return items

    with structlog.contextvars.bound_contextvars(process="api"):
        batcher = Batcher[int, int](run, name="test", max_batch=2, max_waiting=2)

    async def request(number: int) -> None:
        with structlog.contextvars.bound_contextvars(trace_id=str(number)):
            await batcher.submit(number)

    await asyncio.create_task(request(1))
    await asyncio.create_task(request(2))
    assert seen == [{"process": "api"}, {"process": "api"}]
