"""The migration that `gateway up` runs in a process of its own."""

import asyncio
import os
import sys

import pytest

from cli.migration import migrate_apart


async def ended(code: str, stop: asyncio.Event | None = None) -> bool:
    return await migrate_apart([sys.executable, "-c", code], os.environ, stop or asyncio.Event())


async def test_what_it_warns_of_is_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert await ended("import sys; print('hidden'); print('warning: a role may too much', file=sys.stderr)")
    assert capsys.readouterr().err == "up          | warning: a role may too much\n"


async def test_nothing_starts_on_a_database_that_was_not_migrated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        await ended("raise SystemExit(3)")
    assert "was not migrated: `gateway migrate` ended with exit code 3" in capsys.readouterr().err


async def test_it_ends_with_the_gateway() -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(ended("import time; time.sleep(600)", stop))
    await asyncio.sleep(0)
    stop.set()
    assert not await running
