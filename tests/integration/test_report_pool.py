"""Reports have few connections of their own: whatever they ask for, calls have theirs."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from domain.errors import Overloaded
from infra.database import (
    MAX_REPORTS_WAITING,
    REPORT_ACQUIRE_TIMEOUT_S,
    REPORT_POOL_MAX_CONNECTIONS,
    Pool,
    open_report_pool,
)
from infra.snapshot import snapshot

SLOW = "SELECT pg_sleep(30)"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_report_pool(database_url, name="tests")
    yield opened
    await opened.close()


async def test_a_report_that_finds_no_connection_is_refused_soon_and_others_are_served_later(pool: Pool) -> None:
    slow = [asyncio.create_task(pool.fetch(SLOW)) for _ in range(REPORT_POOL_MAX_CONNECTIONS)]
    await asyncio.sleep(0.2)
    began_s = time.monotonic()
    with pytest.raises(Overloaded):
        await pool.fetchval("SELECT 1")
    assert time.monotonic() - began_s < REPORT_ACQUIRE_TIMEOUT_S + 1
    for one in slow:
        one.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert await pool.fetchval("SELECT 1") == 1


async def test_more_reports_than_may_wait_are_refused_at_once(pool: Pool) -> None:
    slow = [asyncio.create_task(pool.fetch(SLOW)) for _ in range(REPORT_POOL_MAX_CONNECTIONS + MAX_REPORTS_WAITING)]
    await asyncio.sleep(0.2)
    waiting = [asyncio.create_task(pool.fetch(SLOW)) for _ in range(REPORT_POOL_MAX_CONNECTIONS)]
    await asyncio.sleep(0)
    began_s = time.monotonic()
    with pytest.raises(Overloaded):
        await pool.fetchval("SELECT 1")
    assert time.monotonic() - began_s < REPORT_ACQUIRE_TIMEOUT_S / 2
    for one in (*slow, *waiting):
        one.cancel()
    await asyncio.gather(*slow, *waiting, return_exceptions=True)


async def test_a_report_that_takes_too_long_is_ended(pool: Pool) -> None:
    with pytest.raises(Overloaded):
        await pool.fetch(SLOW, timeout=0.2)
    assert await pool.fetchval("SELECT 1") == 1


async def test_a_report_of_several_statements_that_takes_too_long_says_so_too(pool: Pool) -> None:
    with pytest.raises(Overloaded, match="fewer days"):
        async with snapshot(pool) as at_once:
            await at_once.fetch(SLOW, timeout=0.2)
    assert await pool.fetchval("SELECT 1") == 1


async def test_a_report_is_planned_for_its_own_values_however_often_it_is_asked_for(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for number in range(10):
            await connection.fetch("SELECT relname FROM pg_class WHERE relname = ANY ($1)", [f"table_{number}"])
        plans = await connection.fetchrow(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE $1", "% = ANY ($1)"
        )
    assert tuple(plans) == (0, 10)
