"""Work on large data runs in a thread; small data is not worth one."""

import threading

import pytest

from infra.offload import OFFLOAD_BYTES, offload


async def test_small_work_runs_in_the_event_loop() -> None:
    """A thread would cost more than the work."""
    assert await offload(OFFLOAD_BYTES - 1, threading.get_ident) == threading.get_ident()


async def test_large_work_runs_in_a_thread() -> None:
    """The event loop keeps running meanwhile."""
    assert await offload(OFFLOAD_BYTES, threading.get_ident) != threading.get_ident()


async def test_an_error_of_the_thread_reaches_the_caller() -> None:
    """The error is the same as without a thread."""
    with pytest.raises(ValueError, match="invalid literal"):
        await offload(OFFLOAD_BYTES, int, "seven")
