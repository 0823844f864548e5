"""Group commit: items that arrive while a batch runs go out together in the next one. No timer, no delay when idle.

A batch also waits for a few turns of the event loop: what has reached the process with its first item goes along.

Used for every statement whose cost is the round trip and the commit rather than the row: append, admit, claim.
"""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from domain.errors import Overloaded

GATHER_TURNS = 8
"""A turn takes 3 µs if nothing is due. With 16 callers six turns halve the number of batches, and twelve find no more
than six. An admission, a claim and an append alone cost PostgreSQL four fifths of what a batch of four of each does.
"""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Runs `run` over batches of submitted items, one batch at a time, in the order of submission."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        name: str,
        max_batch: int,
        max_waiting: int,
        isolate: tuple[type[Exception], ...] = (),
    ) -> None:
        """Wrap `run`, which returns one result for each item, in order.

        An error of `run` fails every item of the batch. An error of a kind in `isolate` may come from one bad item, so
        the items then run again one by one, and only the bad one fails.
        """
        self._run = run
        self._context = contextvars.copy_context()
        """Of no request: the batches outlive the one that brings the first item, and their lines are not about it."""
        self.name = name
        self.on_batch: Callable[[int, float], None] | None = None
        """Called after each batch with its number of items and the seconds that it took."""
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._isolate = isolate
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._closed = False

    async def submit(self, item: Item) -> Result:
        """Add an item to the next batch and wait for its result.

        Raises:
            Overloaded: too many items wait already.
            Exception: whatever `run` raised.

        """
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(f"{self.name}: the queue is full ({self._max_waiting} items)", retry_after_s=1)
        assert not self._closed, f"{self.name} is closed"
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work(), name=f"batches of {self.name}", context=self._context)
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        return await future

    async def close(self) -> None:
        """Run the items that wait, then stop."""
        self._closed = True
        if self._worker is not None:
            if self._wake is not None and not self._wake.done():
                self._wake.set_result(None)
            await self._worker

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                if self._closed:
                    return
                self._wake = loop.create_future()
                await self._wake
                self._wake = None
                continue
            for _ in range(GATHER_TURNS):
                await asyncio.sleep(0)
            size = min(len(self._waiting), self._max_batch)
            began_s = time.monotonic()
            await self._run_batch([self._waiting.popleft() for _ in range(size)])
            if self.on_batch is not None:
                self.on_batch(size, time.monotonic() - began_s)

    async def _run_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
            assert len(results) == len(batch), f"{self.name}: {len(results)} results for {len(batch)} items"
        except self._isolate as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            for entry in batch:
                await self._run_batch([entry])
        except Exception as error:  # noqa: BLE001 - the loop survives; each waiter gets the error
            _fail(batch, error)
        except asyncio.CancelledError:
            for _, future in (*batch, *self._waiting):
                future.cancel()
            self._waiting.clear()
            raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():  # its waiter may have been cancelled
                    future.set_result(result)


def _fail(batch: list[tuple[Item, asyncio.Future[Result]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
