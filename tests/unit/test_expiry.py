"""A wait ends when its time is over, and not if what it waits for came."""

import asyncio

import pytest

from infra.expiry import Expiry


async def test_a_wait_ends_when_its_time_is_over() -> None:
    waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError), Expiry(waiting, -1.0):
        await waiting


async def test_what_came_in_time_stays() -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[str] = loop.create_future()
    with Expiry(waiting, 0.01):
        loop.call_soon(waiting.set_result, "came")
        assert await waiting == "came"
        await asyncio.sleep(0.02)
    late: asyncio.Future[str] = loop.create_future()
    with Expiry(late, 0.0):
        pass
    await asyncio.sleep(0.01)
    assert not late.done()
